"""Prices, the ledger and budgets.

A ledger line is all that one source used of one meter on one day at one price: adding to it keeps its amount exactly
the price of its whole quantity, however many pieces that came in.
"""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from finery.core.costs import ANY_MODEL, Budget, Meter, Period, Price, Spent, amount
from finery.storage.schema import budgets, ledger, prices

_KEY = ("project_id", "day", "meter", "source", "model", "unit_price")


def price_of(connection: Connection, base_model: str) -> Price:
    """The price of a base model: its own, or the one for all others, or none."""
    query = select(prices).where(prices.c.model.in_([base_model, ANY_MODEL]))
    found = {row.model: Price(**row._mapping) for row in connection.execute(query)}
    return found.get(base_model) or found.get(ANY_MODEL) or Price(model=base_model)


def list_prices(connection: Connection) -> list[Price]:
    """The price table, by model."""
    return [Price(**row._mapping) for row in connection.execute(select(prices).order_by(prices.c.model))]


def set_price(connection: Connection, price: Price) -> None:
    """Price a model; what was used before keeps its price."""
    remove_price(connection, price.model)
    connection.execute(insert(prices).values(dataclasses.asdict(price)))


def remove_price(connection: Connection, model: str) -> bool:
    """Take a model out of the table."""
    return connection.execute(delete(prices).where(prices.c.model == model)).rowcount == 1


def charge(connection: Connection, use: Spent, unit_price: int) -> None:
    """Add `use.quantity` to its line, inside the transaction of whatever was done; `use.amount` is worked out here."""
    key = {**dataclasses.asdict(use), "unit_price": unit_price}
    here = and_(*(ledger.c[name] == key[name] for name in _KEY))
    known = connection.execute(select(ledger.c.quantity).where(here).with_for_update()).scalar_one_or_none()
    total = (known or 0) + use.quantity
    values = {"quantity": total, "amount": amount(use.meter, unit_price, total)}
    if known is None:
        connection.execute(insert(ledger).values({name: key[name] for name in _KEY} | values))
    else:
        connection.execute(update(ledger).where(here).values(values))


def charged(connection: Connection, project_id: str, meter: Meter, source: str) -> int:
    """How much of a meter a source was charged for so far."""
    query = select(func.sum(ledger.c.quantity)).where(
        ledger.c.project_id == project_id, ledger.c.meter == meter, ledger.c.source == source
    )
    return int(connection.execute(query).scalar() or 0)


def void(connection: Connection, project_id: str, meter: Meter, source: str) -> None:
    """Charge nothing for a source after all; its lines stay, without an amount."""
    connection.execute(
        update(ledger)
        .where(ledger.c.project_id == project_id, ledger.c.meter == meter, ledger.c.source == source)
        .values(quantity=0, amount=0)
    )


def spent(connection: Connection, project_id: str, since: str) -> int:
    """Nano-units that a project spent from a day on."""
    query = select(func.sum(ledger.c.amount)).where(ledger.c.project_id == project_id, ledger.c.day >= since)
    return int(connection.execute(query).scalar() or 0)


def report(connection: Connection, project_ids: list[str], since: str, until: str) -> list[Spent]:
    """The lines of projects from a day to a day, both included."""
    query = (
        select(ledger)
        .where(ledger.c.project_id.in_(project_ids), ledger.c.day >= since, ledger.c.day <= until)
        .order_by(ledger.c.day, ledger.c.project_id, ledger.c.meter, ledger.c.source)
    )
    return [_spent(row) for row in connection.execute(query)]


def get_budget(connection: Connection, project_id: str) -> Budget | None:
    """A project's budget."""
    row = connection.execute(select(budgets).where(budgets.c.project_id == project_id)).one_or_none()
    return _budget(row) if row else None


def list_budgets(connection: Connection) -> list[Budget]:
    """The budgets of all projects."""
    return [_budget(row) for row in connection.execute(select(budgets))]


def set_budget(connection: Connection, budget: Budget) -> None:
    """Give a project a budget in place of what it had."""
    remove_budget(connection, budget.project_id)
    connection.execute(insert(budgets).values(dataclasses.asdict(budget)))


def mark_budget(connection: Connection, project_id: str, **moments: int | None) -> None:
    """Remember that people were warned, or that it is used up."""
    connection.execute(update(budgets).where(budgets.c.project_id == project_id).values(**moments))


def remove_budget(connection: Connection, project_id: str) -> bool:
    """Let a project spend without a limit."""
    return connection.execute(delete(budgets).where(budgets.c.project_id == project_id)).rowcount == 1


def _spent(row: Row[Any]) -> Spent:
    values = {field.name: row._mapping[field.name] for field in dataclasses.fields(Spent)}
    return Spent(**{**values, "meter": Meter(row.meter)})


def _budget(row: Row[Any]) -> Budget:
    return Budget(**{**row._mapping, "period": Period(row.period)})
