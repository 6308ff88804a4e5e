"""/finery/v1/prices, costs and the budget of the caller's project; amounts are numbers of the server's currency."""

import csv
import io
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsCosts, ReadsPrices, WritesCosts, WritesPrices
from finery.api.context import Plane
from finery.control import budgets, costs
from finery.control.plane import now
from finery.core.costs import (
    ANY_MODEL,
    Budget,
    Meter,
    Period,
    Price,
    Spent,
    csv_cell,
    day_of,
    in_currency,
    parse_amount,
)

router = APIRouter(prefix="/finery/v1", tags=["costs"])


class SetPrice(BaseModel):
    """Per million tokens; hosting per hour."""

    model_config = ConfigDict(extra="forbid")
    training: float = 0
    hosting: float = 0
    input: float = 0
    output: float = 0


class SetBudget(BaseModel):
    """How much, and for how long."""

    model_config = ConfigDict(extra="forbid")
    limit: float
    period: Period = Period.MONTH
    warn_at: float = 0.8


class EstimateJob(BaseModel):
    """A job that isn't submitted; knobs stand beside these fields, as in a job."""

    model_config = ConfigDict(extra="forbid")
    model: str
    training_file: str
    hyperparameters: dict[str, Any] = {}


@router.get("/prices")
def list_prices(plane: Plane, caller: ReadsPrices) -> dict[str, Any]:
    """The price table."""
    return {"object": "list", "data": [_price(price) for price in costs.list_prices(plane)], "has_more": False}


@router.put("/prices/{model}")
def set_price(plane: Plane, caller: WritesPrices, model: str, body: SetPrice) -> dict[str, Any]:
    """Price a base model, or with `*` every other one."""
    asked = {meter.value: parse_amount(getattr(body, meter), param=meter) for meter in Meter}
    return _price(costs.set_price(plane, caller, Price(model=model, **asked)))


@router.delete("/prices/{model}")
def delete_price(plane: Plane, caller: WritesPrices, model: str) -> dict[str, Any]:
    """Take a model out of the price table."""
    costs.delete_price(plane, caller, model)
    return {"model": model, "object": "price", "deleted": True}


@router.post("/costs/estimate")
def estimate(plane: Plane, caller: ReadsCosts, body: EstimateJob) -> dict[str, Any]:
    """What a job would cost."""
    found = costs.estimate(
        plane, caller, model=body.model, training_file=body.training_file, options=body.hyperparameters
    )
    return {
        "object": "cost.estimate",
        "model": found.model,
        "tokens": found.tokens,
        "n_epochs": found.n_epochs,
        "trained_tokens": found.trained_tokens,
        "amount": in_currency(found.amount),
        "currency": plane.settings.currency,
    }


@router.get("/costs", response_model=None, responses={200: {"content": {"application/json": {}, "text/csv": {}}}})
def report(
    plane: Plane,
    caller: ReadsCosts,
    since: date | None = None,
    until: date | None = None,
    group_by: Annotated[str, Query(max_length=100)] = "project,model,day",
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> dict[str, Any] | Response:
    """What was spent, from the first of this month to today unless said otherwise."""
    today = day_of(now())
    first = since.isoformat() if since else today[:8] + "01"
    last = until.isoformat() if until else today
    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    rows = costs.report(plane, caller, since=first, until=last, group_by=groups)
    if form == "csv":
        return Response(_csv(groups, rows, plane.settings.currency), media_type="text/csv; charset=utf-8")
    data = [
        {"object": "cost", **group, "quantity": spent.quantity, "amount": in_currency(spent.amount)}
        for group, spent in rows
    ]
    total = in_currency(sum(spent.amount for _, spent in rows))
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "since": first,
        "until": last,
        "total": total,
        "currency": plane.settings.currency,
    }


@router.get("/budget")
def get_budget(plane: Plane, caller: ReadsCosts) -> dict[str, Any]:
    """The project's budget, and how much of it is spent."""
    return _budget(*budgets.get(plane, caller), currency=plane.settings.currency)


@router.put("/budget")
def set_budget(plane: Plane, caller: WritesCosts, body: SetBudget) -> dict[str, Any]:
    """Give the project a budget."""
    limit = parse_amount(body.limit, param="limit", zero=False)
    found = budgets.put(plane, caller, limit=limit, period=body.period, warn_at=body.warn_at)
    return _budget(*found, currency=plane.settings.currency)


@router.delete("/budget")
def delete_budget(plane: Plane, caller: WritesCosts) -> dict[str, Any]:
    """Let the project spend without a limit."""
    budgets.delete(plane, caller)
    return {"id": caller.project.id, "object": "budget", "deleted": True}


def _price(price: Price) -> dict[str, Any]:
    amounts = {meter.value: in_currency(price.of(meter)) for meter in Meter}
    return {"model": price.model, "object": "price", "default": price.model == ANY_MODEL, **amounts}


def _budget(budget: Budget, spent: int, *, currency: str) -> dict[str, Any]:
    state = "exhausted" if spent >= budget.limit else "warned" if spent >= budget.limit * budget.warn_at else "ok"
    return {
        "object": "budget",
        "project_id": budget.project_id,
        "limit": in_currency(budget.limit),
        "spent": in_currency(spent),
        "currency": currency,
        "period": budget.period,
        "warn_at": budget.warn_at,
        "state": state,
    }


def _csv(groups: list[str], rows: list[tuple[dict[str, str], Spent]], currency: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*groups, "quantity", "amount", "currency"])
    for group, spent in rows:
        cells = [*group.values(), spent.quantity, in_currency(spent.amount), currency]
        writer.writerow([csv_cell(cell) for cell in cells])
    return out.getvalue()
