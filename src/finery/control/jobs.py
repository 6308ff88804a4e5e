"""Fine-tuning jobs as their owner sees them: submit, list, cancel, pause, resume."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from finery import telemetry
from finery.control import (
    audit,
    budgets,
    datasets,
    files,
    locations,
    models,
    providers,
    quotas,
    reinforcement,
    trackers,
    webhooks,
)
from finery.control.plane import ControlPlane, now
from finery.core import hyperparameters
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.files import File, FileStatus
from finery.core.ids import check_suffix, new_id
from finery.core.jobs import Job, JobStatus, require_transition
from finery.core.models import Checkpoint
from finery.core.tenancy import Provider
from finery.storage import jobs
from finery.storage.pages import Cursor, Page

MIN_TRAINING_ROWS = 10
"""OpenAI's rule; fewer rows teach nothing."""

_MAX_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What a caller asks for; knobs are checked by `submit`."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: str = "supervised"
    options: dict[str, Any] = field(default_factory=dict)
    """Knobs of `core.hyperparameters` that were given."""
    grader: Any = None
    """Of the method reinforcement."""
    response_format: Any = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None


def submit(plane: ControlPlane, caller: Caller, request: JobRequest) -> Job:
    """Take a job in; its rows are rendered and counted next, by `control.validation`.

    Raises:
        InvalidRequest: a knob, a file or a model that can't be used, naming it.
    """
    options = hyperparameters.check(request.options)
    options |= reinforcement.check(request.method, options, request.grader, request.response_format)
    trackers.check(request.integrations)
    if request.validation_file and options["validation_split"]:
        raise InvalidRequest(
            "Both validation_file and validation_split were given; leave one out.", param="validation_split"
        )
    providers.require(plane, caller, Provider.COMPUTE, Provider.STORAGE)
    model = models.resolve(plane, caller, request.model)
    locations.require_offer(plane, caller, model.base.id)
    budgets.require_money(plane, caller.project)
    training = _usable_file(plane, caller, request.training_file, "training_file")
    validation = None
    if request.validation_file:
        validation = _usable_file(plane, caller, request.validation_file, "validation_file")
    if training.rows is not None and training.rows < MIN_TRAINING_ROWS:
        raise InvalidRequest(
            f"The training file {training.id} has {training.rows} rows; at least {MIN_TRAINING_ROWS} are needed.",
            param="training_file",
        )
    job = Job(
        id=new_id("ftjob-"),
        project_id=caller.project.id,
        model=request.model,
        base_model=model.base.id,
        training_file=training.id,
        validation_file=validation.id if validation else None,
        suffix=check_suffix(request.suffix),
        seed=_check_seed(request.seed),
        status=JobStatus.VALIDATING_FILES,
        method=request.method,
        options=options,
        metadata=request.metadata,
        integrations=request.integrations,
        data=telemetry.headers(),
        created_at=now(),
    )
    files_named = f"Validating training file: {job.training_file}"
    if job.validation_file:
        files_named += f" and validation file: {job.validation_file}"
    said = [message("created", f"Created fine-tuning job: {job.id}"), message("validating", files_named)]
    with plane.database.write() as connection:
        quotas.take(connection, job.project_id, queued_jobs=1)
        jobs.insert_job(connection, job)
        audit.record(connection, caller, "jobs.create", job.id, model=job.model, training_file=job.training_file)
        untold = trackers.follow(connection, plane, job)
        if untold:
            said.append(message("no-tracker", untold, level="warn"))
        jobs.insert_events(connection, job.id, said)
    return job


def get(plane: ControlPlane, caller: Caller, job_id: str) -> Job:
    """A job of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        job = jobs.get(connection, caller.project.id, job_id)
    if job is None:
        raise NotFound(f"Could not find fine tune: {job_id}", param="fine_tuning_job_id")
    return job


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor, metadata: dict[str, str] | None) -> Page[Job]:
    """Jobs of the caller's project, newest first."""
    with plane.database.read() as connection:
        return jobs.list_page(connection, caller.project.id, cursor, metadata=metadata)


def list_events(plane: ControlPlane, caller: Caller, job_id: str, cursor: Cursor) -> Page[dict[str, Any]]:
    """A job's events, newest first."""
    job = get(plane, caller, job_id)
    with plane.database.read() as connection:
        return jobs.list_events(connection, job.id, cursor)


