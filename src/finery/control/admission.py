"""Who may ask now: requests and tokens a minute of a deployment, and how many may wait for it.

An HTTP request brings a ticket (`TICKET`, set by the application); what asks by itself, such as a batch, has none: it
is never refused here, but what it uses counts. Knows no model and keeps nothing beyond this process.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from finery.core.deployments import Deployment
from finery.core.errors import RateLimited
from finery.core.limits import Limits, Standing
from finery.serving.protocol import Delta, Finish, GenerateRequest

CHARACTERS_PER_TOKEN = 4
"""How prompts are estimated before anybody has counted them; what was really used is settled at the end."""

UNSAID_ANSWER_TOKENS = 256
"""Reserved for an answer whose request names no most."""


@dataclass(slots=True)
class Ticket:
    """What one HTTP request was told of its limits."""

    standing: Standing | None = None
    counted: bool = False
    """It counts as one request, however many answers it asks for."""


TICKET: ContextVar[Ticket | None] = ContextVar("ticket", default=None)


@dataclass(slots=True)
class Meter:
    """Tokens of one answer as they come."""

    reserved: int
    used: int = 0

    def see(self, piece: Delta | Finish) -> None:
        """A piece of the answer, or its finish."""
        if isinstance(piece, Finish):
            self.used = piece.prompt_tokens + piece.completion_tokens
        else:
            self.used += len(piece.tokens)


@dataclass(kw_only=True, slots=True)
class Admission:
    """The limits and queues of all deployments of one control plane."""

    places: int
    """Answers that one replica writes at once."""
    waiting: int
    """Most answers that may wait for one deployment or model."""
    clock: Callable[[], float] = time.monotonic
    _limits: dict[tuple[str, str], Limits] = field(default_factory=dict, init=False)
    _active: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @contextmanager
    def enter(self, project_id: str, name: str, deployment: Deployment | None, tokens: int) -> Iterator[Meter]:
        """Let one answer of about so many tokens be asked for, and settle what it used when the block ends.

        Raises:
            RateLimited: over the deployment's requests or tokens a minute, or too many wait already.
        """
        key, ticket = (project_id, name), TICKET.get()
        meter = Meter(reserved=tokens if deployment else 0)
        with self._lock:
            if ticket is not None:
                self._require_place(key, deployment)
            if deployment is not None:
                self._reserve(key, deployment, meter.reserved, ticket)
            self._active[key] += 1
        try:
            yield meter
        finally:
            with self._lock:
                self._active[key] -= 1
                if self._active[key] == 0:
                    del self._active[key]
                if key in self._limits and deployment is not None:
                    self._limits[key].settle(meter.reserved, meter.used, self.clock())

    def active(self, project_id: str, name: str) -> int:
        """Answers that are being written or waited for."""
        with self._lock:
            return self._active[project_id, name]

    def forget(self, project_id: str, name: str) -> None:
        """The deployment is no more."""
        with self._lock:
            self._limits.pop((project_id, name), None)

    def _require_place(self, key: tuple[str, str], deployment: Deployment | None) -> None:
        most = self.places * (deployment.replicas if deployment else 1) + self.waiting
        if self._active[key] >= most:
            raise RateLimited(
                f"{self._active[key]} answers of '{key[1]}' are being written or waited for, and no more may wait. Try "
                "again in a moment, or give the deployment more replicas.",
                code="queue_full",
            )

    def _reserve(self, key: tuple[str, str], deployment: Deployment, tokens: int, ticket: Ticket | None) -> None:
        now = self.clock()
        limits = self._limits.setdefault(key, Limits(deployment.capacity, now))
        if limits.capacity != deployment.capacity:
            limits.resize(deployment.capacity, now)
        if ticket is None:
            limits.settle(0, tokens, now)
            return
        refusal = limits.admit(tokens, now, requests=0 if ticket.counted else 1)
        ticket.counted, ticket.standing = True, limits.standing(now)
        if refusal is not None:
            raise RateLimited(
                f"The deployment '{key[1]}' is over its limit of {refusal.limit} {refusal.what} a minute. Try again in "
                f"{refusal.retry_after_seconds:.1f} s, or give it more capacity: finery deployments update {key[1]} "
                "--capacity N",
                retry_after_seconds=refusal.retry_after_seconds,
            )


def estimate(request: GenerateRequest) -> int:
    """Tokens that an answer may use, prompt included, before anybody has counted them."""
    return _prompt_tokens(request) + (UNSAID_ANSWER_TOKENS if request.max_tokens is None else request.max_tokens)


def _prompt_tokens(request: GenerateRequest) -> int:
    if request.prompt_tokens is not None:
        return len(request.prompt_tokens)
    texts = [str(message.get("content") or "") for message in request.messages or [{"content": request.prompt}]]
    return sum(len(text) for text in texts) // CHARACTERS_PER_TOKEN + 1
