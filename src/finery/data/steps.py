"""The steps of cleaning, one function each: it makes, for a file, what is done to each of its rows.

A step gives back the very row it got where it changes nothing, a new one where it does, and None to drop it.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from finery.core.datasets import Format
from finery.core.errors import InvalidRequest
from finery.data import sensitive
from finery.data.characters import INVISIBLE
from finery.data.corpus import Corpus
from finery.data.duplicates import THRESHOLD, find_leaks, find_repeats
from finery.data.faults import Fault
from finery.data.findings import CODES
from finery.data.formats import check_row, format_among
from finery.data.preflight import leading_form
from finery.data.refusals import is_refusal
from finery.data.rows import parse
from finery.data.texts import answers, map_texts, row_text, texts
from finery.data.tokens import examples_of
from finery.modeling.template import ChatTemplate

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What some steps need beside the file."""

    template: ChatTemplate | None = None
    """The base model's template, for drop_over_length."""
    other: Path | None = None
    """The file whose rows must not occur (validation), for drop_leaked."""


@dataclass(kw_only=True)
class Line:
    """One line of the file that is cleaned."""

    number: int
    data: bytes | None
    """Without its line end; None when it is over the cap."""

    @cached_property
    def row(self) -> Row:
        """The line as a row; Fault where it is none."""
        return parse(self.data)


StepFunction = Callable[[Line, Counter[str]], Row | None]


class StepKind(NamedTuple):
    """A step's maker, its options with their defaults, and what it does in one sentence."""

    make: Callable[..., StepFunction]
    options: dict[str, Any]
    description: str


def drop_faulty(path: Path, context: Context, *, warnings: bool) -> StepFunction:
    """Drop rows with an error of preflight; with `warnings`, those with a warning too."""
    leading = leading_form(path)
    first: list[Format] = [leading] if leading else []

    def step(line: Line, counts: Counter[str]) -> Row | None:
        try:
            row = line.row
        except Fault as fault:
            counts[fault.code] += 1
            return None
        found: set[str] = set()
        form = format_among(row, first[0] if first else None)
        if form is None or form != (first or [form])[0]:
            found.add("unknown_format" if form is None else "mixed_formats")
        else:
            first[:] = [form]
            check_row(row, form, lambda code, _path, _message: found.add(code), Counter())
        bad = {code for code in found if warnings or CODES[code].level == "error"}
        counts.update(bad)
        return None if bad else row

    return step


def drop_exact_duplicates(path: Path, context: Context) -> StepFunction:
    """Drop rows whose training content an earlier row has."""
    corpus = Corpus(path)
    return _drop_lines({corpus.line(repeat.row) for repeat in find_repeats(corpus, near=False)}, "exact_duplicate")


def drop_near_duplicates(path: Path, context: Context, *, threshold: float) -> StepFunction:
    """Drop rows like an earlier one: Jaccard similarity of their 5-character pieces from `threshold` up."""
    corpus = Corpus(path)
    repeats = find_repeats(corpus, threshold=_share(threshold, "threshold"))
    return _drop_lines({corpus.line(repeat.row) for repeat in repeats}, "near_duplicate")


def drop_leaked(path: Path, context: Context, *, threshold: float) -> StepFunction:
    """Drop rows that stand, exactly or nearly, in the other (validation) file."""
    if context.other is None:
        raise InvalidRequest("drop_leaked needs the other file, whose rows must not occur.", param="steps")
    both = Corpus(context.other, path)
    first = len(Corpus(context.other))
    leaks = find_leaks(both, first, threshold=_share(threshold, "threshold"))
    return _drop_lines({both.line(leak.row) for leak in leaks}, "leaked_row")


def drop_refusals(path: Path, context: Context) -> StepFunction:
    """Drop rows in which a trained answer begins as refusals do."""
    return _drop_if("refusal", lambda row: any(is_refusal(text) for _, text in answers(row)))


def drop_short(path: Path, context: Context, *, min_characters: int) -> StepFunction:
    """Drop rows with fewer characters than that, system messages not counted."""
    return _drop_if("short", lambda row: len(row_text(row)) < min_characters)


def drop_long(path: Path, context: Context, *, max_characters: int) -> StepFunction:
    """Drop rows with more characters than that, system messages not counted."""
    return _drop_if("long", lambda row: len(row_text(row)) > max_characters)


