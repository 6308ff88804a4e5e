"""What a job would take, told before it is submitted: its rows are counted, its time is that of earlier jobs.

It doesn't guess: where no job of the project ever ran on the base model, it says nothing of time and memory; a job
measures both in its first step.
"""

from dataclasses import dataclass
from typing import Any

from finery.control import datasets, files, jobs, models
from finery.control.plane import ControlPlane
from finery.core import hyperparameters
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.jobs import Job, JobStatus
from finery.storage.pages import Cursor

_JOBS_LOOKED_AT = 100
_EVENTS_LOOKED_AT = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a job would take."""

    training_rows: int
    validation_rows: int
    tokens: int
    """Of the training rows, once."""
    trained_tokens: int
    """Of those, what the model learns to write."""
    n_epochs: int
    batch_size: int
    steps: int
    seconds: float | None
    """At the speed of the newest completed job on the same base model; None where there is none."""
    peak_bytes: int | None
    """What that job's largest batch needed."""
    measured_by: str | None
    """The job that time and memory are from."""


def estimate(
    plane: ControlPlane, caller: Caller, *, model: str, training_file: str, method: str, options: dict[str, Any]
) -> Estimate:
    """What a job with these settings would take.

    Raises:
        InvalidRequest: a setting that can't be, or rows that are at fault.
        NotFound: no such file. UnknownModel: no such model.
    """
    checked = hyperparameters.check(options)
    base = models.resolve(plane, caller, model).base
    file = files.get(plane, caller, training_file, param="training_file")
    if not file.rows:
        raise InvalidRequest(f"File {file.id} has no rows to train on: {file.status_details or file.status}.")
    counted = datasets.check_for_model(plane, caller, file.id, model, None)["statistics"]
    validation_rows = round(file.rows * (checked["validation_split"] or 0.0))
    rows = file.rows - validation_rows
    share = rows / file.rows
    resolved = hyperparameters.resolve(
        checked,
        method=method,
        num_examples=rows,
        context_tokens=base.context_tokens,
        longest_example=int(counted["row_tokens"]["max"]),
        task=checked["task"],
    )
    tokens = round(counted["tokens"] * share)
    earlier = _earlier_job(plane, caller, base.id, resolved["training_method"])
    return Estimate(
        training_rows=rows,
        validation_rows=validation_rows,
        tokens=tokens,
        trained_tokens=round(counted["trained_tokens"] * share),
        n_epochs=resolved["n_epochs"],
        batch_size=resolved["batch_size"],
        steps=resolved["n_epochs"] * -(-rows // resolved["batch_size"]),
        seconds=tokens * resolved["n_epochs"] / _speed(earlier) if earlier else None,
        peak_bytes=_peak_bytes(plane, caller, earlier) if earlier else None,
        measured_by=earlier.id if earlier else None,
    )


def _earlier_job(plane: ControlPlane, caller: Caller, base_model: str, training_method: str) -> Job | None:
    page = jobs.list_page(plane, caller, Cursor(limit=_JOBS_LOOKED_AT), {})
    for job in page.items:
        alike = job.base_model == base_model and job.resolved.get("training_method") == training_method
        if alike and job.status is JobStatus.SUCCEEDED and _speed(job) > 0:
            return job
    return None


def _speed(job: Job) -> float:
    """Tokens a second, validation and checkpoints included; 0 where it wasn't recorded."""
    tokens = job.data.get("training", {}).get("tokens")
    if not tokens or job.started_at is None or job.finished_at is None:
        return 0.0
    return float(tokens * job.resolved["n_epochs"]) / max(1, job.finished_at - job.started_at)


def _peak_bytes(plane: ControlPlane, caller: Caller, job: Job) -> int | None:
    page = jobs.list_events(plane, caller, job.id, Cursor(limit=_EVENTS_LOOKED_AT, order="asc"))
    for event in page.items:
        peak = (event["data"] or {}).get("peak_bytes")
        if peak:
            return int(peak)
    return None
