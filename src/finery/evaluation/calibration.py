"""How sure answers were, and how often rightly so: bins of a reliability diagram, the expected calibration error.

Sure that it is right, or, where an item may have several labels, that one of them applies. The error is that of Guo et
al. 2017 (On Calibration of Modern Neural Networks): the mean gap between how sure answers of a bin were and how many of
them were right, weighted by their number. Knows numbers only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10
"""Of equal width, from 0 to 1."""


def report(confidences: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Bins that have answers, and the error over all, as plain JSON types.

    Raises:
        ValueError: there are no answers, or not as many verdicts as confidences.
    """
    if not confidences or len(confidences) != len(right):
        raise ValueError(f"{len(confidences)} confidences and {len(right)} verdicts can't be compared.")
    return report_of(tally(confidences, right))


def tally(confidences: ArrayLike, right: ArrayLike) -> Floats:
    """(3, BINS): answers, the sum of their confidences, how many were right. Tallies of parts add up."""
    sure_N, right_N = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    # An edge belongs to the bin below it, 0 to the first.
    places_N = np.clip(np.ceil(sure_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    weights = (np.ones(len(sure_N)), sure_N, right_N)
    return np.stack([np.bincount(places_N, weights=each_N, minlength=BINS) for each_N in weights])


def report_of(tallied: Floats) -> dict[str, Any]:
    """The report of a tally that has answers."""
    counts, sure, correct = tallied
    answers = float(counts.sum())
    bins = [
        {
            "low": i / BINS,
            "high": (i + 1) / BINS,
            "answers": int(counts[i]),
            "confidence": float(sure[i] / counts[i]),
            "accuracy": float(correct[i] / counts[i]),
        }
        for i in range(BINS)
        if counts[i]
    ]
    return {
        "answers": int(answers),
        "confidence": float(sure.sum() / answers),
        "accuracy": float(correct.sum() / answers),
        "expected_calibration_error": float(np.abs(sure - correct).sum() / answers),
        "bins": bins,
    }
