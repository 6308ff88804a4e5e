"""Conversations: OpenAI's items kept under one id, which responses go on from and add to.

Knows no models and no answers; what items may be is for `responses` to say. Unlike responses they are kept until they
are deleted, as at OpenAI.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from finery.control import audit, kept
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import NotFound
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.pages import Cursor, Page

Item = dict[str, Any]


def create(plane: ControlPlane, caller: Caller, items: Sequence[Item], metadata: dict[str, str] | None) -> Record:
    """Begin a conversation, perhaps with items."""
    record = Record(
        id=new_id("conv_"),
        project_id=caller.project.id,
        kind=Kind.CONVERSATION,
        metadata=metadata or {},
        created_at=now(),
    )
    with plane.database.write() as connection:
        records.insert_record(connection, record)
        append(connection, caller, record.id, items)
        audit.record(connection, caller, "conversations.create", record.id)
    return record


def get(plane: ControlPlane, caller: Caller, conversation_id: str, *, param: str = "conversation_id") -> Record:
    """A conversation, without its items.

    Raises:
        NotFound: there is none of that id.
    """
    return kept.find(plane, caller, Kind.CONVERSATION, conversation_id, what="conversation", param=param)


def set_metadata(plane: ControlPlane, caller: Caller, conversation_id: str, metadata: dict[str, str] | None) -> Record:
    """Give a conversation other metadata."""
    return kept.set_metadata(plane, get(plane, caller, conversation_id), metadata, by=caller)


def delete(plane: ControlPlane, caller: Caller, conversation_id: str) -> None:
    """Forget a conversation and all that was said in it."""
    get(plane, caller, conversation_id)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.CONVERSATION_ITEM, conversation_id)
        records.remove(connection, caller.project.id, Kind.CONVERSATION, conversation_id)
        audit.record(connection, caller, "conversations.delete", conversation_id)


def add(plane: ControlPlane, caller: Caller, conversation_id: str, items: Sequence[Item]) -> None:
    """Put items behind the last one."""
    get(plane, caller, conversation_id)
    with plane.database.write() as connection:
        append(connection, caller, conversation_id, items)


def append(connection: Any, caller: Caller, conversation_id: str, items: Sequence[Item]) -> None:
    """Put items behind the last one, within a transaction; one that the conversation has already stays where it is."""
    for item in items:
        record_id = item_record_id(conversation_id, item["id"])
        if records.get(connection, caller.project.id, Kind.CONVERSATION_ITEM, record_id) is not None:
            continue
        record = Record(
            id=record_id,
            project_id=caller.project.id,
            kind=Kind.CONVERSATION_ITEM,
            owner=conversation_id,
            body=item,
            created_at=now(),
        )
        records.insert_record(connection, record)


def items_of(plane: ControlPlane, caller: Caller, conversation_id: str) -> list[Item]:
    """All items of a conversation, oldest first."""
    get(plane, caller, conversation_id, param="conversation")
    with plane.database.read() as connection:
        kept = records.list_owned(connection, caller.project.id, Kind.CONVERSATION_ITEM, conversation_id)
    return [record.body for record in kept]


def list_items(plane: ControlPlane, caller: Caller, conversation_id: str, cursor: Cursor) -> Page[Item]:
    """A piece of a conversation."""
    get(plane, caller, conversation_id)
    after = item_record_id(conversation_id, cursor.after) if cursor.after else None
    with plane.database.read() as connection:
        page = records.list_page(
            connection,
            caller.project.id,
            Kind.CONVERSATION_ITEM,
            Cursor(after=after, limit=cursor.limit, order=cursor.order),
            owner=conversation_id,
        )
    return Page(items=[record.body for record in page.items], has_more=page.has_more)


def get_item(plane: ControlPlane, caller: Caller, conversation_id: str, item_id: str) -> Item:
    """One item.

    Raises:
        NotFound: no such conversation, or no such item in it.
    """
    get(plane, caller, conversation_id)
    with plane.database.read() as connection:
        found = records.get(
            connection, caller.project.id, Kind.CONVERSATION_ITEM, item_record_id(conversation_id, item_id)
        )
    if found is None:
        raise NotFound(f"No item found with id '{item_id}' in conversation '{conversation_id}'.", param="item_id")
    return found.body


def remove_item(plane: ControlPlane, caller: Caller, conversation_id: str, item_id: str) -> None:
    """Forget one item. Raises as `get_item`."""
    get_item(plane, caller, conversation_id, item_id)
    record_id = item_record_id(conversation_id, item_id)
    with plane.database.write() as connection:
        records.remove(connection, caller.project.id, Kind.CONVERSATION_ITEM, record_id)
        audit.record(connection, caller, "conversations.items.delete", conversation_id)


def item_record_id(conversation_id: str, item_id: str) -> str:
    """Items bring ids of their own, of any length; the same item may lie in two conversations."""
    return "convitem_" + hashlib.sha256(f"{conversation_id} {item_id}".encode()).hexdigest()[:48]
