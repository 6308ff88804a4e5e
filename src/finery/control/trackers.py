"""A job's figures for an experiment tracker: the MLflow server that the operator named. OpenAI's `integrations`.

What is to be sent starts from rows (the events), so a restart or a tracker that is down loses nothing: `position` says
how far a job's events were sent. Spoken is MLflow's REST API 2.0 (mlflow.org/docs/latest/rest-api.html); a `wandb`
integration names project, name and tags, which become experiment, run name and tags there. It knows no trainer.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx

from finery.control import kept
from finery.control.plane import ControlPlane, now
from finery.core.errors import InvalidRequest
from finery.core.ids import new_id
from finery.core.jobs import Job, JobStatus
from finery.core.records import Kind, Record
from finery.storage import jobs, records

log = logging.getLogger(__name__)

PAUSES = (2, 10, 60, 600, 3600, 3600, 3600)
"""Seconds before each further try; then the run is given up, with a warning among the job's events."""

TIMEOUT_SECONDS = 10.0
EVENTS_AT_ONCE = 100
MAX_VALUES_AT_ONCE = 1000
"""MLflow's own bound for one `runs/log-batch`."""

_ENDS = {JobStatus.SUCCEEDED: "FINISHED", JobStatus.FAILED: "FAILED", JobStatus.CANCELLED: "KILLED"}


def check(integrations: list[dict[str, Any]] | None) -> None:
    """Raises InvalidRequest for an integration that OpenAI's API doesn't have."""
    for place, integration in enumerate(integrations or []):
        kind, wanted = integration.get("type"), integration.get("wandb")
        if kind != "wandb":
            raise InvalidRequest(
                f"The integration {kind!r} isn't known; its type must be 'wandb'.", param=f"integrations[{place}].type"
            )
        if not isinstance(wanted, dict) or not isinstance(wanted.get("project"), str) or not wanted["project"]:
            raise InvalidRequest(
                "A wandb integration needs the name of a project.", param=f"integrations[{place}].wandb.project"
            )


def follow(connection: Any, plane: ControlPlane, job: Job) -> str | None:
    """Note, in the caller's transaction, that a job is to be told of; a warning where there is nobody to tell."""
    if not job.integrations:
        return None
    if not plane.settings.mlflow_url:
        return (
            "No experiment tracker is configured, so the job's integrations are passed over. "
            "The operator can name an MLflow server with FINERY_MLFLOW_URL."
        )
    for integration in job.integrations:
        run = Record(
            id=new_id("track_"),
            project_id=job.project_id,
            kind=Kind.TRACKED_RUN,
            owner=job.id,
            status="open",
            body={"wanted": integration["wandb"], "run_id": None, "position": 0, "tries": 0, "not_before": 0},
            created_at=now(),
        )
        records.insert_record(connection, run)
    return None


async def send_pending(plane: ControlPlane) -> None:
    """Send what the tracker has not been told yet."""
    pending = await asyncio.to_thread(kept.unfinished, plane, Kind.TRACKED_RUN, "open")
    due = [run for run in pending if run.body["not_before"] <= time.time()]
    if not due:
        return
    token = plane.settings.mlflow_token
    async with httpx.AsyncClient(
        base_url=f"{plane.settings.mlflow_url.rstrip('/')}/api/2.0/mlflow/",
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    ) as client:
        for run in due:
            await _send(plane, client, run)


async def _send(plane: ControlPlane, client: httpx.AsyncClient, run: Record) -> None:
    with plane.database.read() as connection:
        job = jobs.get(connection, run.project_id, run.owner)
        events = jobs.list_events_after(connection, run.owner, run.body["position"], EVENTS_AT_ONCE)
    if job is None:
        return
    ended = job.status in _ENDS and len(events) < EVENTS_AT_ONCE
    if not events and not ended:
        return
    body = dict(run.body)
    try:
        body["run_id"] = body["run_id"] or await _start(client, job, body["wanted"])
        if job.resolved and not body.get("has_params"):
            await _log_params(client, body["run_id"], job.resolved)
            body["has_params"] = True
        await _log(client, body["run_id"], events)
        if ended:
            await _post(client, "runs/update", run_id=body["run_id"], status=_ENDS[job.status], end_time=_now_ms())
    except (httpx.HTTPError, ValueError) as error:
        _put_off(plane, run, body, error)
        return
    position = events[-1]["position"] if events else body["position"]
    _keep(plane, run, {**body, "position": position, "tries": 0, "not_before": 0}, "sent" if ended else "open")


async def _start(client: httpx.AsyncClient, job: Job, wanted: dict[str, Any]) -> str:
    """The id of a new run in the experiment of that name, which is made if it isn't there."""
    name = wanted["project"]
    found = await client.get("experiments/get-by-name", params={"experiment_name": name})
    if found.status_code == httpx.codes.NOT_FOUND:
        experiment = (await _post(client, "experiments/create", name=name))["experiment_id"]
    else:
        experiment = found.raise_for_status().json()["experiment"]["experiment_id"]
    tags = [{"key": "finery.job", "value": job.id}, {"key": "finery.model", "value": job.model}]
    tags += [{"key": str(tag), "value": "true"} for tag in wanted.get("tags") or []]
    made = await _post(
        client,
        "runs/create",
        experiment_id=experiment,
        run_name=wanted.get("name") or job.id,
        start_time=job.created_at * 1000,
        tags=tags,
    )
    run_id: str = made["run"]["info"]["run_id"]
    return run_id


async def _log_params(client: httpx.AsyncClient, run_id: str, resolved: Mapping[str, Any]) -> None:
    """What was decided once the rows were counted: a run may have been started before."""
    params = [{"key": key, "value": str(value)[:500]} for key, value in resolved.items()]
    await _post(client, "runs/log-batch", run_id=run_id, params=params[:100])


async def _log(client: httpx.AsyncClient, run_id: str, events: list[dict[str, Any]]) -> None:
    values = [
        {"key": key, "value": value, "timestamp": event["created_at"] * 1000, "step": event["data"]["step"]}
        for event in events
        if event["type"] == "metrics"
        for key, value in event["data"].items()
        if key != "step" and isinstance(value, int | float)
    ]
    for start in range(0, len(values), MAX_VALUES_AT_ONCE):
        await _post(client, "runs/log-batch", run_id=run_id, metrics=values[start : start + MAX_VALUES_AT_ONCE])


async def _post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.post(path, json=body)).raise_for_status().json()
    return answer


def _put_off(plane: ControlPlane, run: Record, body: dict[str, Any], error: Exception) -> None:
    tries = body["tries"] + 1
    if tries <= len(PAUSES):
        _keep(plane, run, {**body, "tries": tries, "not_before": time.time() + PAUSES[tries - 1]}, "open")
        return
    reason = f"The tracker at {plane.settings.mlflow_url} could not be told of this job ({type(error).__name__})."
    log.warning("%s: %s", run.owner, error)
    event = {"key": f"tracker:{run.id}", "type": "message", "level": "warn", "message": reason, "data": {}}
    with plane.database.write() as connection:
        jobs.insert_events(connection, run.owner, [{**event, "created_at": now()}])
    _keep(plane, run, body, "given_up")


def _keep(plane: ControlPlane, run: Record, body: dict[str, Any], status: str) -> None:
    with plane.database.write() as connection:
        records.change(connection, run, body=body, status=status)


def _now_ms() -> int:
    return int(time.time() * 1000)
