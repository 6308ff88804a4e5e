"""Cost: what was spent this month, the project's budget, and the price table."""

import asyncio
from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import charts, forms, parts
from finery.studio.client import part
from finery.studio.pages.pricing import money
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

METERS = {"training": "Training", "hosting": "Hosting", "input": "Prompt tokens", "output": "Answer tokens"}
"""What is counted, as the API and as people call it."""

PERIODS = {"month": "Every month", "total": "Altogether"}

STATES = {"ok": ("within the budget", "good"), "warned": ("nearly spent", "busy"), "exhausted": ("spent", "bad")}
"""Of a budget: its word, and how it looks."""

_BUDGET_DRAFT = "budget"
_PRICE_DRAFT = "price"


async def show(visit: Visit) -> None:
    """This month's costs; the budget; the prices."""
    visit.title(visit.t("Cost"))
    parts.title(visit.t("Cost"), visit.t("What this month's tuning, hosting and tokens cost, and how much they may."))
    report, budget, prices = await asyncio.gather(
        visit.api.find("/finery/v1/costs", group_by="day,meter,model"),
        visit.api.find("/finery/v1/budget"),
        visit.api.find("/finery/v1/prices"),
    )
    if report is None:
        parts.say("note", visit.t("Your key may not see costs. Whoever gave it to you can give you the role Reader."))
        return
    with box("div", "columns columns--wide-first"):
        with parts.card(visit.t("This month")):
            _spent(visit, report)
        _Budget(visit, budget, report["currency"])
    if prices is not None:
        _Prices(visit, prices["data"], report["currency"])


def _spent(visit: Visit, report: Json) -> None:
    Text("p", money(report["total"], report["currency"]), "figure")
    if not report["data"]:
        Text("p", visit.t("Nothing was spent since {day}.", day=report["since"]), "lead")
        return
    days = visit.t("Cost by day, from {since} to {until}", since=report["since"], until=report["until"])
    bars = {name: visit.t(label) for name, label in METERS.items()}
    chart = ui.echart(charts.costs(bars, report["data"])).classes("chart chart--low").props("role=img")
    chart.props["aria-label"] = days
    sums: dict[tuple[str, str], list[float]] = {}
    for row in report["data"]:
        known = sums.setdefault((row["model"], row["meter"]), [0, 0.0])
        known[0] += row["quantity"]
        known[1] += row["amount"]
    parts.table(
        visit.t("Cost by model"),
        [visit.t("Base model"), visit.t("For"), visit.t("Quantity"), visit.t("Amount")],
        [
            [
                model,
                visit.t(METERS[meter]),
                _quantity(visit, meter, quantity),
                money(amount, report["currency"]),
            ]
            for (model, meter), (quantity, amount) in sorted(sums.items(), key=lambda item: -item[1][1])
        ],
    )


