"""Datasets: names under which a project keeps versions of its data; and where each derived file came from."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from finery.core.datasets import Dataset, DatasetVersion, Origin
from finery.storage.schema import dataset_versions, datasets, jobs, lineage

_DATASET = [datasets.c[field.name] for field in dataclasses.fields(Dataset)]


def insert_dataset(connection: Connection, dataset: Dataset) -> None:
    """Remember a new dataset; the caller has looked that the name is free."""
    connection.execute(insert(datasets).values(dataclasses.asdict(dataset)))


def find(connection: Connection, project_id: str, name: str) -> Dataset | None:
    """A project's dataset of that name."""
    query = select(*_DATASET).where(datasets.c.project_id == project_id, datasets.c.name == name)
    row = connection.execute(query).one_or_none()
    return Dataset(**row._mapping) if row else None


def list_all(connection: Connection, project_id: str) -> list[Dataset]:
    """A project's datasets, by name."""
    query = select(*_DATASET).where(datasets.c.project_id == project_id).order_by(datasets.c.name)
    return [Dataset(**row._mapping) for row in connection.execute(query)]


def insert_version(connection: Connection, dataset: Dataset, file_id: str, now: int) -> int:
    """Put a file behind the last version; returns its number. Numbers are never used again."""
    last = connection.execute(select(datasets.c.latest_version).where(datasets.c.id == dataset.id)).scalar_one()
    version = int(last) + 1
    connection.execute(datasets.update().where(datasets.c.id == dataset.id).values(latest_version=version))
    connection.execute(
        insert(dataset_versions).values(dataset_id=dataset.id, version=version, file_id=file_id, created_at=now)
    )
    return version


def list_versions(connection: Connection, dataset_id: str) -> list[DatasetVersion]:
    """A dataset's versions, newest first."""
    query = (
        select(dataset_versions, lineage.c.origin, lineage.c.parent_file_id, lineage.c.record)
        .join(lineage, lineage.c.file_id == dataset_versions.c.file_id, isouter=True)
        .where(dataset_versions.c.dataset_id == dataset_id)
        .order_by(dataset_versions.c.version.desc())
    )
    return [_version(row) for row in connection.execute(query)]


def remove_version(connection: Connection, dataset_id: str, version: int) -> None:
    """Forget one version; its file stays."""
    connection.execute(
        delete(dataset_versions).where(
            dataset_versions.c.dataset_id == dataset_id, dataset_versions.c.version == version
        )
    )


def remove(connection: Connection, dataset_id: str) -> None:
    """Forget a dataset and its versions; the files stay."""
    connection.execute(delete(dataset_versions).where(dataset_versions.c.dataset_id == dataset_id))
    connection.execute(delete(datasets).where(datasets.c.id == dataset_id))


def insert_lineage(
    connection: Connection, file_id: str, *, origin: Origin, parent_file_id: str, record: dict[str, Any]
) -> None:
    """Remember what a file was made from, and how."""
    connection.execute(
        insert(lineage).values(file_id=file_id, origin=origin, parent_file_id=parent_file_id, record=record)
    )


def get_lineage(connection: Connection, file_id: str) -> dict[str, Any] | None:
    """Where a file came from; None for an upload."""
    row = connection.execute(select(lineage).where(lineage.c.file_id == file_id)).one_or_none()
    return dict(row._mapping) if row else None


def jobs_using(connection: Connection, project_id: str, file_ids: list[str]) -> list[str]:
    """Jobs of the project that trained or validated on one of the files."""
    query = select(jobs.c.id).where(
        jobs.c.project_id == project_id,
        jobs.c.training_file.in_(file_ids) | jobs.c.validation_file.in_(file_ids),
    )
    return [str(name) for name in connection.execute(query.order_by(jobs.c.position)).scalars()]


def _version(row: Row[Any]) -> DatasetVersion:
    return DatasetVersion(
        dataset_id=row.dataset_id,
        version=row.version,
        file_id=row.file_id,
        origin=Origin(row.origin or Origin.UPLOAD),
        parent_file_id=row.parent_file_id,
        record=row.record or {},
        created_at=row.created_at,
    )
