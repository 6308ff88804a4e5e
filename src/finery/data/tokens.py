"""Rows against a base model: rendered as the trainer renders them, counted, refused where they would teach nothing.

The tokens and what is trained of them come from `modeling.template`, the very code the trainer uses.
A file must have passed `preflight` first: rows here are taken to be well formed.
"""

from array import array
from collections.abc import Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from finery.core.datasets import Format
from finery.core.errors import InvalidRequest
from finery.data.counting import Count, Counter
from finery.data.findings import MAX_FINDINGS, Findings, Report
from finery.data.formats import format_among, format_of
from finery.data.literals import Literals
from finery.data.percentiles import percentiles
from finery.data.rows import iterate_checked
from finery.data.texts import content_text, texts
from finery.modeling.template import ChatTemplate, Example

BATCH_ROWS = 256
"""Rows that are tokenized together, on all cores."""

_WORTH_BYTES = 2_000_000
"""Smaller files are counted row by row: the faster way needs most of a second to get ready."""

_OUTPUTS = ("preferred_output", "non_preferred_output")


def check_tokens(
    path: Path,
    template: ChatTemplate,
    *,
    max_tokens: int,
    max_findings: int = MAX_FINDINGS,
    form: Format | None = None,
) -> Report:
    """Check every row of a file against a base model.

    `max_tokens` is the longest row, in tokens, that a job takes (`max_tokens_per_example`). `form` is the file's
    format, where it is known already. The report's statistics hold `tokens`, `trained_tokens`, `tokens_over` (beyond
    the limit, over all rows) and `row_tokens` (percentiles).
    """
    counter = Counter(template, fast=path.stat().st_size >= _WORTH_BYTES)
    checker = _Checker(template, counter, max_tokens, Findings(max_findings), max_findings, form)
    rows = iterate_checked(path)
    while batch := list(islice(rows, BATCH_ROWS)):
        checker.take(batch)
    return checker.report(path.stat().st_size)


def trained_view(
    row: Mapping[str, Any], template: ChatTemplate, *, output: str = "preferred_output"
) -> list[tuple[str, bool]]:
    """The row as the model sees it, in pieces: a text, and whether it is trained. Joined they are the whole rendering.

    Of a preference row, `output` says which side is shown.

    Raises:
        InvalidRequest: the model's template refuses the row.
    """
    pieces = template.explain(_with_output(row, output))
    return [
        ("".join(piece.text for piece in run), trained)
        for trained, run in groupby(pieces, key=lambda piece: piece.weight > 0)
    ]


def examples_of(row: Mapping[str, Any], template: ChatTemplate) -> list[Example]:
    """The row as the trainer encodes it: one example, or two of a preference row; of a reinforcement row the prompt.

    Raises:
        InvalidRequest: the model's template refuses the row.
    """
    form = format_of(dict(row))
    if form in ("classification", "regression"):
        tokens = template.encode_text(row["text"])
        return [Example(tokens=tokens, weights=[0.0] * len(tokens))]
    if form == "reinforcement":
        tokens = template.encode_prompt(row["messages"], row.get("tools"))
        return [Example(tokens=tokens, weights=[0.0] * len(tokens))]
    outputs = _OUTPUTS if form == "preference" else _OUTPUTS[:1]
    return [template.encode_example(_with_output(row, output)) for output in outputs]


