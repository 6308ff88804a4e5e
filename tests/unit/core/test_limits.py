"""Token buckets keep what they promise, whatever the order of requests, answers and clock readings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finery.core.limits import Limits, TokenBucket

STEPS = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=90, allow_nan=False),
        st.integers(min_value=1, max_value=3000),
        st.integers(min_value=0, max_value=3000),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(steps=STEPS, capacity=st.integers(min_value=1, max_value=5))
def test_no_stretch_of_time_gets_more_than_its_share_and_one_minute(
    steps: list[tuple[float, int, int]], capacity: int
) -> None:
    now = 0.0
    limits = Limits(capacity, now)
    taken: list[tuple[float, int]] = []
    for pause, reserved, used in steps:
        now += pause
        if limits.admit(reserved, now) is None:
            # Whoever reserves honestly uses no more than that.
            limits.settle(reserved, min(reserved, used), now)
            taken.append((now, min(reserved, used)))
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            minutes = (taken[end][0] - taken[start][0]) / 60
            total = sum(tokens for _, tokens in taken[start : end + 1])
            # A single request over a whole minute's worth is let in by a full bucket, and owed for afterwards.
            largest = max(tokens for _, tokens in taken[start : end + 1])
            assert total <= 1000 * capacity * (minutes + 1) + max(0, largest - 1000 * capacity) + 1e-3
            assert end - start + 1 <= 6 * capacity * (minutes + 1) + 1e-3


@settings(deadline=None)
@given(steps=STEPS)
def test_a_refusal_takes_nothing_and_its_time_is_right(steps: list[tuple[float, int, int]]) -> None:
    now = 0.0
    limits = Limits(1, now)
    for pause, reserved, used in steps:
        now += pause
        refusal = limits.admit(reserved, now)
        if refusal is None:
            limits.settle(reserved, used, now)
            continue
        again = limits.admit(reserved, now)
        assert again == refusal
        # A hair before the time it is still refused; at the time, by tokens or requests alike, the reason is gone.
        now += refusal.retry_after_seconds + 1e-6
        later = limits.admit(reserved, now)
        assert later is None or later.what != refusal.what


def test_a_debt_is_paid_before_anybody_is_let_in() -> None:
    limits = Limits(1, 0.0)
    assert limits.admit(10, 0.0) is None
    limits.settle(10, 2000, 0.0)
    refusal = limits.admit(1, 0.0)
    assert refusal is not None
    assert (refusal.what, refusal.limit) == ("tokens", 1000)
    assert refusal.retry_after_seconds == pytest.approx(60.06)
    assert limits.admit(1, 60.1) is None


def test_what_was_not_used_comes_back_at_once() -> None:
    limits = Limits(1, 0.0)
    assert limits.admit(1000, 0.0) is None
    assert limits.admit(500, 0.0) is not None
    limits.settle(1000, 20, 0.0)
    assert limits.admit(500, 0.0) is None


def test_requests_are_limited_at_azures_ratio_and_told_of() -> None:
    limits = Limits(1, 0.0)
    for left in range(5, -1, -1):
        assert limits.admit(1, 0.0) is None
        assert limits.standing(0.0).remaining_requests == left
    refusal = limits.admit(1, 0.0)
    assert refusal is not None
    assert (refusal.what, refusal.limit) == ("requests", 6)
    assert refusal.retry_after_seconds == pytest.approx(10)
    assert limits.standing(0.0).reset_requests_seconds == pytest.approx(60)
    assert limits.standing(30.0).reset_requests_seconds == pytest.approx(30)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket.full(60, 100.0)
    bucket.take(60, 100.0)
    bucket.fill(50.0)
    assert bucket.level == 0
    bucket.fill(101.0)
    assert bucket.level == pytest.approx(1)


def test_another_capacity_keeps_what_was_taken() -> None:
    limits = Limits(2, 0.0)
    assert limits.admit(1500, 0.0) is None
    limits.resize(4, 0.0)
    assert limits.standing(0.0).remaining_tokens == 500
    limits.resize(1, 60.0)
    assert limits.standing(60.0).limit_tokens == 1000
    assert limits.standing(60.0).remaining_tokens == 1000
