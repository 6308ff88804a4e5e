"""/finery/v1/keys: the API keys of the caller's project."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.context import AsCaller, Plane
from finery.control import access
from finery.core.access import Key

router = APIRouter(prefix="/keys", tags=["keys"])


class CreateKey(BaseModel):
    """The body of a new key."""

    model_config = ConfigDict(extra="forbid")
    name: str


@router.post("")
def create(plane: Plane, caller: AsCaller, body: CreateKey) -> dict[str, Any]:
    """Make a key; the answer is the only place where it is ever shown."""
    key, secret = access.create_key(plane, caller, body.name)
    return {**_key(key), "key": secret}


@router.get("")
def list_keys(plane: Plane, caller: AsCaller) -> dict[str, Any]:
    """The project's keys, without their secrets."""
    return {"object": "list", "data": [_key(key) for key in access.list_keys(plane, caller)], "has_more": False}


@router.delete("/{key_id}")
def revoke(plane: Plane, caller: AsCaller, key_id: str) -> dict[str, Any]:
    """Revoke a key, at once."""
    access.revoke_key(plane, caller, key_id)
    return {"id": key_id, "object": "key", "deleted": True}


def _key(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "hint": key.hint,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
