"""/finery/v1/deployments."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from finery.api.access import ReadsDeployments, WritesDeployments
from finery.api.context import Plane, Sent
from finery.control import deployments, replays
from finery.control.plane import ControlPlane
from finery.core.deployments import MAX_CAPACITY, MAX_IDLE_SECONDS, MAX_REPLICAS, Deployment, SkuName

router = APIRouter(prefix="/finery/v1/deployments", tags=["deployments"])

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


Name = Annotated[str, Field(min_length=1, max_length=255)]


class Sku(BaseModel):
    """The kind of a deployment, in Azure's words, and how much of it there is."""

    model_config = ConfigDict(extra="forbid")
    name: SkuName | None = None
    capacity: Annotated[int, Field(ge=1, le=MAX_CAPACITY)] | None = None


class UpdateDeployment(BaseModel):
    """The body of a change; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    model: Name | None = None
    sku: Sku | None = None
    policy: Annotated[str, Field(max_length=64)] | None = None
    engine: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] | None = None
    idle_seconds: Annotated[int, Field(ge=1, le=MAX_IDLE_SECONDS)] | None = None
    parity_override: Reason | None = None

    def given(self) -> dict[str, Any]:
        """What was sent; null means something for the fields that can be empty, and for the others nothing."""
        sent = self.model_dump(exclude_unset=True)
        nullable = ("policy", "idle_seconds", "parity_override")
        return {name: value for name, value in sent.items() if value is not None or name in nullable}


class CreateDeployment(UpdateDeployment):
    """The body of a new deployment."""

    name: str
    model: Name


@router.post("")
def create(plane: Plane, caller: WritesDeployments, sent: Sent, body: CreateDeployment) -> dict[str, Any]:
    """Deploy a model under a name."""

    def make() -> dict[str, Any]:
        return _deployment(plane, deployments.create(plane, caller, **body.given()))

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.get("")
def list_deployments(plane: Plane, caller: ReadsDeployments) -> dict[str, Any]:
    """The project's deployments, newest first."""
    found = [_deployment(plane, deployment) for deployment in deployments.list_all(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsDeployments, name: str) -> dict[str, Any]:
    """One deployment."""
    return _deployment(plane, deployments.get(plane, caller, name))


@router.patch("/{name}")
def update(plane: Plane, caller: WritesDeployments, name: str, body: UpdateDeployment) -> dict[str, Any]:
    """Change a deployment; what it was answers until the change has been proven."""
    return _deployment(plane, deployments.update(plane, caller, name, body.given()))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesDeployments, name: str) -> dict[str, Any]:
    """Delete a deployment; its model stays. It is `Deleting` while answers are still being written."""
    deleted = deployments.delete(plane, caller, name)
    return {"name": name, "object": "deployment", "deleted": deleted, "status": None if deleted else "Deleting"}


def _deployment(plane: ControlPlane, record: Deployment) -> dict[str, Any]:
    return {
        "name": record.name,
        "object": "deployment",
        "model": record.model,
        "base_model": record.base_model,
        "sku": record.sku,
        "policy": record.policy,
        "engine": record.engine,
        "replicas": record.replicas,
        "ready_replicas": deployments.ready_replicas(plane, record),
        "idle_seconds": record.idle_seconds,
        "status": record.status,
        "status_details": record.status_details,
        "update": record.update,
        "certificate": record.certificate,
        "parity_override": record.parity_override,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
