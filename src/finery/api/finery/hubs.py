"""/finery/v1/hubs, and the connections of a hub."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsProjects, WritesProjects
from finery.api.context import Metadata, Plane
from finery.control import tenancy
from finery.core.tenancy import DEFAULT_LOCATION, DEFAULT_RESOURCE_GROUP, Hub, HubConnection

router = APIRouter(prefix="/finery/v1/hubs", tags=["hubs"])


class CreateHub(BaseModel):
    """The body of a new hub."""

    model_config = ConfigDict(extra="forbid")
    name: str
    resource_group: str = DEFAULT_RESOURCE_GROUP
    location: str = DEFAULT_LOCATION


class CreateConnection(BaseModel):
    """The body of a new connection."""

    model_config = ConfigDict(extra="forbid")
    name: str
    category: str
    target: str
    metadata: Metadata = Field(default_factory=dict)


@router.post("")
def create(plane: Plane, caller: WritesProjects, body: CreateHub) -> dict[str, Any]:
    """Make a hub."""
    made = tenancy.create_hub(plane, caller, name=body.name, resource_group=body.resource_group, location=body.location)
    return _hub(made)


@router.get("")
def list_hubs(plane: Plane, caller: ReadsProjects) -> dict[str, Any]:
    """The hubs that the caller can see."""
    return {"object": "list", "data": [_hub(hub) for hub in tenancy.list_hubs(plane, caller)], "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsProjects, name: str) -> dict[str, Any]:
    """One hub."""
    return _hub(tenancy.get_hub(plane, caller, name))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesProjects, name: str) -> dict[str, Any]:
    """Delete a hub without projects."""
    return {"id": tenancy.delete_hub(plane, caller, name).id, "object": "hub", "deleted": True}


@router.post("/{name}/connections")
def connect(plane: Plane, caller: WritesProjects, name: str, body: CreateConnection) -> dict[str, Any]:
    """Make a service known to the hub's projects."""
    made = tenancy.create_connection(
        plane, caller, name, name=body.name, category=body.category, target=body.target, metadata=body.metadata
    )
    return _connection(made)


@router.get("/{name}/connections")
def list_connections(plane: Plane, caller: ReadsProjects, name: str) -> dict[str, Any]:
    """The services that the hub's projects know."""
    found = [_connection(one) for one in tenancy.list_connections(plane, caller, name)]
    return {"object": "list", "data": found, "has_more": False}


@router.delete("/{name}/connections/{connection}")
def disconnect(plane: Plane, caller: WritesProjects, name: str, connection: str) -> dict[str, Any]:
    """Forget a connection."""
    tenancy.delete_connection(plane, caller, name, connection)
    return {"name": connection, "object": "connection", "deleted": True}


def _hub(hub: Hub) -> dict[str, Any]:
    return {
        "id": hub.id,
        "object": "hub",
        "name": hub.name,
        "subscription_id": hub.subscription_id,
        "resource_group": hub.resource_group,
        "location": hub.location,
        "created_at": hub.created_at,
    }


def _connection(made: HubConnection) -> dict[str, Any]:
    return {
        "name": made.name,
        "object": "connection",
        "category": made.category,
        "target": made.target,
        "metadata": made.metadata,
        "created_at": made.created_at,
    }
