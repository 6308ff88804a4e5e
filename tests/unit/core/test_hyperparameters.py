"""The knobs table: ranges are refused by name, "auto" becomes numbers within the ranges."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core import hyperparameters
from finery.core.errors import InvalidRequest
from finery.core.hyperparameters import KNOBS

NUMBERS = [knob for knob in KNOBS.values() if knob.kind in ("integer", "number")]


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
def test_numbers_out_of_range_are_refused_by_name(knob: hyperparameters.Knob) -> None:
    for wrong in (knob.high + 1, knob.low - 1, math.nan, math.inf, "3", True, [1]):
        with pytest.raises(InvalidRequest) as caught:
            hyperparameters.check({knob.name: wrong})
        assert caught.value.param == knob.name
        assert repr(wrong) in caught.value.message


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
def test_the_ends_of_a_range_are_accepted(knob: hyperparameters.Knob) -> None:
    assert hyperparameters.check({knob.name: knob.high})[knob.name] == knob.high
    if not knob.above_low:
        assert hyperparameters.check({knob.name: knob.low})[knob.name] == knob.low


def test_a_choice_names_its_choices() -> None:
    with pytest.raises(InvalidRequest, match="adamw, adam, sgd"):
        hyperparameters.check({"optimizer": "adagrad"})


def test_dora_needs_adapters() -> None:
    with pytest.raises(InvalidRequest, match="dora"):
        hyperparameters.check({"dora": True, "training_method": "full"})


@given(
    rows=st.integers(10, 10**6),
    multiplier=st.floats(0.01, 64),
    context=st.integers(128, 131072),
    method=st.sampled_from(["supervised", "dpo"]),
)
def test_auto_becomes_numbers_within_range(rows: int, multiplier: float, context: int, method: str) -> None:
    options = hyperparameters.check({"batch_size_multiplier": multiplier})
    resolved = hyperparameters.resolve(
        options, method=method, num_examples=rows, context_tokens=context, longest_example=100, task="chat"
    )
    assert hyperparameters.AUTO not in {v for k, v in resolved.items() if k != "precision" and isinstance(v, str)}
    assert 1 <= resolved["batch_size"] <= min(256, rows)
    assert 1 <= resolved["n_epochs"] <= 50
    assert resolved["max_tokens_per_example"] <= context
    for name in ("batch_size", "n_epochs", "learning_rate_multiplier", "beta"):
        hyperparameters.check({name: resolved[name]})


def test_what_was_given_stays() -> None:
    options = hyperparameters.check({"n_epochs": 7, "batch_size": 3, "learning_rate_multiplier": 0.5})
    resolved = hyperparameters.resolve(
        options, method="supervised", num_examples=100, context_tokens=2048, longest_example=10, task="chat"
    )
    assert (resolved["n_epochs"], resolved["batch_size"], resolved["learning_rate_multiplier"]) == (7, 3, 0.5)
