"""/v1/conversations: items kept under an id, which /v1/responses goes on from with `conversation`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import AsksModels, ReadsData
from finery.api.context import Metadata, Plane, UpdateMetadata, paging
from finery.api.openai import wire
from finery.control import conversations, responses
from finery.core.records import Record
from finery.storage.pages import Cursor, Page

router = APIRouter(prefix="/v1/conversations", tags=["conversations"])

ItemsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]
Items = Annotated[list[dict[str, Any]], Field(max_length=20)]
"""As many as OpenAI takes at once."""


class CreateConversation(BaseModel):
    """The body that begins a conversation."""

    model_config = ConfigDict(extra="ignore")
    items: Items | None = None
    metadata: Metadata | None = None


class CreateItems(BaseModel):
    """The body that adds items."""

    items: Items


@router.post("")
def create(plane: Plane, caller: AsksModels, body: CreateConversation | None = None) -> dict[str, Any]:
    """Begin a conversation."""
    body = body or CreateConversation()
    items = responses.checked_items(plane, caller, body.items or [])
    return _conversation(conversations.create(plane, caller, items, body.metadata))


@router.get("/{conversation_id}")
def retrieve(plane: Plane, caller: ReadsData, conversation_id: str) -> dict[str, Any]:
    """A conversation."""
    return _conversation(conversations.get(plane, caller, conversation_id))


@router.post("/{conversation_id}")
def update(plane: Plane, caller: AsksModels, conversation_id: str, body: UpdateMetadata) -> dict[str, Any]:
    """Give a conversation other metadata."""
    return _conversation(conversations.set_metadata(plane, caller, conversation_id, body.metadata))


@router.delete("/{conversation_id}")
def delete(plane: Plane, caller: AsksModels, conversation_id: str) -> dict[str, Any]:
    """Forget a conversation and its items."""
    conversations.delete(plane, caller, conversation_id)
    return wire.deleted(conversation_id, "conversation.deleted")


@router.post("/{conversation_id}/items")
def create_items(plane: Plane, caller: AsksModels, conversation_id: str, body: CreateItems) -> dict[str, Any]:
    """Add items; answers with them as they are kept."""
    items = responses.checked_items(plane, caller, body.items)
    conversations.add(plane, caller, conversation_id, items)
    return wire.page(Page(items=items, has_more=False), lambda item: item)


@router.get("/{conversation_id}/items")
def list_items(plane: Plane, caller: ReadsData, conversation_id: str, cursor: ItemsCursor) -> dict[str, Any]:
    """What was said."""
    return wire.page(conversations.list_items(plane, caller, conversation_id, cursor), lambda item: item)


@router.get("/{conversation_id}/items/{item_id}")
def retrieve_item(plane: Plane, caller: ReadsData, conversation_id: str, item_id: str) -> dict[str, Any]:
    """One item."""
    return conversations.get_item(plane, caller, conversation_id, item_id)


@router.delete("/{conversation_id}/items/{item_id}")
def delete_item(plane: Plane, caller: AsksModels, conversation_id: str, item_id: str) -> dict[str, Any]:
    """Forget one item; answers with the conversation."""
    conversations.remove_item(plane, caller, conversation_id, item_id)
    return _conversation(conversations.get(plane, caller, conversation_id))


def _conversation(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "conversation",
        "created_at": record.created_at,
        "metadata": record.metadata or {},
    }