class _Checker:
    """What is counted over all rows."""

    def __init__(
        self,
        template: ChatTemplate,
        counter: Counter,
        max_tokens: int,
        findings: Findings,
        max_findings: int,
        form: Format | None,
    ) -> None:
        self._template = template
        self._counter = counter
        self._max_tokens = max_tokens
        self._findings = findings
        self._max_findings = max_findings
        self._ends = frozenset(template.end_token_ids)
        self._special = _special_tokens(template)
        self._form = form
        self._lengths = array("I")
        self._rows = self._trained = self._over = 0

    def take(self, batch: list[tuple[int, dict[str, Any]]]) -> None:
        """Check some rows, given with their line numbers."""
        self._rows += len(batch)
        examples: list[tuple[int, dict[str, Any], str]] = []
        for line, row in batch:
            form = format_among(row, self._form)
            self._form = self._form or form
            self._find_special(line, row)
            if form == "reinforcement":
                self._count_prompt(line, row)
            elif form in ("classification", "regression"):
                self._count(line, row, "$.text", len(self._template.encode_text(row["text"])))
            elif form == "preference":
                examples += [
                    (line, _with_output(row, key), f"$.{key}") for key in ("preferred_output", "non_preferred_output")
                ]
            else:
                examples.append((line, row, "$"))
        counts = self._counter.count(row for _, row, _ in examples)
        for (line, row, path), count in zip(examples, counts, strict=True):
            self._take_example(line, row, path, count)

    def report(self, size: int) -> Report:
        """The report on all rows taken."""
        statistics = {
            "tokens": sum(self._lengths),
            "trained_tokens": self._trained,
            "tokens_over": self._over,
            "row_tokens": percentiles(self._lengths),
        }
        return self._findings.report(form=self._form, rows=self._rows, size=size, statistics=statistics)

    def _take_example(self, line: int, row: dict[str, Any], path: str, count: Count | InvalidRequest) -> None:
        if isinstance(count, InvalidRequest):
            where = f"$.{count.param}" if count.param and path == "$" else path
            self._findings.add("template_refused", line, where, count.message)
            return
        self._trained += count.trained
        self._count(line, row, path, count.tokens)
        if count.last is None:
            self._findings.add("no_trained_token", line, path, "none of the row's tokens would be trained")
        elif count.last not in self._ends:
            self._findings.add("no_end_token", line, path, "no end token is among the row's trained tokens")

    def _count_prompt(self, line: int, row: dict[str, Any]) -> None:
        try:
            prompt = self._template.encode_prompt(row["messages"], row.get("tools"))
        except InvalidRequest as error:
            self._findings.add("template_refused", line, f"$.{error.param}" if error.param else "$", error.message)
            return
        self._count(line, row, "$.messages", len(prompt))

    def _count(self, line: int, row: dict[str, Any], path: str, length: int) -> None:
        self._lengths.append(length)
        over = length - self._max_tokens
        if over <= 0:
            return
        self._over += over
        where, words = path, ""
        if self._findings.counts["over_context"] < self._max_findings:
            where, words = _cut(row, path, self._template, self._max_tokens)
        message = f"the row has {length:,} tokens, {over:,} more than the limit of {self._max_tokens:,}{words}"
        self._findings.add("over_context", line, where, message)

    def _find_special(self, line: int, row: dict[str, Any]) -> None:
        if self._is_plain(row):
            return
        for path, text in texts(row):
            found = self._special.find(text)
            if found:
                message = f"the text holds {found}, which this model reads as a control token"
                self._findings.add("special_token_in_text", line, path, message)

    def _is_plain(self, row: dict[str, Any]) -> bool:
        """Whether a row is roles and contents alone, without a special token: most are, and this is told fast."""
        if len(row) != 1 or "messages" not in row:
            return False
        find = self._special.find
        return not any(
            len(message) != 2 or type(message.get("content")) is not str or find(message["content"])
            for message in row["messages"]
        )


def _with_output(row: Mapping[str, Any], output: str) -> dict[str, Any]:
    """A preference row as the conversation that ends in one of its outputs; any other row as it is."""
    if "preferred_output" not in row:
        return dict(row)
    given = row["input"]
    context = [
        {**message, "weight": 0} if message.get("role") == "assistant" else message for message in given["messages"]
    ]
    return {"messages": [*context, *row[output]], "tools": given.get("tools")}


def _special_tokens(template: ChatTemplate) -> Literals:
    return Literals(token.content for token in template.tokenizer.get_added_tokens_decoder().values() if token.special)


def _cut(row: dict[str, Any], path: str, template: ChatTemplate, limit: int) -> tuple[str, str]:
    """Where a cut after `limit` tokens would fall: the JSON path, and words with the first text that would be lost."""
    if path in ("$.text", "$.messages"):
        return path, ""
    pieces = template.explain(row)
    text = "".join(piece.text for piece in pieces)
    cut = sum(len(piece.text) for piece in pieces[:limit])
    lost = " ".join(text[cut : cut + 60].split())
    words = f"; a cut there would begin at {lost!r}"
    if "messages" not in row:
        return f"$.{'prompt' if cut < len(row['prompt']) else 'completion'}", words
    place = 0
    for index, message in enumerate(row["messages"]):
        content = content_text(message).strip()
        found = text.find(content, place)
        place = max(place, found + len(content))
        if cut < place:
            return (f"$.messages[{index}]" if path == "$" else path), words
    return path, words
