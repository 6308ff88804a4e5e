"""What a head that says one label got right on the validation set: figures per label, confusion and calibration.

All ranks' answers together. It knows what was said, not the model that said it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from finery.evaluation import calibration, classification
from finery.evaluation.metrics import MAX_LABELS
from finery.training.ranks import Ranks
from finery.training.spec import RunSpec


def report(spec: RunSpec, said: Sequence[Tensor | None], ranks: Ranks) -> dict[str, Any] | None:
    """`classification` and `calibration` of the passes' answers; None for other tasks, or too many labels to show.

    Args:
        said: `PassSums.said_D3` of each pass of this rank.
    """
    if spec.task != "classification" or not spec.labels or len(spec.labels) > MAX_LABELS:
        return None
    answers = [answer for part in said if part is not None for answer in part.tolist()]
    true, predicted = ([spec.labels[int(answer[side])] for answer in answers] for side in (0, 1))
    matrix = classification.confusion_matrix(true, predicted, spec.labels)
    tallied = calibration.tally([answer[2] for answer in answers], [answer[0] == answer[1] for answer in answers])
    sums = np.asarray(ranks.totals([*matrix.ravel().tolist(), *tallied.ravel().tolist()]))
    matrix, tallied = sums[: matrix.size].reshape(matrix.shape).astype(np.int64), sums[matrix.size :].reshape(3, -1)
    if not tallied[0].sum():
        return None
    return {
        "classification": classification.report_of(matrix, spec.labels),
        "calibration": calibration.report_of(tallied),
    }
