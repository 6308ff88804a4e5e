"""Training data beyond upload: looked at with a model's eyes, inspected, cleaned, split, kept in versions.

Nothing is ever changed in place: what is made from a file is a new file that knows its parent and what was done.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.control import audit, files, models
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.datasets import Dataset, DatasetVersion, Origin, check_dataset_name, deletion_note, parse_reference
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.files import File
from finery.core.ids import new_id
from finery.data import cleaning, quality, splits, tokens
from finery.data.rows import iterate
from finery.data.steps import Context
from finery.modeling.template import ChatTemplate
from finery.storage import datasets

FINE_TUNE = "fine-tune"


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """Files made from a file, and the record of how."""

    files: tuple[File, ...]
    record: dict[str, Any]


def trained_view(plane: ControlPlane, caller: Caller, file_id: str, line: int, model: str) -> list[tuple[str, bool]]:
    """A row as the model sees it, in pieces: the text, and whether it is trained.

    Raises:
        NotFound: the file has no row at that line.
    """
    template = _template(plane, caller, model)
    with _path(plane, caller, file_id) as path:
        row = next((row for number, row in iterate(path) if number == line), None)
    if row is None:
        raise NotFound(f"File {file_id} has no row at line {line}.", param="line")
    return tokens.trained_view(row, template)


def check_for_model(
    plane: ControlPlane, caller: Caller, file_id: str, model: str, max_tokens: int | None
) -> dict[str, Any]:
    """What keeps a model from learning the rows: nothing trained, no end learned, too long; by line."""
    found = models.resolve(plane, caller, model)
    limit = min(max_tokens or found.base.context_tokens, found.base.context_tokens)
    with _path(plane, caller, file_id) as path:
        return tokens.check_tokens(path, ChatTemplate.load(found.base.folder), max_tokens=limit).to_json()


def inspect(plane: ControlPlane, caller: Caller, file_id: str, validation_file: str | None) -> dict[str, Any]:
    """The quality report: repeats, leaks, balance, languages, lengths, refusals, personal data, secrets."""
    with _path(plane, caller, file_id) as path:
        if validation_file is None:
            return quality.inspect(path).to_json()
        with _path(plane, caller, validation_file) as other:
            return quality.inspect(path, other).to_json()


def clean(
    plane: ControlPlane,
    caller: Caller,
    file_id: str,
    steps: list[Any],
    *,
    model: str | None = None,
    validation_file: str | None = None,
) -> Derived:
    """A new file with the steps applied; `model` and `validation_file` for steps that need them."""
    parsed = cleaning.parse_steps(steps)
    template = _template(plane, caller, model) if model else None
    parent = files.get(plane, caller, file_id)
    with _path(plane, caller, file_id) as source, tempfile.TemporaryDirectory(dir=plane.settings.home) as scratch:
        result = Path(scratch) / "cleaned.jsonl"
        if validation_file is None:
            context = Context(template=template)
            record = cleaning.clean(source, result, parsed, context=context).to_json()
        else:
            with _path(plane, caller, validation_file) as other:
                context = Context(template=template, other=other)
                record = cleaning.clean(source, result, parsed, context=context).to_json()
        made = _keep(plane, caller, parent, result, "cleaned", Origin.CLEAN, record)
    return Derived(files=(made,), record=record)


def split(
    plane: ControlPlane, caller: Caller, file_id: str, *, fraction: float | None, count: int | None, seed: int
) -> Derived:
    """Two new files, training and validation: seeded, by label where there is one, repeats on one side."""
    parent = files.get(plane, caller, file_id)
    with _path(plane, caller, file_id) as source, tempfile.TemporaryDirectory(dir=plane.settings.home) as scratch:
        training, validation = Path(scratch) / "training.jsonl", Path(scratch) / "validation.jsonl"
        done = splits.split_file(source, training, validation, fraction=fraction, count=count, seed=seed)
        record = done.to_json()
        made = tuple(
            _keep(plane, caller, parent, path, path.stem, Origin.SPLIT, {**record, "side": path.stem})
            for path in (training, validation)
        )
    return Derived(files=made, record=record)


def lineage(plane: ControlPlane, caller: Caller, file_id: str) -> dict[str, Any] | None:
    """What a file was made from, and how; None for an upload."""
    file = files.get(plane, caller, file_id)
    with plane.database.read() as connection:
        return datasets.get_lineage(connection, file.id)


def add_version(plane: ControlPlane, caller: Caller, name: str, file_id: str, description: str) -> DatasetVersion:
    """Put a file behind a dataset's last version; the first one makes the dataset.

    Raises:
        Conflict: the file is a version of it already.
    """
    check_dataset_name(name)
    file = files.get(plane, caller, file_id, param="file_id")
    with plane.database.write() as connection:
        dataset = datasets.find(connection, caller.project.id, name)
        if dataset is None:
            dataset = Dataset(
                id=new_id("dataset_"),
                project_id=caller.project.id,
                name=name,
                description=description,
                latest_version=0,
                created_at=now(),
            )
            datasets.insert_dataset(connection, dataset)
        if any(version.file_id == file.id for version in datasets.list_versions(connection, dataset.id)):
            raise Conflict(f"File {file.id} is a version of the dataset '{name}' already.", param="file_id")
        datasets.insert_version(connection, dataset, file.id, now())
        audit.record(connection, caller, "datasets.add_version", name, file=file.id)
        return datasets.list_versions(connection, dataset.id)[0]


def list_all(plane: ControlPlane, caller: Caller) -> list[Dataset]:
    """The project's datasets."""
    with plane.database.read() as connection:
        return datasets.list_all(connection, caller.project.id)


