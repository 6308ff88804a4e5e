"""A tracker that is down, slow or gone: nothing is sent twice in one run, nothing is lost, and the end is told."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from finery import bootstrap
from finery.control import trackers
from finery.control.plane import ControlPlane, now
from finery.core.jobs import Job, JobStatus
from finery.core.records import Kind
from finery.settings import Settings
from finery.storage import jobs, projects, records

STEPS = 250


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return bootstrap.control_plane(Settings(home=tmp_path, mlflow_url="http://tracker"))


def add_job(plane: ControlPlane, status: JobStatus) -> Job:
    with plane.database.write() as connection:
        project = projects.find_project(connection, "default")
        assert project is not None
        job = Job(
            id="ftjob-1",
            project_id=project.id,
            model="tiny",
            base_model="tiny",
            training_file="file-1",
            validation_file=None,
            suffix=None,
            seed=0,
            status=status,
            method="supervised",
            options={},
            integrations=[{"type": "wandb", "wandb": {"project": "colours"}}],
            created_at=now(),
        )
        jobs.insert_job(connection, job)
        rows = [
            {
                "key": f"step:{step}",
                "type": "metrics",
                "message": "",
                "data": {"step": step, "train_loss": 1 / step, "valid_loss": None},
                "created_at": now(),
            }
            for step in range(1, STEPS + 1)
        ]
        jobs.insert_events(connection, job.id, rows)
        assert trackers.follow(connection, plane, job) is None
    return job


class Tracker:
    """Answers as MLflow does, and not at all while `down`."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        self.calls.append((path, json.loads(request.content or b"{}")))
        if path == "experiments/get-by-name":
            return httpx.Response(404)
        return httpx.Response(200, json={"experiment_id": "7", "run": {"info": {"run_id": "r1"}}})

    def steps(self) -> list[int]:
        sent = [body["metrics"] for path, body in self.calls if path == "runs/log-batch" and "metrics" in body]
        return [value["step"] for values in sent for value in values]

    def params(self) -> list[dict[str, str]]:
        sent = [body["params"] for path, body in self.calls if path == "runs/log-batch" and "params" in body]
        return [param for params in sent for param in params]


def send(plane: ControlPlane, tracker: Tracker) -> None:
    async def once() -> None:
        transport = httpx.MockTransport(tracker.answer)
        async with httpx.AsyncClient(base_url="http://tracker/api/2.0/mlflow/", transport=transport) as client:
            with plane.database.read() as connection:
                (run,) = records.list_in(connection, Kind.TRACKED_RUN, "open")
            await trackers._send(plane, client, run)

    asyncio.run(once())


def is_open(plane: ControlPlane) -> bool:
    with plane.database.read() as connection:
        return bool(records.list_in(connection, Kind.TRACKED_RUN, "open"))


def test_every_step_once_and_then_the_end(plane: ControlPlane) -> None:
    add_job(plane, JobStatus.SUCCEEDED)
    tracker = Tracker()
    while is_open(plane):
        send(plane, tracker)
        tracker.down = not tracker.down
    assert tracker.steps() == list(range(1, STEPS + 1))
    assert [path for path, _ in tracker.calls].count("runs/create") == 1
    assert tracker.calls[-1] == ("runs/update", {**tracker.calls[-1][1], "run_id": "r1", "status": "FINISHED"})


def test_a_running_job_stays_open(plane: ControlPlane) -> None:
    add_job(plane, JobStatus.RUNNING)
    tracker = Tracker()
    for _ in range(5):
        send(plane, tracker)
    assert tracker.steps() == list(range(1, STEPS + 1))
    assert is_open(plane)


def test_settings_are_told_once_they_are_decided(plane: ControlPlane) -> None:
    job = add_job(plane, JobStatus.VALIDATING_FILES)
    tracker = Tracker()
    send(plane, tracker)
    assert [path for path, _ in tracker.calls].count("runs/create") == 1
    assert tracker.params() == []
    with plane.database.write() as connection:
        jobs.change(connection, job, JobStatus.SUCCEEDED, resolved={"n_epochs": 2})
    while is_open(plane):
        send(plane, tracker)
    assert tracker.params() == [{"key": "n_epochs", "value": "2"}]
    assert tracker.steps() == list(range(1, STEPS + 1))


def test_a_tracker_that_is_gone_is_given_up_with_a_warning(plane: ControlPlane) -> None:
    job = add_job(plane, JobStatus.SUCCEEDED)
    tracker = Tracker()
    tracker.down = True
    for _ in range(len(trackers.PAUSES) + 1):
        assert is_open(plane)
        send(plane, tracker)
    assert not is_open(plane)
    with plane.database.read() as connection:
        last = jobs.list_events_after(connection, job.id, STEPS, 10)[-1]
    assert last["level"] == "warn"
    assert "http://tracker" in last["message"]
