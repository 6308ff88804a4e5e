"""Monitoring: traffic, latency, filter hits of every deployment, and the project's tokens by day."""

import asyncio
import time
from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import charts, parts
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_DEPLOYMENTS_SHOWN = 50

WINDOWS = {3600: "last hour", 86400: "last day", 7 * 86400: "last 7 days", 30 * 86400: "last 30 days"}


async def show(visit: Visit, seconds: int = 86400) -> None:
    """What answered, how fast, and what was filtered, over the last `seconds`."""
    visit.title(visit.t("Monitoring"))
    window = seconds if seconds in WINDOWS else 86400
    with parts.heading(visit.t("Monitoring"), visit.t("Traffic, latency and filter hits of this project.")):
        choice = ui.select({span: visit.t(name) for span, name in WINDOWS.items()}, value=window)
        choice.props(f'outlined dense aria-label="{visit.t("Time")}"')
        choice.on_value_change(lambda: visit.go(f"/monitoring?seconds={choice.value}"))
    width = "5m" if window <= 3600 else "1h" if window <= 7 * 86400 else "1d"
    usage, metrics = await asyncio.gather(
        visit.api.get("/finery/v1/usage", start_time=int(time.time()) - window, bucket_width=width),
        visit.api.get("/finery/v1/metrics", seconds=window),
    )
    if not usage["data"]:
        with parts.empty(
            "insights", visit.t("Nothing was asked in this time"), visit.t("Talk to a model, and it shows here.")
        ):
            parts.link_button(visit.t("Playground"), "/playground", primary=True)
        return
    with parts.card(visit.t("Tokens")):
        chart = ui.echart(charts.tokens(visit, usage["data"])).classes("chart").props("role=img")
        chart.props["aria-label"] = visit.t("Tokens by time; the table below has the sums.")
        _sums(visit, usage["data"])
    busiest = sorted(metrics["data"], key=lambda each: -each["requests"])[:_DEPLOYMENTS_SHOWN]
    if busiest:
        with parts.card(visit.t("Deployments")):
            _deployments(visit, busiest)


def _sums(visit: Visit, rows: list[Json]) -> None:
    totals: dict[str, list[int]] = {}
    for row in rows:
        sums = totals.setdefault(row["name"], [0, 0, 0])
        for place, name in enumerate(("requests", "prompt_tokens", "completion_tokens")):
            sums[place] += row[name]
    parts.table(
        visit.t("Tokens by name"),
        [visit.t("Name"), visit.t("Requests"), visit.t("Prompt tokens"), visit.t("Answer tokens")],
        [[name, *(f"{value:,}" for value in sums)] for name, sums in totals.items()],
    )


def _deployments(visit: Visit, found: list[Json]) -> None:
    parts.table(
        visit.t("Deployments"),
        [
            visit.t("Name"),
            visit.t("Requests"),
            visit.t("First token, median / 95 %"),
            visit.t("Answer, median / 95 %"),
            visit.t("Filtered"),
        ],
        [
            [
                partial(parts.link, each["name"], f"/deployments/{each['name']}"),
                f"{each['requests']:,}",
                _pair(each["time_to_first_token"]),
                _pair(each["duration"]),
                partial(_filtered, each),
            ]
            for each in found
        ],
    )


def _pair(percentiles: Json) -> str:
    if percentiles["p50"] is None:
        return "–"
    return f"{percentiles['p50']:.2f} s / {percentiles['p95']:.2f} s"


def _filtered(each: Json) -> None:
    hits = [f"{category} {number}" for category, number in each["filtered"].items() if number]
    with box("div", "chips"):
        for hit in hits:
            parts.chip(hit)
    if not hits:
        Text("span", "–")
