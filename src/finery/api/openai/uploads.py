"""/v1/uploads: a large file in parts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import WritesData
from finery.api.context import Plane, Sent
from finery.api.openai import wire
from finery.api.openai.files import chunks_of
from finery.control import replays, uploads
from finery.core.records import Record

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


class ExpiresAfter(BaseModel):
    """OpenAI's `expires_after`."""

    anchor: Literal["created_at"]
    seconds: int


class CreateUpload(BaseModel):
    """The body of a new upload."""

    model_config = ConfigDict(extra="ignore")
    bytes: Annotated[int, Field(ge=0)]
    filename: Annotated[str, Field(min_length=1)]
    mime_type: str
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteUpload(BaseModel):
    """The body that ends an upload."""

    model_config = ConfigDict(extra="ignore")
    part_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    md5: str | None = None


@router.post("")
def create(plane: Plane, caller: WritesData, sent: Sent, body: CreateUpload) -> dict[str, Any]:
    """Begin an upload."""
    request = uploads.UploadRequest(
        bytes=body.bytes,
        filename=body.filename,
        purpose=body.purpose,
        mime_type=body.mime_type,
        keep_seconds=body.expires_after.seconds if body.expires_after else None,
    )
    asked = body.model_dump(mode="json")
    return replays.once(plane, caller, sent, asked, lambda: _upload(uploads.create(plane, caller, request)))


@router.post("/{upload_id}/parts")
def add_part(plane: Plane, caller: WritesData, upload_id: str, data: UploadFile) -> dict[str, Any]:
    """Add a part."""
    part = uploads.add_part(plane, caller, upload_id, chunks_of(data))
    return {"id": part.id, "object": "upload.part", "created_at": part.created_at, "upload_id": part.owner}


@router.post("/{upload_id}/complete")
def complete(plane: Plane, caller: WritesData, sent: Sent, upload_id: str, body: CompleteUpload) -> dict[str, Any]:
    """Make a file of the parts."""

    def make() -> dict[str, Any]:
        upload, file = uploads.complete(plane, caller, upload_id, body.part_ids, body.md5)
        return {**_upload(upload), "file": wire.file(file)}

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.post("/{upload_id}/cancel")
def cancel(plane: Plane, caller: WritesData, upload_id: str) -> dict[str, Any]:
    """Cancel an upload."""
    return _upload(uploads.cancel(plane, caller, upload_id))


def _upload(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "upload",
        "bytes": record.body["bytes"],
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.body["filename"],
        "purpose": record.body["purpose"],
        "status": record.status,
        "file": None,
    }
