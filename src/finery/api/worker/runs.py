"""/worker/v1: claim, heartbeat, events, blobs, checkpoints, the end of a run."""

import dataclasses
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from finery.api.access import RequireWorker
from finery.api.context import Plane
from finery.control import resume_points, runs
from finery.control.resume_points import ResumePoint
from finery.core.errors import InvalidRequest

router = APIRouter(prefix="/worker/v1", tags=["worker"], dependencies=[Depends(RequireWorker())])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimBody(_Body):
    """Who asks for work."""

    worker_id: str


class LeaseBody(_Body):
    """Whose lease a call is made under."""

    epoch: int


class EventsBody(LeaseBody):
    """Lines of `events.jsonl`."""

    events: list[dict[str, Any]]


class CheckpointBody(LeaseBody):
    """A checkpoint whose files were uploaded."""

    step: int
    artifact: dict[str, Any]
    metrics: dict[str, Any]


class ResumePointBody(LeaseBody):
    """A checkpoint whose files, the trainer's own state among them, were uploaded."""

    step: int
    files: dict[str, str]


class SucceededBody(LeaseBody):
    """A result whose files were uploaded."""

    artifact: dict[str, Any]
    trained_tokens: int
    step: int


class FailedBody(LeaseBody):
    """Why a run ended badly."""

    code: str
    message: str


@router.post("/claim", response_model=None)
def claim(plane: Plane, body: ClaimBody) -> dict[str, Any] | Response:
    """The next job, or 204."""
    found = runs.claim(plane, body.worker_id)
    if found is None:
        return Response(status_code=204)
    return {
        "job_id": found.job_id,
        "epoch": found.epoch,
        "lease_seconds": found.lease_seconds,
        "spec": found.spec,
        "files": found.files,
        "resume_point": dataclasses.asdict(found.resume_point) if found.resume_point else None,
        "traceparent": found.traceparent,
    }


@router.post("/jobs/{job_id}/heartbeat")
def heartbeat(plane: Plane, job_id: str, body: LeaseBody) -> dict[str, Any]:
    """Keep the lease; `action` is continue or pause."""
    return {"action": runs.heartbeat(plane, job_id, body.epoch)}


@router.post("/jobs/{job_id}/events")
def events(plane: Plane, job_id: str, body: EventsBody) -> dict[str, Any]:
    """Tell what the trainer told."""
    return {"recorded": runs.record_events(plane, job_id, body.epoch, body.events)}


@router.get("/jobs/{job_id}/blobs/{sha256}")
def read_blob(plane: Plane, job_id: str, sha256: str, epoch: int) -> StreamingResponse:
    """Bytes a run needs."""
    runs.require_lease(plane, job_id, epoch)
    return StreamingResponse(plane.blobs.stream(sha256), media_type="application/octet-stream")


@router.put("/jobs/{job_id}/blobs/{sha256}")
async def write_blob(plane: Plane, request: Request, job_id: str, sha256: str, epoch: int) -> dict[str, Any]:
    """Bytes a run made; refused if they aren't what their name says."""
    await run_in_threadpool(runs.require_lease, plane, job_id, epoch)
    with plane.blobs.receive() as upload:
        async for chunk in request.stream():
            await run_in_threadpool(upload.write, chunk)
        blob = await run_in_threadpool(upload.keep)
    if blob.sha256 != sha256:
        raise InvalidRequest(f"The upload named {sha256} arrived as {blob.sha256}. Send it again.")
    return {"sha256": blob.sha256, "bytes": blob.bytes}


@router.post("/jobs/{job_id}/checkpoints")
def checkpoint(plane: Plane, job_id: str, body: CheckpointBody) -> dict[str, Any]:
    """Register a checkpoint."""
    runs.record_checkpoint(plane, job_id, body.epoch, step=body.step, artifact=body.artifact, metrics=body.metrics)
    return {"ok": True}


@router.post("/jobs/{job_id}/resume-point")
def resume_point(plane: Plane, job_id: str, body: ResumePointBody) -> dict[str, Any]:
    """Keep a checkpoint from which another worker can go on."""
    resume_points.record(plane, job_id, body.epoch, ResumePoint(step=body.step, files=body.files))
    return {"ok": True}


@router.post("/jobs/{job_id}/succeeded")
def succeeded(plane: Plane, job_id: str, body: SucceededBody) -> dict[str, Any]:
    """End a job well."""
    runs.succeed(plane, job_id, body.epoch, artifact=body.artifact, trained_tokens=body.trained_tokens, step=body.step)
    return {"ok": True}


@router.post("/jobs/{job_id}/failed")
def failed(plane: Plane, job_id: str, body: FailedBody) -> dict[str, Any]:
    """End a job badly."""
    runs.fail(plane, job_id, body.epoch, code=body.code, text=body.message)
    return {"ok": True}


@router.post("/jobs/{job_id}/give-back")
def give_back(plane: Plane, job_id: str, body: LeaseBody) -> dict[str, Any]:
    """Stop before the end: paused or queued again."""
    runs.give_back(plane, job_id, body.epoch)
    return {"ok": True}
