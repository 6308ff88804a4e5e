"""Curves, as ECharts wants them. Knows metrics by their names on the wire, and no page."""

import time
from collections.abc import Sequence
from typing import Any

from finery.sdk.wire import Json
from finery.studio.visit import Visit

_SERIES = (
    ("train_loss", "Training loss", "#ea580c", "solid"),
    ("valid_loss", "Validation loss", "#2563eb", "dashed"),
    ("full_valid_loss", "Full validation loss", "#0d9488", "dotted"),
)
"""Metric, name, colour, line: told apart without colour as well."""

_MAX_POINTS = 800
"""More than a chart has pixels for."""

_GREY = "#8a8580"
"""Readable on both backgrounds."""


def loss(visit: Visit, metrics: list[Json]) -> dict[str, Any]:
    """Loss by step: training, and validation where there is any."""
    series = []
    for name, label, colour, line in _SERIES:
        points = [[row["step"], row[name]] for row in metrics if row.get(name) is not None and row.get("step")]
        points = points[:: 1 + len(points) // _MAX_POINTS]
        if points or name == "train_loss":
            series.append(
                {
                    "name": visit.t(label),
                    "type": "line",
                    "data": points,
                    "showSymbol": len(points) < 30 and name != "train_loss",
                    "symbolSize": 7,
                    "lineStyle": {"width": 2, "type": line, "color": colour},
                    "itemStyle": {"color": colour},
                }
            )
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 40, "bottom": 8, "containLabel": True},
        "legend": {"type": "scroll", "top": 0, "left": 0, "textStyle": {"color": _GREY}},
        "tooltip": {"trigger": "axis"},
        "textStyle": {"fontFamily": "inherit"},
        "xAxis": {
            "type": "value",
            "name": visit.t("Step"),
            "minInterval": 1,
            "min": "dataMin",
            "max": "dataMax",
            "splitLine": {"show": False},
            "axisLabel": {"color": _GREY},
        },
        "yAxis": {
            "type": "value",
            "scale": True,
            "axisLabel": {"color": _GREY},
            "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.2}},
        },
        "series": series,
    }


def tokens(visit: Visit, usage: list[Json]) -> dict[str, Any]:
    """Prompt and answer tokens of all names, by span of time."""
    spans: dict[int, list[int]] = {}
    for row in usage:
        sums = spans.setdefault(row["began_at"], [0, 0])
        sums[0] += row["prompt_tokens"]
        sums[1] += row["completion_tokens"]
    moments = sorted(spans)
    labels = [time.strftime("%m-%d %H:%M", time.localtime(moment)) for moment in moments]
    names = ("Prompt tokens", "Answer tokens")
    series = [(visit.t(name), [spans[moment][place] for moment in moments]) for place, name in enumerate(names)]
    return _bars(labels, series, ("#2563eb", "#ea580c"))


def costs(names: dict[str, str], rows: list[Json]) -> dict[str, Any]:
    """Amounts by day, a colour a meter; `names` are what the meters are called."""
    days = sorted({row["day"] for row in rows})
    colours = ("#2563eb", "#0d9488", "#a16207", "#ea580c")
    sums = {(meter, day): 0.0 for meter in names for day in days}
    for row in rows:
        sums[row["meter"], row["day"]] += row["amount"]
    return _bars(days, [(names[meter], [sums[meter, day] for day in days]) for meter in names], colours)


def loss_in_words(visit: Visit, metrics: list[Json]) -> str:
    """The curve for those who can't see it."""
    losses = [row["train_loss"] for row in metrics if row.get("train_loss") is not None]
    if not losses:
        return visit.t("No step was made yet.")
    return visit.t(
        "Training loss over {n} steps, from {first} to {last}",
        n=len(losses),
        first=f"{losses[0]:.3g}",
        last=f"{losses[-1]:.3g}",
    )


def _bars(labels: list[str], series: Sequence[tuple[str, Sequence[float]]], colours: Sequence[str]) -> dict[str, Any]:
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 40, "bottom": 8, "containLabel": True},
        "legend": {"type": "scroll", "top": 0, "left": 0, "textStyle": {"color": _GREY}},
        "tooltip": {"trigger": "axis"},
        "textStyle": {"fontFamily": "inherit"},
        "xAxis": {"type": "category", "data": labels, "axisLabel": {"color": _GREY}},
        "yAxis": {
            "type": "value",
            "axisLabel": {"color": _GREY},
            "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.2}},
        },
        "series": [
            {
                "name": name,
                "type": "bar",
                "stack": "all",
                "barMaxWidth": 40,
                "data": list(values),
                "itemStyle": {"color": colour},
            }
            for (name, values), colour in zip(series, colours, strict=True)
        ],
    }
