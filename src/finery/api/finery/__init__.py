"""Finery's own resources under /finery/v1: deployments, files beyond OpenAI's object, datasets; subscriptions,
locations, providers, hubs, projects, roles, keys, the audit log,
prices, costs, budgets and quotas, the doctor."""
