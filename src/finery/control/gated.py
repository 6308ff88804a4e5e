"""A completion on its way through the gate, piece by piece. Knows no route and no classifier.

Default mode: pieces wait until what they say was checked together with what came before; on a hit the answer ends
there, and nothing that came with the hit or after it is let go. A hit in a sentence that isn't finished waits for the
rest of it: "I want to kill" may become "time". Asynchronous: pieces flow at once, the checks run behind them, and the
answer ends within ASYNCHRONOUS_CHARACTERS of a hit.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from finery.control import chat, texts
from finery.control.chat import Part
from finery.control.screening import Gate
from finery.control.tools import Plan
from finery.core.policies import LEVELS, Judgement, Mode, Source
from finery.safety.windows import NEW, unfinished
from finery.serving.protocol import Delta, Finish, GenerateRequest

FIRST_CHARACTERS = 16
"""How much is gathered before the first check, so that the first words come soon; each later one waits for half more,
up to MOST_CHARACTERS."""
FIRST_CHARACTERS_FOR_A_GUARD = 48
"""The same where a guard model is asked at each check."""
MOST_CHARACTERS = NEW
ASYNCHRONOUS_CHARACTERS = 1000
ASYNCHRONOUS_STEP = 400

P = TypeVar("P", Part, Delta)


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """What the filter says of an answer so far; places are characters of the answer."""

    results: dict[str, Any]
    check_offset: int
    """Everything before it has been checked for good."""
    start_offset: int
    end_offset: int


async def answer(
    gate: Gate, name: str, request: GenerateRequest, plan: Plan
) -> AsyncGenerator[Part | Annotation | Finish, None]:
    """As `chat.answer`, through the gate."""
    whole = dataclasses.replace(request, tools=plan.tools)
    reasons: list[str] = []
    pieces = chat.answer(gate.plane, gate.caller, name, request, plan, stopped_by=reasons)
    async with aclosing(through(gate, pieces, reasons)) as items:
        async for item in items:
            yield await _counted(gate, name, whole, item) if isinstance(item, Finish) else item


async def generate(
    gate: Gate, name: str, request: GenerateRequest
) -> AsyncGenerator[Delta | Annotation | Finish, None]:
    """As `chat.generate`, through the gate."""
    reasons: list[str] = []
    pieces = chat.generate(gate.plane, gate.caller, name, request, stopped_by=reasons)
    async with aclosing(through(gate, pieces, reasons)) as items:
        async for item in items:
            yield await _counted(gate, name, request, item) if isinstance(item, Finish) else item


async def through(
    gate: Gate, pieces: AsyncGenerator[P | Finish, None], reasons: list[str] | None = None
) -> AsyncGenerator[P | Annotation | Finish, None]:
    """An answer's pieces as far as the policy lets them; an annotation stands before the end. Why an answer was stopped
    is put into `reasons` before the pieces are closed.

    Raises:
        Unavailable: the filter failed, and nothing passes where it does.
    """
    if not gate.policy.looks_at(Source.COMPLETION):
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        return
    way = _asynchronous if gate.policy.mode == Mode.ASYNCHRONOUS else _held_back
    passing: _Passing[P] = _Passing(gate=gate, reasons=[] if reasons is None else reasons)
    async with aclosing(way(passing, pieces)) as let_go:
        async for item in let_go:
            yield item


@dataclass(kw_only=True, slots=True)
class _Passing(Generic[P]):
    """One answer between the model and the reader."""

    gate: Gate
    waiting: deque[P] = field(default_factory=deque)
    text: str = ""
    """All that was written so far."""
    let_go: int = 0
    """Characters of it that the reader has."""
    tokens: int = 0
    judgement: Judgement = field(default_factory=Judgement)
    reasons: list[str]
    """Why it was stopped."""

    def take(self, piece: P) -> None:
        self.waiting.append(piece)
        self.text += _text_of(piece)
        self.tokens += len(piece.tokens)

    async def check(self, begin: int) -> bool:
        """Read the text from `begin` on; False where the answer may not go on."""
        return self.accept(await self.judge(begin, len(self.text)))

    async def judge(self, begin: int, end: int) -> Judgement:
        """Read the text from `begin` to `end`; nothing follows from it yet."""
        return await self.gate.judge_completion(self.text[:end], begin) if end > begin or not begin else Judgement()

    def accept(self, judgement: Judgement) -> bool:
        """Add what was found; False where the answer may not go on."""
        self.judgement = merge(self.judgement, judgement)
        return not self.judgement.blocked

    def release(self, end: int) -> list[P]:
        """Pieces that end at `end` in the text, or before."""
        found = []
        while self.waiting and self.let_go + len(_text_of(self.waiting[0])) <= end:
            piece = self.waiting.popleft()
            self.let_go += len(_text_of(piece))
            found.append(piece)
        return found

    def annotation(self, start: int, end: int) -> Annotation:
        return Annotation(results=dict(self.judgement.results), check_offset=end, start_offset=start, end_offset=end)

    def stopped(self) -> Finish:
        """The end of an answer that was cut; `_counted` adds what its prompt took."""
        self.reasons += self.judgement.reasons
        return Finish(reason="content_filter", prompt_tokens=0, completion_tokens=self.tokens)


async def _held_back(
    answer: _Passing[P], pieces: AsyncGenerator[P | Finish, None]
) -> AsyncGenerator[P | Annotation | Finish, None]:
    hold = max((matcher.longest for matcher in answer.gate.look.lists.values()), default=0)
    asks_guard = answer.gate.policy.guard is not None
    step, checked = FIRST_CHARACTERS_FOR_A_GUARD if asks_guard else FIRST_CHARACTERS, 0
    waits_from: int | None = None
    """Where a sentence begins whose end is waited for."""
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Finish):
                if not answer.accept(await answer.judge(checked, len(answer.text))):
                    yield answer.annotation(0, answer.let_go)
                    yield answer.stopped()
                    return
                for held in answer.release(len(answer.text)):
                    yield held
                yield answer.annotation(0, len(answer.text))
                yield piece
                return
            answer.take(piece)
            come = len(answer.text) - checked
            if come < MOST_CHARACTERS and (come < step if waits_from is None else _goes_on(answer.text, waits_from)):
                continue
            found = await answer.judge(checked, len(answer.text))
            if found.blocked and waits_from is None and (begin := unfinished(answer.text)) < len(answer.text):
                before = await answer.judge(checked, begin)
                if not before.blocked:
                    answer.accept(before)
                    checked, waits_from = max(checked, begin), begin
                    for held in answer.release(min(checked, begin - hold)):
                        yield held
                    continue
            if not answer.accept(found):
                yield answer.annotation(0, answer.let_go)
                yield answer.stopped()
                return
            checked, step, waits_from = len(answer.text), min(step * 3 // 2, MOST_CHARACTERS), None
            for held in answer.release(checked - hold):
                yield held


def _goes_on(text: str, begin: int) -> bool:
    """Whether the sentence that begins at `begin` is still unfinished."""
    return unfinished(text) <= begin


async def _asynchronous(
    answer: _Passing[P], pieces: AsyncGenerator[P | Finish, None]
) -> AsyncGenerator[P | Annotation | Finish, None]:
    checking: asyncio.Task[bool] | None = None
    checked = begun = 0
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                last = isinstance(piece, Finish)
                if not isinstance(piece, Finish):
                    answer.take(piece)
                    for free in answer.release(len(answer.text)):
                        yield free
                late = len(answer.text) - checked >= ASYNCHRONOUS_CHARACTERS - ASYNCHRONOUS_STEP
                if checking is not None and (checking.done() or last or late):
                    passed, checking = await checking, None
                    yield answer.annotation(checked, begun)
                    checked = begun
                    if not passed:
                        yield answer.stopped()
                        return
                if checking is None and len(answer.text) - checked >= ASYNCHRONOUS_STEP:
                    begun = len(answer.text)
                    checking = asyncio.create_task(answer.check(checked))
                if last:
                    if checking is not None:
                        checking.cancel()
                        checking = None
                    passed = await answer.check(checked)
                    yield answer.annotation(checked, len(answer.text))
                    yield piece if passed else answer.stopped()
                    return
    finally:
        if checking is not None:
            checking.cancel()


def merge(before: Judgement, after: Judgement) -> Judgement:
    """The graver of two judgements of parts of one answer, filter by filter."""
    results = dict(before.results)
    for name, result in after.results.items():
        known = results.get(name)
        results[name] = result if known is None else _graver(known, result)
    return dataclasses.replace(after, blocked=before.blocked or after.blocked, results=results)


def _graver(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if "severity" in one and "severity" in other:
        severity = max(one["severity"], other["severity"], key=LEVELS.index)
        return {"filtered": one["filtered"] or other["filtered"], "severity": severity}
    if other.get("filtered") or other.get("detected"):
        return other
    return one


def _text_of(piece: Part | Delta) -> str:
    if isinstance(piece, Part) and piece.call is not None:
        return piece.call.arguments
    return piece.text


async def _counted(gate: Gate, name: str, request: GenerateRequest, finish: Finish) -> Finish:
    """A cut answer's end with its prompt's tokens: the inference server was not heard to the end."""
    if finish.reason != "content_filter":
        return finish
    count = await asyncio.to_thread(texts.count_prompt, gate.plane, gate.caller, name, request)
    return dataclasses.replace(finish, prompt_tokens=count)
