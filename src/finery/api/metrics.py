"""/metrics: figures for Prometheus, in its text format 0.0.4. A scraper sends its key as a bearer token.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import Response

from finery.api.access import ReadsMonitoring
from finery.api.context import Plane
from finery.control import metrics
from finery.control.metrics import Family
from finery.core.traffic import PER_DOUBLING, Histogram, end_of

router = APIRouter(tags=["server"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DOUBLINGS = 19
"""Prometheus gets a bucket for each doubling, from a millisecond to 8.7 minutes."""


@router.get("/metrics", response_class=Response)
def show(plane: Plane, caller: ReadsMonitoring) -> Response:
    """What the caller's project did since the server's start."""
    return Response("".join(lines(metrics.families(plane, caller))), media_type=MEDIA_TYPE)


def lines(families: list[Family]) -> Iterator[str]:
    """The text format, line by line; a family without samples is left out."""
    for family in families:
        if not family.samples:
            continue
        yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n"
        for labels, value in family.samples:
            if isinstance(value, Histogram):
                yield from _histogram(family.name, labels, value)
            else:
                yield f"{family.name}{_labels(labels)} {value}\n"


def _histogram(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[str]:
    for doubling in range(_DOUBLINGS + 1):
        last = doubling * PER_DOUBLING
        below = sum(count for bucket, count in histogram.counts.items() if bucket <= last)
        yield f"{name}_bucket{_labels({**labels, 'le': f'{end_of(last, histogram.least):g}'})} {below}\n"
    yield f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {histogram.count}\n"
    yield f"{name}_sum{_labels(labels)} {histogram.total!r}\n"
    yield f"{name}_count{_labels(labels)} {histogram.count}\n"


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
