"""Projects."""

import time
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select

from finery.core.access import Project
from finery.core.ids import new_id
from finery.storage.schema import (
    budgets,
    datasets,
    deployments,
    files,
    hubs,
    jobs,
    keys,
    models,
    projects,
    quotas,
    records,
    replays,
    role_assignments,
)


def insert_project(connection: Connection, name: str, hub_id: str) -> Project:
    """A new project of that name in a hub."""
    project_id = new_id("proj_")
    connection.execute(insert(projects).values(id=project_id, name=name, hub_id=hub_id, created_at=int(time.time())))
    return get_project(connection, project_id)


def find_project(connection: Connection, name_or_id: str) -> Project | None:
    """The project of that name or id; no name begins like an id."""
    query = _query().where((projects.c.name == name_or_id) | (projects.c.id == name_or_id))
    row = connection.execute(query).one_or_none()
    return project_of(row) if row else None


def get_project(connection: Connection, project_id: str) -> Project:
    """The project of that id; its id comes from a row, so it exists."""
    return project_of(connection.execute(_query().where(projects.c.id == project_id)).one())


def names(connection: Connection) -> dict[str, str]:
    """Every project's name, by its id."""
    return {row.id: row.name for row in connection.execute(select(projects.c.id, projects.c.name))}


def list_projects(connection: Connection, hub_id: str | None = None) -> list[Project]:
    """Projects by name, all or those of a hub."""
    query = _query().order_by(projects.c.name)
    if hub_id is not None:
        query = query.where(projects.c.hub_id == hub_id)
    return [project_of(row) for row in connection.execute(query)]


def count_contents(connection: Connection, project_id: str) -> dict[str, int]:
    """How many things of each kind a project owns; kinds it owns none of are left out."""
    found = {}
    for table in (files, jobs, models, deployments, datasets, records):
        ids = connection.execute(select(table.c.project_id).where(table.c.project_id == project_id)).all()
        if ids:
            found[table.name] = len(ids)
    return found


def remove_project(connection: Connection, project_id: str) -> None:
    """Forget an empty project with its keys and role assignments."""
    for table in (replays, budgets, quotas, keys, role_assignments):
        connection.execute(delete(table).where(table.c.project_id == project_id))
    connection.execute(delete(projects).where(projects.c.id == project_id))


def project_of(row: Row[Any]) -> Project:
    """A row of `joined` as a project."""
    return Project(
        id=row.id, name=row.name, hub_id=row.hub_id, subscription_id=row.subscription_id, created_at=row.created_at
    )


def _query() -> Select[Any]:
    return select(projects, hubs.c.subscription_id).join(hubs, hubs.c.id == projects.c.hub_id)
