"""Sweeps: several sets of hyperparameters over the same rows, as one object; losers are stopped, the best is marked.

Jobs are ordinary ones, one for each set. A job that has just been validated is stopped where its loss is above the
median of what the others had at the same epoch (the median stopping rule; Golovin et al. 2017, Google Vizier).
"""

import itertools
import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from finery.control import jobs, kept
from finery.control.jobs import JobRequest, message
from finery.control.plane import ControlPlane, now
from finery.core import hyperparameters
from finery.core.access import Caller
from finery.core.errors import Conflict, FineryError, InvalidRequest
from finery.core.ids import check_suffix, new_id
from finery.core.jobs import Job, JobStatus
from finery.core.records import Kind, Record
from finery.storage import jobs as job_rows
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

MAX_SETS = 32
LOSS = "full_valid_loss"

RUNNING, COMPLETED, CANCELLED = "running", "completed", "cancelled"

_LEAST_OTHERS = 2
"""Others that must have come as far before a job is stopped."""
_OVER = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


def create(
    plane: ControlPlane,
    caller: Caller,
    request: JobRequest,
    *,
    sets: Sequence[Mapping[str, Any]],
    grid: Mapping[str, Sequence[Any]],
    early_stopping: bool,
) -> Record:
    """Submit a job for each set, and for each combination of a grid; `request.options` are what all share.

    Raises:
        InvalidRequest: no sets or too many, a knob that can't be, or nothing to validate on; no job is submitted then.
    """
    if request.method == "reinforcement":
        raise InvalidRequest(
            "A sweep compares by validation loss, and reinforcement has rewards instead. Submit a job for each set and "
            "compare the valid_reward_mean of their checkpoints.",
            param="method",
        )
    wanted = [*sets, *_combinations(grid)]
    if not 1 <= len(wanted) <= MAX_SETS:
        raise InvalidRequest(
            f"The sweep has {len(wanted)} sets; give 1 to {MAX_SETS}, as sets or as a grid.", param="sets"
        )
    check_suffix(request.suffix)
    for i, given in enumerate(wanted):
        unknown = sorted(set(given) - set(hyperparameters.KNOBS))
        if unknown:
            raise InvalidRequest(f"There is no knob {unknown[0]!r}.", param=f"sets[{i}].{unknown[0]}")
        options = hyperparameters.check({**request.options, **given}, prefix=f"sets[{i}].")
        if not request.validation_file and not options["validation_split"]:
            raise InvalidRequest(
                "A sweep compares by validation loss: give validation_file or validation_split.",
                param="validation_file",
            )
    sweep_id = new_id("sweep_")
    submitted = [_submit(plane, caller, request, given, sweep_id) for given in wanted]
    sweep = Record(
        id=sweep_id,
        project_id=caller.project.id,
        kind=Kind.SWEEP,
        status=RUNNING,
        metadata=request.metadata,
        body={
            "model": request.model,
            "training_file": request.training_file,
            "validation_file": request.validation_file,
            "early_stopping": early_stopping,
            "runs": [{"job_id": job.id, "set": given} for job, given in zip(submitted, wanted, strict=True)],
            "stopped": [],
        },
        created_at=now(),
    )
    return kept.insert(plane, sweep)


def get(plane: ControlPlane, caller: Caller, sweep_id: str) -> Record:
    """A sweep of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    return kept.find(plane, caller, Kind.SWEEP, sweep_id, what="sweep", param="sweep_id")


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """Sweeps of the caller's project, newest first."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.SWEEP, cursor)


def cancel(plane: ControlPlane, caller: Caller, sweep_id: str) -> Record:
    """Stop a sweep and the jobs of it that are not over.

    Raises:
        Conflict: it is over.
    """
    sweep = get(plane, caller, sweep_id)
    if sweep.status != RUNNING:
        raise Conflict(f"The sweep {sweep.id} is {sweep.status} and can't be cancelled any more.")
    sweep = kept.move(plane, sweep, CANCELLED, finished_at=now())
    for run in sweep.body["runs"]:
        job = jobs.get(plane, caller, run["job_id"])
        if job.status not in _OVER:
            jobs.cancel(plane, caller, job.id)
    return sweep


