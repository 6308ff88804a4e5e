"""What a head got right on the validation set: figures and calibration, of labels and of values.

All ranks' answers together. It knows what was said, not the model that said it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from finery.evaluation import calibration, classification, values
from finery.evaluation.metrics import MAX_LABELS
from finery.training.ranks import Ranks
from finery.training.spec import RunSpec
from finery.training.tasks import Item

Floats = calibration.Floats


def report(
    spec: RunSpec, said: Sequence[Tensor | None], items: Sequence[Item], ranks: Ranks
) -> dict[str, dict[str, Any]]:
    """`labels` or `values`: how good the passes' answers are; nothing for other tasks, or too many labels to show.

    Args:
        said: `PassSums.said_DK` of each pass of this rank.
        items: those of all ranks together.
    """
    if not items or len(spec.labels) > MAX_LABELS:
        return {}
    answers = [part.double().cpu().numpy() for part in said if part is not None]
    if spec.task == "regression":
        return {"values": _values(answers, items, ranks)}
    if spec.task == "classification" and spec.labels:
        return {"labels": _classification(spec.labels, answers, ranks)}
    if spec.task == "multi_label" and spec.labels:
        return {"labels": _multi_label(spec.labels, answers, ranks)}
    return {}


def _classification(labels: Sequence[str], answers: Sequence[Floats], ranks: Ranks) -> dict[str, Any]:
    right_D, said_D, sure_D = _together(answers, 3).T
    true, predicted = ([labels[int(place)] for place in places_D] for places_D in (right_D, said_D))
    mine = classification.confusion_matrix(true, predicted, labels)
    matrix, tallied = _totals(ranks, mine, calibration.tally(sure_D, right_D == said_D))
    return {
        "classification": classification.report_of(matrix.astype(np.int64), labels),
        "calibration": calibration.report_of(tallied),
    }


def _multi_label(labels: Sequence[str], answers: Sequence[Floats], ranks: Ranks) -> dict[str, Any]:
    right_DL, chances_DL = np.split(_together(answers, 2 * len(labels)), 2, axis=1)
    true_DL, said_DL = right_DL > 0.5, chances_DL > 0.5
    exact = np.array([(true_DL == said_DL).all(axis=1).sum(), len(true_DL)])
    counts = classification.count_labels(true_DL, said_DL)
    tallies = np.stack([calibration.tally(*pair) for pair in zip(chances_DL.T, right_DL.T, strict=True)])
    exact, counts, tallies = _totals(ranks, exact, counts, tallies)
    return {
        "classification": classification.report_of_labels(counts, labels, exact_match=float(exact[0] / exact[1])),
        "calibration": calibration.report_of(tallies.sum(axis=0)),
        "label_calibration": [
            {"label": label, **calibration.report_of(tallied)} for label, tallied in zip(labels, tallies, strict=True)
        ],
    }


def _values(answers: Sequence[Floats], items: Sequence[Item], ranks: Ranks) -> dict[str, Any]:
    actual_D, predicted_D = _together(answers, 2).T
    edges = values.edges([item.target[0] for item in items])
    [tallied] = _totals(ranks, values.tally(predicted_D, actual_D, edges))
    return values.report_of(tallied, edges)


def _together(answers: Sequence[Floats], columns: int) -> Floats:
    """All passes' answers below each other; a rank may have none."""
    return np.concatenate([np.empty((0, columns)), *answers])


def _totals(ranks: Ranks, *arrays: Any) -> list[Floats]:
    """The sum of each array over all ranks."""
    sums = np.asarray(ranks.totals([float(entry) for array in arrays for entry in array.ravel()]))
    ends = np.cumsum([array.size for array in arrays])[:-1]
    return [part.reshape(array.shape) for part, array in zip(np.split(sums, ends), arrays, strict=True)]
