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


def list_of_model(connection: Connection, project_id: str, model: str) -> list[Deployment]:
    """A project's deployments of a model or of one of its checkpoints."""
    query = select(*_COLUMNS).where(
        deployments.c.project_id == project_id,
        (deployments.c.model == model) | deployments.c.model.startswith(f"{model}:ckpt-step-", autoescape=True),
    )
    return [_deployment(row) for row in connection.execute(query)]


def set_status(
    connection: Connection, deployment: Deployment, status: DeploymentStatus, details: str | None, now: int
) -> bool:
    """Move a deployment on; False where it is no longer as it was read."""
    return change(connection, deployment, status=status, status_details=details, updated_at=now)


def change(connection: Connection, deployment: Deployment, **values: Any) -> bool:
    """Set columns; False where the deployment is no longer in the state, or of the model, that it was read with."""
    statement = (
        update(deployments)
        .where(
            deployments.c.project_id == deployment.project_id,
            deployments.c.name == deployment.name,
            deployments.c.status == deployment.status,
            deployments.c.model == deployment.model,
        )
        .values(**values)
    )
    return connection.execute(statement).rowcount == 1


def remove(connection: Connection, project_id: str, name: str) -> bool:
    """Forget a deployment."""
    statement = delete(deployments).where(deployments.c.project_id == project_id, deployments.c.name == name)
    return connection.execute(statement).rowcount == 1


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(**{**row._mapping, "status": DeploymentStatus(row.status)})
