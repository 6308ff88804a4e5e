"""Objects kept as they are: `core.records`."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from finery.core.records import Kind, Record
from finery.storage.pages import Cursor, Page, fetch
from finery.storage.schema import records

_COLUMNS = [records.c[field.name] for field in dataclasses.fields(Record)]


def insert_record(connection: Connection, record: Record) -> None:
    """Remember a new object."""
    connection.execute(insert(records).values(dataclasses.asdict(record)))


def get(connection: Connection, project_id: str, kind: Kind, record_id: str) -> Record | None:
    """A project's object."""
    query = select(*_COLUMNS).where(
        records.c.project_id == project_id, records.c.kind == kind, records.c.id == record_id
    )
    row = connection.execute(query).one_or_none()
    return _record(row) if row else None


def find(connection: Connection, kind: Kind, record_id: str) -> Record | None:
    """An object of whatever project: for who has shown in another way than by a key that it is theirs."""
    row = connection.execute(select(*_COLUMNS).where(records.c.kind == kind, records.c.id == record_id)).one_or_none()
    return _record(row) if row else None


def list_page(
    connection: Connection,
    project_id: str,
    kind: Kind,
    cursor: Cursor,
    *,
    owner: str | None = None,
    status: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Page[Record]:
    """A project's objects of a kind, those of an owner, in a state, and with all the given metadata."""
    query = select(*_COLUMNS).where(records.c.project_id == project_id, records.c.kind == kind)
    if owner is not None:
        query = query.where(records.c.owner == owner)
    if status is not None:
        query = query.where(records.c.status == status)
    for key, value in (metadata or {}).items():
        query = query.where(records.c.metadata[key].as_string() == value)
    rows, has_more = fetch(connection, query, records, cursor)
    return Page(items=[_record(row) for row in rows], has_more=has_more)


def list_owned(connection: Connection, project_id: str, kind: Kind, owner: str) -> list[Record]:
    """All that belongs to one owner, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(records.c.project_id == project_id, records.c.kind == kind, records.c.owner == owner)
        .order_by(records.c.position)
    )
    return [_record(row) for row in connection.execute(query)]


def list_under(connection: Connection, project_id: str, kind: Kind, prefix: str) -> list[Record]:
    """All that belongs to owners whose name begins so, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(
            records.c.project_id == project_id,
            records.c.kind == kind,
            records.c.owner.startswith(prefix, autoescape=True),
        )
        .order_by(records.c.position)
    )
    return [_record(row) for row in connection.execute(query)]


def list_owners(connection: Connection, kind: Kind) -> list[tuple[str, str]]:
    """(project id, owner) of whatever has objects of a kind."""
    query = select(records.c.project_id, records.c.owner).where(records.c.kind == kind).distinct()
    return [(row.project_id, row.owner) for row in connection.execute(query)]


def find_id(connection: Connection, project_id: str, kind: Kind, owner: str) -> str | None:
    """The id of the newest object of an owner, without its body."""
    query = (
        select(records.c.id)
        .where(records.c.project_id == project_id, records.c.kind == kind, records.c.owner == owner)
        .order_by(records.c.position.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def list_in(connection: Connection, kind: Kind, *statuses: str) -> list[Record]:
    """Objects of all projects in these states, oldest first."""
    query = select(*_COLUMNS).where(records.c.kind == kind, records.c.status.in_(statuses)).order_by(records.c.position)
    return [_record(row) for row in connection.execute(query)]


def list_expired(connection: Connection, now: int) -> list[Record]:
    """Objects of all projects whose time is over."""
    return [_record(row) for row in connection.execute(select(*_COLUMNS).where(records.c.expires_at <= now))]


def change(connection: Connection, record: Record, **values: Any) -> bool:
    """Set columns; False where the object is no longer in the state it was read in."""
    statement = (
        update(records)
        .where(
            records.c.project_id == record.project_id,
            records.c.kind == record.kind,
            records.c.id == record.id,
            records.c.status == record.status,
        )
        .values(**values)
    )
    return connection.execute(statement).rowcount == 1


def remove(connection: Connection, project_id: str, kind: Kind, record_id: str) -> bool:
    """Forget an object."""
    statement = delete(records).where(
        records.c.project_id == project_id, records.c.kind == kind, records.c.id == record_id
    )
    return connection.execute(statement).rowcount == 1


def remove_owned(connection: Connection, project_id: str, kind: Kind, owner: str) -> None:
    """Forget all that belongs to one owner."""
    connection.execute(
        delete(records).where(records.c.project_id == project_id, records.c.kind == kind, records.c.owner == owner)
    )


def remove_expired(connection: Connection, kind: Kind, now: int) -> None:
    """Forget all of a kind whose time is over, of all projects."""
    connection.execute(delete(records).where(records.c.kind == kind, records.c.expires_at <= now))


def find_permission(connection: Connection, checkpoint: str, project_id: str) -> Record | None:
    """The permission that some project gave this one on its checkpoint."""
    query = select(*_COLUMNS).where(
        records.c.kind == Kind.PERMISSION,
        records.c.owner == checkpoint,
        records.c.body["project_id"].as_string() == project_id,
    )
    row = connection.execute(query).first()
    return _record(row) if row else None


def blob_in_use(connection: Connection, sha256: str) -> bool:
    """Whether a part of an upload, a checkpoint to go on from, or the runs of works and training rows name the blob."""
    kinds = (Kind.UPLOAD_PART, Kind.RESUME_FILE, Kind.PROTECTED_WORK, Kind.TRAINED_RUNS)
    query = select(records.c.id).where(records.c.kind.in_(kinds), records.c.body["sha256"].as_string() == sha256)
    return connection.execute(query).first() is not None


def _record(row: Row[Any]) -> Record:
    return Record(**{**row._mapping, "kind": Kind(row.kind)})
