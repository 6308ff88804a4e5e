"""/finery/v1/deployments."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.context import AsCaller, Plane, Sent
from finery.control import deployments, replays
from finery.core.deployments import Deployment

router = APIRouter(prefix="/deployments", tags=["deployments"])


MAX_CAPACITY = 1000


class Sku(BaseModel):
    """The kind of a deployment, in Azure's words, and how much of it there is."""

    model_config = ConfigDict(extra="allow")
    name: Annotated[str, Field(min_length=1, max_length=64)] = "Standard"
    capacity: Annotated[int, Field(ge=1, le=MAX_CAPACITY)] = 1


class CreateDeployment(BaseModel):
    """The body of a new deployment."""

    model_config = ConfigDict(extra="forbid")
    name: str
    model: str
    sku: Sku | None = None
    policy: str | None = None


@router.post("")
def create(plane: Plane, caller: AsCaller, sent: Sent, body: CreateDeployment) -> dict[str, Any]:
    """Deploy a model under a name."""
    return replays.once(
        plane,
        caller,
        sent,
        body.model_dump(mode="json"),
        lambda: _deployment(
            deployments.create(
                plane,
                caller,
                name=body.name,
                model=body.model,
                sku=body.sku.model_dump() if body.sku else None,
                policy=body.policy,
            )
        ),
    )


@router.get("")
def list_deployments(plane: Plane, caller: AsCaller) -> dict[str, Any]:
    """The project's deployments, newest first."""
    found = [_deployment(deployment) for deployment in deployments.list_all(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: AsCaller, name: str) -> dict[str, Any]:
    """One deployment."""
    return _deployment(deployments.get(plane, caller, name))


@router.delete("/{name}")
def delete(plane: Plane, caller: AsCaller, name: str) -> dict[str, Any]:
    """Delete a deployment; its model stays."""
    deployments.delete(plane, caller, name)
    return {"name": name, "object": "deployment", "deleted": True}


def _deployment(record: Deployment) -> dict[str, Any]:
    return {
        "name": record.name,
        "object": "deployment",
        "model": record.model,
        "base_model": record.base_model,
        "sku": record.sku,
        "policy": record.policy,
        "status": record.status,
        "status_details": record.status_details,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
