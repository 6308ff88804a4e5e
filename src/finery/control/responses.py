"""Responses: OpenAI's items as messages for a model, and its answers; kept, so that the next one can go on."""

from collections.abc import Sequence
from typing import Any

from finery.control import audit, chat, compaction, conversations, texts
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import records

KEEP_SECONDS = 30 * 24 * 3600
"""OpenAI keeps responses for 30 days."""

QUEUED, IN_PROGRESS, CANCELLED = "queued", "in_progress", "cancelled"
UNFINISHED = (QUEUED, IN_PROGRESS)


def as_items(given: str | Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """The input as items with ids, the way they are listed later; no input at all is a user who says nothing."""
    given = "" if given is None else given
    listed: list[dict[str, Any]] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    items = []
    for given_item in listed:
        item = given_item
        kind = item.get("type") or "message"
        if kind == "message":
            content = item.get("content")
            if isinstance(content, str):
                part = "output_text" if item.get("role") == "assistant" else "input_text"
                content = [{"type": part, "text": content, **({"annotations": []} if part == "output_text" else {})}]
            item = {"status": "completed", **item, "content": content}
        items.append({**item, "type": kind, "id": item.get("id") or new_id("msg_" if kind == "message" else "item_")})
    return items


def as_messages(items: Sequence[dict[str, Any]], *, param: str = "input") -> list[dict[str, Any]]:
    """Items as chat messages.

    Raises:
        InvalidRequest: an item that a text model can't take, naming its place.
    """
    messages: list[dict[str, Any]] = []
    for i, item in enumerate(items):
        kind = item["type"]
        if kind == "message":
            messages.append({"role": item.get("role"), "content": item["content"]})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if messages and messages[-1].get("tool_calls"):
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
        elif kind != "reasoning":
            raise InvalidRequest(
                f"{param}[{i}] is an item of type {kind!r}; messages, function calls, their outputs and "
                "compactions can be used.",
                param=f"{param}[{i}]",
            )
    return messages


def model_of(plane: ControlPlane, named: str | None) -> str:
    """The model a response is asked of.

    Raises:
        InvalidRequest: none was named, and the operator has set none for that.
    """
    model = named or plane.settings.default_model
    if not model:
        raise InvalidRequest(
            "No model is named. Name a deployment or a model; /v1/models lists what there is.", param="model"
        )
    return model


def checked_items(plane: ControlPlane, caller: Caller, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items for a conversation, with ids.

    Raises:
        InvalidRequest: one that a text model can't take, naming its place.
    """
    items = as_items(given)
    as_messages(compaction.expand(plane, caller, items), param="items")
    return items


def messages_of(
    plane: ControlPlane,
    caller: Caller,
    items: Sequence[dict[str, Any]],
    *,
    previous: str | None,
    conversation: str | None = None,
) -> list[dict[str, Any]]:
    """All messages so far: those of the response or the conversation this one goes on from, then the new ones.

    Raises:
        NotFound: what it goes on from isn't kept here.
        Conflict: the previous response is still being written.
        InvalidRequest: both were named, or nothing is said.
    """
    if previous and conversation:
        raise InvalidRequest(
            "A response goes on from previous_response_id or from conversation, not from both; leave one out.",
            param="conversation",
        )
    earlier = _so_far(plane, caller, previous) if previous else []
    if conversation:
        items = [*conversations.items_of(plane, caller, conversation), *items]
    messages = [*earlier, *as_messages(compaction.expand(plane, caller, items))]
    if not messages:
        raise InvalidRequest("The input is empty; send a text or at least one item.", param="input")
    return messages


def save(
    plane: ControlPlane,
    caller: Caller,
    response: dict[str, Any],
    items: list[dict[str, Any]],
    messages: list[dict[str, Any]],
) -> None:
    """Keep a response with its input and all messages so far, and add it to its conversation, where that is wanted."""
    conversation = response["conversation"]
    if not response["store"] and conversation is None:
        return
    said = as_messages(response["output"], param="output")
    with plane.database.write() as connection:
        if response["store"]:
            records.insert_record(connection, as_record(caller, response, items, [*messages, *said]))
        if conversation is not None:
            conversations.append(connection, caller, conversation["id"], [*items, *response["output"]])


def as_record(
    caller: Caller, response: dict[str, Any], items: list[dict[str, Any]], messages: list[dict[str, Any]]
) -> Record:
    """A response as it is kept."""
    return Record(
        id=response["id"],
        project_id=caller.project.id,
        kind=Kind.RESPONSE,
        status=response["status"],
        metadata=response["metadata"],
        body={"response": response, "items": items, "messages": messages},
        created_at=response["created_at"],
        expires_at=response["created_at"] + KEEP_SECONDS,
    )


def get(plane: ControlPlane, caller: Caller, response_id: str, *, param: str = "response_id") -> Record:
    """A kept response.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        found = records.get(connection, caller.project.id, Kind.RESPONSE, response_id)
    if found is None:
        raise NotFound(
            f"Response with id '{response_id}' not found. Those asked with store=false are not kept, others 30 days.",
            param=param,
        )
    return found


def delete(plane: ControlPlane, caller: Caller, response_id: str) -> None:
    """Forget a response."""
    get(plane, caller, response_id)
    with plane.database.write() as connection:
        records.remove(connection, caller.project.id, Kind.RESPONSE, response_id)
        audit.record(connection, caller, "responses.delete", response_id)


def forget_expired(plane: ControlPlane) -> None:
    """Forget responses whose time is over."""
    with plane.database.read() as connection:
        expired = [record for record in records.list_expired(connection, now()) if record.kind == Kind.RESPONSE]
    for record in expired:
        with plane.database.write() as connection:
            records.remove(connection, record.project_id, Kind.RESPONSE, record.id)


def count_tokens(
    plane: ControlPlane,
    caller: Caller,
    model: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
) -> int:
    """Tokens of a conversation as the model would read it."""
    template = texts.template_of(chat.find(plane, caller, model).base)
    return len(template.encode_prompt(messages, tools))


def _so_far(plane: ControlPlane, caller: Caller, previous: str) -> list[dict[str, Any]]:
    found = get(plane, caller, previous, param="previous_response_id")
    if found.status in UNFINISHED:
        raise Conflict(f"The response {previous} is {found.status}; wait for its end, then go on from it.")
    messages: list[dict[str, Any]] = found.body["messages"]
    return messages
