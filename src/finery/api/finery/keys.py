"""/finery/v1/keys: the API keys of the caller's project."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsKeys, WritesKeys
from finery.api.context import Plane
from finery.control import access
from finery.core.access import Key, Level, check_role
from finery.core.roles import Permission

router = APIRouter(prefix="/finery/v1/keys", tags=["keys"])


class CreateKey(BaseModel):
    """The body of a new key."""

    model_config = ConfigDict(extra="forbid")
    name: str
    role: str | None = None
    level: Level | None = None
    permissions: list[Permission] | None = None
    principal: str | None = None
    expires_in: int | None = None


class RotateKey(BaseModel):
    """How long the old key goes on working."""

    model_config = ConfigDict(extra="forbid")
    keep_old_for: int = access.ROTATION_SECONDS


@router.post("")
def create(plane: Plane, caller: WritesKeys, body: CreateKey) -> dict[str, Any]:
    """Make a key; the answer is the only place where it is ever shown."""
    request = access.KeyRequest(
        name=body.name,
        role=check_role(body.role) if body.role is not None else None,
        level=body.level,
        permissions=None if body.permissions is None else tuple(body.permissions),
        principal=body.principal,
        expires_in=body.expires_in,
    )
    key, secret = access.create_key(plane, caller, request)
    return {**_key(key), "key": secret}


@router.get("")
def list_keys(plane: Plane, caller: ReadsKeys) -> dict[str, Any]:
    """The project's keys, without their secrets."""
    return {"object": "list", "data": [_key(key) for key in access.list_keys(plane, caller)], "has_more": False}


@router.post("/{key_id}/rotate")
def rotate(plane: Plane, caller: WritesKeys, key_id: str, body: RotateKey | None = None) -> dict[str, Any]:
    """A key's successor; both work for a while."""
    key, secret = access.rotate_key(plane, caller, key_id, (body or RotateKey()).keep_old_for)
    return {**_key(key), "key": secret}


@router.delete("/{key_id}")
def revoke(plane: Plane, caller: WritesKeys, key_id: str) -> dict[str, Any]:
    """Revoke a key, at once."""
    access.revoke_key(plane, caller, key_id)
    return {"id": key_id, "object": "key", "deleted": True}


def _key(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "hint": key.hint,
        "role": key.role,
        "level": key.level,
        "permissions": None if key.permissions is None else list(key.permissions),
        "principal_id": key.principal_id,
        "rotated_from": key.rotated_from,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
