"""What is remembered of answers that ended: counts, and histograms that can be added up. Knows no clock and no storage.

A histogram's buckets grow by the fourth root of two, so a percentile read from it is off by 9 % at most, however many
answers it holds and whatever was added to it.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PER_DOUBLING = 4
"""Buckets from a value to twice the value."""

LEAST_SECONDS = 0.001
"""Everything quicker lies in a histogram's bucket 0."""

Stage = Literal["prompt", "completion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One answer, once it has ended, however it ended."""

    project_id: str
    name: str
    """What was asked: a deployment, or a model without one."""
    outcome: str
    """The finish reason, `cancelled` where the client went away, or an error's code."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Those of the prompt that were not computed again."""
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    """From the question to the first piece of the answer; None where there was none."""
    total_seconds: float = 0.0
    filtered: tuple[str, ...] = ()
    """What a content filter stopped, as `stage:category`."""
    refused: bool = False
    """The model itself declined to answer."""
    words: bool = True
    """It was to be text; embeddings are not."""

    @property
    def whole(self) -> bool:
        """It came to its end: what it says of lengths and refusals counts."""
        return self.words and self.outcome in ("stop", "length", "tool_calls")


@dataclass(kw_only=True, slots=True)
class Histogram:
    """How many values fell into which bucket; values from `least` on, in any unit."""

    least: float = 1.0
    counts: Counter[int] = field(default_factory=Counter)
    total: float = 0.0
    """Sum of the values."""

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bucket_of(value, self.least)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        """Count all that the other holds."""
        self.counts.update(other.counts)
        self.total += other.total

    @property
    def count(self) -> int:
        """Values counted."""
        return self.counts.total()

    @property
    def mean(self) -> float | None:
        """Their mean, exact; None where there are none."""
        return self.total / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """The value below which `share` (0 to 1) of all lie, within 9 %; None where there are none."""
        if not self.count:
            return None
        left = max(1, math.ceil(share * self.count))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return middle_of(bucket, self.least)
        raise AssertionError("the buckets hold fewer values than were counted")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        counts = {str(bucket): count for bucket, count in sorted(self.counts.items())}
        return {"least": self.least, "counts": counts, "total": self.total}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Histogram":
        """The inverse of `to_json`."""
        counts = Counter({int(bucket): int(count) for bucket, count in data["counts"].items()})
        return Histogram(least=data["least"], counts=counts, total=data["total"])


def bucket_of(value: float, least: float) -> int:
    """The bucket of a value: 0 holds all up to `least`, each further one ends a fourth of a doubling higher."""
    return 0 if value <= least else math.ceil(PER_DOUBLING * math.log2(value / least) - 1e-9)


def end_of(bucket: int, least: float) -> float:
    """The greatest value that a bucket holds."""
    return least * float(2.0 ** (bucket / PER_DOUBLING))


def middle_of(bucket: int, least: float) -> float:
    """The value that stands for a bucket: its geometric middle."""
    return least if bucket == 0 else least * float(2.0 ** ((bucket - 0.5) / PER_DOUBLING))


def _seconds() -> Histogram:
    return Histogram(least=LEAST_SECONDS)


@dataclass(kw_only=True, slots=True)
class Tally:
    """What many answers come to; two can be added."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    refusals: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    """By `stage:category`."""
    first_token: Histogram = field(default_factory=_seconds)
    duration: Histogram = field(default_factory=_seconds)
    """Of answers that came to their end, in seconds."""
    prompt_lengths: Histogram = field(default_factory=Histogram)
    answer_lengths: Histogram = field(default_factory=Histogram)
    """Of answers that came to their end, in tokens."""

    def count(self, answer: Answered) -> None:
        """Count one answer."""
        self.requests += 1
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.completion_tokens += answer.completion_tokens
        self.refusals += answer.refused
        self.outcomes[answer.outcome] += 1
        self.filtered.update(answer.filtered)
        if answer.first_token_seconds is not None:
            self.first_token.observe(answer.first_token_seconds)
        if answer.whole:
            self.duration.observe(answer.total_seconds)
            self.prompt_lengths.observe(answer.prompt_tokens)
            self.answer_lengths.observe(answer.completion_tokens)

    def add(self, other: "Tally") -> None:
        """Count all that the other counted."""
        for one in dataclasses.fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, int):
                setattr(self, one.name, mine + theirs)
            elif isinstance(mine, Histogram):
                mine.add(theirs)
            else:
                mine.update(theirs)

    @property
    def whole(self) -> int:
        """Answers that came to their end."""
        return self.answer_lengths.count

    @property
    def filtered_answers(self) -> int:
        """Answers that a content filter stopped."""
        return self.outcomes["content_filter"]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        values = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))
        return {name: value.to_json() if isinstance(value, Histogram) else value for name, value in values}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Tally":
        """The inverse of `to_json`; what an older version didn't count is nothing."""
        tally = Tally()
        for one in dataclasses.fields(Tally):
            if one.name not in data:
                continue
            value, empty = data[one.name], getattr(tally, one.name)
            if isinstance(empty, Histogram):
                value = Histogram.from_json(value)
            elif isinstance(empty, Counter):
                value = Counter(value)
            setattr(tally, one.name, value)
        return tally


def summed(tallies: Iterable[Tally]) -> Tally:
    """What all of them come to."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total
