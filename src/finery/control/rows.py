"""A job's rows as its trainer will get them: split, rendered with the base model's template, counted, labelled.

Every fault is found here, by line, before the job is queued. Knows no job states.
"""

import tempfile
from pathlib import Path
from typing import Any

from finery.control.plane import ControlPlane
from finery.core.datasets import Format
from finery.core.errors import InvalidRequest
from finery.core.files import File
from finery.data import splits, tokens
from finery.data.rows import iterate
from finery.modeling.sources import LocalModel
from finery.modeling.template import ChatTemplate

SHOWN_FINDINGS = 5
"""Findings named in an error; there may be more."""


def prepare(
    plane: ControlPlane, training: File, validation: File | None, *, fraction: float | None, seed: int
) -> dict[str, Any]:
    """Blobs with the rows to train and to validate on; a split is recorded by line numbers.

    Raises:
        InvalidRequest: too few rows to split.
    """
    data: dict[str, Any] = {"training": {"sha256": training.sha256, "rows": training.rows}}
    if validation:
        data["validation"] = {"sha256": validation.sha256, "rows": validation.rows}
    if not fraction:
        return data
    with plane.blobs.as_path(training.sha256) as path, tempfile.TemporaryDirectory(dir=plane.settings.home) as scratch:
        sides = Path(scratch) / "training", Path(scratch) / "validation"
        split = splits.split_file(path, *sides, fraction=fraction, seed=seed)
        data["training"] = _part(plane, sides[0], split.training_lines)
        data["validation"] = _part(plane, sides[1], split.validation_lines)
    return data


def check_tokens(
    plane: ControlPlane, data: dict[str, Any], base: LocalModel, *, max_tokens: int, form: Format | None = None
) -> int:
    """Render every row as the trainer will and count its tokens into `data`; returns the longest row's.

    Raises:
        InvalidRequest: rows that would train nothing, never learn to end, or not fit; named by line.
    """
    template = ChatTemplate.load(base.folder)
    longest = 0
    for part in ("training", "validation"):
        if part not in data:
            continue
        with plane.blobs.as_path(data[part]["sha256"]) as path:
            report = tokens.check_tokens(path, template, max_tokens=max_tokens, form=form)
        if not report.ok:
            errors = [finding for finding in report.findings if finding.level == "error"]
            named = "; ".join(f"line {found.line}: {found.message}" for found in errors[:SHOWN_FINDINGS])
            raise InvalidRequest(
                f"{base.id} can't learn the {part} rows as they are. {report.summary} {named}. {errors[0].help}",
                code=f"invalid_{part}_file",
                param=f"{part}_file",
            )
        data[part]["tokens"] = report.statistics["tokens"]
        data[part]["trained_tokens"] = report.statistics["trained_tokens"]
        longest = max(longest, report.statistics["row_tokens"]["max"])
    return longest


def are_multi_label(plane: ControlPlane, file: File) -> bool:
    """Whether a classification file's rows have any number of labels each."""
    with plane.blobs.as_path(file.sha256) as path:
        _, first = next(iterate(path))
    return "labels" in first


def labels(plane: ControlPlane, data: dict[str, Any]) -> list[str]:
    """The labels of a classification's training rows, sorted: their order is that of the head's outputs.

    Raises:
        InvalidRequest: fewer than two labels, or a validation label that training never shows.
    """
    training, validation = (_labels(plane, data.get(part)) for part in ("training", "validation"))
    if len(training) < 2:
        raise InvalidRequest(
            f"The training rows have {len(training)} label(s); a classification needs at least two.",
            code="invalid_training_file",
            param="training_file",
        )
    if unseen := sorted(validation - training):
        raise InvalidRequest(
            f"The validation rows have labels that no training row has: {', '.join(unseen[:SHOWN_FINDINGS])}.",
            code="invalid_validation_file",
            param="validation_file",
        )
    return sorted(training)


def _labels(plane: ControlPlane, part: dict[str, Any] | None) -> set[str]:
    if part is None:
        return set()
    with plane.blobs.as_path(part["sha256"]) as path:
        rows = (row for _, row in iterate(path))
        return {str(label) for row in rows for label in (row["labels"] if "labels" in row else [row["label"]])}


def _part(plane: ControlPlane, path: Path, lines: tuple[int, ...]) -> dict[str, Any]:
    with path.open("rb") as file:
        blob = plane.blobs.put(iter(lambda: file.read(1 << 20), b""))
    return {"sha256": blob.sha256, "rows": len(lines), "lines": list(lines)}
