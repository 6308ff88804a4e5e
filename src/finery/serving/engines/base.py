"""What every inference engine can be asked, in tokens; it knows no text, no chat and no HTTP.

Text, stop strings and chat templates are the same for all engines and live in `serving.answers`. An engine gets token
ids and gives token ids; it stops at an end-of-turn token, at `max_tokens` or when its iterator is closed.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What an engine can do; a request that needs more is refused before it starts."""

    engine: str
    context_tokens: int
    """Prompt and answer of one request together."""
    slots: int
    """Requests decoded side by side."""
    logprobs: bool = True
    json_schema: bool = False
    grammar: bool = False
    embeddings: bool = False
    adapters: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """A request in tokens. Names and meanings are those of `protocol.GenerateRequest`."""

    prompt: Sequence[int]
    max_tokens: int
    """1 or more, and no more than the context leaves."""
    adapter: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    cache_scope: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One token the engine chose or was asked to score.

    `logprob` is None where it was not asked for, and where the engine can't tell it: the first token of a prompt, and
    llama.cpp's tokens that hold only part of a character.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    """(id, logprob) of the likeliest tokens at this position, best first."""
    cached_tokens: int = 0
    """On the first token: prompt tokens that were not computed again."""
    queue_seconds: float = 0.0
    """On the first token: time spent waiting for a place."""
    engine_seconds: float = 0.0
    """On the first token: from handing the prompt to the engine until it came."""


class Engine(ABC):
    """One base model with any number of adapters. All methods run on one event loop."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this engine can do with this model; known once loaded."""

    @abstractmethod
    async def load(self) -> None:
        """Bring up the base model and the adapters it was made with. Raises CorruptArtifact or Unavailable."""

    @abstractmethod
    def adapters(self) -> dict[str, Path]:
        """Names and folders of the adapters a request may name."""

    @abstractmethod
    async def add_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter in PEFT's format; requests may name it afterwards. A name in use gets the new folder.

        Raises InvalidRequest where it belongs to another base, CorruptArtifact where its files are damaged.
        """

    @abstractmethod
    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests in flight on it finish. An unknown name is an UnknownModel."""

    @abstractmethod
    def generate(self, sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Tokens one by one, the end-of-turn token last where the model ended its turn. Closing it frees the place.

        Raises UnknownModel for an adapter that is not loaded, InvalidRequest for a grammar that doesn't parse.
        """

    @abstractmethod
    async def score(self, tokens: Sequence[int], *, adapter: str | None, top: int, start: int) -> list[Token]:
        """Log-probability of tokens[start:] given what stands before each; `start` is 1 or more."""

    @abstractmethod
    async def embed(self, tokens: Sequence[int], *, adapter: str | None) -> list[float]:
        """Mean of the last hidden states over the tokens, scaled to length 1."""

    @abstractmethod
    async def metrics(self) -> dict[str, float]:
        """Counters and gauges by name."""

    @abstractmethod
    async def close(self) -> None:
        """Stop; requests in flight end with Unavailable."""
