"""The audit log: entries are added and read, never changed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from finery.core.audit import GENESIS, AuditEntry
from finery.storage.schema import audit, audit_head

_FIELDS = [field.name for field in dataclasses.fields(AuditEntry)]


def append(connection: Connection, **facts: Any) -> AuditEntry:
    """Add an entry behind the last one, inside the transaction of the change that it tells of."""
    # The one row of the head is the lock: two writers can't follow the same entry.
    head = connection.execute(select(audit_head).with_for_update()).one_or_none()
    entry = AuditEntry(number=head.number + 1 if head else 1, previous=head.hash if head else GENESIS, **facts)
    connection.execute(insert(audit).values({**dataclasses.asdict(entry), "hash": entry.hash()}))
    values = {"number": entry.number, "hash": entry.hash()}
    connection.execute(update(audit_head).values(values) if head else insert(audit_head).values(id=1, **values))
    return entry


def list_entries(
    connection: Connection, *, project_id: str | None, before: int | None, limit: int
) -> list[tuple[AuditEntry, str]]:
    """Entries with their hashes, newest first; of one project, or of all."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if project_id is not None:
        query = query.where(audit.c.project_id == project_id)
    if before is not None:
        query = query.where(audit.c.number < before)
    return list(_entries(connection, query))


def all_entries(connection: Connection) -> Iterator[tuple[AuditEntry, str]]:
    """Every entry with the hash it was stored with, oldest first."""
    return _entries(connection, select(audit).order_by(audit.c.number).execution_options(yield_per=1000))


def head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry."""
    row = connection.execute(select(audit_head)).one_or_none()
    return (row.number, row.hash) if row else (0, GENESIS)


def _entries(connection: Connection, query: Select[Any]) -> Iterator[tuple[AuditEntry, str]]:
    for row in connection.execute(query):
        yield _entry(row), row.hash


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**{name: row._mapping[name] for name in _FIELDS})
