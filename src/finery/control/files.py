"""Uploaded files: stored at once, checked line by line, read, deleted."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from finery.control import audit, naming, providers, quotas
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import InvalidRequest, NotFound, OverQuota, TooLarge
from finery.core.files import (
    CHECKED_PURPOSES,
    MAX_FILE_BYTES,
    MAX_KEEP_SECONDS,
    MIN_KEEP_SECONDS,
    PURPOSES,
    File,
    FileStatus,
)
from finery.core.ids import new_id
from finery.core.tenancy import Provider
from finery.data import preflight
from finery.storage import files
from finery.storage.blobs import Blob
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

CHECK_AT_ONCE_BYTES = 16 * 1024 * 1024
"""Smaller files are checked before the upload is answered, so that most callers never wait."""


def create(
    plane: ControlPlane,
    caller: Caller,
    *,
    filename: str,
    purpose: str,
    chunks: Iterable[bytes],
    keep_seconds: int | None = None,
) -> File:
    """Store an upload and, if it is small, check it.

    Raises:
        InvalidRequest: an unknown purpose, no bytes, or a time to keep it outside the range.
        TooLarge: over 512 MB.
        StorageFull: no space; nothing is kept.
    """
    check_purpose(purpose)
    check_keep_seconds(keep_seconds)
    providers.require(plane, caller, Provider.STORAGE)
    file = store(
        plane,
        caller.project.id,
        filename=filename,
        purpose=purpose,
        chunks=_capped(chunks),
        keep_seconds=keep_seconds,
        by=caller,
    )
    if file.bytes <= CHECK_AT_ONCE_BYTES:
        return check(plane, file)
    return file


def check_purpose(purpose: str) -> None:
    """Refuse a purpose that nothing can be uploaded for."""
    if purpose not in PURPOSES:
        raise InvalidRequest(
            f"{purpose!r} is not a purpose a file can be uploaded for; use one of {', '.join(sorted(PURPOSES))}.",
            param="purpose",
        )


def check_keep_seconds(seconds: int | None) -> None:
    """Refuse a time to keep a file that is outside OpenAI's range."""
    if seconds is not None and not MIN_KEEP_SECONDS <= seconds <= MAX_KEEP_SECONDS:
        raise InvalidRequest(
            f"expires_after.seconds is {seconds}; it must be from {MIN_KEEP_SECONDS} (an hour) to {MAX_KEEP_SECONDS} "
            "(30 days).",
            param="expires_after.seconds",
        )


def store(
    plane: ControlPlane,
    project_id: str,
    *,
    filename: str,
    purpose: str,
    chunks: Iterable[bytes],
    keep_seconds: int | None = None,
    by: Caller | None = None,
) -> File:
    """Bytes first, then the row that names them."""
    made: list[File] = []

    def name(connection: Any, blob: Blob) -> None:
        file = File(
            id=new_id("file-"),
            project_id=project_id,
            filename=_plain(filename),
            purpose=purpose,
            bytes=blob.bytes,
            sha256=blob.sha256,
            status=FileStatus.UPLOADED if purpose in CHECKED_PURPOSES else FileStatus.PROCESSED,
            created_at=(moment := now()),
            expires_at=None if keep_seconds is None else moment + keep_seconds,
        )
        if by is not None:
            quotas.take(connection, project_id, files=1, bytes=file.bytes)
            audit.record(connection, by, "files.create", file.id, sha256=file.sha256, bytes=file.bytes)
        files.insert_file(connection, file)
        made.append(file)

    with plane.blobs.receive() as upload:
        upload.write_all(chunks)
        try:
            naming.keep(plane, upload, name)
        except OverQuota:
            naming.drop(plane, upload.sha256)
            raise
    return made[-1]


def check(plane: ControlPlane, file: File) -> File:
    """Check a file's lines and record the report; a file with errors stays, in status `error`."""
    if file.status != FileStatus.UPLOADED:
        return file
    with plane.blobs.as_path(file.sha256) as path:
        report = preflight.check(path, file.purpose)
    with plane.database.write() as connection:
        files.set_checked(
            connection,
            file.id,
            status=FileStatus.PROCESSED if report.ok else FileStatus.ERROR,
            details=None if report.ok else report.summary,
            rows=report.rows,
            row_format=report.format,
            report=report.to_json(),
        )
        checked = files.get(connection, file.project_id, file.id)
    # Deleted while it was checked: what was found is nobody's any more.
    return checked or file


def check_pending(plane: ControlPlane) -> None:
    """Check what is still unchecked: large uploads, and those a restart interrupted."""
    with plane.database.read() as connection:
        pending = files.list_unchecked(connection)
    for file in pending:
        log.info("checking file %s", file.id)
        check(plane, file)


def get(plane: ControlPlane, caller: Caller, file_id: str, *, param: str | None = None) -> File:
    """A file of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        file = files.get(connection, caller.project.id, file_id)
    if file is None:
        raise NotFound(f"No such File object: {file_id}. List the project's files to see what is there.", param=param)
    return file


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor, purpose: str | None) -> Page[File]:
    """Files of the caller's project."""
    with plane.database.read() as connection:
        return files.list_page(connection, caller.project.id, cursor, purpose=purpose)


def content(plane: ControlPlane, caller: Caller, file_id: str) -> tuple[File, Iterator[bytes]]:
    """A file and its bytes."""
    file = get(plane, caller, file_id)
    return file, plane.blobs.stream(file.sha256)


def report(plane: ControlPlane, caller: Caller, file_id: str) -> dict[str, Any]:
    """Everything the check found.

    Raises:
        NotFound: no such file, or one that is not checked (yet).
    """
    file = get(plane, caller, file_id)
    with plane.database.read() as connection:
        found = files.get_report(connection, caller.project.id, file_id)
    if found is None:
        raise NotFound(f"There is no report on file {file_id}: its status is {file.status}, purpose {file.purpose}.")
    return found


def delete(plane: ControlPlane, caller: Caller, file_id: str) -> None:
    """Delete a file. Jobs that already took its rows go on: they have their own copy.

    Raises:
        NotFound: there is none of that id.
    """
    _remove(plane, get(plane, caller, file_id), by=caller)


def delete_expired(plane: ControlPlane) -> None:
    """Delete the files whose time is over."""
    with plane.database.read() as connection:
        expired = files.list_expired(connection, now())
    for file in expired:
        _remove(plane, file)


def _remove(plane: ControlPlane, file: File, *, by: Caller | None = None) -> None:
    with plane.database.write() as connection:
        files.remove(connection, file.project_id, file.id)
        if by is not None:
            audit.record(connection, by, "files.delete", file.id, sha256=file.sha256)
    naming.drop(plane, file.sha256)


def _capped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise TooLarge(
                f"The file is over {MAX_FILE_BYTES // 1024**2} MB. Split it, or leave out rows.", param="file"
            )
        yield chunk
    if size == 0:
        raise InvalidRequest("The file is empty.", param="file")


def _plain(filename: str) -> str:
    """The last part of a name; it is only shown, never used as a path."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isprintable())[:255] or "file"
