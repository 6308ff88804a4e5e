"""Datasets of a project and their versions, and the words for rows of training data. Knows neither bytes nor rows.

A version is a file that can't change. What is made from another version (cleaned, split, converted) names its
parent, so every change can be followed back to the upload.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from finery.core.errors import InvalidRequest
from finery.core.ids import check_name

Format = Literal["chat", "completion", "preference", "reinforcement", "classification", "regression", "batch"]
"""Shapes of a row.

chat            `messages`, and perhaps `tools`
completion      `prompt` and `completion`
preference      `input`, `preferred_output` and `non_preferred_output`
reinforcement   `messages` up to the user's, perhaps `tools`, and fields for the grader
classification  `text` and `label`, or `labels` where a row may have several
regression      `text` and a number `target`
batch           `custom_id`, `method`, `url` and `body`: a request, nothing to train on
"""


class Origin(StrEnum):
    """How a version came about."""

    UPLOAD = "upload"
    CLEAN = "clean"
    SPLIT = "split"
    CONVERT = "convert"
    CAPTURE = "capture"
    """Of a deployment's conversations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A name under which a project keeps versions of its data."""

    id: str
    project_id: str
    name: str
    description: str = ""
    latest_version: int = 1
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """One version: a file, and how it came about."""

    dataset_id: str
    version: int
    """From 1, in the order they were made; never used again once deleted."""
    file_id: str
    origin: Origin
    parent_file_id: str | None = None
    """The file it was made from; None for an upload."""
    record: dict[str, Any] = field(default_factory=dict)
    """What was done to the parent, row by row: `CleaningRecord.to_json()`, `Conversion.to_json()` or a split's rows."""
    created_at: int


def check_dataset_name(name: str) -> str:
    """Refuse a name that couldn't stand in an address.

    Raises:
        InvalidRequest: not 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit.
    """
    return check_name(name, what="a dataset")


def parse_reference(reference: str) -> tuple[str, int | None]:
    """Name and version of `name` or `name:3` (None is the latest version).

    Raises:
        InvalidRequest: the name is none, or the version is no whole number from 1.
    """
    name, colon, version = reference.partition(":")
    check_dataset_name(name)
    if not colon:
        return name, None
    if not (version.isascii() and version.isdigit() and 1 <= len(version) <= 9 and int(version) >= 1):
        raise InvalidRequest(
            f"The version in {reference!r} is no whole number from 1; write {name}:1, or {name} for the latest.",
            param="dataset",
        )
    return name, int(version)


def deletion_note(name: str, job_ids: Sequence[str]) -> str:
    """One sentence for who deletes data: which jobs used it, and that their models stay."""
    if not job_ids:
        return f"{name} was used by no job."
    jobs = ", ".join(job_ids[:5]) + (f" and {len(job_ids) - 5} more" if len(job_ids) > 5 else "")
    return f"{name} was used by {jobs}; their models stay, but the jobs can't be run again from it."
