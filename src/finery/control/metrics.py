"""What answers came to: written to the database now and then, told by deployment, by project, and to Prometheus.

What was counted in the last seconds before a kill -9 is lost; an orderly end loses nothing.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from finery.control import costs, deployments
from finery.control.plane import ControlPlane, now
from finery.control.traffic import BUCKET_SECONDS
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.jobs import JobStatus
from finery.core.traffic import Histogram, Tally, summed
from finery.storage import jobs, projects, traffic
from finery.storage.traffic import Usage

log = logging.getLogger(__name__)

KEEP_SECONDS = 400 * 24 * 3600
"""A year and a month, so that a month can be compared with the same one of last year."""

MAX_WINDOW_SECONDS = 31 * 24 * 3600
PERCENTILES = (50, 90, 95, 99)
WIDTHS = {"5m": BUCKET_SECONDS, "1h": 3600, "1d": 24 * 3600}
MAX_SPANS = 2000

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One metric of Prometheus with all its series."""

    name: str
    kind: Kind
    help: str
    samples: list[tuple[dict[str, str], float | Histogram]] = field(default_factory=list)


def save(plane: ControlPlane) -> None:
    """Write what was counted since the last time."""
    unsaved = plane.traffic.take_unsaved()
    if not unsaved:
        return
    try:
        with plane.database.write() as connection:
            for (project_id, name, began_at), tally in unsaved.items():
                traffic.add(connection, project_id, name, began_at, tally)
                costs.charge_answers(connection, project_id, name, began_at, tally)
    except Exception:
        plane.traffic.put_back(unsaved)
        raise


