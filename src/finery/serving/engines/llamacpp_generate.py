"""One answer from a llama.cpp server, token by token; it knows one connection and one slot, no adapters' names.

Three things that llama.cpp leaves out are put back here:
while streaming it sends no id for a token that holds only part of a character (`llamacpp_events` finds it from the
bytes), nor such a token's log-probability (it is looked up in between); and it ends an answer at any token that *looks*
like an end of turn (where the model's own list doesn't have that token, generation goes on).
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from finery.serving.engines.base import Sampling, Token
from finery.serving.engines.llamacpp_completions import Completions
from finery.serving.engines.llamacpp_events import EventReader
from finery.serving.engines.llamacpp_score import look_up
from finery.serving.pieces import TokenPieces
from finery.serving.schedule import Schedule, Turn

_RANDOM_SEED = 0xFFFFFFFF
"""llama.cpp's word for a fresh seed."""


class Answer:
    """One answer; `fields` (slot, adapter, caching) go into every request it makes."""

    def __init__(
        self,
        completions: Completions,
        sampling: Sampling,
        fields: dict[str, Any],
        schedule: Schedule,
        *,
        pieces: TokenPieces,
        eos: frozenset[int],
    ) -> None:
        self.cached_tokens = 0
        """Prompt tokens that were not computed again; known with the first token."""
        self._completions = completions
        self._sampling = sampling
        self._fields = fields
        self._schedule = schedule
        self._pieces = pieces
        self._eos = eos
        self._constrained = sampling.json_schema is not None or sampling.grammar is not None
        self._tokens = list(sampling.prompt)
        self._has_numbers = True

    async def tokens(self) -> AsyncGenerator[Token, None]:
        """The tokens up to an end of turn or to max_tokens."""
        reader = EventReader(self._pieces)
        while self._left > 0:
            async with self._schedule.turn(self._sampling.adapter) as turn:
                while self._left > 0 and not turn.over():
                    reader = EventReader(self._pieces)
                    async with aclosing(self._stretch(reader, turn)) as tokens:
                        async for token in tokens:
                            self._tokens.append(token.id)
                            yield token
                            if token.id in self._eos:
                                return
                    # "eos" here is an end that the model's own list hasn't got; under a grammar, the only end there is.
                    if self._constrained and reader.ended_by:
                        return

    @property
    def _left(self) -> int:
        return self._sampling.max_tokens - (len(self._tokens) - len(self._sampling.prompt))

    async def _stretch(self, reader: EventReader, turn: Turn) -> AsyncGenerator[Token, None]:
        """Tokens of one request to llama.cpp, cut short at the turn's end or to look a log-probability up."""
        started = len(self._tokens)
        body = self._body()
        found: list[Token] = []
        async with aclosing(self._completions.events(body)) as events:
            async for event in events:
                found = list(reader.read(event))
                if started == len(self._sampling.prompt):
                    self.cached_tokens = reader.cached_tokens
                if reader.lost or self._must_look_up(found):
                    break
                for token in found:
                    yield token
                if turn.over(len(found)) and self._may_cut:
                    return
                found = []
        found += await reader.ask_again(self._completions, body, self._tokens)
        turn.over(len(found))
        for token in found:
            yield await self._looked_up(token) if self._must_look_up([token]) else token

    @property
    def _may_cut(self) -> bool:
        """A grammar can't go on from its middle, and where a seed was given, stretches must not depend on others."""
        return not self._constrained and not self._seeded

    @property
    def _seeded(self) -> bool:
        return self._sampling.seed is not None and self._sampling.temperature > 0

    def _must_look_up(self, tokens: list[Token]) -> bool:
        wanted = self._sampling.logprobs is not None and not self._constrained
        return wanted and self._has_numbers and any(token.logprob is None for token in tokens)

    async def _looked_up(self, token: Token) -> Token:
        top = self._sampling.logprobs or 0
        found = await look_up(self._completions, [*self._tokens, token.id], top=top, fields=self._fields)
        # A model without numbers gets none for its other tokens either: three requests a token that nothing comes of.
        self._has_numbers = found is not None
        return found or token

    def _body(self) -> dict[str, Any]:
        sampling = self._sampling
        stops = self._seeded and not self._constrained
        body: dict[str, Any] = {
            **self._fields,
            "prompt": self._tokens,
            "n_predict": min(self._left, self._schedule.turn_tokens) if stops else self._left,
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            "samplers": ["penalties", "temperature", "top_p"],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "repeat_last_n": len(sampling.prompt) + sampling.max_tokens,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "logit_bias": [[token, bias] for token, bias in sampling.logit_bias.items()],
        }
        if sampling.seed is not None:
            # A stretch that goes on draws on, and not the first stretch's numbers again.
            body["seed"] = (sampling.seed + len(self._tokens) - len(sampling.prompt)) % _RANDOM_SEED
        if sampling.logprobs is not None:
            body["n_probs"] = max(sampling.logprobs, 1)
        if sampling.json_schema is not None:
            body["json_schema"] = sampling.json_schema
        if sampling.grammar is not None:
            body["grammar"] = sampling.grammar
        return body
