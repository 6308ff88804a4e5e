"""/v1/fine_tuning/checkpoints/{checkpoint}/permissions. A checkpoint's name may hold slashes and colons."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import SharesModels
from finery.api.context import Plane, Sent
from finery.api.openai import wire
from finery.control import permissions, replays
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/fine_tuning/checkpoints", tags=["fine-tuning"])


class CreatePermissions(BaseModel):
    """The body of new permissions."""

    model_config = ConfigDict(extra="ignore")
    project_ids: Annotated[list[str], Field(min_length=1, max_length=1000)]


@router.post("/{checkpoint:path}/permissions")
def create(plane: Plane, caller: SharesModels, sent: Sent, checkpoint: str, body: CreatePermissions) -> dict[str, Any]:
    """Let projects use a checkpoint."""

    def make() -> dict[str, Any]:
        made = permissions.create(plane, caller, checkpoint, body.project_ids)
        return {"object": "list", "data": [_permission(record) for record in made], "has_more": False}

    return replays.once(plane, caller, sent, body.project_ids, make)


@router.get("/{checkpoint:path}/permissions")
def list_permissions(
    plane: Plane,
    caller: SharesModels,
    checkpoint: str,
    *,
    after: str | None = None,
    limit: Annotated[int, Query(ge=0, le=100)] = 10,
    order: Literal["ascending", "descending"] = "descending",
    project_id: str | None = None,
) -> dict[str, Any]:
    """Who may use a checkpoint."""
    cursor = Cursor(after=after, limit=limit or 10, order="asc" if order == "ascending" else "desc")
    return wire.page(permissions.list_page(plane, caller, checkpoint, cursor, project_id), _permission)


@router.delete("/{checkpoint:path}/permissions/{permission_id}")
def delete(plane: Plane, caller: SharesModels, checkpoint: str, permission_id: str) -> dict[str, Any]:
    """Take a permission back."""
    permissions.delete(plane, caller, checkpoint, permission_id)
    return wire.deleted(permission_id, "checkpoint.permission")


def _permission(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "checkpoint.permission",
        "created_at": record.created_at,
        "project_id": record.body["project_id"],
    }
