"""The measured rows of a run and their file, results.csv. It does not know how anything is measured; no torch.

Columns: the union of what OpenAI and Azure write. A cell is empty where nothing was measured. Numbers are
written so that reading them gives the same float again: a checkpoint keeps its rows in this very form.
"""

import csv
import io
from dataclasses import dataclass, fields

RESULTS_FILE = "results.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow:
    """One optimizer step."""

    step: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    """Share of tokens (language modelling), examples (heads) or pairs (preferences) that were right."""
    train_mean_token_accuracy: float | None = None
    """The same, of tokens; none where no tokens are predicted."""
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    train_reward_mean: float | None = None
    """Of reinforcement: the mean reward of a step's answers."""
    valid_reward_mean: float | None = None
    """Of answers to the whole validation set."""
    completion_tokens_mean: float | None = None
    """Tokens of an answer."""
    kl_mean: float | None = None
    """How far the model is from its base, by token; see `policy.divergence`."""

    def measured(self) -> dict[str, float | int]:
        """What isn't empty, by column."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}


COLUMNS = tuple(field.name for field in fields(ResultRow))
REWARD_COLUMNS = ("train_reward_mean", "valid_reward_mean", "completion_tokens_mean", "kl_mean")
"""Only in files of runs that measured any of them."""


def to_csv(rows: list[ResultRow]) -> str:
    """The content of results.csv: a header, then a line for each row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rewarded = any(getattr(row, name) is not None for row in rows for name in REWARD_COLUMNS)
    columns = [name for name in COLUMNS if rewarded or name not in REWARD_COLUMNS]
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (value := getattr(row, name)) is None else repr(value) for name in columns])
    return out.getvalue()


def from_csv(text: str) -> list[ResultRow]:
    """The inverse of `to_csv`."""
    rows = []
    for cells in csv.DictReader(io.StringIO(text)):
        measured = {name: float(cell) for name, cell in cells.items() if cell and name != "step"}
        rows.append(ResultRow(step=int(cells["step"]), **measured))
    return rows
