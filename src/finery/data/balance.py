"""Balance of labels, or of intents where short answers take their place, and answers that come again and again."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finery.data.texts import answers

MAX_LABELS = 2000
"""More different answers than this are no labels; counting stops there."""
_LABEL_CHARACTERS = 80
_FEW = 10
"""A label with fewer rows is rare."""
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A finding about the whole file."""

    code: str
    message: str


class Balance:
    """Counts labels row by row. Chat rows count by their last answer while those are short and few."""

    def __init__(self) -> None:
        self._labels = Counter[str]()
        self._rows = self._labelled_rows = 0
        self._given = False
        self._overfull = False

    def take(self, row: Mapping[str, Any]) -> None:
        """Count one row."""
        self._rows += 1
        self._given = self._given or "label" in row or "labels" in row
        labels = labels_of(row)
        self._labelled_rows += bool(labels)
        if not self._overfull:
            self._labels.update(labels)
            self._overfull = len(self._labels) > MAX_LABELS and not self._given

    def unknown_labels(self, row: Mapping[str, Any]) -> list[str]:
        """The row's labels that no row counted so far has."""
        return [label for label in labels_of(row) if label not in self._labels] if self.labelled else []

    def statistics(self) -> dict[str, Any]:
        """How many labels, rows of the most and least frequent, evenness (entropy over its maximum, 0 to 1)."""
        if not self.labelled:
            return {}
        total = self._labels.total()
        entropy = -sum(count / total * math.log(count / total) for count in self._labels.values())
        ranked = self._labels.most_common()
        return {
            "number": len(ranked),
            "evenness": round(entropy / math.log(len(ranked)), 4) if len(ranked) > 1 else 1.0,
            "most": dict(ranked[:_SHOWN]),
            "least": dict(ranked[: -_SHOWN - 1 : -1]),
        }

    def findings(self) -> Iterator[Imbalance]:
        """What is worth telling about the labels, or about answers that repeat."""
        ranked = self._labels.most_common()
        if not self.labelled:
            text, rows = ranked[0] if ranked and not self._overfull else ("", 0)
            if rows >= max(_FEW, self._rows // 10):
                yield Imbalance("repeated_answer", f"{rows:,} of {self._rows:,} rows answer {text!r:.60}")
            return
        (most, high), (least, low) = ranked[0], ranked[-1]
        if len(ranked) > 1 and high >= 10 * low:
            yield Imbalance("unbalanced_labels", f"the label {most!r:.60} has {high:,} rows, {least!r:.60} has {low:,}")
        for label, rows in reversed(ranked):
            if rows >= min(_FEW, self._rows // (2 * len(ranked))):
                break
            yield Imbalance("rare_label", f"the label {label!r:.60} has only {rows:,} row{'' if rows == 1 else 's'}")

    @property
    def labelled(self) -> bool:
        """Whether what was counted are labels: given as such, or short answers of nearly all rows, each five times."""
        if self._given or not self._labels:
            return bool(self._labels)
        repeated = not self._overfull and len(self._labels) * 5 <= self._rows
        return repeated and self._labelled_rows >= 0.9 * self._rows


def labels_of(row: Mapping[str, Any]) -> list[str]:
    """A row's labels: given as such, or its last answer when that is short enough to be one."""
    if "labels" in row and isinstance(row["labels"], list):
        return [str(label) for label in row["labels"]]
    if "label" in row:
        return [str(row["label"])]
    said = [text for _, text in answers(row)][-1:]
    return [text.strip() for text in said if 0 < len(text.strip()) <= _LABEL_CHARACTERS]
