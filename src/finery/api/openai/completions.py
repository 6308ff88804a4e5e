"""/v1/completions: text goes on. Harnesses score with it: `echo=true, max_tokens=1, logprobs=1`."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from finery.api.access import AsksModels
from finery.api.context import Plane
from finery.api.openai import annotations, sse
from finery.api.openai.chat_body import Sampling, separate
from finery.api.openai.logprobs import completion_logprobs
from finery.control import chat, gated, screening, texts
from finery.control.gated import Annotation
from finery.control.plane import ControlPlane, now
from finery.control.screening import Gate
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.serving.protocol import AnswerToken, Delta, Finish, GenerateRequest

router = APIRouter(prefix="/v1/completions", tags=["completions"])

MAX_PROMPTS = 2048


class CreateCompletion(Sampling):
    """The body of a plain completion."""

    prompt: str | list[str] | list[int] | list[list[int]] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = False
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    suffix: str | None = None

    def prompts(self) -> list[str | list[int]]:
        """Each prompt as text or token ids."""
        if self.prompt is None:
            return [""]
        return separate(self.prompt)

    def check(self) -> None:
        """Refuse what can't be done."""
        prompts = self.prompts()
        if not 1 <= len(prompts) <= MAX_PROMPTS:
            raise InvalidRequest(
                f"There are {len(prompts)} prompts; send 1 to {MAX_PROMPTS} in one request.", param="prompt"
            )
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("max_tokens is 0; without echo nothing would be answered.", param="max_tokens")
        tries = self.best_of or self.n or 1
        if tries < (self.n or 1):
            raise InvalidRequest(f"best_of is {tries}, n is {self.n}; best_of can't be smaller.", param="best_of")
        if self.stream and tries > (self.n or 1):
            raise InvalidRequest("best_of can't be streamed: the best is known at the end only.", param="best_of")

    def request(self, prompt: str | list[int], index: int) -> GenerateRequest:
        """What is asked of the model for the answer number `index` to one prompt."""
        ranked = (self.best_of or 0) > (self.n or 1)
        return GenerateRequest(
            **({"prompt": prompt} if isinstance(prompt, str) else {"prompt_tokens": prompt}),
            max_tokens=16 if self.max_tokens is None else self.max_tokens,
            logprobs=0 if ranked and self.logprobs is None else self.logprobs,
            # Between a prefix and a suffix the echo is ours: the model's own would hold the suffix, too.
            echo=bool(self.echo and not self.suffix),
            **self.sampling(index),
        )


@router.post("", response_model=None)
async def create(plane: Plane, caller: AsksModels, body: CreateCompletion) -> Response:
    """Let a text go on."""
    if body.stream:
        await run_in_threadpool(chat.find, plane, caller, body.model)
        body.check()
        return await sse.respond(_stream(await _open_gate(plane, caller, body), body))
    return JSONResponse(await complete(plane, caller, body), headers={"cache-control": "no-store"})


async def complete(plane: ControlPlane, caller: Caller, body: CreateCompletion) -> dict[str, Any]:
    """A whole completion."""
    body.check()
    gate = await _open_gate(plane, caller, body)
    tries = body.best_of or body.n or 1
    answers = [_Answer() for _ in range(len(body.prompts()) * tries)]
    async with aclosing(_pieces(gate, body, tries)) as pieces:
        async for index, piece in pieces:
            answers[index].add(piece)
    chosen = []
    for start in range(0, len(answers), tries):
        best = answers[start : start + tries]
        if tries > (body.n or 1):
            best = sorted(best, key=lambda answer: -answer.likelihood)[: body.n or 1]
        chosen += best
    choices = [answer.to_json(index, body.logprobs) for index, answer in enumerate(chosen)]
    return {**_head(body), "choices": choices, "usage": _usage(answers, tries), **annotations.of_prompt(gate)}


async def _open_gate(plane: ControlPlane, caller: Caller, body: CreateCompletion) -> Gate:
    def words() -> list[str]:
        read = [_words(plane, caller, body.model, prompt) for prompt in body.prompts()]
        return [*read, body.suffix] if body.suffix else read

    return await screening.open_gate(plane, caller, body.model, screening.texts(await run_in_threadpool(words)))


