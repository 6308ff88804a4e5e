"""/v1/fine_tuning/jobs."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsJobs, WritesJobs
from finery.api.context import Metadata, Plane, Sent, WantedMetadata, paging
from finery.api.openai import wire
from finery.control import jobs, replays
from finery.core.hyperparameters import EXTRAS, HYPERPARAMETERS
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

JobsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]
EventsCursor = Annotated[Cursor, Depends(paging(default=20, most=1000))]
CheckpointsCursor = Annotated[Cursor, Depends(paging(default=10, most=100))]


class MethodBody(BaseModel):
    """Hyperparameters of one method."""

    model_config = ConfigDict(extra="allow")
    hyperparameters: dict[str, Any] | None = None


class ReinforcementBody(MethodBody):
    """The grader comes with the method."""

    grader: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class Method(BaseModel):
    """OpenAI's `method`; blocks of other methods than `type` may be there and are passed over."""

    model_config = ConfigDict(extra="allow")
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: MethodBody | None = None
    dpo: MethodBody | None = None
    reinforcement: ReinforcementBody | None = None


class CreateJob(BaseModel):
    """The body of a new job; knobs that OpenAI's wire lacks stand beside its fields."""

    model_config = ConfigDict(extra="allow")
    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: Method | None = None
    hyperparameters: dict[str, Any] | None = None
    metadata: Metadata | None = None
    integrations: list[dict[str, Any]] | None = None


@router.post("")
def create(plane: Plane, caller: WritesJobs, sent: Sent, body: CreateJob) -> dict[str, Any]:
    """Submit a job."""
    method = body.method.type if body.method else "supervised"
    graded = body.method.reinforcement if body.method else None
    request = jobs.JobRequest(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed,
        method=method,
        options=_options(body, method),
        grader=graded.grader if graded else None,
        response_format=graded.response_format if graded else None,
        metadata=body.metadata,
        integrations=body.integrations,
    )
    asked = body.model_dump(mode="json")
    return replays.once(plane, caller, sent, asked, lambda: wire.job(jobs.submit(plane, caller, request)))


@router.get("")
def list_jobs(plane: Plane, caller: ReadsJobs, wanted: WantedMetadata, cursor: JobsCursor) -> dict[str, Any]:
    """The project's jobs, newest first; `metadata[key]=value` filters, `metadata=null` finds those without."""
    return wire.page(jobs.list_page(plane, caller, cursor, wanted), wire.job)


@router.get("/{job_id}")
def retrieve(plane: Plane, caller: ReadsJobs, job_id: str) -> dict[str, Any]:
    """One job."""
    return wire.job(jobs.get(plane, caller, job_id))


@router.post("/{job_id}/cancel")
def cancel(plane: Plane, caller: WritesJobs, job_id: str) -> dict[str, Any]:
    """Cancel a job, at once."""
    return wire.job(jobs.cancel(plane, caller, job_id))


@router.post("/{job_id}/pause")
def pause(plane: Plane, caller: WritesJobs, job_id: str) -> dict[str, Any]:
    """Stop a job at its next checkpoint."""
    return wire.job(jobs.pause(plane, caller, job_id))


@router.post("/{job_id}/resume")
def resume(plane: Plane, caller: WritesJobs, job_id: str) -> dict[str, Any]:
    """Let a paused job go on."""
    return wire.job(jobs.resume(plane, caller, job_id))


@router.get("/{job_id}/events")
def list_events(plane: Plane, caller: ReadsJobs, job_id: str, cursor: EventsCursor) -> dict[str, Any]:
    """What happened to a job, newest first."""
    return wire.page(jobs.list_events(plane, caller, job_id, cursor), wire.event)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(plane: Plane, caller: ReadsJobs, job_id: str, cursor: CheckpointsCursor) -> dict[str, Any]:
    """A job's checkpoints, newest first; the one with the lowest validation loss is marked."""
    best = jobs.best_checkpoint(plane, caller, job_id)
    found = jobs.list_checkpoints(plane, caller, job_id, cursor)
    return wire.page(found, lambda one: wire.checkpoint(one) | {"best": one.model_name == best})


def _options(body: CreateJob, method: str) -> dict[str, Any]:
    """The knobs a body sets: the legacy block, then the method's own, then the fields beside the standard ones."""
    block = getattr(body.method, method) if body.method else None
    given = {**(body.hyperparameters or {}), **((block.hyperparameters or {}) if block else {})}
    options = {knob.name: given[knob.name] for knob in HYPERPARAMETERS if knob.name in given}
    extras = body.model_extra or {}
    return options | {knob.name: extras[knob.name] for knob in EXTRAS if knob.name in extras}
