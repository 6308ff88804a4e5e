"""Deployments."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from finery.core.deployments import Deployment, DeploymentStatus
from finery.storage.schema import deployments

_COLUMNS = [deployments.c[field.name] for field in dataclasses.fields(Deployment)]


def insert_deployment(connection: Connection, deployment: Deployment) -> None:
    """Remember a new deployment; the caller has looked that the name is free."""
    connection.execute(insert(deployments).values(dataclasses.asdict(deployment)))


def get(connection: Connection, project_id: str, name: str) -> Deployment | None:
    """A project's deployment."""
    query = select(*_COLUMNS).where(deployments.c.project_id == project_id, deployments.c.name == name)
    row = connection.execute(query).one_or_none()
    return _deployment(row) if row else None


def list_all(connection: Connection, project_id: str) -> list[Deployment]:
    """A project's deployments, newest first."""
    query = select(*_COLUMNS).where(deployments.c.project_id == project_id).order_by(deployments.c.position.desc())
    return [_deployment(row) for row in connection.execute(query)]


def list_in(connection: Connection, *statuses: DeploymentStatus) -> list[Deployment]:
    """Deployments of all projects in these states, oldest first."""
    query = select(*_COLUMNS).where(deployments.c.status.in_(statuses)).order_by(deployments.c.position)
    return [_deployment(row) for row in connection.execute(query)]


def list_unproven(connection: Connection) -> list[Deployment]:
    """Deployments of all projects that are being created or changed, oldest first."""
    query = select(*_COLUMNS).where(
        (deployments.c.status == DeploymentStatus.CREATING)
        | ((deployments.c.status == DeploymentStatus.SUCCEEDED) & deployments.c["update"].is_not(None))
    )
    found = [_deployment(row) for row in connection.execute(query.order_by(deployments.c.position))]
    return [one for one in found if one.status == DeploymentStatus.CREATING or one.updating]


def list_of_model(connection: Connection, model: str) -> list[Deployment]:
    """Deployments of a model or of one of its checkpoints, in all projects, and those that are being changed to it."""

    def uses(name: str) -> bool:
        return name == model or name.startswith(f"{model}:ckpt-step-")

    found = list_in(connection, *DeploymentStatus)
    return [one for one in found if uses(one.model) or (one.updating and uses(one.wanted.model))]


def change(connection: Connection, deployment: Deployment, **values: Any) -> bool:
    """Set fields of a deployment; False where it was changed or removed since it was read."""
    statement = (
        update(deployments)
        .where(
            deployments.c.project_id == deployment.project_id,
            deployments.c.name == deployment.name,
            deployments.c.status == deployment.status,
            deployments.c.revision == deployment.revision,
        )
        .values(values)
    )
    return connection.execute(statement).rowcount == 1


def list_hosted(connection: Connection) -> list[tuple[Deployment, int | None]]:
    """Deployments of all projects that answer, each with the moment up to which its hosting was charged."""
    query = select(*_COLUMNS, deployments.c.charged_until).where(deployments.c.status == DeploymentStatus.SUCCEEDED)
    found = []
    for row in connection.execute(query):
        values = dict(row._mapping)
        found.append((values.pop("charged_until"), values))
    return [(_deployment_of(values), until) for until, values in found]


def set_charged(connection: Connection, deployment: Deployment, until: int) -> None:
    """Remember up to when a deployment's hosting was charged."""
    connection.execute(
        update(deployments)
        .where(deployments.c.project_id == deployment.project_id, deployments.c.name == deployment.name)
        .values(charged_until=until)
    )


def remove(connection: Connection, project_id: str, name: str) -> bool:
    """Forget a deployment."""
    statement = delete(deployments).where(deployments.c.project_id == project_id, deployments.c.name == name)
    return connection.execute(statement).rowcount == 1


def _deployment(row: Row[Any]) -> Deployment:
    return _deployment_of(row._mapping)


def _deployment_of(values: Any) -> Deployment:
    return Deployment(**{**values, "status": DeploymentStatus(values["status"])})
