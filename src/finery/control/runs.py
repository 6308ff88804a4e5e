"""The workers' side of a job: claim, lease, events, checkpoints, and the one terminal state.

Every call of a worker carries the epoch of its lease. A lease that was lost (the worker was silent, the job was
cancelled) makes the call a `Fenced`, changes nothing, and tells the worker to stop.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

from finery.control import budgets, costs, naming, resume_points, specs, webhooks
from finery.control.jobs import message
from finery.control.plane import ControlPlane, now
from finery.control.resume_points import ResumePoint
from finery.core.errors import Fenced
from finery.core.files import File, FileStatus
from finery.core.ids import checkpoint_name, model_name, new_id
from finery.core.jobs import Job, JobStatus, require_transition
from finery.core.models import Checkpoint, TunedModel, blobs_of
from finery.core.tracing import HEADER
from finery.storage import files, jobs, models, projects

RESULTS_FILE = "results.csv"

KEPT_CHECKPOINTS = 3
"""As at OpenAI: the last three can be deployed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A job handed to a worker."""

    job_id: str
    epoch: int
    lease_seconds: float
    spec: dict[str, Any]
    """A `training.spec.RunSpec` whose paths are relative to the run's folder."""
    files: dict[str, str]
    """Path in the run's folder → SHA-256 of the blob that belongs there."""
    resume_point: ResumePoint | None
    """Where to go on, for a worker that hasn't come so far itself."""
    traceparent: str | None
    """The trace of the request that asked for the job."""


def claim(plane: ControlPlane, worker_id: str) -> Claim | None:
    """The next job for a worker, or None where nothing waits."""
    with plane.database.write() as connection:
        job = jobs.next_claimable(connection, worker_id, time.time())
        if job is None:
            return None
        if job.status == JobStatus.PAUSING:
            # Its worker died before the pause was done; the checkpoint it has is the place to go on from.
            jobs.change(connection, job, JobStatus.PAUSED, lease_epoch=job.lease_epoch + 1)
            jobs.insert_events(connection, job.id, [message(f"paused:{job.lease_epoch}", "The job is paused")])
            return None
        epoch = job.lease_epoch + 1
        jobs.change(
            connection,
            job,
            JobStatus.RUNNING,
            lease_epoch=epoch,
            lease_until=time.time() + plane.settings.lease_seconds,
            worker_id=worker_id,
            started_at=job.started_at or now(),
        )
        text = "Fine-tuning job started" if job.started_at is None else "Fine-tuning job goes on from its checkpoint"
        jobs.insert_events(connection, job.id, [message(f"started:{epoch}", text, data={"worker": worker_id})])
        resume_point = resume_points.find(connection, job)
    spec, needed = specs.run_spec(job, models_folder=plane.settings.models_folder)
    return Claim(
        job_id=job.id,
        epoch=epoch,
        lease_seconds=plane.settings.lease_seconds,
        spec=spec.to_json(),
        files=needed,
        resume_point=resume_point,
        traceparent=job.data.get(HEADER),
    )


def heartbeat(plane: ControlPlane, job_id: str, epoch: int) -> Literal["continue", "pause"]:
    """Keep the lease; tells the worker what its owner wants.

    Raises:
        Fenced: the lease is no longer the worker's.
    """
    with plane.database.write() as connection:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        jobs.extend_lease(connection, job_id, epoch, time.time() + plane.settings.lease_seconds)
    return "pause" if job.status == JobStatus.PAUSING else "continue"


def require_lease(plane: ControlPlane, job_id: str, epoch: int) -> Job:
    """The job, if the worker's lease still holds it.

    Raises:
        Fenced: it doesn't.
    """
    with plane.database.read() as connection:
        return _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)


def record_events(plane: ControlPlane, job_id: str, epoch: int, events: list[dict[str, Any]]) -> int:
    """Append what the trainer told; facts that are known already are left out. Returns how many were new."""
    rows = [_event_row(event) for event in events]
    with plane.database.write() as connection:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        jobs.extend_lease(connection, job_id, epoch, time.time() + plane.settings.lease_seconds)
        costs.charge_steps(connection, job, rows)
        budgets.enforce(connection, job.project_id)
        return jobs.insert_events(connection, job_id, rows)


def record_checkpoint(
    plane: ControlPlane, job_id: str, epoch: int, *, step: int, artifact: dict[str, Any], metrics: dict[str, Any]
) -> None:
    """Register a checkpoint whose files were uploaded; it can be deployed from now on."""

    def register(connection: Any) -> list[TunedModel]:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        final_name = job.fine_tuned_model or job.data["model_name"]
        name = checkpoint_name(final_name, step)
        checkpoint = Checkpoint(
            id=new_id("ftckpt_"), job_id=job_id, step=step, model_name=name, metrics=metrics, created_at=now()
        )
        if not jobs.insert_checkpoint(connection, checkpoint):
            return []
        models.insert_model(connection, _model(job, name, step, artifact))
        jobs.insert_events(
            connection, job_id, [message(f"checkpoint-made:{step}", f"Checkpoint created at step {step}: {name}")]
        )
        old = jobs.forget_old_checkpoints(connection, job_id, keep=KEPT_CHECKPOINTS)
        return [model for name in old for model in models.remove(connection, job.project_id, name)]

    for model in naming.name_uploaded(plane, blobs_of(artifact), register):
        naming.drop_all(plane, model.blobs)


