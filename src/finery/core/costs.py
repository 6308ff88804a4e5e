"""Prices, amounts and budgets, in whole nano-units of a currency: sums are exact. Knows no job and no database."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from finery.core.errors import InvalidRequest

NANOS = 10**9
"""Nano-units in one unit of the currency."""

ANY_MODEL = "*"
"""Whose price holds for base models without their own."""

_MAX_PRICE = 10**6
_DECIMALS = 3
"""A price per million tokens with three decimals is a whole number of nano-units a token."""


class Meter(StrEnum):
    """What is counted."""

    TRAINING = "training"
    HOSTING = "hosting"
    INPUT = "input"
    OUTPUT = "output"

    @property
    def unit(self) -> int:
        """How much of it a price is for: a million tokens, or the seconds of an hour."""
        return 3600 if self == Meter.HOSTING else 10**6


class Period(StrEnum):
    """What a budget is for."""

    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a base model costs, tuned models on it too; nano-units per million tokens, hosting per hour."""

    model: str
    training: int = 0
    hosting: int = 0
    input: int = 0
    output: int = 0

    def of(self, meter: Meter) -> int:
        """Nano-units for one unit of a meter."""
        return int(getattr(self, meter))


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much a project may spend."""

    project_id: str
    limit: int
    """Nano-units."""
    period: Period = Period.MONTH
    warn_at: float = 0.8
    """Share of the limit from which on its people are warned."""
    warned_at: int | None = None
    exhausted_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """One line of a report: what was used of a meter, and what that costs."""

    project_id: str
    day: str
    """UTC, YYYY-MM-DD."""
    meter: Meter
    source: str
    """The job, or the name that was asked or hosted."""
    model: str
    """The base model whose price it was."""
    quantity: int
    """Tokens; of hosting, seconds."""
    amount: int
    """Nano-units."""


def amount(meter: Meter, unit_price: int, quantity: int) -> int:
    """Nano-units for a quantity, rounded half to even."""
    return int((Decimal(unit_price) * quantity / meter.unit).to_integral_value(ROUND_HALF_EVEN))


def day_of(moment: int) -> str:
    """The UTC day of a second since 1970."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def first_day(period: Period, moment: int) -> str:
    """The first day of the period that a second lies in."""
    return day_of(moment)[:8] + "01" if period == Period.MONTH else ""


def parse_amount(value: float, *, param: str, zero: bool = True) -> int:
    """An amount of the currency as nano-units.

    Raises:
        InvalidRequest: negative, not finite, over a million, or with more than three decimals.
    """
    exact = Decimal(str(value))
    fits = exact.is_finite() and (exact >= 0 if zero else exact > 0) and exact <= _MAX_PRICE
    if not fits or exact != round(exact, _DECIMALS):
        least = "from 0" if zero else "above 0"
        raise InvalidRequest(
            f"{param} is {value}; it must be {least} and up to {_MAX_PRICE:,}, with at most {_DECIMALS} decimals.",
            param=param,
        )
    return int(exact * NANOS)


def in_currency(nanos: int) -> float:
    """Nano-units as a number of the currency."""
    return nanos / NANOS


def csv_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = str(value)
    if isinstance(value, (int, float)):
        return text
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text
