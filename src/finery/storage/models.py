"""Tuned models and checkpoints that can be deployed."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, delete, insert, select

from finery.core.models import TunedModel
from finery.storage.schema import checkpoints, models

_COLUMNS = [models.c[field.name] for field in dataclasses.fields(TunedModel)]


def insert_model(connection: Connection, model: TunedModel) -> None:
    """Remember a model whose blobs are already stored; a name that is known stays as it is."""
    known = connection.execute(select(models.c.name).where(models.c.name == model.name)).one_or_none()
    if known is None:
        connection.execute(insert(models).values(dataclasses.asdict(model)))


def get(connection: Connection, project_id: str, name: str) -> TunedModel | None:
    """A project's tuned model or checkpoint."""
    query = select(*_COLUMNS).where(models.c.project_id == project_id, models.c.name == name)
    row = connection.execute(query).one_or_none()
    return _model(row) if row else None


def name_of_checkpoint(connection: Connection, checkpoint_id: str) -> str | None:
    """The model name of a checkpoint, by its id; whose it is tells `get`."""
    if not checkpoint_id.startswith("ftckpt_"):
        return None
    return connection.execute(
        select(checkpoints.c.model_name).where(checkpoints.c.id == checkpoint_id)
    ).scalar_one_or_none()


def list_final(connection: Connection, project_id: str) -> list[TunedModel]:
    """A project's finished models, newest first; checkpoints belong to their job's listing."""
    query = (
        select(*_COLUMNS)
        .where(models.c.project_id == project_id, models.c.step.is_(None))
        .order_by(models.c.position.desc())
    )
    return [_model(row) for row in connection.execute(query)]


def remove(connection: Connection, project_id: str, name: str) -> list[TunedModel]:
    """Forget a model and, with a finished one, its checkpoints; returns them."""
    meant = (
        models.c.project_id == project_id,
        (models.c.name == name) | models.c.name.startswith(f"{name}:ckpt-step-", autoescape=True),
    )
    removed = [_model(row) for row in connection.execute(select(*_COLUMNS).where(*meant))]
    connection.execute(delete(models).where(*meant))
    return removed


def blob_in_use(connection: Connection, sha256: str) -> bool:
    """Whether a model's manifest still names the blob."""
    # As text: a hash of 64 digits stands for nothing else, and a manifest that isn't parsed is read many times faster.
    query = select(models.c.name).where(cast(models.c.manifest, Text).contains(sha256))
    return connection.execute(query.limit(1)).first() is not None


def _model(row: Row[Any]) -> TunedModel:
    return TunedModel(**row._mapping)