def succeed(
    plane: ControlPlane, job_id: str, epoch: int, *, artifact: dict[str, Any], trained_tokens: int, step: int
) -> None:
    """End a job well: the model exists, its results file too, all in one transaction."""

    def end(connection: Any) -> None:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        require_transition(job.id, job.status, JobStatus.SUCCEEDED)
        name = job.data["model_name"]
        results = _results_file(job, artifact)
        files.insert_file(connection, results)
        jobs.change(
            connection,
            job,
            JobStatus.SUCCEEDED,
            finished_at=now(),
            fine_tuned_model=name,
            trained_tokens=trained_tokens,
            result_files=[results.id],
            worker_id=None,
        )
        models.insert_model(connection, _model(job, name, None, artifact))
        costs.charge_training(connection, job, trained_tokens)
        webhooks.tell(connection, job.project_id, "fine_tuning.job.succeeded", job.id)
        jobs.insert_events(
            connection,
            job_id,
            [
                message("model-made", f"New fine-tuned model created: {name}", data={"step": step}),
                message("succeeded", "The job has successfully completed"),
            ],
        )

    naming.name_uploaded(plane, blobs_of(artifact), end)


def fail(plane: ControlPlane, job_id: str, epoch: int, *, code: str, text: str) -> None:
    """End a job badly, with the reason."""
    with plane.database.write() as connection:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        end_badly(connection, job, code=code, text=text)


def end_badly(connection: Any, job: Job, *, code: str, text: str, param: str | None = None) -> None:
    """Move a job to `failed` inside the caller's transaction."""
    require_transition(job.id, job.status, JobStatus.FAILED)
    error = {"code": code, "message": text, "param": param}
    webhooks.tell(connection, job.project_id, "fine_tuning.job.failed", job.id)
    costs.forgive_training(connection, job)
    jobs.change(connection, job, JobStatus.FAILED, finished_at=now(), error=error, worker_id=None)
    jobs.insert_events(
        connection, job.id, [message("failed", f"The job failed: {text}", level="error", data={"code": code})]
    )


def give_back(plane: ControlPlane, job_id: str, epoch: int) -> None:
    """A worker stops before its job is over: paused if that was asked for, queued again otherwise."""
    with plane.database.write() as connection:
        job = _leased(jobs.get_leased(connection, job_id, epoch), job_id, epoch)
        target = JobStatus.PAUSED if job.status == JobStatus.PAUSING else JobStatus.QUEUED
        require_transition(job.id, job.status, target)
        jobs.change(connection, job, target, lease_until=0.0, worker_id=None)
        text = "The job is paused" if target == JobStatus.PAUSED else "The worker stopped; the job waits for another"
        jobs.insert_events(connection, job.id, [message(f"given-back:{epoch}", text)])


def new_model_name(plane: ControlPlane, job: Job) -> str:
    """The name the job's model will have; decided once, when the job is queued."""
    with plane.database.read() as connection:
        project = projects.get_project(connection, job.project_id)
    return model_name(job.base_model, project.name, job.suffix)


def _leased(job: Job | None, job_id: str, epoch: int) -> Job:
    if job is None:
        raise Fenced(f"The lease of epoch {epoch} no longer holds job {job_id}; stop its trainer.")
    return job


def _model(job: Job, name: str, step: int | None, artifact: dict[str, Any]) -> TunedModel:
    return TunedModel(
        name=name,
        project_id=job.project_id,
        base_model=job.base_model,
        job_id=job.id,
        step=step,
        manifest=artifact,
        created_at=now(),
    )


def _results_file(job: Job, artifact: dict[str, Any]) -> File:
    """The curves of a run as a file of the project."""
    results = artifact["files"][RESULTS_FILE]
    return File(
        id=new_id("file-"),
        project_id=job.project_id,
        filename=f"{job.id}-{RESULTS_FILE}",
        purpose="fine-tune-results",
        bytes=results["bytes"],
        sha256=results["sha256"],
        status=FileStatus.PROCESSED,
        created_at=now(),
    )


def _event_row(event: dict[str, Any]) -> dict[str, Any]:
    return {
        # Apart from the control plane's own keys.
        "key": f"run:{event['key']}"[:80],
        # OpenAI knows two types of events.
        "type": "metrics" if event["type"] == "metrics" else "message",
        "level": event["level"],
        "message": event["message"],
        "data": event["data"],
        "created_at": int(event["created_at"]),
    }
