"""How well a job's head tells labels or values: its best validation, in the shape of an evaluation of one model.

A head says no words, so `evaluations` can't ask it; its trainer does, over the whole validation set.
"""

from collections.abc import Iterator
from typing import Any

from finery.control import jobs
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import Conflict
from finery.storage import jobs as job_rows

_LOSS, _LABELS, _VALUES = "full_valid_loss", "full_valid_labels", "full_valid_values"

_CURVES = (("train_loss", "training"), (_LOSS, "validation"))
"""Metric and name of each line of the learning curves."""

_MAX_POINTS = 400
"""More than a picture has room for."""


def report_of(plane: ControlPlane, caller: Caller, job_id: str) -> dict[str, Any]:
    """The validation with the lowest loss, as `evaluation.report` reads it.

    Raises:
        NotFound: there is no such job.
        Conflict: it has no validation of a head (yet).
    """
    job = jobs.get(plane, caller, job_id)
    with plane.database.read() as connection:
        measured = {name: job_rows.list_measured(connection, job.id, name) for name, _ in _CURVES}
    validated = [step for step in measured[_LOSS] if step.get(_LABELS) or step.get(_VALUES)]
    if not validated:
        raise Conflict(
            f"The job {job.id} has no validation of a head. There is one at the end of each epoch of a job that learns "
            "labels or values and has validation data.",
            code="no_validation",
        )
    best = min(validated, key=lambda step: float(step[_LOSS]))
    found = best.get(_LABELS) or {"values": best[_VALUES]}
    figures = dict(_figures(found))
    model = {
        "model": job.fine_tuned_model or job.id,
        "figures": {name: {"value": value, "low": None, "high": None} for name, value in figures.items()},
        "classification": None,
        **found,
        **dict.fromkeys(_UNASKED),
    }
    labels = found["classification"]["labels"] if _LABELS in best else []
    rows = (found.get("values") or found["calibration"])["answers"]
    if "label_calibration" in found:
        # Each row was asked about each label.
        rows //= len(labels)
    return {
        "metric": next(iter(figures)),
        "rows": rows,
        "labels": labels,
        "step": best["step"],
        "verdict": "",
        "sentence": f"{_sentence(found, rows)} at step {best['step']}.",
        "models": [model],
        "comparisons": [],
        "curves": [
            {"name": shown, "points": _thinned([(step["step"], step[name]) for step in measured[name]])}
            for name, shown in _CURVES
        ],
    }


_UNASKED = (
    "errors",
    "cut_answers",
    "general_questions_right",
    "prompt_tokens",
    "completion_tokens",
    "seconds_median",
    "seconds_p95",
)
"""What only models that are asked have."""


def _figures(found: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    """What decides first."""
    if values := found.get("values"):
        for name in ("mean_absolute_error", "root_mean_squared_error", "r_squared", "calibration_error"):
            yield name, values[name]
        return
    of_labels = found["classification"]
    if "accuracy" in of_labels:
        yield "label_accuracy", of_labels["accuracy"]
    else:
        yield "exact_match", of_labels["exact_match"]
    yield "macro_f1", of_labels["macro"]["f1"]
    yield "micro_f1", of_labels["micro"]["f1"]


def _sentence(found: dict[str, Any], rows: int) -> str:
    if values := found.get("values"):
        explained = "" if values["r_squared"] is None else f", {values['r_squared']:.1%} of the variance explained"
        error = f"Off by {values['mean_absolute_error']:.3g} on average{explained}"
        return f"{error}, calibration error {values['calibration_error']:.3g}; {rows} validation rows"
    of_labels = found["classification"]
    sure = f"expected calibration error {found['calibration']['expected_calibration_error']:.1%}"
    if "accuracy" in of_labels:
        opening = f"Accuracy {of_labels['accuracy']:.1%}"
    else:
        opening = f"All labels right in {of_labels['exact_match']:.1%} of the rows"
    return f"{opening}, macro F1 {of_labels['macro']['f1']:.3f}, {sure}; {rows} validation rows"


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return points[:: 1 + len(points) // _MAX_POINTS]
