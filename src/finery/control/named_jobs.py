"""Jobs under names of the client's choice, as Azure Machine Learning has them, and the models they registered.

What was asked is kept beside the job, to be told again. Jobs that were made in another way bear their id as a name.
"""

from dataclasses import dataclass, field
from typing import Any

from finery.control import jobs
from finery.control.jobs import JobRequest
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, NotFound
from finery.core.ids import check_name, new_id
from finery.core.jobs import Job
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.pages import Cursor

LISTED = 1000
"""Jobs in a list, the newest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedJob:
    """A job, its name, and what was asked of it."""

    name: str
    job: Job
    asked: dict[str, Any] = field(default_factory=dict)
    """Empty for a job that was made in another way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredModel:
    """A version of a model that a job registered under a name."""

    name: str
    version: int
    job: Job


def put(
    plane: ControlPlane, caller: Caller, name: str, request: JobRequest, asked: dict[str, Any], registered_as: str
) -> tuple[NamedJob, bool]:
    """Submit a job under a name; the same again is the job that is there. Tells whether it was made.

    Raises:
        Conflict: the name is taken by a job that was asked for something else.
        InvalidRequest: as `jobs.submit`, or a name that can't be one.
    """
    check_name(name, what="a job")
    known = _record(plane, caller, name)
    if known is not None:
        if known.body["asked"] != asked:
            raise Conflict(f"There is a job '{name}' already, which was asked for something else.", param="name")
        return _named(plane, caller, known), False
    job = jobs.submit(plane, caller, request)
    record = Record(
        id=new_id("mljob_"),
        project_id=caller.project.id,
        kind=Kind.NAMED_JOB,
        owner=name,
        body={"job_id": job.id, "asked": asked, "registered_as": registered_as},
        created_at=now(),
    )
    with plane.database.write() as connection:
        records.insert_record(connection, record)
    return NamedJob(name=name, job=job, asked=asked), True


def get(plane: ControlPlane, caller: Caller, name: str) -> NamedJob:
    """A job by its name or id.

    Raises:
        NotFound: the project has none.
    """
    record = _record(plane, caller, name)
    if record is not None:
        return _named(plane, caller, record)
    try:
        return NamedJob(name=name, job=jobs.get(plane, caller, name))
    except NotFound:
        raise NotFound(f"There is no job '{name}' in this project.", param="name") from None


def list_all(plane: ControlPlane, caller: Caller) -> list[NamedJob]:
    """The project's newest jobs."""
    found = jobs.list_page(plane, caller, Cursor(limit=LISTED), {}).items
    named = {record.body["job_id"]: record for record in _records(plane, caller)}
    return [
        NamedJob(name=record.owner, job=job, asked=record.body["asked"])
        if (record := named.get(job.id))
        else NamedJob(name=job.id, job=job)
        for job in found
    ]


def cancel(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Cancel a job.

    Raises:
        NotFound: the project has none of that name.
        Conflict: it is over.
    """
    jobs.cancel(plane, caller, get(plane, caller, name).job.id)


def list_models(plane: ControlPlane, caller: Caller, name: str | None = None) -> list[RegisteredModel]:
    """What the project's jobs registered, in the order they were asked; versions count from 1 for each name."""
    found: list[RegisteredModel] = []
    versions: dict[str, int] = {}
    for record in _records(plane, caller):
        registered_as = record.body["registered_as"]
        if name not in (None, registered_as):
            continue
        job = jobs.get(plane, caller, record.body["job_id"])
        # A version is taken when the job is asked for, so that one which ends sooner doesn't change its number.
        versions[registered_as] = versions.get(registered_as, 0) + 1
        if job.fine_tuned_model:
            found.append(RegisteredModel(name=registered_as, version=versions[registered_as], job=job))
    return found


def get_model(plane: ControlPlane, caller: Caller, name: str, version: int | None = None) -> RegisteredModel:
    """A registered model; without a version the newest.

    Raises:
        NotFound: the project has none.
    """
    for model in reversed(list_models(plane, caller, name)):
        if version in (None, model.version):
            return model
    what = f"no model '{name}'" if version is None else f"no version {version} of the model '{name}'"
    raise NotFound(f"The project's jobs have registered {what}.", param="name")


def _records(plane: ControlPlane, caller: Caller) -> list[Record]:
    cursor = Cursor(limit=LISTED, order="asc")
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.NAMED_JOB, cursor).items


def _record(plane: ControlPlane, caller: Caller, name: str) -> Record | None:
    with plane.database.read() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.NAMED_JOB, name)
    return found[0] if found else None


def _named(plane: ControlPlane, caller: Caller, record: Record) -> NamedJob:
    job = jobs.get(plane, caller, record.body["job_id"])
    return NamedJob(name=record.owner, job=job, asked=record.body["asked"])
