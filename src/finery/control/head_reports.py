"""How well a job's head tells labels: its best validation, in the shape of an evaluation of one model.

A head says no words, so `evaluations` can't ask it; its trainer does, over the whole validation set.
"""

from typing import Any

from finery.control import jobs
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import Conflict
from finery.storage import jobs as job_rows

_LOSS, _LABELS = "full_valid_loss", "full_valid_labels"


def report_of(plane: ControlPlane, caller: Caller, job_id: str) -> dict[str, Any]:
    """The validation with the lowest loss, as `evaluation.report` reads it.

    Raises:
        NotFound: there is no such job.
        Conflict: it has no validation of labels (yet).
    """
    job = jobs.get(plane, caller, job_id)
    with plane.database.read() as connection:
        measured = [step for step in job_rows.list_measured(connection, job.id, _LOSS) if step.get(_LABELS)]
    if not measured:
        raise Conflict(
            f"The job {job.id} has no validation of labels. There is one at the end of each epoch of a classification "
            "that has validation data.",
            code="no_validation",
        )
    best = min(measured, key=lambda step: float(step[_LOSS]))
    labels = best[_LABELS]
    found, calibration = labels["classification"], labels["calibration"]
    model = {
        "model": job.fine_tuned_model or job.id,
        "figures": {
            "label_accuracy": _figure(found["accuracy"]),
            "macro_f1": _figure(found["macro"]["f1"]),
            "micro_f1": _figure(found["micro"]["f1"]),
        },
        **labels,
        **dict.fromkeys(_UNASKED),
    }
    sure = f"expected calibration error {calibration['expected_calibration_error']:.1%}"
    return {
        "metric": "label_accuracy",
        "rows": calibration["answers"],
        "labels": found["labels"],
        "step": best["step"],
        "verdict": "",
        "sentence": f"Accuracy {found['accuracy']:.1%} on {calibration['answers']} validation rows at step "
        f"{best['step']}, macro F1 {found['macro']['f1']:.3f}, {sure}.",
        "models": [model],
        "comparisons": [],
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


def _figure(value: float) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}
