"""Percentiles of lengths, the same for characters and tokens."""

from array import array

import numpy as np

MARKS = (5, 25, 50, 75, 95, 99)


def percentiles(values: "array[int]") -> dict[str, float]:
    """Least, p5 to p99, greatest and mean of the values; all 0 where there are none.

    Percentiles are values that occur (the "lower" method), so that a row of that length can be found.
    """
    if not values:
        return dict.fromkeys(("min", *(f"p{mark}" for mark in MARKS), "max", "mean"), 0.0)
    numbers = np.frombuffer(values, dtype=values.typecode)
    marks = np.percentile(numbers, MARKS, method="lower")
    found = {f"p{mark}": float(value) for mark, value in zip(MARKS, marks, strict=True)}
    return {"min": float(numbers.min()), **found, "max": float(numbers.max()), "mean": round(float(numbers.mean()), 2)}
