"""/finery/v1/datasets: names under which a project keeps versions of its data."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsFiles, WritesData
from finery.api.context import Plane
from finery.control import datasets
from finery.core.datasets import Dataset, DatasetVersion

router = APIRouter(prefix="/finery/v1/datasets", tags=["datasets"])


class AddVersion(BaseModel):
    """The body of a new version; the first one makes the dataset."""

    model_config = ConfigDict(extra="forbid")
    name: str
    file_id: str
    description: str = ""


@router.post("")
def add_version(plane: Plane, caller: WritesData, body: AddVersion) -> dict[str, Any]:
    """Put a file behind a dataset's last version."""
    version = datasets.add_version(plane, caller, body.name, body.file_id, body.description)
    return {"name": body.name, **_version(version)}


@router.get("")
def list_datasets(plane: Plane, caller: ReadsFiles) -> dict[str, Any]:
    """The project's datasets, by name."""
    found = [_dataset(dataset) for dataset in datasets.list_all(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsFiles, name: str) -> dict[str, Any]:
    """A dataset with its versions, newest first."""
    dataset, versions = datasets.get(plane, caller, name)
    return {**_dataset(dataset), "versions": [_version(version) for version in versions]}


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesData, name: str) -> dict[str, Any]:
    """Forget a dataset, and tell which jobs used it; its files stay."""
    return {"name": name, "object": "dataset", "deleted": True, "note": datasets.delete(plane, caller, name)}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "object": "dataset",
        "description": dataset.description,
        "latest_version": dataset.latest_version,
        "created_at": dataset.created_at,
    }


def _version(version: DatasetVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "object": "dataset.version",
        "file_id": version.file_id,
        "origin": version.origin,
        "parent_file_id": version.parent_file_id,
        "record": version.record,
        "created_at": version.created_at,
    }