def get(plane: ControlPlane, caller: Caller, name: str) -> tuple[Dataset, list[DatasetVersion]]:
    """A dataset with its versions, newest first.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.read() as connection:
        dataset = datasets.find(connection, caller.project.id, name)
        if dataset is None:
            raise NotFound(f"There is no dataset '{name}' in this project.", param="dataset")
        return dataset, datasets.list_versions(connection, dataset.id)


def delete(plane: ControlPlane, caller: Caller, name: str) -> str:
    """Forget a dataset; its files stay. Returns a sentence on which jobs used it."""
    dataset, versions = get(plane, caller, name)
    with plane.database.write() as connection:
        used_by = datasets.jobs_using(connection, caller.project.id, [version.file_id for version in versions])
        datasets.remove(connection, dataset.id)
        audit.record(connection, caller, "datasets.delete", name)
    return deletion_note(name, used_by)


def delete_version(plane: ControlPlane, caller: Caller, name: str, version: int) -> None:
    """Forget one version of a dataset, and the dataset with its last one; files stay.

    Raises:
        NotFound: no such dataset or version.
    """
    dataset, versions = get(plane, caller, name)
    if version not in {found.version for found in versions}:
        raise NotFound(f"The dataset '{name}' has no version {version}; the latest is {versions[0].version}.")
    with plane.database.write() as connection:
        if len(versions) == 1:
            datasets.remove(connection, dataset.id)
        else:
            datasets.remove_version(connection, dataset.id, version)


def file_of(plane: ControlPlane, caller: Caller, reference: str) -> str:
    """The file behind `name` or `name:version`; a file's own id stays as it is.

    Raises:
        NotFound: no such dataset or version.
    """
    if reference.startswith("file-"):
        return reference
    name, wanted = parse_reference(reference)
    _, versions = get(plane, caller, name)
    for version in versions:
        if wanted in (None, version.version):
            return version.file_id
    raise NotFound(f"The dataset '{name}' has no version {wanted}; the latest is {versions[0].version}.")


def _template(plane: ControlPlane, caller: Caller, model: str) -> ChatTemplate:
    return ChatTemplate.load(models.resolve(plane, caller, model).base.folder)


@contextmanager
def _path(plane: ControlPlane, caller: Caller, file_id: str) -> Iterator[Path]:
    """The bytes of a file of training data."""
    file = files.get(plane, caller, file_id)
    if file.purpose != FINE_TUNE:
        raise InvalidRequest(f"File {file.id} was uploaded for {file.purpose!r}, not as training data.")
    with plane.blobs.as_path(file.sha256) as path:
        yield path


def _keep(
    plane: ControlPlane, caller: Caller, parent: File, path: Path, word: str, origin: Origin, record: dict[str, Any]
) -> File:
    stem = parent.filename.removesuffix(".jsonl")
    with path.open("rb") as bytes_made:
        made = files.store(
            plane,
            parent.project_id,
            filename=f"{stem}.{word}.jsonl",
            purpose=FINE_TUNE,
            chunks=iter(lambda: bytes_made.read(1 << 20), b""),
            by=caller,
        )
    with plane.database.write() as connection:
        datasets.insert_lineage(connection, made.id, origin=origin, parent_file_id=parent.id, record=record)
    return files.check(plane, made)
