"""Fine-tuning jobs: their rows, leases, events and checkpoints.

A lease is a worker's right to write: it has an epoch that rises with every claim, and every write of a worker is
`... WHERE id = ? AND lease_epoch = ?`. A worker that was slow or cut off finds no row and stops; what it computed
changes nothing.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, delete, func, insert, null, or_, select, update

from finery.core.ids import new_id
from finery.core.jobs import Job, JobStatus
from finery.core.models import Checkpoint
from finery.core.quotas import Quota
from finery.core.scheduling import Share, Waiting, next_job
from finery.storage.pages import Cursor, Page, fetch
from finery.storage.quotas import limits_of
from finery.storage.schema import checkpoints, deployments, events, jobs, projects

_COLUMNS = [jobs.c[field.name] for field in dataclasses.fields(Job)]


def insert_job(connection: Connection, job: Job) -> None:
    """Remember a new job."""
    connection.execute(insert(jobs).values({**dataclasses.asdict(job), "result_files": list(job.result_files)}))


def get(connection: Connection, project_id: str, job_id: str) -> Job | None:
    """A project's job."""
    query = select(*_COLUMNS).where(jobs.c.project_id == project_id, jobs.c.id == job_id)
    row = connection.execute(query).one_or_none()
    return _job(row) if row else None


def get_leased(connection: Connection, job_id: str, epoch: int) -> Job | None:
    """The job, if the lease of that epoch still holds it."""
    query = select(*_COLUMNS).where(
        jobs.c.id == job_id,
        jobs.c.lease_epoch == epoch,
        jobs.c.status.in_([JobStatus.RUNNING, JobStatus.PAUSING]),
    )
    row = connection.execute(query).one_or_none()
    return _job(row) if row else None


def list_page(connection: Connection, project_id: str, cursor: Cursor, *, metadata: dict[str, str] | None) -> Page[Job]:
    """A project's jobs, those with all the given metadata; None: those without any."""
    query = select(*_COLUMNS).where(jobs.c.project_id == project_id)
    if metadata is None:
        query = query.where(or_(jobs.c.metadata.is_(null()), cast(jobs.c.metadata, Text) == "null"))
    for key, value in (metadata or {}).items():
        query = query.where(jobs.c.metadata[key].as_string() == value)
    rows, has_more = fetch(connection, query, jobs, cursor)
    return Page(items=[_job(row) for row in rows], has_more=has_more)


def list_in(connection: Connection, *statuses: JobStatus) -> list[Job]:
    """Jobs of all projects in these states, oldest first."""
    query = select(*_COLUMNS).where(jobs.c.status.in_(statuses)).order_by(jobs.c.position)
    return [_job(row) for row in connection.execute(query)]


def count_by_status(connection: Connection, project_id: str | None) -> list[tuple[str, str, int, int]]:
    """(project id, status, jobs, created_at of the oldest), of one project or of all."""
    series = (jobs.c.project_id, jobs.c.status)
    query = select(*series, func.count(), func.min(jobs.c.created_at)).group_by(*series).order_by(*series)
    if project_id is not None:
        query = query.where(jobs.c.project_id == project_id)
    return [(row[0], row[1], int(row[2]), int(row[3])) for row in connection.execute(query)]


def change(connection: Connection, job: Job, target: JobStatus, **values: Any) -> bool:
    """Move a job to a state and set columns; False where it is no longer in the state `job` was read in.

    The caller has checked `core.jobs.require_transition`.
    """
    statement = (
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.status == job.status, jobs.c.lease_epoch == job.lease_epoch)
        .values(status=target, **values)
    )
    return connection.execute(statement).rowcount == 1


def set_values(connection: Connection, job_id: str, **values: Any) -> None:
    """Set columns that don't belong to the state."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def next_claimable(connection: Connection, worker_id: str, now: float) -> Job | None:
    """A job that a worker has left (its lease ran out, or the asking worker held it), else the fair one that waits.

    A worker runs one job at a time, so one that asks for work has none: whatever it still holds was lost with an
    earlier life of it.
    """
    abandoned = jobs.c.status.in_([JobStatus.RUNNING, JobStatus.PAUSING]) & or_(
        jobs.c.lease_until < now, jobs.c.worker_id == worker_id
    )
    query = select(*_COLUMNS).where(abandoned).order_by(jobs.c.position).limit(1).with_for_update(skip_locked=True)
    row = connection.execute(query).one_or_none()
    if row is not None:
        return _job(row)
    waiting = _waiting(connection)
    chosen = next_job(waiting, _shares(connection, [job.project_id for job in waiting]))
    if chosen is None:
        return None
    taken = select(*_COLUMNS).where(jobs.c.id == chosen.job_id, jobs.c.status == JobStatus.QUEUED)
    row = connection.execute(taken.with_for_update(skip_locked=True)).one_or_none()
    return _job(row) if row else None


def _waiting(connection: Connection) -> list[Waiting]:
    """Each project's oldest job that waits: one look into the index a project, however many jobs there are."""
    mine = jobs.alias()
    head = select(func.min(mine.c.position)).where(
        mine.c.project_id == projects.c.id, mine.c.status == JobStatus.QUEUED
    )
    heads = select(head.correlate(projects).scalar_subquery().label("position")).select_from(projects).subquery()
    query = select(jobs.c.id, jobs.c.project_id, jobs.c.position).join(heads, heads.c.position == jobs.c.position)
    return [
        Waiting(job_id=row.id, project_id=row.project_id, position=row.position) for row in connection.execute(query)
    ]


