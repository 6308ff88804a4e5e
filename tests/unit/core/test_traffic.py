"""Histograms add up and stay within their error; a tally comes back from JSON as it went."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core.traffic import Answered, Histogram, Tally, bucket_of, end_of, summed


def answer(**values: object) -> Answered:
    return Answered(**{"project_id": "p", "name": "d", "outcome": "stop", **values})  # type: ignore[arg-type]


@given(st.lists(st.floats(min_value=0.001, max_value=1000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_off_by_9_percent_at_most(values: list[float], share: float) -> None:
    histogram = Histogram(least=0.001)
    for value in values:
        histogram.observe(value)
    rank = max(1, -(-int(share * len(values) * 1e9) // int(1e9)))
    exact = sorted(values)[min(rank, len(values)) - 1]
    found = histogram.percentile(share)
    assert found is not None
    near = (sorted(values)[max(0, rank - 2)], exact, sorted(values)[min(len(values) - 1, rank)])
    assert any(abs(found / value - 1) < 0.091 for value in near)
    assert histogram.mean == pytest.approx(sum(values) / len(values))


@given(st.floats(min_value=0.0001, max_value=1e6))
def test_a_bucket_holds_its_value(value: float) -> None:
    bucket = bucket_of(value, 0.001)
    assert value <= end_of(bucket, 0.001) * (1 + 1e-9)
    assert bucket == 0 or value > end_of(bucket - 1, 0.001) * (1 - 1e-9)


def test_a_histogram_without_values_has_no_percentile() -> None:
    assert Histogram().percentile(0.5) is None
    assert Histogram().mean is None


def test_tallies_add_up_in_any_order_and_survive_json() -> None:
    draw = random.Random(3)
    answers = [
        answer(
            outcome=draw.choice(["stop", "length", "cancelled", "unavailable"]),
            prompt_tokens=draw.randrange(1, 500),
            completion_tokens=draw.randrange(1, 500),
            first_token_seconds=draw.random(),
            total_seconds=draw.random() * 10,
            filtered=("prompt:hate",) if draw.random() < 0.2 else (),
            refused=draw.random() < 0.3,
        )
        for _ in range(100)
    ]
    whole, parts = Tally(), [Tally() for _ in range(4)]
    for place, one in enumerate(answers):
        whole.count(one)
        parts[place % 4].count(one)
    back = [Tally.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    total = summed(reversed(back))
    assert _rounded(total) == _rounded(whole)
    assert whole.requests == 100
    assert whole.whole == sum(one.outcome in ("stop", "length") for one in answers)


def test_what_did_not_end_well_counts_no_length_and_embeddings_no_answer() -> None:
    tally = Tally()
    tally.count(answer(outcome="cancelled", completion_tokens=3))
    tally.count(answer(words=False, prompt_tokens=9))
    assert (tally.requests, tally.whole, tally.prompt_tokens) == (2, 0, 9)


def _rounded(tally: Tally) -> Any:
    return json.loads(json.dumps(tally.to_json()), parse_float=lambda text: round(float(text), 6))
