"""Precision, recall, F1 and the confusion matrix, for one set of answers or for thousands of resamples at once.

Our own few lines rather than scikit-learn's: a bootstrap needs ten thousand confusion matrices, and the control plane
needn't carry scipy. The tests hold every figure to scikit-learn's (zero_division=0). Knows labels as texts only.

Shapes: C labels, B resamples. A confusion matrix is (C, C + 1): row = true label, column = predicted, the last column =
no label named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finery.evaluation.matches import NO_LABEL

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What every figure follows from; (..., C) each."""

    right: Floats
    true: Floats
    said: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Figures of one or many tallies; an array has their leading axes."""

    precision: Floats
    """(..., C), as are recall and f1."""
    recall: Floats
    f1: Floats
    accuracy: Floats
    """(...)."""
    macro_f1: Floats
    micro_f1: Floats
    """(...). Differs from accuracy where answers name no label: those cost recall, not precision."""
    present: NDArray[np.bool_]
    """(..., C): the label is true or predicted somewhere; the others don't count in macro means."""


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """(C, C + 1) counts."""
    rows, columns = _places(truth, labels), _places(predicted, labels)
    matrix = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def tally(
    counts_BN: NDArray[Any], truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]
) -> Tally:
    """The tally (B, C) of each resample, which has item n `counts_BN[b, n]` times."""
    truth_NC, said_NC = (np.eye(len(labels) + 1)[_places(given, labels)][:, :-1] for given in (truth, predicted))
    counts = np.asarray(counts_BN, dtype=np.float64)
    return Tally(right=counts @ (truth_NC * said_NC), true=counts @ truth_NC, said=counts @ said_NC)


def scores(found: Tally) -> Scores:
    """Every figure; 0 where nothing was there to divide by."""
    present = (found.true + found.said) > 0
    f1 = _share(2 * found.right, found.true + found.said)
    right, true, said = (part.sum(axis=-1) for part in (found.right, found.true, found.said))
    return Scores(
        precision=_share(found.right, found.said),
        recall=_share(found.right, found.true),
        f1=f1,
        accuracy=_share(right, true),
        macro_f1=_share(f1.sum(axis=-1), present.sum(axis=-1)),
        micro_f1=_share(2 * right, true + said),
        present=present,
    )


def report(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> dict[str, Any]:
    """Figures per label and over all, and the confusion matrix, as plain JSON types."""
    return report_of(confusion_matrix(truth, predicted, labels), labels)


def report_of(matrix: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """The report of a confusion matrix."""
    square = matrix[:, :-1].astype(np.float64)
    found = Tally(right=np.diagonal(square), true=matrix.sum(axis=1), said=square.sum(axis=0))
    return {
        "labels": list(labels),
        "predicted_labels": [*labels, NO_LABEL],
        "confusion": matrix.tolist(),
        "accuracy": float(scores(found).accuracy),
        **_figures(found, labels),
    }


def count_labels(true_NC: NDArray[np.bool_], said_NC: NDArray[np.bool_]) -> Floats:
    """(3, C) of items that may have several labels: rightly said, true, said. Counts of parts add up."""
    sums = [(true_NC & said_NC).sum(axis=0), true_NC.sum(axis=0), said_NC.sum(axis=0)]
    return np.stack(sums).astype(np.float64)


def report_of_labels(counts: Floats, labels: Sequence[str], *, exact_match: float) -> dict[str, Any]:
    """The report of counts of items that may have several labels; there is no confusion, for labels don't exclude each
    other.

    Args:
        exact_match: the share of items that are right in all labels.
    """
    right, true, said = counts
    figures = _figures(Tally(right=right, true=true, said=said), labels)
    return {"labels": list(labels), "exact_match": exact_match, **figures}


def _figures(tallied: Tally, labels: Sequence[str]) -> dict[str, Any]:
    found = scores(tallied)
    right, said = float(tallied.right.sum()), float(tallied.said.sum())
    return {
        "per_label": [
            {
                "label": label,
                "precision": float(found.precision[i]),
                "recall": float(found.recall[i]),
                "f1": float(found.f1[i]),
                "support": int(tallied.true[i]),
            }
            for i, label in enumerate(labels)
        ],
        "macro": {
            "precision": float(found.precision[found.present].mean()) if found.present.any() else 0.0,
            "recall": float(found.recall[found.present].mean()) if found.present.any() else 0.0,
            "f1": float(found.macro_f1),
        },
        "micro": {
            "precision": right / said if said else 0.0,
            "recall": float(found.accuracy),
            "f1": float(found.micro_f1),
        },
    }


def _places(given: Sequence[str | None], labels: Sequence[str]) -> list[int]:
    places = {label: i for i, label in enumerate(labels)}
    return [len(labels) if label is None else places[label] for label in given]


def _share(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares
