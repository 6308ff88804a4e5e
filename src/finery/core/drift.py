"""How far what a deployment is asked, and answers, has moved away from what it was trained on: distances, pure numbers.

psi      population stability index of two histograms: sum of (p - q) ln(p / q), buckets that one side lacks counted as
         half a value. Below 0.1 nothing moved, above 0.25 much did (the customary marks of credit scoring).
js       Jensen–Shannon distance of two distributions of tokens: the square root of the divergence in bits, 0 to 1.
z        of two shares: their difference in standard errors of the pooled share.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from finery.core.traffic import PER_DOUBLING, Histogram

T = TypeVar("T", bound=Hashable)

LEAST_ANSWERS = 50
"""Fewer tell nothing about a distribution."""

MUCH_PSI = 0.25
MUCH_Z = 3.0
MUCH_JS_RATIO = 1.5
"""Against the distance of as many prompts drawn from the training rows themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One thing that can drift."""

    name: str
    baseline: float | None
    """Of the training rows, or of the time before; None where there is nothing to compare with."""
    live: float | None
    distance: float | None
    measure: str
    """What `distance` is: psi, z or js_ratio."""
    drifted: bool | None
    """None: too little was answered to tell, or nothing to compare with."""


def psi(baseline: Histogram, live: Histogram) -> float:
    """Population stability index over buckets of a doubling each."""
    p, q = _doublings(baseline), _doublings(live)
    total = 0.0
    for bucket in {*p, *q}:
        a = max(p[bucket], 0.5) / p.total()
        b = max(q[bucket], 0.5) / q.total()
        total += (b - a) * math.log(b / a)
    return total


def js(p: Mapping[T, int], q: Mapping[T, int]) -> float:
    """Jensen–Shannon distance of two counted distributions, 0 (the same) to 1 (nothing in common)."""
    in_p, in_q = sum(p.values()), sum(q.values())
    divergence = 0.0
    for token in {*p, *q}:
        a, b = p.get(token, 0) / in_p, q.get(token, 0) / in_q
        middle = (a + b) / 2
        divergence += sum(share / 2 * math.log2(share / middle) for share in (a, b) if share)
    return math.sqrt(max(0.0, divergence))


def z_of_shares(hits: int, among: int, other_hits: int, other_among: int) -> float:
    """By how many standard errors the second share is greater than the first."""
    pooled = (hits + other_hits) / (among + other_among)
    error = math.sqrt(pooled * (1 - pooled) * (1 / among + 1 / other_among))
    return (other_hits / other_among - hits / among) / error if error else 0.0


def length_signal(name: str, baseline: Histogram, live: Histogram) -> Signal:
    """Whether lengths moved."""
    distance = psi(baseline, live) if min(baseline.count, live.count) >= LEAST_ANSWERS else None
    return Signal(
        name=name,
        baseline=baseline.mean,
        live=live.mean,
        distance=distance,
        measure="psi",
        drifted=None if distance is None else distance > MUCH_PSI,
    )


def share_signal(name: str, baseline: tuple[int, int], live: tuple[int, int]) -> Signal:
    """Whether a share moved; both as (hits, among)."""
    distance = z_of_shares(*baseline, *live) if min(baseline[1], live[1]) >= LEAST_ANSWERS else None
    return Signal(
        name=name,
        baseline=_share(baseline),
        live=_share(live),
        distance=distance,
        measure="z",
        drifted=None if distance is None else abs(distance) > MUCH_Z,
    )


def _share(counted: tuple[int, int]) -> float | None:
    return counted[0] / counted[1] if counted[1] else None


def _doublings(histogram: Histogram) -> Counter[int]:
    grouped: Counter[int] = Counter()
    for bucket, count in histogram.counts.items():
        grouped[-(-bucket // PER_DOUBLING)] += count
    return grouped
