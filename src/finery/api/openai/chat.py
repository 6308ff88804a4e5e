"""/v1/chat/completions, plain and streamed, and the stored ones."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from finery.api.access import AsksModels, ReadsData, WritesData
from finery.api.context import Plane, UpdateMetadata, WantedMetadata, paging
from finery.api.openai import annotations, sse, wire
from finery.api.openai.chat_body import CreateChatCompletion
from finery.api.openai.logprobs import chat_logprobs
from finery.control import chat, gated, screening, stored
from finery.control.chat import Part
from finery.control.gated import Annotation
from finery.control.plane import ControlPlane, now
from finery.control.screening import Gate
from finery.control.tools import CallPart
from finery.core.access import Caller
from finery.core.records import Record
from finery.serving.protocol import AnswerToken, Finish
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])

StoredCursor = Annotated[Cursor, Depends(paging(default=20, most=100, order="asc"))]


@router.post("", response_model=None)
async def create(plane: Plane, caller: AsksModels, body: CreateChatCompletion) -> Response:
    """Answer a conversation."""
    if body.stream:
        # A wrong name is an error with a status, in a stream as well: so it is looked up before the first byte.
        await run_in_threadpool(chat.find, plane, caller, body.model)
        gate = await screening.open_gate(plane, caller, body.model, screening.said(body.messages))
        return await sse.respond(_stream(gate, body))
    answer = await complete(plane, caller, body)
    return JSONResponse(answer, headers={"cache-control": "no-store"})


async def complete(plane: ControlPlane, caller: Caller, body: CreateChatCompletion) -> dict[str, Any]:
    """A whole chat completion."""
    gate = await screening.open_gate(plane, caller, body.model, screening.said(body.messages))
    head = _head(body)
    choices = [_Choice(index) for index in range(body.n or 1)]
    async with aclosing(_answers(gate, body)) as parts:
        async for index, part in parts:
            choices[index].add(part)
    completion = _completion(head, choices, body) | annotations.of_prompt(gate)
    if body.store:
        await run_in_threadpool(stored.save, plane, caller, completion, body.messages, body.metadata)
    return completion


@router.get("")
def list_stored(
    plane: Plane, caller: ReadsData, cursor: StoredCursor, metadata: WantedMetadata, model: str | None = None
) -> dict[str, Any]:
    """The completions that were stored, oldest first."""
    return wire.page(stored.list_page(plane, caller, cursor, model=model, metadata=metadata), _stored)


@router.get("/{completion_id}")
def retrieve(plane: Plane, caller: ReadsData, completion_id: str) -> dict[str, Any]:
    """A stored completion."""
    return _stored(stored.get(plane, caller, completion_id))


@router.post("/{completion_id}")
def update(plane: Plane, caller: WritesData, completion_id: str, body: UpdateMetadata) -> dict[str, Any]:
    """Give a stored completion other metadata."""
    return _stored(stored.set_metadata(plane, caller, completion_id, body.metadata))


@router.delete("/{completion_id}")
def delete(plane: Plane, caller: WritesData, completion_id: str) -> dict[str, Any]:
    """Forget a stored completion."""
    stored.delete(plane, caller, completion_id)
    return wire.deleted(completion_id, "chat.completion.deleted")


@router.get("/{completion_id}/messages")
def list_messages(plane: Plane, caller: ReadsData, completion_id: str, cursor: StoredCursor) -> dict[str, Any]:
    """The conversation that a stored completion answered."""
    messages = [
        {"refusal": None, **message, "id": f"{completion_id}-{place}"}
        for place, message in enumerate(stored.get(plane, caller, completion_id).body["messages"])
    ]
    return wire.listed(messages, cursor)


class _Choice:
    """One answer as it comes together."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: Finish | None = None
        self._annotation: Annotation | None = None
        self._text: list[str] = []
        self._tokens: list[AnswerToken] = []
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, part: Part | Annotation | Finish) -> None:
        if isinstance(part, Finish):
            self.finish = part
            return
        if isinstance(part, Annotation):
            self._annotation = part
            return
        self._text.append(part.text)
        self._tokens += part.tokens
        if part.call is not None:
            call = self._calls.setdefault(part.call.index, _call(part.call) | {"id": part.call.id})
            if part.call.name is None:
                call["function"]["arguments"] += part.call.arguments

    def to_json(self, *, logprobs: bool) -> dict[str, Any]:
        assert self.finish is not None
        text = "".join(self._text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if self._calls:
            message |= {"content": text or None, "tool_calls": list(self._calls.values())}
        return {
            "index": self.index,
            "message": message,
            "logprobs": chat_logprobs(self._tokens) if logprobs else None,
            "finish_reason": self.finish.reason,
            **annotations.of_choice(self._annotation),
        }


async def _answers(
    gate: Gate, body: CreateChatCompletion
) -> AsyncGenerator[tuple[int, Part | Annotation | Finish], None]:
    chat.check_size(gate.plane, body.n or 1, body.limit)
    plan = body.plan()
    streams = [gated.answer(gate, body.model, body.request(index), plan) for index in range(body.n or 1)]
    async with aclosing(chat.side_by_side(streams)) as parts:
        async for part in parts:
            yield part


async def _stream(gate: Gate, body: CreateChatCompletion) -> AsyncGenerator[str, None]:
    """Chunks of all n answers as they come."""
    head = {**_head(body), "object": "chat.completion.chunk"}
    usage: dict[str, Any] = {"usage": None} if body.include_usage else {}
    choices = [_Choice(index) for index in range(body.n or 1)]
    opened: set[int] = set()
    async with aclosing(_answers(gate, body)) as parts:
        async for index, part in parts:
            if index not in opened:
                opening = {"choices": [_delta(index, {"role": "assistant", "content": ""})], **usage}
                yield sse.event({**head, **opening, **({} if opened else annotations.of_prompt(gate))})
                opened.add(index)
            choices[index].add(part)
            yield sse.event({**head, "choices": [_chunk_choice(index, part, body)], **usage})
    if body.store:
        completion = _completion(head, choices, body) | annotations.of_prompt(gate)
        await run_in_threadpool(stored.save, gate.plane, gate.caller, completion, body.messages, body.metadata)
    if body.include_usage:
        yield sse.event({**head, "choices": [], "usage": _usage(choices)})
    yield sse.DONE


def _chunk_choice(index: int, part: Part | Annotation | Finish, body: CreateChatCompletion) -> dict[str, Any]:
    if isinstance(part, Finish):
        return _delta(index, {}) | {"finish_reason": part.reason}
    if isinstance(part, Annotation):
        return _delta(index, {}) | annotations.of_chunk(part)
    if part.call is not None:
        call = _call(part.call) if part.call.name is not None else {"function": {"arguments": part.call.arguments}}
        return _delta(index, {"tool_calls": [{"index": part.call.index, **call}]})
    choice = _delta(index, {"content": part.text})
    if body.logprobs:
        choice["logprobs"] = chat_logprobs(part.tokens)
    return choice


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _call(part: CallPart) -> dict[str, Any]:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}


def _head(body: CreateChatCompletion) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_urlsafe(18)}", "created": now(), "model": body.model}


def _completion(head: dict[str, Any], choices: list[_Choice], body: CreateChatCompletion) -> dict[str, Any]:
    return {
        **head,
        "object": "chat.completion",
        "choices": [choice.to_json(logprobs=bool(body.logprobs)) for choice in choices],
        "usage": _usage(choices),
    }


def _usage(choices: list[_Choice]) -> dict[str, Any]:
    # The prompt is the same for all n answers and counts once, as at OpenAI.
    return wire.usage([choice.finish for choice in choices if choice.finish is not None])


def _stored(record: Record) -> dict[str, Any]:
    return {**record.body["completion"], "metadata": record.metadata}
