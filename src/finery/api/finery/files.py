"""/finery/v1/files: what Finery knows of training data, and does with it, beyond OpenAI's object."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsData, ReadsFiles, WritesData
from finery.api.context import Plane
from finery.api.openai import wire
from finery.control import datasets, files

router = APIRouter(prefix="/finery/v1/files", tags=["files"])


class CleanFile(BaseModel):
    """The body of a cleaning."""

    model_config = ConfigDict(extra="forbid")
    steps: list[str | dict[str, Any]] = Field(min_length=1, max_length=50)
    model: str | None = None
    validation_file: str | None = None


class SplitFile(BaseModel):
    """The body of a split: `fraction` or `count` of rows for validation."""

    model_config = ConfigDict(extra="forbid")
    fraction: float | None = None
    count: int | None = None
    seed: int = 0


@router.get("/{file_id}/report")
def report(plane: Plane, caller: ReadsFiles, file_id: str) -> dict[str, Any]:
    """Everything the check of a file found, by line."""
    return files.report(plane, caller, file_id)


@router.get("/{file_id}/lines/{line}")
def trained_view(plane: Plane, caller: ReadsData, file_id: str, line: int, model: str) -> dict[str, Any]:
    """A row as a model sees it: pieces of text, and which are trained."""
    pieces = datasets.trained_view(plane, caller, file_id, line, model)
    return {
        "file_id": file_id,
        "line": line,
        "model": model,
        "pieces": [{"text": text, "trained": trained} for text, trained in pieces],
    }


@router.get("/{file_id}/token-report")
def token_report(
    plane: Plane, caller: ReadsFiles, file_id: str, model: str, max_tokens: int | None = None
) -> dict[str, Any]:
    """What keeps a model from learning the rows, by line; and their tokens."""
    return datasets.check_for_model(plane, caller, file_id, model, max_tokens)


@router.get("/{file_id}/quality")
def quality(plane: Plane, caller: ReadsData, file_id: str, validation_file: str | None = None) -> dict[str, Any]:
    """Repeats, leaks, balance, languages, lengths, refusals, personal data and secrets."""
    return datasets.inspect(plane, caller, file_id, validation_file)


@router.post("/{file_id}/clean")
def clean(plane: Plane, caller: WritesData, file_id: str, body: CleanFile) -> dict[str, Any]:
    """A new file with named steps applied, and the record of every row they touched."""
    made = datasets.clean(plane, caller, file_id, body.steps, model=body.model, validation_file=body.validation_file)
    return {"parent_file_id": file_id, "file": wire.file(made.files[0]), "record": made.record}


@router.post("/{file_id}/split")
def split(plane: Plane, caller: WritesData, file_id: str, body: SplitFile) -> dict[str, Any]:
    """Two new files, training and validation, and the rows of each."""
    made = datasets.split(plane, caller, file_id, fraction=body.fraction, count=body.count, seed=body.seed)
    training, validation = (wire.file(file) for file in made.files)
    return {"parent_file_id": file_id, "training": training, "validation": validation, "record": made.record}


@router.get("/{file_id}/lineage")
def lineage(plane: Plane, caller: ReadsFiles, file_id: str) -> dict[str, Any]:
    """What a file was made from, and how."""
    found = datasets.lineage(plane, caller, file_id)
    return {"file_id": file_id, "origin": "upload", "parent_file_id": None, "record": {}} | (found or {})
