"""Judges a history: what was acknowledged is there once, each job ended once, and was billed for what it trained.

It reads the database and the blobs of a server that has stopped; it asks nobody who could be wrong about himself.
"""

import hashlib
from pathlib import Path
from typing import Any

from finery.core.costs import Meter
from finery.core.jobs import Job, JobStatus
from finery.settings import Settings
from finery.storage import costs, jobs, models
from finery.storage.blobs import BlobStore
from finery.storage.database import Database
from finery.storage.pages import Cursor
from finery.worker.runs import MAX_CRASHES
from reliability.chaos import History
from reliability.quick_trainer import ADAPTER, STEPS, adapter_after, trained_tokens


def check(home: Path, history: History, database_url: str = "") -> dict[str, int]:
    """Every violation is an AssertionError that names the job; returns what was seen."""
    settings = Settings(home=home, database_url=database_url)
    database, blobs = Database(settings.database), BlobStore(home / "blobs")
    seen = {"succeeded": 0, "cancelled": 0, "failed": 0, "most claims of a job": 0, "claims": 0}
    with database.read() as connection:
        found = {job.id: job for job in jobs.list_in(connection, *JobStatus)}
        by_operation: dict[str, list[str]] = {}
        for job in found.values():
            by_operation.setdefault((job.metadata or {})["op"], []).append(job.id)
        for operation in history.operations:
            made = by_operation.pop(operation.name, [])
            assert len(made) <= 1, f"{operation.name} was made {len(made)} times"
            if operation.outcome == "ok":
                assert made == [operation.job_id], f"{operation.name} was acknowledged and is lost"
            for job_id in made:
                claims = _check_job(connection, found[job_id], operation.cancel, blobs, history)
                seen[found[job_id].status] += 1
                seen["claims"] += claims
                seen["most claims of a job"] = max(seen["most claims of a job"], claims)
        assert not by_operation, f"nobody asked for {by_operation}"
        billed = sum(_charged(connection, job) for job in found.values() if job.status == JobStatus.SUCCEEDED)
        assert billed == sum(job.trained_tokens or 0 for job in found.values())
    database.close()
    return seen


def _check_job(connection: Any, job: Job, may_be_cancelled: bool, blobs: BlobStore, history: History) -> int:
    """How often it was claimed."""
    allowed = {JobStatus.SUCCEEDED} | ({JobStatus.CANCELLED} if may_be_cancelled else set())
    if (job.error or {}).get("code") == "trainer_crashed" and history.faults.get("trainer", 0) >= MAX_CRASHES:
        # Promised as well: a trainer that dies so often without a checkpoint between is given up, and costs nothing.
        allowed = {JobStatus.FAILED}
        assert _charged(connection, job) == 0, f"{job.id} failed and was billed"
    assert job.status in allowed, f"{job.id} is {job.status}: {job.error}"
    events = jobs.list_events(connection, job.id, Cursor(limit=10_000, order="asc")).items
    keys = [event["key"] for event in events]
    ends = [key for key in keys if key in ("succeeded", "failed") or key.startswith("cancelled:")]
    assert len(ends) == 1, f"{job.id} ended {len(ends)} times: {ends}"
    epochs = [int(key.removeprefix("started:")) for key in keys if key.startswith("started:")]
    assert epochs == sorted(set(epochs)), f"{job.id}: leases don't rise: {epochs}"
    last = next(index for index, key in enumerate(keys) if key in ends)
    late = [key for key in keys[last + 1 :] if key.startswith(("run:", "started:"))]
    assert not late, f"{job.id}: {late} after its end"
    if job.status == JobStatus.SUCCEEDED:
        steps = [event["data"]["step"] for event in events if event["type"] == "metrics"]
        assert sorted(steps) == list(range(1, STEPS + 1)), f"{job.id} told of the steps {steps}"
        assert job.trained_tokens == trained_tokens(job.id) == _charged(connection, job), f"{job.id}: billed otherwise"
        model = models.get(connection, job.project_id, str(job.fine_tuned_model))
        assert model is not None, f"{job.id}: {job.fine_tuned_model} is not there"
        expected = hashlib.sha256(adapter_after(job.id, job.seed)).hexdigest()
        assert model.manifest["files"][ADAPTER]["sha256"] == expected, f"{job.id}: another adapter"
        for file in model.manifest["files"].values():
            content = b"".join(blobs.stream(file["sha256"]))
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    return len(epochs)


def _charged(connection: Any, job: Job) -> int:
    return costs.charged(connection, job.project_id, Meter.TRAINING, job.id)