def _words(plane: ControlPlane, caller: Caller, model: str, prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else texts.detokenize(plane, caller, model, prompt)


class _Answer:
    """One answer as it comes together."""

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self._annotation: Annotation | None = None
        self._text: list[str] = []
        self._tokens: list[AnswerToken] = []
        self._start = 0
        """Characters before the first token."""

    def add(self, piece: Delta | Annotation | Finish) -> None:
        if isinstance(piece, Finish):
            self.finish = piece
            return
        if isinstance(piece, Annotation):
            self._annotation = piece
            return
        if not self._tokens and not piece.tokens:
            self._start += len(piece.text)
        self._text.append(piece.text)
        self._tokens += piece.tokens

    @property
    def likelihood(self) -> float:
        """Mean log-probability of its tokens, by which best_of chooses."""
        known = [token.logprob for token in self._tokens if token.logprob is not None]
        return sum(known) / max(1, len(known))

    def to_json(self, index: int, logprobs: int | None) -> dict[str, Any]:
        assert self.finish is not None
        return {
            "index": index,
            "text": "".join(self._text),
            "logprobs": None if logprobs is None else completion_logprobs(self._tokens, start=self._start),
            "finish_reason": self.finish.reason,
            **annotations.of_choice(self._annotation),
        }


async def _pieces(
    gate: Gate, body: CreateCompletion, tries: int
) -> AsyncGenerator[tuple[int, Delta | Annotation | Finish], None]:
    chat.check_size(gate.plane, tries, body.max_tokens)
    streams = []
    for prompt in body.prompts():
        asked, echo = prompt, ""
        if body.suffix:
            asked = await run_in_threadpool(texts.infill, gate.plane, gate.caller, body.model, prompt, body.suffix)
            echo = await run_in_threadpool(_words, gate.plane, gate.caller, body.model, prompt) if body.echo else ""
        for index in range(tries):
            streams.append(_after(echo, gated.generate(gate, body.model, body.request(asked, index))))
    async with aclosing(chat.side_by_side(streams)) as pieces:
        async for piece in pieces:
            yield piece


async def _after(
    text: str, answer: AsyncGenerator[Delta | Annotation | Finish, None]
) -> AsyncGenerator[Delta | Annotation | Finish, None]:
    """An answer with a text before it."""
    async with aclosing(answer) as pieces:
        if text:
            yield Delta(text=text)
        async for piece in pieces:
            yield piece


async def _stream(gate: Gate, body: CreateCompletion) -> AsyncGenerator[str, None]:
    head = _head(body) | annotations.of_prompt(gate)
    usage: dict[str, Any] = {"usage": None} if body.include_usage else {}
    tries = body.n or 1
    answers = [_Answer() for _ in range(len(body.prompts()) * tries)]
    offsets = [0] * len(answers)
    async with aclosing(_pieces(gate, body, tries)) as pieces:
        async for index, piece in pieces:
            answers[index].add(piece)
            choice: dict[str, Any] = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
            if isinstance(piece, Finish):
                choice["finish_reason"] = piece.reason
            elif isinstance(piece, Annotation):
                choice |= annotations.of_chunk(piece)
            else:
                choice["text"] = piece.text
                if body.logprobs is not None:
                    choice["logprobs"] = completion_logprobs(piece.tokens, start=offsets[index])
                offsets[index] += len(piece.text)
            yield sse.event({**head, "choices": [choice], **usage})
            head.pop("prompt_filter_results", None)
    if body.include_usage:
        yield sse.event({**head, "choices": [], "usage": _usage(answers, tries)})
    yield sse.DONE


def _head(body: CreateCompletion) -> dict[str, Any]:
    identifier = f"cmpl-{secrets.token_urlsafe(18)}"
    return {"id": identifier, "object": "text_completion", "created": now(), "model": body.model}


def _usage(answers: list[_Answer], tries: int) -> dict[str, Any]:
    finishes = [answer.finish for answer in answers if answer.finish is not None]
    prompt = sum(finish.prompt_tokens for finish in finishes[::tries])
    completion = sum(finish.completion_tokens for finish in finishes)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
