"""Predicted values beside actual ones: errors, the share of the variance explained, and bins of a calibration diagram.

Bins are cut where tenths of the actual values lie, so that each has about as many. Knows numbers only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10


def report(predicted: Sequence[float], actual: Sequence[float]) -> dict[str, Any]:
    """Errors and bins, as plain JSON types.

    Raises:
        ValueError: there are no values, or not as many predicted as actual ones.
    """
    if not predicted or len(predicted) != len(actual):
        raise ValueError(f"{len(predicted)} predicted and {len(actual)} actual values can't be compared.")
    cuts = edges(actual)
    return report_of(tally(predicted, actual, cuts), cuts)


def edges(actual: Sequence[float]) -> Floats:
    """Where the bins of predicted values are cut; the first and the last bin have no end."""
    cuts = np.quantile(np.asarray(actual, dtype=np.float64), np.arange(1, BINS) / BINS)
    return np.unique(cuts)


def tally(predicted: ArrayLike, actual: ArrayLike, cuts: Floats) -> Floats:
    """(6, bins): values; sums of predicted, actual, |error|, error², (actual − middle cut)². Tallies of parts add."""
    said_N, true_N = np.asarray(predicted, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    places_N = np.searchsorted(cuts, said_N, side="left")
    off_N = said_N - true_N
    # Around a value amid them: squares of large numbers that lie close together would lose what tells them apart.
    spread_N = (true_N - _middle(cuts)) ** 2
    weights = (np.ones(len(said_N)), said_N, true_N, np.abs(off_N), off_N**2, spread_N)
    return np.stack([np.bincount(places_N, weights=each_N, minlength=len(cuts) + 1) for each_N in weights])


def report_of(tallied: Floats, cuts: Floats) -> dict[str, Any]:
    """The report of a tally that has values."""
    counts, said, true, *_ = tallied
    number, said_sum, true_sum, absolute, squared, spread = (float(figure) for figure in tallied.sum(axis=1))
    shift = true_sum / number - _middle(cuts)
    variance = spread / number - shift**2
    ends = [None, *(float(cut) for cut in cuts), None]
    bins = [
        {
            "low": ends[i],
            "high": ends[i + 1],
            "answers": int(counts[i]),
            "predicted": float(said[i] / counts[i]),
            "actual": float(true[i] / counts[i]),
        }
        for i in range(len(counts))
        if counts[i]
    ]
    return {
        "answers": int(number),
        "predicted": said_sum / number,
        "actual": true_sum / number,
        "mean_absolute_error": absolute / number,
        "root_mean_squared_error": (squared / number) ** 0.5,
        # Of values that are all the same there is nothing to explain.
        "r_squared": 1 - squared / number / variance if variance > 1e-12 * shift**2 and variance > 0 else None,
        "calibration_error": float(np.abs(said - true).sum() / number),
        "bins": bins,
    }


def _middle(cuts: Floats) -> float:
    return float(cuts[len(cuts) // 2])
