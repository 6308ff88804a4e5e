"""Chat completions that were asked to be stored: kept with their messages, listed, renamed by metadata, deleted."""

from typing import Any

from finery.control import audit, kept
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import NotFound
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.pages import Cursor, Page


def save(
    plane: ControlPlane,
    caller: Caller,
    completion: dict[str, Any],
    messages: list[dict[str, Any]],
    metadata: dict[str, str] | None,
) -> None:
    """Keep a completion and the conversation it answers."""
    record = Record(
        id=completion["id"],
        project_id=caller.project.id,
        kind=Kind.COMPLETION,
        owner=completion["model"],
        metadata=metadata or {},
        body={"completion": completion, "messages": messages},
        created_at=completion["created"],
    )
    with plane.database.write() as connection:
        records.insert_record(connection, record)


def get(plane: ControlPlane, caller: Caller, completion_id: str) -> Record:
    """A stored completion.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        found = records.get(connection, caller.project.id, Kind.COMPLETION, completion_id)
    if found is None:
        raise NotFound(
            f"There is no stored chat completion {completion_id!r}. Only those asked with store=true are kept.",
            param="completion_id",
        )
    return found


def list_page(
    plane: ControlPlane, caller: Caller, cursor: Cursor, *, model: str | None, metadata: dict[str, str] | None
) -> Page[Record]:
    """Stored completions, perhaps those of one model or with some metadata."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.COMPLETION, cursor, owner=model, metadata=metadata)


def set_metadata(plane: ControlPlane, caller: Caller, completion_id: str, metadata: dict[str, str] | None) -> Record:
    """Give a stored completion other metadata."""
    return kept.set_metadata(plane, get(plane, caller, completion_id), metadata, by=caller)


def delete(plane: ControlPlane, caller: Caller, completion_id: str) -> None:
    """Forget a stored completion."""
    get(plane, caller, completion_id)
    with plane.database.write() as connection:
        records.remove(connection, caller.project.id, Kind.COMPLETION, completion_id)
        audit.record(connection, caller, "completions.delete", completion_id)