def forget_old(plane: ControlPlane) -> None:
    """Forget what nobody will compare with any more."""
    with plane.database.write() as connection:
        traffic.forget_before(connection, now() - KEEP_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What a deployment answered in a span of time, and in as much time before it."""

    since: int
    until: int
    tally: Tally
    before: Tally


def of_deployment(plane: ControlPlane, caller: Caller, name: str, *, seconds: int) -> dict[str, Any]:
    """What a deployment answered in the last `seconds`. Raises as `window`."""
    found = window(plane, caller, name, seconds)
    return {"name": name, "since": found.since, "until": found.until} | told(found.tally)


def of_deployments(plane: ControlPlane, caller: Caller, *, seconds: int) -> list[dict[str, Any]]:
    """What each of the project's deployments answered in the last `seconds`, those that answered nothing as well.

    Raises:
        InvalidRequest: a window that is none.
    """
    since, until = _span(seconds)
    save(plane)
    with plane.database.read() as connection:
        found = traffic.list_all_tallies(connection, caller.project.id, since=since, until=until + 1)
    tallies = {one.name: Tally() for one in deployments.list_all(plane, caller)}
    for name, tally in found:
        if name in tallies:
            tallies[name].add(tally)
    return [{"name": name, "since": since, "until": until} | told(tally) for name, tally in tallies.items()]


def window(plane: ControlPlane, caller: Caller, name: str, seconds: int) -> Window:
    """The last `seconds` of a deployment, rounded up to whole buckets of five minutes.

    Raises:
        NotFound: no such deployment.
        InvalidRequest: a window that is none.
    """
    deployments.get(plane, caller, name)
    since, until = _span(seconds)
    save(plane)
    with plane.database.read() as connection:
        found = traffic.list_tallies(connection, caller.project.id, name, since=since - seconds, until=until + 1)
    return Window(
        since=since,
        until=until,
        tally=summed(tally for began_at, tally in found if began_at >= since),
        before=summed(tally for began_at, tally in found if began_at < since),
    )


def told(tally: Tally) -> dict[str, Any]:
    """A tally in the words of the API; times in seconds, lengths in tokens, None where nothing was measured."""
    return {
        "requests": tally.requests,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "refusals": tally.refusals,
        "filtered": dict(sorted(tally.filtered.items())),
        "tokens": {
            "prompt": tally.prompt_tokens,
            "cached": tally.cached_tokens,
            "completion": tally.completion_tokens,
        },
        "time_to_first_token": _percentiles(tally.first_token),
        "duration": _percentiles(tally.duration),
        "prompt_length": _percentiles(tally.prompt_lengths),
        "answer_length": _percentiles(tally.answer_lengths),
    }


def usage(
    plane: ControlPlane, caller: Caller, *, since: int | None, until: int | None, width: str = "1d"
) -> list[Usage]:
    """The project's usage by name and span of time, the last 30 days unless said otherwise.

    Raises:
        InvalidRequest: an unknown width, an end before the start, or too many spans.
    """
    if width not in WIDTHS:
        raise InvalidRequest(f"bucket_width is {width!r}; use one of {', '.join(WIDTHS)}.", param="bucket_width")
    end = now() + 1 if until is None else until
    start = end - 30 * 24 * 3600 if since is None else since
    if not 0 <= start < end < 1 << 40:
        raise InvalidRequest(f"start_time is {start} and end_time {end}; the end must come later.", param="start_time")
    if (end - start) / WIDTHS[width] > MAX_SPANS:
        raise InvalidRequest(
            f"From {start} to {end} are over {MAX_SPANS} spans of {width}. Ask for less time, or a greater width.",
            param="bucket_width",
        )
    save(plane)
    start -= start % BUCKET_SECONDS
    with plane.database.read() as connection:
        return traffic.list_usage(connection, caller.project.id, since=start, until=end, width=WIDTHS[width])


def families(plane: ControlPlane, caller: Caller) -> list[Family]:
    """What Prometheus is told: the caller's project only, for two projects never see each other."""
    return [*_traffic_families(plane, caller), *_job_families(plane, caller)]


def _span(seconds: int) -> tuple[int, int]:
    """The last `seconds`, rounded up to whole buckets: its begin and its end."""
    if not 1 <= seconds <= MAX_WINDOW_SECONDS:
        raise InvalidRequest(
            f"The window is {seconds} seconds; it must be from 1 to {MAX_WINDOW_SECONDS} (31 days).", param="seconds"
        )
    until = now()
    return (until - seconds) // BUCKET_SECONDS * BUCKET_SECONDS, until


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    marks: dict[str, float | None] = {f"p{mark}": histogram.percentile(mark / 100) for mark in PERCENTILES}
    return {"mean": histogram.mean, **marks}


def _traffic_families(plane: ControlPlane, caller: Caller) -> Iterator[Family]:
    project = caller.project
    found = [
        ({"project": project.name, "deployment": name}, tally, active)
        for (_, name), (tally, active) in plane.traffic.totals(project.id).items()
    ]
    yield Family(
        name="finery_requests_total",
        kind="counter",
        help="Answers that ended, by how: a finish reason, cancelled, or an error's code.",
        samples=[(labels | {"outcome": word}, n) for labels, tally, _ in found for word, n in tally.outcomes.items()],
    )
    yield Family(
        name="finery_filtered_total",
        kind="counter",
        help="Answers that a content filter stopped, by stage and category.",
        samples=[
            (labels | dict(zip(("stage", "category"), word.split(":", 1), strict=True)), n)
            for labels, tally, _ in found
            for word, n in tally.filtered.items()
        ],
    )
    for word in ("prompt", "cached", "completion"):
        yield Family(
            name=f"finery_{word}_tokens_total",
            kind="counter",
            help=f"Tokens: {'those of prompts that were not computed again' if word == 'cached' else f'{word}s'}.",
            samples=[(labels, getattr(tally, f"{word}_tokens")) for labels, tally, _ in found],
        )
    yield Family(
        name="finery_refusals_total",
        kind="counter",
        help="Answers in which the model declined to answer.",
        samples=[(labels, tally.refusals) for labels, tally, _ in found],
    )
    yield Family(
        name="finery_requests_in_progress",
        kind="gauge",
        help="Answers that are being written.",
        samples=[(labels, active) for labels, _, active in found],
    )
    yield Family(
        name="finery_time_to_first_token_seconds",
        kind="histogram",
        help="From the question to the first piece of the answer.",
        samples=[(labels, tally.first_token) for labels, tally, _ in found],
    )
    yield Family(
        name="finery_request_duration_seconds",
        kind="histogram",
        help="From the question to the end of the answer, where it came to its end.",
        samples=[(labels, tally.duration) for labels, tally, _ in found],
    )


def _job_families(plane: ControlPlane, caller: Caller) -> Iterator[Family]:
    with plane.database.read() as connection:
        counted = jobs.count_by_status(connection, caller.project.id)
        names = projects.names(connection)
    yield Family(
        name="finery_jobs",
        kind="gauge",
        help="Fine-tuning jobs by status.",
        samples=[({"project": names[project], "status": status}, n) for project, status, n, _ in counted],
    )
    yield Family(
        name="finery_oldest_queued_job_seconds",
        kind="gauge",
        help="Age of the oldest job that waits for a worker.",
        samples=[
            ({"project": names[project]}, now() - oldest)
            for project, status, _, oldest in counted
            if status == JobStatus.QUEUED
        ],
    )