def table(plane: ControlPlane, sweep: Record) -> list[dict[str, Any]]:
    """One line a set: its job, its losses by epoch, and whether it is the best."""
    lines = []
    with plane.database.read() as connection:
        for run in sweep.body["runs"]:
            job = job_rows.get(connection, sweep.project_id, run["job_id"])
            losses = _losses(job_rows.list_measured(connection, run["job_id"], LOSS))
            lines.append(_line(run, job, losses, stopped=run["job_id"] in sweep.body["stopped"]))
    known = [line["best_loss"] for line in lines if line["best_loss"] is not None and line["status"] != "failed"]
    for line in lines:
        line["best"] = bool(known) and line["best_loss"] == min(known) and line["status"] != "failed"
    return lines


def advance(plane: ControlPlane) -> None:
    """Stop the losers of every running sweep, and end those whose jobs are all over."""
    for sweep in kept.unfinished(plane, Kind.SWEEP, RUNNING):
        try:
            _advance(plane, sweep)
        except FineryError as error:
            log.info("sweep %s: %s", sweep.id, error.message)


def loses(losses: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> bool:
    """Whether a run is above the median of the others at the epoch it has reached; loss by epoch each."""
    if not losses:
        return False
    epoch = max(losses)
    theirs = [min(loss for at, loss in other.items() if at <= epoch) for other in others if _reached(other, epoch)]
    return len(theirs) >= _LEAST_OTHERS and min(losses.values()) > statistics.median(theirs)


def _reached(losses: Mapping[int, float], epoch: int) -> bool:
    return bool(losses) and max(losses) >= epoch and min(losses) <= epoch


def _advance(plane: ControlPlane, sweep: Record) -> None:
    lines = table(plane, sweep)
    if all(line["status"] in _OVER for line in lines):
        kept.move(plane, sweep, COMPLETED, finished_at=now())
        return
    if not sweep.body["early_stopping"]:
        return
    owner = kept.owner_of(plane, sweep)
    losses = [dict(enumerate(line["losses"], 1)) for line in lines]
    for i, line in enumerate(lines):
        if line["status"] == JobStatus.RUNNING and loses(losses[i], [*losses[:i], *losses[i + 1 :]]):
            text = f"Stopped by the sweep {sweep.id}: its validation loss is above the median of the others"
            with plane.database.write() as connection:
                job_rows.insert_events(connection, line["job_id"], [message("sweep-stopped", text)])
            jobs.cancel(plane, owner, line["job_id"])
            sweep = kept.move(plane, sweep, RUNNING, stopped=[*sweep.body["stopped"], line["job_id"]])


def _submit(plane: ControlPlane, caller: Caller, request: JobRequest, given: Mapping[str, Any], sweep_id: str) -> Job:
    own = JobRequest(
        model=request.model,
        training_file=request.training_file,
        validation_file=request.validation_file,
        suffix=request.suffix,
        seed=request.seed,
        method=request.method,
        options={**request.options, **given},
        metadata={**(request.metadata or {}), "sweep": sweep_id},
    )
    return jobs.submit(plane, caller, own)


def _combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    if not grid:
        return []
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _losses(measured: Sequence[Mapping[str, Any]]) -> list[float]:
    """The validation loss of each epoch, as far as the run has come."""
    return [float(data[LOSS]) for data in measured]


def _line(run: Mapping[str, Any], job: Job | None, losses: list[float], *, stopped: bool) -> dict[str, Any]:
    return {
        "job_id": run["job_id"],
        "set": run["set"],
        "status": str(job.status) if job else "deleted",
        "stopped_early": stopped,
        "losses": losses,
        "best_loss": min(losses, default=None),
        "fine_tuned_model": job.fine_tuned_model if job else None,
        "error": job.error if job else None,
    }
