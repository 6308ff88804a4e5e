"""Projects and their keys."""

import time

from sqlalchemy import Connection, insert, select, update

from finery.core.access import Caller, Key, Project
from finery.core.ids import new_id
from finery.storage.schema import keys, projects


def insert_project(connection: Connection, name: str) -> Project:
    """A new project of that name."""
    project = Project(id=new_id("proj_"), name=name, created_at=int(time.time()))
    connection.execute(insert(projects).values(id=project.id, name=project.name, created_at=project.created_at))
    return project


def find_project(connection: Connection, name: str) -> Project | None:
    """The project of that name."""
    row = connection.execute(select(projects).where(projects.c.name == name)).one_or_none()
    return Project(id=row.id, name=row.name, created_at=row.created_at) if row else None


def get_project(connection: Connection, project_id: str) -> Project:
    """The project of that id; its id comes from a row, so it exists."""
    row = connection.execute(select(projects).where(projects.c.id == project_id)).one()
    return Project(id=row.id, name=row.name, created_at=row.created_at)


def names(connection: Connection) -> dict[str, str]:
    """Every project's name, by its id."""
    return {row.id: row.name for row in connection.execute(select(projects.c.id, projects.c.name))}


def insert_key(connection: Connection, project_id: str, *, name: str, hint: str, digest: str) -> Key:
    """Remember a key by its digest."""
    key = Key(id=new_id("key_"), project_id=project_id, name=name, hint=hint, created_at=int(time.time()))
    connection.execute(
        insert(keys).values(
            id=key.id, project_id=project_id, name=name, hint=hint, digest=digest, created_at=key.created_at
        )
    )
    return key


def find_caller(connection: Connection, digest: str) -> Caller | None:
    """Whoever holds the key of that digest, unless it was revoked."""
    query = (
        select(keys.c.id.label("key_id"), projects)
        .join(projects, projects.c.id == keys.c.project_id)
        .where(keys.c.digest == digest, keys.c.revoked_at.is_(None))
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Caller(project=Project(id=row.id, name=row.name, created_at=row.created_at), key_id=row.key_id)


def list_keys(connection: Connection, project_id: str) -> list[Key]:
    """A project's keys, oldest first, the revoked ones too."""
    query = select(keys).where(keys.c.project_id == project_id).order_by(keys.c.created_at, keys.c.id)
    return [
        Key(
            id=row.id,
            project_id=row.project_id,
            name=row.name,
            hint=row.hint,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
        )
        for row in connection.execute(query)
    ]


def revoke_key(connection: Connection, project_id: str, key_id: str) -> bool:
    """Revoke a key; False where the project has no such live key."""
    statement = (
        update(keys)
        .where(keys.c.project_id == project_id, keys.c.id == key_id, keys.c.revoked_at.is_(None))
        .values(revoked_at=int(time.time()))
    )
    return connection.execute(statement).rowcount == 1
