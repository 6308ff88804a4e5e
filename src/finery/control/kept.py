"""Objects kept as records that live through states: found, and moved on only from the state they were seen in.

Knows no kind of object; `batches`, `evals` and their like say what their states mean.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from finery.control import audit, webhooks
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import Conflict, NotFound
from finery.core.records import Kind, Record
from finery.storage import projects, records


def find(plane: ControlPlane, caller: Caller, kind: Kind, record_id: str, *, what: str, param: str) -> Record:
    """An object of the caller's project.

    Raises:
        NotFound: there is none of that id; `what` says what was looked for.
    """
    with plane.database.read() as connection:
        found = records.get(connection, caller.project.id, kind, record_id)
    if found is None:
        raise NotFound(f"No {what} found with id '{record_id}'.", param=param)
    return found


def set_metadata(plane: ControlPlane, record: Record, metadata: dict[str, str] | None, *, by: Caller) -> Record:
    """The object with other metadata."""
    with plane.database.write() as connection:
        records.change(connection, record, metadata=metadata or {})
        audit.record(connection, by, f"{record.kind}s.update", record.id)
    return dataclasses.replace(record, metadata=metadata or {})


def move(
    plane: ControlPlane,
    record: Record,
    status: str,
    *,
    within: Collection[str] = (),
    event: str | None = None,
    by: Caller | None = None,
    **facts: Any,
) -> Record:
    """The object in another state, with facts added to its body; `event` is told to webhooks in the same transaction.

    Raises:
        Conflict: it is no longer in the state it was read in, nor in one of `within`.
    """
    with plane.database.write() as connection:
        current = records.get(connection, record.project_id, record.kind, record.id)
        if current is None or current.status not in (record.status, *within):
            raise Conflict(f"{record.id} changed in this very moment. Look at it again.")
        records.change(connection, current, status=status, body={**current.body, **facts})
        if by is not None:
            audit.record(connection, by, f"{record.kind}s.{status}", record.id)
        if event is not None:
            webhooks.tell(connection, record.project_id, event, record.id)
        moved = records.get(connection, record.project_id, record.kind, record.id)
    assert moved is not None
    return moved


def insert(plane: ControlPlane, record: Record, *, by: Caller | None = None) -> Record:
    """Keep a new object; `by` whom, where somebody asked for it."""
    with plane.database.write() as connection:
        records.insert_record(connection, record)
        if by is not None:
            audit.record(connection, by, f"{record.kind}s.create", record.id)
    return record


def owner_of(plane: ControlPlane, record: Record) -> Caller:
    """Whoever an object's work is done for: its project, without a key."""
    with plane.database.read() as connection:
        return Caller(project=projects.get_project(connection, record.project_id), key_id="")


def unfinished(plane: ControlPlane, kind: Kind, *statuses: str) -> list[Record]:
    """Objects of all projects in these states, oldest first."""
    with plane.database.read() as connection:
        return records.list_in(connection, kind, *statuses)
