"""Keys, principals, and which roles they were given."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from finery.core.access import Key, Level, Principal, PrincipalKind, Project, RoleAssignment, Scope
from finery.core.roles import Permission, Role
from finery.storage.projects import project_of
from finery.storage.schema import hubs, keys, principals, projects, role_assignments

_KEY_COLUMNS = [keys.c[field.name] for field in dataclasses.fields(Key)]


def insert_key(connection: Connection, key: Key, digest: str) -> None:
    """Remember a key by its digest."""
    connection.execute(insert(keys).values({**dataclasses.asdict(key), "digest": digest}))


def find_key(connection: Connection, digest: str, now: int) -> tuple[Key, Project] | None:
    """The live key of that digest, and its project."""
    query = (
        select(
            *(column.label(f"key_{column.name}") for column in _KEY_COLUMNS),
            projects,
            hubs.c.subscription_id,
        )
        .join(projects, projects.c.id == keys.c.project_id)
        .join(hubs, hubs.c.id == projects.c.hub_id)
        .where(keys.c.digest == digest, keys.c.revoked_at.is_(None), _unexpired(now))
    )
    row: Any = connection.execute(query).one_or_none()
    if row is None:
        return None
    return _key({field.name: row._mapping[f"key_{field.name}"] for field in dataclasses.fields(Key)}), project_of(row)


def get_key(connection: Connection, project_id: str, key_id: str) -> Key | None:
    """A project's key."""
    query = select(*_KEY_COLUMNS).where(keys.c.project_id == project_id, keys.c.id == key_id)
    row = connection.execute(query).one_or_none()
    return _key(row._mapping) if row else None


def list_keys(connection: Connection, project_id: str) -> list[Key]:
    """A project's keys, oldest first, the revoked ones too."""
    query = select(*_KEY_COLUMNS).where(keys.c.project_id == project_id).order_by(keys.c.created_at, keys.c.id)
    return [_key(row._mapping) for row in connection.execute(query)]


def find_successor(connection: Connection, key_id: str) -> str | None:
    """The id of the key that a key was rotated into."""
    return connection.execute(select(keys.c.id).where(keys.c.rotated_from == key_id)).scalar_one_or_none()


def revoke_key(connection: Connection, project_id: str, key_id: str, now: int) -> bool:
    """Revoke a key; False where the project has no such live key."""
    statement = (
        update(keys)
        .where(keys.c.project_id == project_id, keys.c.id == key_id, keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return connection.execute(statement).rowcount == 1


def expire_key(connection: Connection, key_id: str, at: int) -> None:
    """Let a key end at a time, or earlier if it does so already."""
    sooner = or_(keys.c.expires_at.is_(None), keys.c.expires_at > at)
    connection.execute(update(keys).where(keys.c.id == key_id, sooner).values(expires_at=at))


def insert_principal(connection: Connection, principal: Principal) -> None:
    """Remember a principal."""
    connection.execute(insert(principals).values(dataclasses.asdict(principal)))


def find_principal(connection: Connection, name_or_id: str) -> Principal | None:
    """The principal of that name or id; no name begins like an id."""
    query = select(principals).where(or_(principals.c.id == name_or_id, principals.c.name == name_or_id))
    row = connection.execute(query).one_or_none()
    return _principal(row) if row else None


def find_subject(connection: Connection, issuer: str | None, subject: str) -> Principal | None:
    """The principal that an identity provider knows by that subject: its own before one of whichever provider."""
    query = (
        select(principals)
        .where(principals.c.subject == subject, or_(principals.c.issuer == issuer, principals.c.issuer.is_(None)))
        .order_by(principals.c.issuer.is_(None))
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return _principal(row) if row else None


def list_principals(connection: Connection) -> list[Principal]:
    """All of them, by name."""
    return [_principal(row) for row in connection.execute(select(principals).order_by(principals.c.name))]


def remove_principal(connection: Connection, principal_id: str, now: int) -> None:
    """Forget a principal: its roles go, its keys are revoked and speak for nobody."""
    connection.execute(delete(role_assignments).where(role_assignments.c.principal_id == principal_id))
    connection.execute(
        update(keys).where(keys.c.principal_id == principal_id, keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    connection.execute(update(keys).where(keys.c.principal_id == principal_id).values(principal_id=None))
    connection.execute(delete(principals).where(principals.c.id == principal_id))


def insert_assignment(connection: Connection, assignment: RoleAssignment) -> None:
    """Remember that a principal was given a role."""
    scope = dataclasses.asdict(assignment.scope)
    connection.execute(
        insert(role_assignments).values(
            id=assignment.id,
            principal_id=assignment.principal_id,
            role=assignment.role,
            created_at=assignment.created_at,
            **scope,
        )
    )


def list_assignments(connection: Connection, principal_id: str | None = None) -> list[RoleAssignment]:
    """Role assignments, all or a principal's, oldest first."""
    query = select(role_assignments).order_by(role_assignments.c.created_at, role_assignments.c.id)
    if principal_id is not None:
        query = query.where(role_assignments.c.principal_id == principal_id)
    return [_assignment(row) for row in connection.execute(query)]


def remove_assignment(connection: Connection, assignment_id: str) -> None:
    """Forget an assignment."""
    connection.execute(delete(role_assignments).where(role_assignments.c.id == assignment_id))


def _unexpired(now: int) -> Any:
    return or_(keys.c.expires_at.is_(None), keys.c.expires_at > now)


def _key(values: Any) -> Key:
    narrowed = values["permissions"]
    return Key(
        **{
            **values,
            "role": Role(values["role"]) if values["role"] else None,
            "level": Level(values["level"]),
            "permissions": None if narrowed is None else tuple(Permission(name) for name in narrowed),
        }
    )


def _principal(row: Row[Any]) -> Principal:
    return Principal(**{**row._mapping, "kind": PrincipalKind(row.kind)})


def _assignment(row: Row[Any]) -> RoleAssignment:
    return RoleAssignment(
        id=row.id,
        principal_id=row.principal_id,
        role=Role(row.role),
        scope=Scope(subscription_id=row.subscription_id, hub_id=row.hub_id, project_id=row.project_id),
        created_at=row.created_at,
    )
