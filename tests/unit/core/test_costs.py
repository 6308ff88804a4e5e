"""Amounts add up exactly, whatever pieces they come in."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core.costs import NANOS, Meter, Period, amount, csv_cell, first_day, in_currency, parse_amount
from finery.core.errors import InvalidRequest


@given(st.sampled_from(Meter), st.integers(0, 10**15), st.integers(0, 10**12))
def test_an_amount_is_the_exact_product_rounded_once(meter: Meter, price: int, quantity: int) -> None:
    exact = Fraction(price) * quantity / meter.unit
    assert abs(amount(meter, price, quantity) - exact) <= Fraction(1, 2)


@given(st.integers(0, 10**9), st.integers(0, 10**7), st.integers(0, 10**7))
def test_tokens_at_prices_with_three_decimals_add_up_in_any_pieces(thousandths: int, first: int, second: int) -> None:
    price = thousandths * NANOS // 1000
    pieces = amount(Meter.INPUT, price, first) + amount(Meter.INPUT, price, second)
    assert pieces == amount(Meter.INPUT, price, first + second)


@given(st.decimals(0, 10**6, places=3))
def test_what_is_parsed_comes_back(value: object) -> None:
    number = float(str(value))
    assert in_currency(parse_amount(number, param="x")) == number


@pytest.mark.parametrize("value", [-0.001, float("nan"), float("inf"), 1e7, 0.0001])
def test_an_amount_that_cant_be_is_refused_by_name(value: float) -> None:
    with pytest.raises(InvalidRequest, match="budget"):
        parse_amount(value, param="budget")


@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell.removeprefix("'") == text or cell == text


def test_a_budget_begins_with_the_month_or_never() -> None:
    assert first_day(Period.MONTH, 1_700_000_000) == "2023-11-01"
    assert first_day(Period.TOTAL, 1_700_000_000) == ""
