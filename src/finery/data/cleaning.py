"""Cleaning in named steps: a new file and a record of every row that was changed or dropped; the parent stays as it is.

Steps run in the order given, each over what the one before left. A row that a step doesn't touch keeps its bytes. The
record names rows by their line in the parent, so any step can be followed back, or left out and run again.
"""

import dataclasses
import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from finery.core.errors import InvalidRequest
from finery.data.faults import Fault
from finery.data.rows import lines
from finery.data.steps import STEPS, Context, Line, StepFunction, StepKind

__all__ = ["CleaningRecord", "Context", "Step", "StepRecord", "clean", "parse_steps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step to run: a name of `STEPS`, and its options if it takes any."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What one step did; rows by their line number in the parent file."""

    name: str
    options: dict[str, Any]
    changed: tuple[int, ...]
    dropped: tuple[int, ...]
    counts: dict[str, int]
    """What was done how often, in the step's own words (such as finds masked by kind)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleaningRecord:
    """The lineage of a cleaned file."""

    parent_sha256: str
    result_sha256: str
    parent_lines: int
    result_rows: int
    steps: tuple[StepRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; `from_json` is the inverse."""
        steps = [
            {**dataclasses.asdict(step), "changed": list(step.changed), "dropped": list(step.dropped)}
            for step in self.steps
        ]
        return {**dataclasses.asdict(self), "steps": steps}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "CleaningRecord":
        """The inverse of `to_json`; an unknown field is a TypeError."""
        steps = (
            StepRecord(**{**step, "changed": tuple(step["changed"]), "dropped": tuple(step["dropped"])})
            for step in data["steps"]
        )
        return CleaningRecord(**{**data, "steps": tuple(steps)})


def clean(source: Path, destination: Path, steps: Sequence[Step], *, context: Context | None = None) -> CleaningRecord:
    """Write the cleaned file; the source is only read. Blank lines go, and line ends become LF.

    Memory: the step's own (duplicates: some 200 bytes a row) and 4 bytes a row.

    Raises:
        InvalidRequest: no steps, an unknown step or option, or a step needs what `context` lacks (a template, a file).
    """
    if not steps:
        raise InvalidRequest(f"Name at least one cleaning step; there are {', '.join(STEPS)}.", param="steps")
    functions = [_function(step, context or Context()) for step in steps]
    records: list[StepRecord] = []
    current, origin = source, None
    scratch = [destination.with_name(f".{destination.name}.{number}.part") for number in range(len(steps))]
    try:
        for step, function, path in zip(steps, functions, scratch, strict=True):
            record, origin = _run(step, function, current, path, origin)
            records.append(record)
            current = path
        result = CleaningRecord(
            parent_sha256=_sha256(source),
            result_sha256=_sha256(current),
            parent_lines=sum(1 for _ in lines(source)),
            result_rows=len(origin or ()),
            steps=tuple(records),
        )
        os.replace(current, destination)
        return result
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


def parse_steps(specification: Sequence[str | Mapping[str, Any]]) -> list[Step]:
    """Steps from JSON: a name, or `{"name": …, "options": {…}}`.

    Raises:
        InvalidRequest: it is neither, or the step is unknown.
    """
    steps = []
    for item in specification:
        named = {"name": item} if isinstance(item, str) else item
        if not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
            raise InvalidRequest(
                f"{item!r:.80} is no cleaning step; write a name, or a name with options.", param="steps"
            )
        options = named.get("options") or {}
        if not isinstance(options, Mapping):
            raise InvalidRequest(f"The options of {named['name']} must be an object.", param="steps")
        step = Step(name=named["name"], options=dict(options))
        _known(step)
        steps.append(step)
    return steps


def _known(step: Step) -> StepKind:
    known = STEPS.get(step.name)
    if known is None:
        raise InvalidRequest(f"There is no cleaning step {step.name!r}; there are {', '.join(STEPS)}.", param="steps")
    unknown = step.options.keys() - known.options.keys()
    if unknown:
        takes = ", ".join(known.options) or "none"
        raise InvalidRequest(
            f"The step {step.name} has no option {sorted(unknown)[0]!r}; it takes {takes}.", param="steps"
        )
    for name, value in step.options.items():
        wanted = type(known.options[name])
        accepted = (int, float) if wanted is float else wanted
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, accepted):
            raise InvalidRequest(
                f"The option {name} of {step.name} is {value!r:.60}, not {wanted.__name__}.", param="steps"
            )
    return known


def _function(step: Step, context: Context) -> Callable[[Path], StepFunction]:
    kind = _known(step)
    return lambda path: kind.make(path, context, **{**kind.options, **step.options})


def _run(
    step: Step, make: Callable[[Path], StepFunction], source: Path, destination: Path, origin: "array[int] | None"
) -> tuple[StepRecord, "array[int]"]:
    """One pass over the file; the answer's array holds, for each line written, its line in the parent."""
    changed: list[int] = []
    dropped: list[int] = []
    counts: Counter[str] = Counter()
    kept = array("I")
    function = make(source)
    with destination.open("wb") as output:
        for line in _read(source):
            parent_line = line.number if origin is None else origin[line.number - 1]
            try:
                row = function(line, counts)
            except Fault as fault:
                message = f"Line {parent_line} can't be read: {fault.message}. Put drop_faulty first."
                raise InvalidRequest(message, code=fault.code) from None
            if row is None:
                dropped.append(parent_line)
                continue
            kept.append(parent_line)
            if row is line.row:
                output.write((line.data or b"") + b"\n")
            else:
                output.write(msgspec.json.encode(row) + b"\n")
                changed.append(parent_line)
        output.flush()
        os.fsync(output.fileno())
    record = StepRecord(
        name=step.name, options=step.options, changed=tuple(changed), dropped=tuple(dropped), counts=dict(counts)
    )
    return record, kept


def _read(path: Path) -> Iterator[Line]:
    for number, data in lines(path):
        if data is None or data.strip():
            yield Line(number=number, data=data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