class _Budget:
    """The budget, and the form that sets it."""

    def __init__(self, visit: Visit, budget: Json | None, currency: str) -> None:
        self._visit, self._budget, self._currency = visit, budget, currency
        self._draft = visit.draft(_BUDGET_DRAFT)
        if budget:
            known = {"limit": budget["limit"], "period": budget["period"], "warn": round(100 * budget["warn_at"])}
            self._draft.update({name: value for name, value in known.items() if name not in self._draft})
        with parts.card(visit.t("Budget")):
            self._state = box("div", "stack")
            self._form()
        self._draw()

    def _draw(self) -> None:
        visit, budget = self._visit, self._budget
        self._state.clear()
        self._away.visible = budget is not None
        with self._state:
            if budget is None:
                Text("p", visit.t("This project has no budget: it spends without a limit."), "lead")
                return
            word, look = STATES[budget["state"]]
            spent, limit = (money(budget[name], self._currency) for name in ("spent", "limit"))
            Text("p", visit.t("{spent} of {limit}", spent=spent, limit=limit), "figure")
            parts.meter(visit.t("Share of the budget that is spent"), budget["spent"], budget["limit"])
            with box("div", "chips"):
                Text("span", visit.t(word), f"badge badge--{look}")
                parts.chip(visit.t(PERIODS[budget["period"]]))
            if budget["state"] == "exhausted":
                parts.say("bad", visit.t("Jobs are paused at a checkpoint. Raise the budget, and resume them."))

    def _form(self) -> None:
        visit, draft = self._visit, self._draft
        with box("div", "fields"):
            forms.number_field(draft, "limit", visit.t("Limit in {currency}", currency=self._currency), step=1)
            periods = {name: visit.t(label) for name, label in PERIODS.items()}
            forms.choice_field(draft, "period", visit.t("Period"), periods, default="month")
            forms.number_field(draft, "warn", visit.t("Warn at, in percent"), placeholder="80", step=1)
        with box("div", "actions actions--form"):
            self._away = parts.button(visit.t("Remove the budget"), visit.guard(self._remove))
            parts.button(visit.t("Set the budget"), visit.guard(self._set), look="primary")

    async def _set(self) -> None:
        visit, draft = self._visit, self._draft
        if not draft.get("limit"):
            visit.tell(visit.t("Say how much the project may spend."))
            return
        warn_at = (draft.get("warn") or 80) / 100
        body = {"limit": draft["limit"], "period": draft["period"], "warn_at": warn_at}
        self._budget = await visit.api.put("/finery/v1/budget", body)
        visit.forget(_BUDGET_DRAFT)
        self._draw()
        visit.tell(visit.t("The budget is set."), good=True)

    async def _remove(self) -> None:
        visit = self._visit
        if await parts.confirm(
            visit,
            visit.t("Remove the budget?"),
            visit.t("The project may then spend without a limit."),
            act=visit.t("Remove it"),
        ):
            await visit.api.delete("/finery/v1/budget")
            self._budget = None
            self._draw()


class _Prices:
    """The price table, and the form that adds to it."""

    def __init__(self, visit: Visit, prices: list[Json], currency: str) -> None:
        self._visit, self._draft = visit, visit.draft(_PRICE_DRAFT)
        lead = visit.t("In {currency}: per million tokens; hosting per hour.", currency=currency)
        with parts.card(visit.t("Prices"), lead=lead):
            self._place = box("div")
            with ui.expansion(visit.t("Set a price"), icon="sell").classes("advanced"):
                self._form()
        self._draw(prices)

    def _draw(self, prices: list[Json]) -> None:
        visit = self._visit
        self._place.clear()
        with self._place:
            if not prices:
                Text("p", visit.t("Nothing has a price yet: everything is counted, and costs nothing."), "lead")
                return
            parts.table(
                visit.t("Prices"),
                [visit.t("Base model"), *(visit.t(label) for label in METERS.values()), ""],
                [
                    [
                        visit.t("every other model") if price["default"] else price["model"],
                        *(f"{price[meter]:g}" for meter in METERS),
                        partial(parts.button, visit.t("Delete"), visit.guard(partial(self._delete, price["model"]))),
                    ]
                    for price in prices
                ],
            )

    def _form(self) -> None:
        visit, draft = self._visit, self._draft
        with box("div", "fields"):
            forms.text_field(
                draft, "model", visit.t("Base model"), placeholder="*", hint=visit.t("Empty: every other model.")
            )
            for meter, label in METERS.items():
                forms.number_field(draft, meter, visit.t(label), placeholder="0", step=0.01)
        with box("div", "actions actions--form"):
            parts.button(visit.t("Set the price"), visit.guard(self._set), look="primary")

    async def _set(self) -> None:
        visit, draft = self._visit, self._draft
        model = (draft.get("model") or "").strip() or "*"
        body = {meter: draft.get(meter) or 0 for meter in METERS}
        await visit.api.put(f"/finery/v1/prices/{part(model)}", body)
        visit.forget(_PRICE_DRAFT)
        await self._reload()
        visit.tell(visit.t("The price is set; it holds from now on."), good=True)

    async def _delete(self, model: str) -> None:
        await self._visit.api.delete(f"/finery/v1/prices/{part(model)}")
        await self._reload()

    async def _reload(self) -> None:
        self._draw((await self._visit.api.get("/finery/v1/prices"))["data"])


def _quantity(visit: Visit, meter: str, quantity: float) -> str:
    if meter == "hosting":
        return parts.duration(visit, quantity)
    return visit.t("{n} tokens", n=f"{quantity:,.0f}")
