"""Splits rows into training and validation: seeded, by label where there is one, duplicates kept on one side.

`split` reads no file: it is given a label and a group for each row (the group is what duplicates share).
"""

import dataclasses
import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from finery.core.errors import InvalidRequest
from finery.data import duplicates
from finery.data.balance import Balance, labels_of
from finery.data.corpus import Corpus
from finery.data.rows import lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Which rows train and which validate; positions from 0 in the order they were given, rising."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    seed: int


def split(
    rows: Sequence[Any],
    *,
    fraction: float | None = None,
    count: int | None = None,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Split:
    """Put a share of the rows aside for validation.

    `rows` are rows as dicts or their labels (str, int or None). `fraction` (0 to 1, exclusive) or `count` (of rows)
    says how many to put aside. Rows of one group stay on one side; without `groups`, equal dicts are a group. Each
    label gives its share, the rest goes to the largest remainders, so the sizes are met to within the size of a group.
    The same arguments give the same split on every machine.

    Raises InvalidRequest when the numbers are out of range or a side would be empty.
    """
    wanted = _wanted(len(rows), fraction, count)
    if groups is not None and len(groups) != len(rows):
        raise InvalidRequest(f"groups has {len(groups)} entries for {len(rows)} rows; give one for each row.")
    members = _members(rows, groups)
    if len(members) < 2:
        raise InvalidRequest(
            f"All {len(rows)} rows are duplicates of one another, so no row can be put aside for validation without "
            "being trained on too; add different rows.",
            param="validation_split",
        )
    validation = _choose(members, [label(rows[group[0]]) for group in members], wanted, len(rows), seed)
    return Split(
        train=tuple(position for position in range(len(rows)) if position not in validation),
        validation=tuple(sorted(validation)),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSplit:
    """Which lines of a file went where; the record of a split, from which it can be made again."""

    source_sha256: str
    training_lines: tuple[int, ...]
    validation_lines: tuple[int, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            **dataclasses.asdict(self),
            "training_lines": list(self.training_lines),
            "validation_lines": list(self.validation_lines),
        }


def split_file(
    source: Path,
    training: Path,
    validation: Path,
    *,
    fraction: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> FileSplit:
    """Split a JSONL file in two; rows keep their bytes and their order, exact and near duplicates stay on one side.

    Rows are stratified by their label, or by their answer where answers are labels (`balance`).

    Raises:
        InvalidRequest: as `split`, or a line can't be read.
    """
    corpus = Corpus(source)
    _wanted(len(corpus), fraction, count)
    counted = Balance()
    for row in corpus:
        counted.take(row)
    labels = ["\x1f".join(sorted(labels_of(row))) if counted.labelled else None for row in corpus]
    made = split(labels, fraction=fraction, count=count, seed=seed, groups=duplicates.groups(corpus))
    aside = frozenset(corpus.line(position) for position in made.validation)
    with training.open("wb") as training_file, validation.open("wb") as validation_file:
        for number, line in lines(source):
            if line is not None and line.strip():
                (validation_file if number in aside else training_file).write(line + b"\n")
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileSplit(
        source_sha256=sha256,
        training_lines=tuple(corpus.line(position) for position in made.train),
        validation_lines=tuple(corpus.line(position) for position in made.validation),
        seed=seed,
    )


def label(row: Any) -> Hashable:
    """The label a row is stratified by, or None: `label`, `labels` (sorted) or the row itself when it is a label."""
    if not isinstance(row, Mapping):
        return row if isinstance(row, str | int) else None
    if isinstance(row.get("label"), str | int):
        return str(row["label"])
    if isinstance(row.get("labels"), list):
        return "\x1f".join(sorted(map(str, row["labels"])))
    return None


def _wanted(number: int, fraction: float | None, count: int | None) -> int:
    if (fraction is None) == (count is None):
        raise InvalidRequest("Give either fraction or count, not both and not neither.", param="validation_split")
    if fraction is not None and not 0 < fraction < 1:
        raise InvalidRequest(f"fraction is {fraction}; it must lie between 0 and 1.", param="validation_split")
    if count is not None and count < 1:
        raise InvalidRequest(f"count is {count}; put at least 1 row aside.", param="validation_split")
    if number < 2:
        raise InvalidRequest(f"{number} rows can't be split; both sides need at least one.", param="validation_split")
    wanted = max(1, round(number * fraction)) if fraction is not None else count or 1
    if wanted >= number:
        raise InvalidRequest(
            f"{wanted} of {number} rows for validation leaves none to train on; ask for fewer.",
            param="validation_split",
        )
    return wanted


def _members(rows: Sequence[Any], groups: Sequence[Hashable] | None) -> list[list[int]]:
    """Positions by group, in the order the groups first appear."""
    found: dict[Hashable, list[int]] = {}
    for position, row in enumerate(rows):
        found.setdefault(groups[position] if groups is not None else _identity(row, position), []).append(position)
    return list(found.values())


def _identity(row: Any, position: int) -> Hashable:
    return msgspec.json.encode(row, order="deterministic") if isinstance(row, Mapping) else position


def _choose(members: list[list[int]], labels: list[Hashable], wanted: int, number: int, seed: int) -> set[int]:
    """Groups for validation: each label's share first, then what is missing, never all of the groups."""
    rng = random.Random(seed)  # noqa: S311 - a split needs no secrecy
    strata: dict[Hashable, list[list[int]]] = {}
    for group, name in zip(members, labels, strict=True):
        strata.setdefault(name, []).append(group)
    chosen: set[int] = set()
    spare: list[tuple[float, list[int]]] = []
    for stratum in strata.values():
        rng.shuffle(stratum)
        share = sum(map(len, stratum)) * wanted / number
        taken = 0
        for place, group in enumerate(stratum):
            # The last group of a label stays in training, else the model is judged on a label it never saw.
            if place < len(stratum) - 1 and taken + len(group) <= share:
                chosen.update(group)
                taken += len(group)
            else:
                spare.append((share - taken if place < len(stratum) - 1 else float("-inf"), group))
    spare.sort(key=lambda item: -item[0])
    return _top_up(chosen, [group for _, group in spare], wanted, number)


def _top_up(chosen: set[int], spare: list[list[int]], wanted: int, number: int) -> set[int]:
    for group in spare:
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    if chosen:
        return chosen
    smallest = min(spare, key=len)
    if len(smallest) >= number:
        raise InvalidRequest("All rows are duplicates of one another; both sides need a row.", param="validation_split")
    return set(smallest)
