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
class Scores:
    """Figures of one or many confusion matrices; an array has their leading axes."""

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
    places = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    rows = [places[label] for label in truth]
    columns = [len(labels) if label is None else places[label] for label in predicted]
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def resampled(
    counts_BN: NDArray[Any], truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]
) -> Floats:
    """(B, C, C + 1): the confusion matrix of each resample, which has item n `counts_BN[b, n]` times."""
    places = {label: i for i, label in enumerate(labels)}
    width = len(labels) + 1
    cells = [
        places[label] * width + (len(labels) if said is None else places[said])
        for label, said in zip(truth, predicted, strict=True)
    ]
    one_hot = np.zeros((len(cells), len(labels) * width))
    one_hot[np.arange(len(cells)), cells] = 1.0
    return (counts_BN @ one_hot).reshape(-1, len(labels), width)


def scores(confusion: NDArray[Any]) -> Scores:
    """Every figure of confusion matrices (..., C, C + 1); 0 where nothing was there to divide by."""
    square = confusion[..., :, :-1]
    right = np.diagonal(square, axis1=-2, axis2=-1).astype(np.float64)
    true, said = confusion.sum(axis=-1), square.sum(axis=-2)
    present = (true + said) > 0
    f1 = _share(2 * right, true + said)
    num_present = np.maximum(present.sum(axis=-1), 1)
    return Scores(
        precision=_share(right, said),
        recall=_share(right, true),
        f1=f1,
        accuracy=_share(right.sum(axis=-1), true.sum(axis=-1)),
        macro_f1=np.asarray(f1.sum(axis=-1) / num_present),
        present=present,
        micro_f1=_share(2 * right.sum(axis=-1), true.sum(axis=-1) + said.sum(axis=-1)),
    )


def report(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> dict[str, Any]:
    """Figures per label and over all, and the confusion matrix, as plain JSON types."""
    matrix = confusion_matrix(truth, predicted, labels)
    found = scores(matrix)
    right = int(np.trace(matrix[:, :-1]))
    said = int(matrix[:, :-1].sum())
    return {
        "labels": list(labels),
        "predicted_labels": [*labels, NO_LABEL],
        "confusion": matrix.tolist(),
        "per_label": [
            {
                "label": label,
                "precision": float(found.precision[i]),
                "recall": float(found.recall[i]),
                "f1": float(found.f1[i]),
                "support": int(matrix[i].sum()),
            }
            for i, label in enumerate(labels)
        ],
        "accuracy": float(found.accuracy),
        "macro": {
            "precision": float(found.precision[found.present].mean()),
            "recall": float(found.recall[found.present].mean()),
            "f1": float(found.macro_f1),
        },
        "micro": {
            "precision": right / said if said else 0.0,
            "recall": float(found.accuracy),
            "f1": float(found.micro_f1),
        },
    }


def _share(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares
