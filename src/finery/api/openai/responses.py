"""/v1/responses, plain and as a stream of numbered events."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from finery.api.access import AsksModels, ReadsData
from finery.api.context import Plane, paging
from finery.api.openai import annotations, sse, wire
from finery.api.openai.responses_body import INCOMPLETE, CreateResponse, conversation_id, finished, usage
from finery.control import backgrounds, chat, compaction, gated, responses, screening
from finery.control.chat import Part
from finery.control.gated import Annotation
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.ids import new_id
from finery.serving.protocol import Finish
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/responses", tags=["responses"])

ItemsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]

Event = dict[str, Any]

_LOOK_SECONDS = 0.2
"""Between two looks at a response that is written in the background."""


class CountTokens(BaseModel):
    """The body of a question for input tokens."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


class CompactResponse(BaseModel):
    """The body of a request for a summary."""

    model_config = ConfigDict(extra="ignore")
    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None


@router.post("", response_model=None)
async def create(plane: Plane, caller: AsksModels, body: CreateResponse) -> Response:
    """Answer an input."""
    if body.stream:
        await run_in_threadpool(chat.find, plane, caller, responses.model_of(plane, body.model))
        return await sse.respond(_as_sse(_events(plane, caller, body)))
    if body.background:
        return JSONResponse(await run_in_threadpool(_begin, plane, caller, body))
    return JSONResponse(await complete(plane, caller, body), headers={"cache-control": "no-store"})


async def complete(plane: ControlPlane, caller: Caller, body: CreateResponse) -> dict[str, Any]:
    """A whole response."""
    last: Event = {}
    async with aclosing(_events(plane, caller, body)) as events:
        async for event in events:
            last = event
    answer: dict[str, Any] = last["response"]
    return answer


@router.post("/input_tokens")
def count_tokens(plane: Plane, caller: AsksModels, body: CountTokens) -> dict[str, Any]:
    """How many tokens an input has."""
    model = responses.model_of(plane, body.model)
    items = responses.as_items(body.input)
    messages = responses.messages_of(
        plane,
        caller,
        items,
        previous=body.previous_response_id,
        conversation=conversation_id(body.conversation),
    )
    asked = CreateResponse(model=model, instructions=body.instructions, tools=body.tools)
    request = asked.request(messages)
    count = responses.count_tokens(plane, caller, model, request.messages or [], asked.plan().tools)
    return {"object": "response.input_tokens", "input_tokens": count}


@router.post("/compact")
async def compact(plane: Plane, caller: AsksModels, body: CompactResponse) -> dict[str, Any]:
    """Sum up a conversation: an item that stands for it (the SDK's type has no room for a user's message beside it)."""
    items = responses.as_items(body.input)
    messages = await run_in_threadpool(responses.messages_of, plane, caller, items, previous=body.previous_response_id)
    head = [{"role": "system", "content": body.instructions}] if body.instructions else []
    made = await compaction.compact(plane, caller, body.model, [*head, *messages])
    return {
        "id": new_id("resp_"),
        "object": "response.compaction",
        "created_at": now(),
        "output": [{"id": made.id, "type": "compaction", "encrypted_content": made.id}],
        "usage": usage(made.finish),
    }


@router.get("/{response_id}", response_model=None)
async def retrieve(
    plane: Plane, caller: ReadsData, response_id: str, stream: bool = False, starting_after: int = -1
) -> Response:
    """A kept response; as a stream it is its end alone, once that has come."""
    record = await run_in_threadpool(responses.get, plane, caller, response_id)
    if not stream:
        return JSONResponse(record.body["response"])

    async def events() -> AsyncGenerator[Event, None]:
        found = record
        if starting_after < 0:
            yield {"type": "response.created", "sequence_number": 0, "response": found.body["response"]}
        while found.status in responses.UNFINISHED:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await run_in_threadpool(responses.get, plane, caller, response_id)
        if starting_after < 1:
            # The stream has no event for a cancel: for its reader it is an end like another.
            kind = found.status if found.status in ("incomplete", "failed") else "completed"
            yield {"type": f"response.{kind}", "sequence_number": 1, "response": found.body["response"]}

    return await sse.respond(_as_sse(events()))


@router.delete("/{response_id}")
def delete(plane: Plane, caller: AsksModels, response_id: str) -> dict[str, Any]:
    """Forget a response."""
    responses.delete(plane, caller, response_id)
    return wire.deleted(response_id, "response")


@router.post("/{response_id}/cancel")
def cancel(plane: Plane, caller: AsksModels, response_id: str) -> dict[str, Any]:
    """Cancel a response that is being written in the background."""
    answer: dict[str, Any] = backgrounds.cancel(plane, caller, response_id).body["response"]
    return answer


@router.get("/{response_id}/input_items")
def list_input_items(plane: Plane, caller: ReadsData, response_id: str, cursor: ItemsCursor) -> dict[str, Any]:
    """What a response was asked."""
    return wire.listed(responses.get(plane, caller, response_id).body["items"], cursor)


def _begin(plane: ControlPlane, caller: Caller, body: CreateResponse) -> dict[str, Any]:
    """Take a background response in, refusing now what would be refused later."""
    body.check()
    body.plan()
    model = responses.model_of(plane, body.model)
    chat.find(plane, caller, model)
    items = responses.as_items(body.input)
    messages = _messages(plane, caller, body, items)
    asked = body.model_dump(exclude_unset=True)
    return backgrounds.begin(plane, caller, body.response(model), items, messages, asked)


def _messages(
    plane: ControlPlane, caller: Caller, body: CreateResponse, items: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """All that the model reads but the instructions."""
    return responses.messages_of(
        plane, caller, items, previous=body.previous_response_id, conversation=body.conversation_id
    )


async def _events(plane: ControlPlane, caller: Caller, body: CreateResponse) -> AsyncGenerator[Event, None]:
    """All events of a response, numbered; the last one holds it whole."""
    body.check()
    model = responses.model_of(plane, body.model)
    plan = body.plan()
    items = responses.as_items(body.input)
    messages = await run_in_threadpool(_messages, plane, caller, body, items)
    request = body.request(messages)
    gate = await screening.open_gate(plane, caller, model, screening.said(request.messages or []))
    response = body.response(model) | annotations.of_response(gate, None)
    output = _Output()
    annotation: Annotation | None = None
    number = 0
    finish: Finish | None = None
    async with aclosing(gated.answer(gate, model, request, plan)) as parts:
        async for part in parts:
            if number == 0:
                # Only once the model answers: until then an error is still an error with a status.
                for name in ("response.created", "response.in_progress"):
                    yield {"type": name, "sequence_number": number, "response": response}
                    number += 1
            if isinstance(part, Annotation):
                annotation = part
                continue
            if isinstance(part, Finish):
                finish = part
            for event in output.add(part):
                yield {**event, "sequence_number": number}
                number += 1
    assert finish is not None
    response = finished(response, output.items, finish) | annotations.of_response(gate, annotation)
    await run_in_threadpool(responses.save, plane, caller, response, items, messages)
    yield {"type": f"response.{response['status']}", "sequence_number": number, "response": response}


class _Output:
    """The items of an answer as they come together, and the events that tell of it."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def add(self, part: Part | Finish) -> Iterator[Event]:
        """The events that follow from one part."""
        if isinstance(part, Finish):
            if not self.items:
                yield from self._begin_message()
            yield from self._end("incomplete" if part.reason in INCOMPLETE else "completed")
            return
        if part.call is not None:
            if part.call.name is not None:
                yield from self._end("completed")
                yield from self._begin_call(part.call.name, part.call.id)
            if part.call.arguments:
                self.items[-1]["arguments"] += part.call.arguments
                yield {**self._place("response.function_call_arguments.delta"), "delta": part.call.arguments}
        elif part.text:
            if not self.items:
                yield from self._begin_message()
            self.items[-1]["content"][0]["text"] += part.text
            place = self._place("response.output_text.delta")
            yield {**place, "content_index": 0, "delta": part.text, "logprobs": []}

    def _begin_message(self) -> Iterator[Event]:
        item: dict[str, Any] = {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        self.items.append(item)
        yield self._item("response.output_item.added")
        item["content"] = [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]
        yield self._content("response.content_part.added")

    def _begin_call(self, name: str, call_id: str) -> Iterator[Event]:
        self.items.append(
            {
                "id": new_id("fc_"),
                "type": "function_call",
                "status": "in_progress",
                "name": name,
                "call_id": call_id,
                "arguments": "",
            }
        )
        yield self._item("response.output_item.added")

    def _end(self, status: str) -> Iterator[Event]:
        if not self.items:
            return
        item = self.items[-1]
        if item["type"] == "message":
            text = item["content"][0]["text"]
            place = self._place("response.output_text.done")
            yield {**place, "content_index": 0, "text": text, "logprobs": []}
            yield self._content("response.content_part.done")
        else:
            place = self._place("response.function_call_arguments.done")
            yield {**place, "name": item["name"], "arguments": item["arguments"]}
        item["status"] = status
        yield self._item("response.output_item.done")

    def _place(self, kind: str) -> Event:
        return {"type": kind, "item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}

    def _item(self, kind: str) -> Event:
        return {"type": kind, "output_index": len(self.items) - 1, "item": dict(self.items[-1])}

    def _content(self, kind: str) -> Event:
        return {**self._place(kind), "content_index": 0, "part": dict(self.items[-1]["content"][0])}


async def _as_sse(events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            yield sse.event(event, name=event["type"])
