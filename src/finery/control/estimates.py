"""What a job would take, told before it is submitted: its rows are counted, its time is that of earlier jobs.

It doesn't guess: where no job of the project ever ran on the base model by that method, it says nothing of time and
memory; a job measures both in its first step.
"""

from dataclasses import dataclass
from typing import Any

from finery.control import datasets, files, jobs, models, reinforcement, validation
from finery.control.plane import ControlPlane
from finery.core import hyperparameters
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.jobs import Job, JobStatus
from finery.storage.pages import Cursor

_JOBS_LOOKED_AT = 100
_EVENTS_LOOKED_AT = 50
_REINFORCEMENT = "reinforcement"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a job would take."""

    training_rows: int
    validation_rows: int
    tokens: int
    """Of the training rows, once."""
    trained_tokens: int
    """Of those, what the model learns to write; of reinforcement none, for it learns from answers of its own."""
    n_epochs: int
    batch_size: int
    steps: int
    answers: int | None
    """Of reinforcement: the answers that are drawn and graded, over all epochs, validation apart."""
    seconds: float | None
    """At the speed of the newest completed job on the same base model; None where there is none."""
    peak_bytes: int | None
    """What that job's largest batch needed."""
    measured_by: str | None
    """The job that time and memory are from."""


def estimate(
    plane: ControlPlane,
    caller: Caller,
    *,
    model: str,
    training_file: str,
    method: str,
    options: dict[str, Any],
    grader: Any = None,
) -> Estimate:
    """What a job with these settings would take.

    Raises:
        InvalidRequest: a setting or a grader that can't be, or rows that are at fault or of another method.
        NotFound: no such file. UnknownModel: no such model.
    """
    checked = hyperparameters.check(options)
    reinforcement.check(method, checked, grader, None)
    base = models.resolve(plane, caller, model).base
    file = files.get(plane, caller, training_file, param="training_file")
    if not file.rows:
        raise InvalidRequest(f"File {file.id} has no rows to train on: {file.status_details or file.status}.")
    validation.require_method(file, method)
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
    earlier = _earlier_job(plane, caller, base.id, method, resolved["training_method"])
    answers = _answers(rows, resolved) if method == _REINFORCEMENT else None
    return Estimate(
        training_rows=rows,
        validation_rows=validation_rows,
        tokens=tokens,
        trained_tokens=round(counted["trained_tokens"] * share),
        n_epochs=resolved["n_epochs"],
        batch_size=resolved["batch_size"],
        steps=resolved["n_epochs"] * -(-rows // resolved["batch_size"]),
        answers=answers,
        seconds=(answers or tokens * resolved["n_epochs"]) / _speed(earlier) if earlier else None,
        peak_bytes=_peak_bytes(plane, caller, earlier) if earlier else None,
        measured_by=earlier.id if earlier else None,
    )


def _earlier_job(plane: ControlPlane, caller: Caller, base_model: str, method: str, training_method: str) -> Job | None:
    page = jobs.list_page(plane, caller, Cursor(limit=_JOBS_LOOKED_AT), {})
    for job in page.items:
        alike = (job.base_model, job.method, job.resolved.get("training_method")) == (
            base_model,
            method,
            training_method,
        )
        if alike and job.status is JobStatus.SUCCEEDED and _speed(job) > 0:
            return job
    return None


def _speed(job: Job) -> float:
    """Tokens a second, of reinforcement answers; validation and checkpoints included. 0 where it wasn't recorded."""
    training = job.data.get("training", {})
    if not training.get("tokens") or job.started_at is None or job.finished_at is None:
        return 0.0
    done = training["tokens"] * job.resolved["n_epochs"]
    if job.method == _REINFORCEMENT:
        done = _answers(training["rows"], job.resolved)
    return float(done) / max(1, job.finished_at - job.started_at)


def _answers(rows: int, resolved: dict[str, Any]) -> int:
    return int(rows * resolved["n_epochs"]) * reinforcement.group_size(resolved["compute_multiplier"])


def _peak_bytes(plane: ControlPlane, caller: Caller, job: Job) -> int | None:
    page = jobs.list_events(plane, caller, job.id, Cursor(limit=_EVENTS_LOOKED_AT, order="asc"))
    for event in page.items:
        peak = (event["data"] or {}).get("peak_bytes")
        if peak:
            return int(peak)
    return None
