"""/v1/files."""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import StreamingResponse

from finery.api.access import ReadsData, ReadsFiles, WritesData
from finery.api.context import Plane, Sent, paging
from finery.api.openai import wire
from finery.control import files, replays
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/files", tags=["files"])

FilesCursor = Annotated[Cursor, Depends(paging(default=10000, most=10000))]

_CHUNK_BYTES = 1024 * 1024


@router.post("")
def create(
    plane: Plane,
    caller: WritesData,
    sent: Sent,
    file: UploadFile,
    purpose: Annotated[str, Form()],
    *,
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]")] = None,
) -> dict[str, Any]:
    """Upload a file; JSONL is checked line by line before or soon after the answer."""
    filename = file.filename or "file"

    def make() -> dict[str, Any]:
        made = files.create(
            plane, caller, filename=filename, purpose=purpose, chunks=chunks_of(file), keep_seconds=seconds
        )
        return wire.file(made)

    return replays.once(plane, caller, sent, [filename, purpose, anchor, seconds, _sha256(file)], make)


@router.get("")
def list_files(plane: Plane, caller: ReadsFiles, cursor: FilesCursor, purpose: str | None = None) -> dict[str, Any]:
    """The project's files."""
    return wire.page(files.list_page(plane, caller, cursor, purpose), wire.file)


@router.get("/{file_id}")
def retrieve(plane: Plane, caller: ReadsFiles, file_id: str) -> dict[str, Any]:
    """One file."""
    return wire.file(files.get(plane, caller, file_id))


@router.get("/{file_id}/content")
def content(plane: Plane, caller: ReadsData, file_id: str) -> StreamingResponse:
    """A file's bytes."""
    record, chunks = files.content(plane, caller, file_id)
    headers = {
        "content-length": str(record.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(record.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}")
def delete(plane: Plane, caller: WritesData, file_id: str) -> dict[str, Any]:
    """Delete a file."""
    files.delete(plane, caller, file_id)
    return wire.deleted(file_id, "file")


def chunks_of(upload: UploadFile) -> Iterator[bytes]:
    """The bytes that were sent, from the beginning."""
    upload.file.seek(0)
    while chunk := upload.file.read(_CHUNK_BYTES):
        yield chunk


def _sha256(upload: UploadFile) -> str:
    digest = hashlib.sha256()
    for chunk in chunks_of(upload):
        digest.update(chunk)
    return digest.hexdigest()
