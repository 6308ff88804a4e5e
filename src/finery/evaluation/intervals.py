"""How sure a difference is: the paired bootstrap (Efron 1979) and McNemar's exact test. Knows numbers, not answers.

A resample draws N items with replacement, the same ones for both models, so that what makes an item hard for both
cancels out. Intervals are percentile intervals. Everything is a function of its seed.

Shapes: N items, B resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and where the truth lies with the stated confidence."""

    value: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """Do two models err on different items more often one way than the other?"""

    only_first: int
    """Items that only the first model got right."""
    only_second: int
    p_value: float
    """Two-sided, exact: of the binomial distribution with probability 1/2."""


def resample_counts(items: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(B, N): how often each resample has each item; rows add up to N.

    Raises:
        ValueError: there are no items.
    """
    if items < 1:
        raise ValueError("There are no items to draw from.")
    generator = np.random.default_rng(seed)
    return generator.multinomial(items, np.full(items, 1 / items), size=resamples).astype(np.float64)


def of_mean(values: Sequence[float] | Floats, counts_BN: Floats, *, level: float = LEVEL) -> Interval:
    """The mean of one value an item."""
    values_N = np.asarray(values, dtype=np.float64)
    return around(float(values_N.mean()), counts_BN @ values_N / len(values_N), level=level)


def of_ratio(
    parts: Sequence[float] | Floats, wholes: Sequence[float] | Floats, counts_BN: Floats, *, level: float = LEVEL
) -> Interval:
    """Sum of parts over sum of wholes, such as loss over tokens."""
    parts_N, wholes_N = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    return around(float(parts_N.sum() / wholes_N.sum()), (counts_BN @ parts_N) / (counts_BN @ wholes_N), level=level)


def around(value: float, resampled_B: Floats, *, level: float = LEVEL) -> Interval:
    """The percentile interval of an estimate whose value in each resample is known."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled_B, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), level=level)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """McNemar's exact test on paired rights and wrongs."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    return McNemar(
        only_first=only_first, only_second=only_second, p_value=_binomial_p(only_first, only_first + only_second)
    )


def _binomial_p(successes: int, trials: int) -> float:
    """Two-sided p-value of a fair coin: symmetrical, so twice the smaller tail."""
    fewer = min(successes, trials - successes)
    tail = sum(math.comb(trials, k) for k in range(fewer + 1))
    # Whole numbers divide exactly where floats would overflow.
    return min(1.0, 2 * tail / 2**trials) if trials else 1.0
