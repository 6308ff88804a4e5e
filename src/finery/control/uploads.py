"""Uploads in parts: begun, filled, completed into a file; or cancelled, or expired after an hour."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finery.control import audit, files, naming
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from finery.core.files import MAX_FILE_BYTES, File
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.blobs import Blob

UPLOAD_SECONDS = 3600
MAX_PART_BYTES = 64 * 1024 * 1024

PENDING, COMPLETED, CANCELLED, EXPIRED = "pending", "completed", "cancelled", "expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadRequest:
    """What a caller announces."""

    bytes: int
    filename: str
    purpose: str
    mime_type: str
    keep_seconds: int | None = None


def create(plane: ControlPlane, caller: Caller, request: UploadRequest) -> Record:
    """Begin an upload.

    Raises:
        InvalidRequest: an unknown purpose or no bytes.
        TooLarge: over 512 MB.
    """
    files.check_purpose(request.purpose)
    files.check_keep_seconds(request.keep_seconds)
    if request.bytes > MAX_FILE_BYTES:
        raise TooLarge(
            f"bytes is {request.bytes}; a file may have {MAX_FILE_BYTES}. Split the data into several files.",
            param="bytes",
        )
    moment = now()
    upload = Record(
        id=new_id("upload_"),
        project_id=caller.project.id,
        kind=Kind.UPLOAD,
        status=PENDING,
        body={
            "bytes": request.bytes,
            "filename": request.filename,
            "purpose": request.purpose,
            "mime_type": request.mime_type,
            "keep_seconds": request.keep_seconds,
        },
        created_at=moment,
        expires_at=moment + UPLOAD_SECONDS,
    )
    with plane.database.write() as connection:
        records.insert_record(connection, upload)
        audit.record(connection, caller, "uploads.create", upload.id, bytes=request.bytes, purpose=request.purpose)
    return upload


def add_part(plane: ControlPlane, caller: Caller, upload_id: str, chunks: Iterable[bytes]) -> Record:
    """Store a part; parts may come in any order and side by side.

    Raises:
        TooLarge: over 64 MB.
        Conflict: the upload is no longer pending.
    """
    upload = _pending(plane, caller, upload_id)
    made: list[Record] = []

    def name(connection: Any, blob: Blob) -> None:
        part = Record(
            id=new_id("part_"),
            project_id=caller.project.id,
            kind=Kind.UPLOAD_PART,
            owner=upload.id,
            body={"sha256": blob.sha256, "bytes": blob.bytes},
            created_at=now(),
        )
        records.insert_record(connection, part)
        made.append(part)

    with plane.blobs.receive() as received:
        received.write_all(_capped(chunks))
        naming.keep(plane, received, name)
    return made[-1]


def complete(
    plane: ControlPlane, caller: Caller, upload_id: str, part_ids: list[str], md5: str | None
) -> tuple[Record, File]:
    """Make a file of the parts, in the order given.

    Raises:
        InvalidRequest: an unknown part, another size than announced, or another MD5.
        Conflict: the upload is no longer pending.
    """
    upload = _pending(plane, caller, upload_id)
    with plane.database.read() as connection:
        parts = {
            part.id: part for part in records.list_owned(connection, caller.project.id, Kind.UPLOAD_PART, upload.id)
        }
    unknown = [part_id for part_id in part_ids if part_id not in parts]
    if unknown:
        raise InvalidRequest(f"Upload {upload.id} has no part {unknown[0]!r}.", param="part_ids")
    chosen = [parts[part_id] for part_id in part_ids]
    size = sum(part.body["bytes"] for part in chosen)
    if size != upload.body["bytes"]:
        raise InvalidRequest(
            f"The parts have {size} bytes together; {upload.body['bytes']} were announced. Add what is missing, or "
            "begin an upload of the right size.",
            param="part_ids",
        )
    if md5 is not None:
        _check_md5(plane, chosen, md5)
    file = files.create(
        plane,
        caller,
        filename=upload.body["filename"],
        purpose=upload.body["purpose"],
        chunks=_bytes_of(plane, chosen),
        keep_seconds=upload.body["keep_seconds"],
    )
    done = _end(plane, upload, COMPLETED, by=caller)
    return done, file


def cancel(plane: ControlPlane, caller: Caller, upload_id: str) -> Record:
    """Cancel an upload; its parts are forgotten.

    Raises:
        Conflict: it is no longer pending.
    """
    return _end(plane, _pending(plane, caller, upload_id), CANCELLED, by=caller)


def expire(plane: ControlPlane) -> None:
    """End uploads that were left unfinished for an hour."""
    with plane.database.read() as connection:
        pending = records.list_in(connection, Kind.UPLOAD, PENDING)
    for upload in pending:
        if (upload.expires_at or 0) <= now():
            _end(plane, upload, EXPIRED)


def _pending(plane: ControlPlane, caller: Caller, upload_id: str) -> Record:
    with plane.database.read() as connection:
        upload = records.get(connection, caller.project.id, Kind.UPLOAD, upload_id)
    if upload is None:
        raise NotFound(f"There is no upload {upload_id!r} in this project.", param="upload_id")
    if upload.status != PENDING or (upload.expires_at or 0) <= now():
        status = upload.status if upload.status != PENDING else EXPIRED
        raise Conflict(f"The upload {upload.id} is {status}; begin a new one.", code="upload_not_pending")
    return upload


def _end(plane: ControlPlane, upload: Record, status: str, *, by: Caller | None = None) -> Record:
    with plane.database.write() as connection:
        if not records.change(connection, upload, status=status):
            raise Conflict(f"The upload {upload.id} was ended in this very moment.", code="upload_not_pending")
        parts = records.list_owned(connection, upload.project_id, Kind.UPLOAD_PART, upload.id)
        records.remove_owned(connection, upload.project_id, Kind.UPLOAD_PART, upload.id)
        ended = records.get(connection, upload.project_id, Kind.UPLOAD, upload.id)
        if by is not None:
            audit.record(connection, by, f"uploads.{status}", upload.id)
    for sha256 in {part.body["sha256"] for part in parts}:
        naming.drop(plane, sha256)
    assert ended is not None
    return ended


def _check_md5(plane: ControlPlane, parts: list[Record], md5: str) -> None:
    """Compare, if it is an MD5 at all: in hex or in base64. (OpenAI's own suite sends the word `md5`.)"""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _bytes_of(plane, parts):
        digest.update(chunk)
    spellings = {digest.hexdigest(), base64.b64encode(digest.digest()).decode()}
    if len(md5) in {len(spelling) for spelling in spellings} and not {md5, md5.lower()} & spellings:
        raise InvalidRequest(
            f"The parts' MD5 is {digest.hexdigest()}, not {md5}: something was changed on the way, or the order of "
            "part_ids is another one.",
            code="checksum_mismatch",
            param="md5",
        )


def _bytes_of(plane: ControlPlane, parts: list[Record]) -> Iterator[bytes]:
    for part in parts:
        yield from plane.blobs.stream(part.body["sha256"])


def _capped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_PART_BYTES:
            raise TooLarge(f"A part may have {MAX_PART_BYTES // 1024**2} MB. Send smaller parts.", param="data")
        yield chunk
