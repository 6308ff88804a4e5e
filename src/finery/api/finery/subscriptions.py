"""/finery/v1/subscriptions."""

from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsProjects
from finery.api.context import Plane
from finery.control import tenancy

router = APIRouter(prefix="/finery/v1/subscriptions", tags=["subscriptions"])


@router.get("")
def list_subscriptions(plane: Plane, caller: ReadsProjects) -> dict[str, Any]:
    """The subscriptions of this server; it has one."""
    found = [
        {"id": one.id, "object": "subscription", "name": one.name, "created_at": one.created_at}
        for one in tenancy.list_subscriptions(plane)
    ]
    return {"object": "list", "data": found, "has_more": False}
