"""/finery/v1/locations: the operator's pools of machines."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsProjects, WritesProjects
from finery.api.context import Plane
from finery.control import locations
from finery.core.tenancy import Location

router = APIRouter(prefix="/finery/v1/locations", tags=["locations"])


class OfferModels(BaseModel):
    """Base models that can be tuned there; null: every one."""

    model_config = ConfigDict(extra="forbid")
    models: list[str] | None


class CreateLocation(BaseModel):
    """The body of a new location."""

    model_config = ConfigDict(extra="forbid")
    name: str
    display_name: str | None = None
    models: list[str] | None = None


@router.post("")
def create(plane: Plane, caller: WritesProjects, body: CreateLocation) -> dict[str, Any]:
    """Make a location known."""
    display_name = body.display_name or body.name
    return _location(locations.create(plane, caller, name=body.name, display_name=display_name, models=body.models))


@router.get("")
def list_locations(plane: Plane, caller: ReadsProjects) -> dict[str, Any]:
    """All locations, by name."""
    return {"object": "list", "data": [_location(one) for one in locations.list_all(plane)], "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsProjects, name: str) -> dict[str, Any]:
    """One location."""
    return _location(locations.get(plane, name))


@router.put("/{name}/models")
def offer(plane: Plane, caller: WritesProjects, name: str, body: OfferModels) -> dict[str, Any]:
    """Say which base models can be tuned there."""
    return _location(locations.offer(plane, caller, name, body.models))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesProjects, name: str) -> dict[str, Any]:
    """Forget a location that no hub lies in."""
    locations.delete(plane, caller, name)
    return {"name": name, "object": "location", "deleted": True}


def _location(location: Location) -> dict[str, Any]:
    return {
        "name": location.name,
        "object": "location",
        "display_name": location.display_name,
        "models": None if location.models is None else list(location.models),
        "created_at": location.created_at,
    }
