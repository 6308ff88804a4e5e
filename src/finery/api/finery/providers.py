"""/finery/v1/providers: what the subscription has registered."""

from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsProjects, WritesProjects
from finery.api.context import Plane
from finery.control import providers
from finery.control.providers import Registration

router = APIRouter(prefix="/finery/v1/providers", tags=["providers"])


@router.get("")
def list_providers(plane: Plane, caller: ReadsProjects) -> dict[str, Any]:
    """Every provider, with its registration state and what this machine lacks for it."""
    return {"object": "list", "data": [_provider(one) for one in providers.list_all(plane)], "has_more": False}


@router.get("/{namespace}")
def retrieve(plane: Plane, caller: ReadsProjects, namespace: str) -> dict[str, Any]:
    """One provider."""
    return _provider(providers.get(plane, namespace))


@router.post("/{namespace}/register")
def register(plane: Plane, caller: WritesProjects, namespace: str) -> dict[str, Any]:
    """Register it."""
    return _provider(providers.register(plane, caller, namespace))


@router.post("/{namespace}/unregister")
def unregister(plane: Plane, caller: WritesProjects, namespace: str) -> dict[str, Any]:
    """Take the registration back."""
    return _provider(providers.unregister(plane, caller, namespace))


def _provider(found: Registration) -> dict[str, Any]:
    return {
        "namespace": found.provider,
        "object": "provider",
        "registration_state": found.state,
        "registered_at": found.registered_at,
        "missing": list(found.missing),
    }
