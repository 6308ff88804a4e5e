"""Distances know what is the same, what differs, and how little a few answers tell."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from finery.core import drift
from finery.core.traffic import Histogram

COUNTS = st.dictionaries(st.integers(0, 20), st.integers(1, 50), min_size=1)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.observe(value)
    return made


@given(COUNTS, COUNTS)
def test_js_is_scipys(p: dict[int, int], q: dict[int, int]) -> None:
    keys = sorted({*p, *q})
    expected = jensenshannon([p.get(k, 0) for k in keys], [q.get(k, 0) for k in keys], base=2)
    assert drift.js(p, q) == pytest.approx(expected, abs=1e-6)


def test_lengths_of_one_kind_are_steady_and_others_drift() -> None:
    draw = random.Random(1)
    short = [round(draw.lognormvariate(3, 0.4)) for _ in range(400)]
    long = [round(draw.lognormvariate(4.2, 0.4)) for _ in range(400)]
    same = drift.length_signal("x", histogram(short[:200]), histogram(short[200:]))
    other = drift.length_signal("x", histogram(short), histogram(long))
    assert same.drifted is False
    assert other.drifted is True
    assert other.distance is not None
    assert same.distance is not None
    assert other.distance > 10 * same.distance
    assert same.live == pytest.approx(sum(short[200:]) / 200)


def test_few_answers_tell_nothing() -> None:
    signal = drift.length_signal("x", histogram([5] * 100), histogram([500] * 49))
    assert (signal.distance, signal.drifted) == (None, None)
    assert drift.length_signal("x", Histogram(), histogram([5] * 100)).drifted is None
    assert drift.share_signal("x", (0, 0), (1, 100)).drifted is None
    assert drift.share_signal("x", (0, 0), (0, 0)).live is None


def test_a_share_drifts_where_chance_cannot_explain_it() -> None:
    assert drift.share_signal("x", (4, 200), (6, 200)).drifted is False
    risen = drift.share_signal("x", (4, 200), (30, 200))
    assert risen.drifted is True
    assert risen.distance is not None
    assert risen.distance > 3
    assert drift.share_signal("x", (0, 200), (0, 200)).drifted is False


def test_z_is_the_two_proportion_statistic() -> None:
    # (0.20 - 0.10) / sqrt(0.15 * 0.85 * (1/100 + 1/100))
    assert drift.z_of_shares(10, 100, 20, 100) == pytest.approx(0.1 / 0.0504975, rel=1e-4)
