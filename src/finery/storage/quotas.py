"""What projects may have at once, and what they have."""

from sqlalchemy import Connection, delete, func, insert, select

from finery.core.jobs import JobStatus
from finery.core.quotas import Quota
from finery.storage.schema import deployments, files, jobs, projects, quotas

_WAITING = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.PAUSED)
_RUNNING = (JobStatus.RUNNING, JobStatus.PAUSING)


def limits(connection: Connection, project_id: str, *, lock: bool = False) -> dict[Quota, int]:
    """A project's limits; `lock` keeps others from adding to it until this transaction ends."""
    if lock:
        connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update())
    query = select(quotas.c.name, quotas.c.limit).where(quotas.c.project_id == project_id)
    return {Quota(row.name): row.limit for row in connection.execute(query)}


def limits_of(connection: Connection, quota: Quota) -> dict[str, int]:
    """One limit, by the ids of the projects that have it."""
    query = select(quotas.c.project_id, quotas.c.limit).where(quotas.c.name == quota)
    return {row.project_id: row.limit for row in connection.execute(query)}


def used(connection: Connection, project_id: str, quota: Quota) -> int:
    """How much of it a project has now."""
    match quota:
        case Quota.BYTES:
            query = select(func.sum(files.c.bytes)).where(files.c.project_id == project_id)
        case Quota.FILES:
            query = select(func.count()).select_from(files).where(files.c.project_id == project_id)
        case Quota.DEPLOYMENTS:
            query = select(func.count()).select_from(deployments).where(deployments.c.project_id == project_id)
        case _:
            states = _RUNNING if quota == Quota.RUNNING_JOBS else _WAITING
            query = (
                select(func.count()).select_from(jobs).where(jobs.c.project_id == project_id, jobs.c.status.in_(states))
            )
    return int(connection.execute(query).scalar() or 0)


def set_limit(connection: Connection, project_id: str, quota: Quota, limit: int) -> None:
    """Give a project a limit in place of the one it had."""
    remove_limit(connection, project_id, quota)
    connection.execute(insert(quotas).values(project_id=project_id, name=quota, limit=limit))


def remove_limit(connection: Connection, project_id: str, quota: Quota) -> None:
    """Let a project have as much as it likes."""
    connection.execute(delete(quotas).where(quotas.c.project_id == project_id, quotas.c.name == quota))
