"""From a request to its answer, the same way for every engine: template and tokenizer before, text and stops after.

It knows an `Engine` and a base model's folder, and no HTTP.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from finery.core.errors import ContextOverflow, InvalidRequest
from finery.modeling.sources import LocalModel
from finery.modeling.template import ChatTemplate
from finery.serving.engines.base import Capabilities, Engine, Sampling, Token
from finery.serving.pieces import TokenPieces
from finery.serving.protocol import AnswerToken, Delta, Finish, FinishReason, GenerateRequest, TopLogprob
from finery.serving.text import Piece, TextStream


@dataclass(frozen=True, kw_only=True, slots=True)
class _Running:
    request: GenerateRequest
    prompt: list[int]
    max_tokens: int
    began: float


class Answers:
    """Answers of one engine in text."""

    def __init__(self, engine: Engine, model: LocalModel) -> None:
        self.engine = engine
        self._template = ChatTemplate.load(model.folder)
        self._eos = frozenset(model.eos_token_ids)
        self._pieces = TokenPieces.load(model.folder)

    def encode(self, request: GenerateRequest) -> list[int]:
        """The prompt's tokens. Raises InvalidRequest for ids outside the vocabulary and for messages it can't use."""
        if request.messages is not None:
            return self._template.encode_prompt(request.messages, request.tools)
        if request.prompt is not None:
            return self.tokenize(request.prompt)
        tokens = request.prompt_tokens or []
        size = self._template.tokenizer.get_vocab_size(with_added_tokens=True)
        wrong = next((token for token in tokens if not 0 <= token < size), None)
        if wrong is not None:
            raise InvalidRequest(f"Token {wrong} is outside the vocabulary of {size} tokens.", param="prompt")
        return list(tokens)

    def tokenize(self, text: str) -> list[int]:
        """Tokens of plain text, with the beginning-of-text token where the model has one."""
        return self._template.encode_text(text)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out."""
        return self._template.decode(tokens, skip_special=True)

    async def answer(self, request: GenerateRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Pieces of the answer, then its finish.

        Raises InvalidRequest, UnknownModel or ContextOverflow before the first piece, Unavailable at any time.
        """
        began = time.monotonic()
        request.check()
        _check_capabilities(request, self.engine.capabilities)
        prompt = self.encode(request)
        room = self._room(prompt)
        wanted = room if request.max_tokens is None else min(request.max_tokens, room)
        if request.echo:
            yield await self._echo(request, prompt)
        if wanted == 0:
            yield Finish(reason="length", prompt_tokens=len(prompt), completion_tokens=0)
            return
        running = _Running(request=request, prompt=prompt, max_tokens=wanted, began=began)
        async with aclosing(self._generate(running)) as parts:
            async for part in parts:
                yield part

    async def score(self, tokens: Sequence[int], *, adapter: str | None, top: int, start: int = 1) -> list[AnswerToken]:
        """tokens[start:] with their log-probabilities given all before them."""
        if start < 1 or start > len(tokens):
            raise InvalidRequest(f"start is {start}; it must be between 1 and the {len(tokens)} tokens given.")
        self._room(tokens)
        scored = await self.engine.score(tokens, adapter=adapter, top=top, start=start)
        return [self._token(token, logprobs=top) for token in scored]

    async def _generate(self, running: _Running) -> AsyncGenerator[Delta | Finish, None]:
        request = running.request
        stream = TextStream(pieces=self._pieces, stop=request.stop)
        count, first, first_at = 0, Token(id=-1), running.began
        ended = False
        stopped: str | None = None
        async with aclosing(self.engine.generate(_sampling(running))) as tokens:
            async for token in tokens:
                if count == 0:
                    first, first_at = token, time.monotonic()
                count += 1
                if token.id in self._eos:
                    ended = True
                    break
                piece = stream.push(self._token(token, request.logprobs))
                if piece.text or piece.tokens:
                    yield _delta(piece)
                if piece.stop is not None:
                    stopped = piece.stop
                    break
        if stopped is None:
            rest = stream.flush()
            if rest.text or rest.tokens:
                yield _delta(rest)
            stopped = rest.stop
        # Fewer tokens than asked for without an end of turn: a grammar was complete.
        reason: FinishReason = "stop" if ended or stopped is not None or count < running.max_tokens else "length"
        yield Finish(
            reason=reason,
            prompt_tokens=len(running.prompt),
            completion_tokens=count,
            cached_tokens=first.cached_tokens,
            stop_text=stopped,
            queue_seconds=first.queue_seconds,
            engine_seconds=first.engine_seconds,
            first_token_seconds=first_at - running.began,
            total_seconds=time.monotonic() - running.began,
        )

    async def _echo(self, request: GenerateRequest, prompt: list[int]) -> Delta:
        text = self.detokenize(prompt)
        if request.logprobs is None or len(prompt) < 2:
            return Delta(text=text, tokens=tuple(self._token(Token(id=token), None) for token in prompt))
        scored = await self.engine.score(prompt, adapter=request.adapter, top=request.logprobs, start=1)
        tokens = [Token(id=prompt[0]), *scored]
        return Delta(text=text, tokens=tuple(self._token(token, request.logprobs) for token in tokens))

    def _room(self, prompt: Sequence[int]) -> int:
        context = self.engine.capabilities.context_tokens
        if not prompt:
            raise InvalidRequest("The prompt is empty; it needs at least one token.", param="prompt")
        if len(prompt) >= context:
            raise ContextOverflow(
                f"The prompt has {len(prompt)} tokens; the context of {context} tokens must hold it and the answer. "
                "Shorten the prompt, or deploy the model with a larger context.",
                param="messages",
            )
        return context - len(prompt)

    def _token(self, token: Token, logprobs: int | None) -> AnswerToken:
        text = self._pieces.label(token.id)
        if logprobs is None:
            return AnswerToken(id=token.id, text=text)
        tops = tuple(
            TopLogprob(id=other, text=self._pieces.label(other), logprob=value) for other, value in token.top[:logprobs]
        )
        spelled = tuple(self._pieces.bytes_of(token.id))
        return AnswerToken(id=token.id, text=text, bytes=spelled, logprob=token.logprob, top_logprobs=tops)


def _sampling(running: _Running) -> Sampling:
    request = running.request
    return Sampling(
        prompt=running.prompt,
        max_tokens=running.max_tokens,
        adapter=request.adapter,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        logprobs=request.logprobs,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias=request.logit_bias,
        json_schema=request.json_schema,
        grammar=request.grammar,
        cache_scope=request.cache_scope,
    )


def _delta(piece: Piece) -> Delta:
    return Delta(text=piece.text, tokens=piece.tokens)


def _check_capabilities(request: GenerateRequest, able: Capabilities) -> None:
    for field in ("json_schema", "grammar", "logprobs"):
        if getattr(request, field) is not None and not getattr(able, field):
            raise InvalidRequest(f"The engine {able.engine} can't do {field}; leave it out.", param=field)
    if request.adapter is not None and not able.adapters:
        raise InvalidRequest(f"The engine {able.engine} can't serve adapters.", param="adapter")
