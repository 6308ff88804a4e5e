"""Finery's own resources under /finery/v1: deployments, keys, reports on files."""
