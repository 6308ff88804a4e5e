"""The checkpoint from which another machine can go on with a job: its newest, with the trainer's own state.

A job has one at most, kept until a newer one comes or the job is over. Knows no trainers: to it a checkpoint is a step
and files. What is deployed are the models' own files, which `runs.record_checkpoint` keeps.
"""

import re
from dataclasses import dataclass
from typing import Any

from finery.control import naming
from finery.control.plane import ControlPlane, now
from finery.core.errors import Fenced, InvalidRequest
from finery.core.ids import new_id
from finery.core.jobs import Job
from finery.core.records import Kind, Record
from finery.storage import jobs, records

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePoint:
    """A checkpoint as blobs."""

    step: int
    files: dict[str, str]
    """Name in the checkpoint's folder → SHA-256."""

    @property
    def blobs(self) -> set[str]:
        """SHA-256 of its files."""
        return set(self.files.values())


def record(plane: ControlPlane, job_id: str, epoch: int, point: ResumePoint) -> None:
    """Take a checkpoint whose files were uploaded in the place of the last one, unless a newer one is known.

    Raises:
        Fenced: the lease is no longer the worker's.
        InvalidRequest: a file's name is a path, or a file was not uploaded.
    """
    for name in point.files:
        if not _PLAIN_NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} can't be a file of a checkpoint: its files lie in one folder.")

    def take(connection: Any) -> ResumePoint | None:
        """Name the newer one; returns the other, whose bytes nobody needs any more."""
        job = jobs.get_leased(connection, job_id, epoch)
        if job is None:
            raise Fenced(f"The lease of epoch {epoch} no longer holds job {job_id}; stop its trainer.")
        last = find(connection, job)
        if last is not None and last.step >= point.step:
            return point
        records.remove_owned(connection, job.project_id, Kind.RESUME_FILE, job.id)
        for name, sha256 in point.files.items():
            records.insert_record(connection, _file(job, point.step, name, sha256))
        return last

    left = naming.name_uploaded(plane, point.blobs, take)
    if left is not None:
        naming.drop_all(plane, left.blobs)


def find(connection: Any, job: Job) -> ResumePoint | None:
    """Where the job can be gone on from."""
    files = records.list_owned(connection, job.project_id, Kind.RESUME_FILE, job.id)
    if not files:
        return None
    return ResumePoint(step=files[0].body["step"], files={file.body["name"]: file.body["sha256"] for file in files})


def forget_over(plane: ControlPlane) -> None:
    """Forget those of jobs that are over."""
    with plane.database.read() as connection:
        owners = records.list_owners(connection, Kind.RESUME_FILE)
        found = [(job, find(connection, job)) for owner in owners if (job := jobs.get(connection, *owner)) is not None]
    for job, point in found:
        if job.status.terminal and point is not None:
            with plane.database.write() as connection:
                records.remove_owned(connection, job.project_id, Kind.RESUME_FILE, job.id)
            naming.drop_all(plane, point.blobs)


def _file(job: Job, step: int, name: str, sha256: str) -> Record:
    return Record(
        id=new_id("resume_"),
        project_id=job.project_id,
        kind=Kind.RESUME_FILE,
        owner=job.id,
        body={"step": step, "name": name, "sha256": sha256},
        created_at=now(),
    )