def drop_over_length(path: Path, context: Context, *, max_tokens: int) -> StepFunction:
    """Drop rows with more tokens than that for the base model, or that its chat template refuses."""
    template = context.template
    if template is None:
        raise InvalidRequest("drop_over_length counts tokens: name the base model.", param="steps")

    def too_long(row: Row) -> bool:
        try:
            return max(len(example.tokens) for example in examples_of(row, template)) > max_tokens
        except InvalidRequest:
            return True

    return _drop_if("over_length", too_long)


def trim_whitespace(path: Path, context: Context) -> StepFunction:
    """Take white space from the beginning and end of every text."""
    return _change(str.strip)


def normalise_unicode(path: Path, context: Context) -> StepFunction:
    """Bring every text into Unicode's normal form C (NFC)."""
    return _change(lambda text: unicodedata.normalize("NFC", text), arguments=True)


def remove_odd_characters(path: Path, context: Context) -> StepFunction:
    """Take out control characters, invisible characters and text direction overrides."""
    return _change(lambda text: INVISIBLE.sub("", text))


def mask_personal_data(path: Path, context: Context, *, kinds: list[str]) -> StepFunction:
    """Put the kind in the place of personal data, such as [EMAIL]."""
    return _mask(kinds, sensitive.PERSONAL)


def mask_secrets(path: Path, context: Context, *, kinds: list[str]) -> StepFunction:
    """Put the kind in the place of keys, tokens and passwords, such as [AWS_KEY]."""
    return _mask(kinds, sensitive.SECRET)


def drop_sensitive(path: Path, context: Context, *, kinds: list[str]) -> StepFunction:
    """Drop rows that hold personal data or secrets."""
    wanted = _kinds(kinds, sensitive.KINDS)
    return _drop_if("sensitive", lambda row: any(sensitive.find(text, wanted) for _, text in texts(row)))


def _kind(make: Callable[..., StepFunction], **options: Any) -> tuple[str, StepKind]:
    return make.__name__, StepKind(make, options, (make.__doc__ or "").partition("\n")[0])


STEPS: dict[str, StepKind] = dict(
    (
        _kind(drop_faulty, warnings=False),
        _kind(trim_whitespace),
        _kind(normalise_unicode),
        _kind(remove_odd_characters),
        _kind(drop_exact_duplicates),
        _kind(drop_near_duplicates, threshold=THRESHOLD),
        _kind(drop_leaked, threshold=THRESHOLD),
        _kind(drop_refusals),
        _kind(drop_short, min_characters=1),
        _kind(drop_long, max_characters=100_000),
        _kind(drop_over_length, max_tokens=2048),
        _kind(mask_personal_data, kinds=list(sensitive.PERSONAL)),
        _kind(mask_secrets, kinds=list(sensitive.SECRET)),
        _kind(drop_sensitive, kinds=list(sensitive.KINDS)),
    )
)
"""Every step by name, in an order in which they go well together."""


def _drop_lines(numbers: set[int], count: str) -> StepFunction:
    def step(line: Line, counts: Counter[str]) -> Row | None:
        if line.number not in numbers:
            return line.row
        counts[count] += 1
        return None

    return step


def _drop_if(count: str, bad: Callable[[Row], bool]) -> StepFunction:
    def step(line: Line, counts: Counter[str]) -> Row | None:
        if not bad(line.row):
            return line.row
        counts[count] += 1
        return None

    return step


def _change(change: Callable[[str], str], *, arguments: bool = False) -> StepFunction:
    def step(line: Line, counts: Counter[str]) -> Row:
        new = map_texts(line.row, change, arguments=arguments)
        counts["rows"] += new is not line.row
        return new

    return step


def _mask(kinds: list[str], allowed: tuple[str, ...]) -> StepFunction:
    wanted = _kinds(kinds, allowed)

    def step(line: Line, counts: Counter[str]) -> Row:
        def change(text: str) -> str:
            masked, found = sensitive.mask(text, wanted)
            counts.update(found)
            return masked

        return map_texts(line.row, change, arguments=True)

    return step


def _kinds(kinds: list[str], allowed: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in allowed:
            raise InvalidRequest(f"There is no kind {kind!r:.60}; there are {', '.join(allowed)}.", param="steps")
    return tuple(kinds)


def _share(value: float, name: str) -> float:
    if 0 < value <= 1:
        return value
    raise InvalidRequest(f"{name} is {value}; it must lie above 0 and up to 1.", param="steps")
