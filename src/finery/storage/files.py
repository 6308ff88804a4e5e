"""Uploaded files and the reports on them."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from finery.core.files import File, FileStatus
from finery.storage.pages import Cursor, Page, fetch
from finery.storage.schema import files

_COLUMNS = [files.c[field.name] for field in dataclasses.fields(File)]


def insert_file(connection: Connection, file: File) -> None:
    """Remember a file whose blob is already stored."""
    connection.execute(insert(files).values(dataclasses.asdict(file)))


def get(connection: Connection, project_id: str, file_id: str) -> File | None:
    """A project's file."""
    query = select(*_COLUMNS).where(files.c.project_id == project_id, files.c.id == file_id)
    row = connection.execute(query).one_or_none()
    return _file(row) if row else None


def list_page(connection: Connection, project_id: str, cursor: Cursor, *, purpose: str | None = None) -> Page[File]:
    """A project's files."""
    query = select(*_COLUMNS).where(files.c.project_id == project_id)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    rows, has_more = fetch(connection, query, files, cursor)
    return Page(items=[_file(row) for row in rows], has_more=has_more)


def list_unchecked(connection: Connection) -> list[File]:
    """Files of all projects whose check is not done, oldest first."""
    query = select(*_COLUMNS).where(files.c.status == FileStatus.UPLOADED).order_by(files.c.position)
    return [_file(row) for row in connection.execute(query)]


def list_expired(connection: Connection, now: int) -> list[File]:
    """Files of all projects whose time is over."""
    return [_file(row) for row in connection.execute(select(*_COLUMNS).where(files.c.expires_at <= now))]


def set_checked(
    connection: Connection,
    file_id: str,
    *,
    status: FileStatus,
    details: str | None,
    rows: int,
    row_format: str | None,
    report: dict[str, Any],
) -> None:
    """Record what the check found."""
    connection.execute(
        update(files)
        .where(files.c.id == file_id)
        .values(status=status, status_details=details, rows=rows, format=row_format, report=report)
    )


def get_report(connection: Connection, project_id: str, file_id: str) -> dict[str, Any] | None:
    """The full report on a file, None while there is none."""
    query = select(files.c.report).where(files.c.project_id == project_id, files.c.id == file_id)
    report: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
    return report


def remove(connection: Connection, project_id: str, file_id: str) -> bool:
    """Forget a file; its blob stays until no row names it."""
    statement = delete(files).where(files.c.project_id == project_id, files.c.id == file_id)
    return connection.execute(statement).rowcount == 1


def blob_in_use(connection: Connection, sha256: str) -> bool:
    """Whether a file row still names the blob."""
    return bool(connection.execute(select(exists().where(files.c.sha256 == sha256))).scalar())


def newest_blob(connection: Connection) -> str | None:
    """The blob of the file that was uploaded last, of all projects."""
    return connection.execute(select(files.c.sha256).order_by(files.c.position.desc()).limit(1)).scalar_one_or_none()


def _file(row: Row[Any]) -> File:
    return File(**{**row._mapping, "status": FileStatus(row.status)})
