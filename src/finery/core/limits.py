"""How much may be asked in a minute: token buckets for requests and tokens. Pure; the time comes in as an argument.

A bucket holds one minute's worth and fills evenly, so that over any stretch of m minutes no more than m + 1 minutes'
worth is taken. Tokens are reserved by an estimate when a request comes and settled when its answer has ended; where
more was used than reserved, the bucket owes the rest and nobody is let in until it is filled again.
"""

from dataclasses import dataclass

REQUESTS_PER_THOUSAND_TOKENS = 6
"""Azure's ratio of requests to a capacity of 1,000 tokens a minute."""

_HAIR = 1e-6
"""Seconds by which sums of fractions may miss."""


@dataclass(kw_only=True, slots=True)
class TokenBucket:
    """What can be taken now, and how fast it comes back."""

    per_minute: float
    level: float
    """What can be taken; below 0 it is owed."""
    at: float
    """The second `level` was true at."""

    @staticmethod
    def full(per_minute: float, now: float) -> "TokenBucket":
        """One that nobody has taken from."""
        return TokenBucket(per_minute=per_minute, level=per_minute, at=now)

    def fill(self, now: float) -> None:
        """Let the time pass; a clock that goes backwards gives nothing."""
        passed = max(0.0, now - self.at)
        self.level = min(self.per_minute, self.level + passed * self.per_minute / 60)
        self.at = max(self.at, now)

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until `amount` can be taken; an amount over a whole minute's worth needs a full bucket."""
        self.fill(now)
        return max(0.0, min(amount, self.per_minute) - self.level) * 60 / self.per_minute

    def take(self, amount: float, now: float) -> None:
        """Take, whether it is there or not; a negative amount is given back."""
        self.fill(now)
        self.level = min(self.per_minute, self.level - amount)

    def resize(self, per_minute: float, now: float) -> None:
        """Another size; what was there or owed stays, as far as it fits."""
        self.fill(now)
        self.per_minute = per_minute
        self.level = min(self.level, per_minute)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a caller stands, as the headers `x-ratelimit-*` tell it."""

    limit_requests: int
    limit_tokens: int
    remaining_requests: int
    remaining_tokens: int
    reset_requests_seconds: float
    """Until the whole limit can be used again."""
    reset_tokens_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Too much was asked for."""

    what: str
    """requests or tokens."""
    limit: int
    """A minute."""
    retry_after_seconds: float


class Limits:
    """Requests and tokens a minute of one deployment."""

    def __init__(self, capacity: int, now: float) -> None:
        """`capacity` is in thousand tokens a minute."""
        self.capacity = capacity
        self._tokens = TokenBucket.full(1000 * capacity, now)
        self._requests = TokenBucket.full(REQUESTS_PER_THOUSAND_TOKENS * capacity, now)

    def admit(self, tokens: int, now: float, *, requests: int = 1) -> Refusal | None:
        """Reserve, or say when it could be; a refusal takes nothing."""
        for what, bucket, amount in (("requests", self._requests, requests), ("tokens", self._tokens, tokens)):
            wait = bucket.seconds_until(amount, now) if amount else 0.0
            if wait > _HAIR:
                return Refusal(what=what, limit=int(bucket.per_minute), retry_after_seconds=wait)
        self._requests.take(requests, now)
        self._tokens.take(tokens, now)
        return None

    def settle(self, reserved: int, used: int, now: float) -> None:
        """An answer has ended: take what it used in place of what was reserved."""
        self._tokens.take(used - reserved, now)

    def resize(self, capacity: int, now: float) -> None:
        """The deployment was given another capacity."""
        self.capacity = capacity
        self._tokens.resize(1000 * capacity, now)
        self._requests.resize(REQUESTS_PER_THOUSAND_TOKENS * capacity, now)

    def standing(self, now: float) -> Standing:
        """What is left."""
        requests, tokens = self._requests, self._tokens
        return Standing(
            limit_requests=int(requests.per_minute),
            limit_tokens=int(tokens.per_minute),
            reset_requests_seconds=requests.seconds_until(requests.per_minute, now),
            reset_tokens_seconds=tokens.seconds_until(tokens.per_minute, now),
            remaining_requests=max(0, int(requests.level)),
            remaining_tokens=max(0, int(tokens.level)),
        )
