"""/finery/v1/exports: models written for other programs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsModels, WritesModels
from finery.api.context import Plane, Sent, paging
from finery.api.openai import wire
from finery.control import exports, replays
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/finery/v1/exports", tags=["exports"])

ExportCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]


class CreateExport(BaseModel):
    """The body of a new export."""

    model_config = ConfigDict(extra="forbid")
    model: str
    format: str
    quantization: str | None = None
    override: bool = False


@router.post("")
def create(plane: Plane, caller: WritesModels, sent: Sent, body: CreateExport) -> dict[str, Any]:
    """Write a model as a PEFT adapter, merged weights, or GGUF."""
    return replays.once(
        plane,
        caller,
        sent,
        body.model_dump(mode="json"),
        lambda: _export(
            exports.create(
                plane,
                caller,
                model=body.model,
                form=body.format,
                quantization=body.quantization,
                override=body.override,
            )
        ),
    )


@router.get("")
def list_exports(plane: Plane, caller: ReadsModels, cursor: ExportCursor) -> dict[str, Any]:
    """The project's exports, newest first."""
    return wire.page(exports.list_page(plane, caller, cursor), _export)


@router.get("/{export_id}")
def retrieve(plane: Plane, caller: ReadsModels, export_id: str) -> dict[str, Any]:
    """One export: its state, certificate and files."""
    return _export(exports.get(plane, caller, export_id))


@router.get("/{export_id}/files/{path:path}")
def content(plane: Plane, caller: ReadsModels, export_id: str, path: str) -> FileResponse:
    """The bytes of one file."""
    headers = {"x-content-type-options": "nosniff"}
    found = exports.file(plane, caller, export_id, path)
    return FileResponse(found, media_type="application/octet-stream", filename=found.name, headers=headers)


@router.delete("/{export_id}")
def delete(plane: Plane, caller: WritesModels, export_id: str) -> dict[str, Any]:
    """Forget an export and its files; the model stays."""
    exports.delete(plane, caller, export_id)
    return wire.deleted(export_id, "export")


def _export(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "id": record.id,
        "object": "export",
        "model": body["model"],
        "format": body["format"],
        "quantization": body["quantization"] if body["format"] == "gguf" else None,
        "override": body["override"],
        "status": record.status,
        "error": body.get("error"),
        "certificate": body.get("certificate"),
        "files": body.get("files", []),
        "created_at": record.created_at,
        "finished_at": body.get("finished_at"),
        "expires_at": record.expires_at,
    }