def list_checkpoints(plane: ControlPlane, caller: Caller, job_id: str, cursor: Cursor) -> Page[Checkpoint]:
    """A job's deployable checkpoints, newest first."""
    job = get(plane, caller, job_id)
    with plane.database.read() as connection:
        return jobs.list_checkpoints(connection, job.id, cursor)


def best_checkpoint(plane: ControlPlane, caller: Caller, job_id: str) -> str | None:
    """The model's name at the checkpoint with the lowest validation loss; None where nothing was validated."""
    job = get(plane, caller, job_id)
    with plane.database.read() as connection:
        return jobs.best_checkpoint(connection, job.id)


def cancel(plane: ControlPlane, caller: Caller, job_id: str) -> Job:
    """Cancel a job at once; its worker finds its lease void and stops the trainer.

    Raises:
        Conflict: it is over already.
    """
    return _move(plane, caller, get(plane, caller, job_id), JobStatus.CANCELLED, "The job was cancelled")


def pause(plane: ControlPlane, caller: Caller, job_id: str) -> Job:
    """Ask a running job to stop at a checkpoint; one that waits is paused at once.

    Raises:
        Conflict: it is neither queued nor running.
    """
    job = get(plane, caller, job_id)
    if job.status == JobStatus.QUEUED:
        return _move(plane, caller, job, JobStatus.PAUSED, "The job is paused")
    return _move(plane, caller, job, JobStatus.PAUSING, "The job pauses at its next checkpoint")


def resume(plane: ControlPlane, caller: Caller, job_id: str) -> Job:
    """Let a paused job go on from its checkpoint.

    Raises:
        Conflict: it isn't paused.
    """
    job = get(plane, caller, job_id)
    budgets.require_money(plane, caller.project)
    return _move(plane, caller, job, JobStatus.QUEUED, "The job was resumed and waits for a worker")


def message(key: str, text: str, *, level: str = "info", data: dict[str, Any] | None = None) -> dict[str, Any]:
    """An event row for people to read."""
    return {
        "key": key,
        "type": "message",
        "level": level,
        "message": text,
        "data": data or {},
        "created_at": now(),
    }


def _move(plane: ControlPlane, caller: Caller, job: Job, target: JobStatus, text: str) -> Job:
    with plane.database.write() as connection:
        # Read again, where nobody else writes: a worker may have taken or ended it since the caller looked.
        job = jobs.get(connection, job.project_id, job.id) or job
        require_transition(job.id, job.status, target)
        # The next epoch: whatever the worker of a cancelled job still writes is refused.
        over = {"finished_at": now(), "lease_epoch": job.lease_epoch + 1} if target == JobStatus.CANCELLED else {}
        if not jobs.change(connection, job, target, **over):
            raise Conflict(f"Job {job.id} changed in this very moment. Look at it again.", code="invalid_job_state")
        jobs.insert_events(connection, job.id, [message(f"{target}:{secrets.token_hex(4)}", text)])
        audit.record(connection, caller, f"jobs.{target}", job.id)
        if target == JobStatus.CANCELLED:
            webhooks.tell(connection, job.project_id, "fine_tuning.job.cancelled", job.id)
        changed = jobs.get(connection, job.project_id, job.id)
    assert changed is not None
    return changed


def _usable_file(plane: ControlPlane, caller: Caller, reference: str, param: str) -> File:
    """The file behind an id, or behind a dataset's `name` or `name:version`."""
    try:
        file = files.get(plane, caller, datasets.file_of(plane, caller, reference))
    except NotFound as error:
        raise InvalidRequest(f"{error.message} ({param})", code="file_not_found", param=param) from None
    if file.purpose != "fine-tune":
        raise InvalidRequest(
            f"File {file.id} was uploaded for {file.purpose!r}; a {param} must be uploaded for 'fine-tune'.",
            param=param,
        )
    if file.status == FileStatus.ERROR:
        raise InvalidRequest(
            f"File {file.id} can't be trained on: {file.status_details} "
            f"The full report is at /finery/v1/files/{file.id}/report.",
            code="invalid_training_file",
            param=param,
        )
    return file


def _check_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(_MAX_SEED)
    if 0 <= seed <= _MAX_SEED:
        return seed
    raise InvalidRequest(f"seed is {seed}; it must be a whole number from 0 to {_MAX_SEED}.", param="seed")
