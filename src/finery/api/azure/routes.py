"""Every router of Azure's surface, in the order in which they are asked."""

from collections.abc import Iterable

from fastapi import APIRouter

from finery.api.azure import (
    account_deployments,
    accounts,
    blobs,
    data_plane,
    deployments,
    inference,
    ml_jobs,
    ml_workspaces,
    project_datasets,
    projects,
    rai_policies,
)

_OWN = (
    inference,
    deployments,
    accounts,
    account_deployments,
    rai_policies,
    projects,
    project_datasets,
    blobs,
    ml_workspaces,
    ml_jobs,
)


def routers(nouns: Iterable[APIRouter]) -> list[APIRouter]:
    """Azure's own routes, and OpenAI's nouns in its dialect."""
    return [*(module.router for module in _OWN), *data_plane.routers(nouns)]