def _shares(connection: Connection, project_ids: list[str]) -> dict[str, Share]:
    """What these projects have of the workers now, and when a job of each began last."""
    most = limits_of(connection, Quota.RUNNING_JOBS)
    counted = (
        select(jobs.c.project_id, func.count().label("running"))
        .where(jobs.c.project_id.in_(project_ids), jobs.c.status.in_([JobStatus.RUNNING, JobStatus.PAUSING]))
        .group_by(jobs.c.project_id)
    )
    running = {row.project_id: int(row.running) for row in connection.execute(counted)}
    last = select(func.max(jobs.c.started_at)).where(jobs.c.project_id == projects.c.id).scalar_subquery()
    served = select(projects.c.id, last.label("served")).where(projects.c.id.in_(project_ids))
    return {
        row.id: Share(running=running.get(row.id, 0), served_at=int(row.served or 0), most=most.get(row.id))
        for row in connection.execute(served)
    }


def blob_in_use(connection: Connection, sha256: str) -> bool:
    """Whether a job that isn't over has its rows, or the model it goes on from, in the blob."""
    unfinished = jobs.c.status.in_([status for status in JobStatus if not status.terminal])
    query = select(jobs.c.id).where(unfinished, cast(jobs.c.data, Text).contains(sha256))
    return connection.execute(query.limit(1)).first() is not None


def extend_lease(connection: Connection, job_id: str, epoch: int, until: float) -> None:
    """Give the worker more time; the caller has looked that the lease is its own."""
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.lease_epoch == epoch).values(lease_until=until)
    connection.execute(statement)


def insert_events(connection: Connection, job_id: str, rows: Iterable[dict[str, Any]]) -> int:
    """Append events whose key the job doesn't have yet; returns how many were new."""
    rows = list(rows)
    known = set(
        connection.execute(
            select(events.c.key).where(events.c.job_id == job_id, events.c.key.in_([row["key"] for row in rows]))
        ).scalars()
    )
    fresh = {row["key"]: row for row in reversed(rows) if row["key"] not in known}
    ordered = [fresh[row["key"]] for row in rows if fresh.get(row["key"]) is row]
    if ordered:
        connection.execute(
            insert(events), [{"id": new_id("ftevent-"), "job_id": job_id, "level": "info", **row} for row in ordered]
        )
    return len(ordered)


def list_events(connection: Connection, job_id: str, cursor: Cursor) -> Page[dict[str, Any]]:
    """A job's events."""
    rows, has_more = fetch(connection, select(events).where(events.c.job_id == job_id), events, cursor)
    return Page(items=[dict(row._mapping) for row in rows], has_more=has_more)


def list_events_after(connection: Connection, job_id: str, position: int, limit: int) -> list[dict[str, Any]]:
    """A job's events behind a position, oldest first."""
    query = select(events).where(events.c.job_id == job_id, events.c.position > position)
    rows = connection.execute(query.order_by(events.c.position).limit(limit))
    return [dict(row._mapping) for row in rows]


def list_measured(connection: Connection, job_id: str, name: str) -> list[dict[str, Any]]:
    """The data of each step at which a figure was measured, oldest first."""
    query = (
        select(events.c.data)
        .where(events.c.job_id == job_id, events.c.type == "metrics", events.c.data[name].as_float().is_not(None))
        .order_by(events.c.position)
    )
    return [dict(row.data) for row in connection.execute(query)]


def insert_checkpoint(connection: Connection, checkpoint: Checkpoint) -> bool:
    """Remember a checkpoint; False where the job has one of that step."""
    known = select(checkpoints.c.id).where(
        checkpoints.c.job_id == checkpoint.job_id, checkpoints.c.step == checkpoint.step
    )
    if connection.execute(known).one_or_none():
        return False
    connection.execute(insert(checkpoints).values(dataclasses.asdict(checkpoint)))
    return True


def list_checkpoints(connection: Connection, job_id: str, cursor: Cursor) -> Page[Checkpoint]:
    """A job's checkpoints."""
    query = select(checkpoints).where(checkpoints.c.job_id == job_id)
    rows, has_more = fetch(connection, query, checkpoints, cursor)
    fields = [field.name for field in dataclasses.fields(Checkpoint)]
    return Page(items=[Checkpoint(**{name: row._mapping[name] for name in fields}) for row in rows], has_more=has_more)


def best_checkpoint(connection: Connection, job_id: str) -> str | None:
    """The model's name at the checkpoint with the lowest loss, or highest reward, over the whole validation set.

    Of equals the earlier one; None where nothing was validated.
    """
    metrics = checkpoints.c.metrics
    loss = func.coalesce(metrics["full_valid_loss"].as_float(), -metrics["valid_reward_mean"].as_float())
    query = (
        select(checkpoints.c.model_name)
        .where(checkpoints.c.job_id == job_id, loss.is_not(None))
        .order_by(loss, checkpoints.c.step)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def forget_old_checkpoints(connection: Connection, job_id: str, *, keep: int) -> list[str]:
    """Forget all but a job's last checkpoints; the best one and those that are deployed stay.

    Returns the names of the models that they were.
    """
    forgotten = []
    best = best_checkpoint(connection, job_id)
    old = (
        select(checkpoints.c.id, checkpoints.c.model_name)
        .where(checkpoints.c.job_id == job_id)
        .order_by(checkpoints.c.step.desc())
        .offset(keep)
    )
    for row in connection.execute(old).all():
        if row.model_name == best:
            continue
        if connection.execute(select(deployments.c.name).where(deployments.c.model == row.model_name)).first():
            continue
        connection.execute(delete(checkpoints).where(checkpoints.c.id == row.id))
        forgotten.append(str(row.model_name))
    return forgotten


def _job(row: Row[Any]) -> Job:
    values = {**row._mapping, "status": JobStatus(row.status), "result_files": tuple(row.result_files)}
    return Job(**values)
