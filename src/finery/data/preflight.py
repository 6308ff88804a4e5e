"""Preflight: is this upload what its purpose asks for? Streaming, in memory that doesn't grow with the file.

Blocks of clean rows go through a fast path (`clean`), which only ever says "nothing to find here"; every other block is
checked line by line by the rules of `messages`, `tools` and `formats`. It knows no tokens (`tokens` does).
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from finery.core.datasets import Format
from finery.core.files import CHECKED_PURPOSES
from finery.data import clean, formats
from finery.data.faults import Fault
from finery.data.findings import MAX_FINDINGS, Finding, Findings, Report
from finery.data.messages import Add
from finery.data.rows import BOM, MAX_LINE_BYTES, blocks, lines, parse

__all__ = ["Finding", "Report", "check"]

MAX_BATCH_REQUESTS = 50_000
MAX_LABELS = 1000
"""Different labels that are counted and listed in the statistics."""
LEADING_ROWS = 20
"""Lines that tell chat from reinforcement."""

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed_file", "the file is gzip"),
    (b"PK\x03\x04", "compressed_file", "the file is a zip archive"),
    (b"PK\x05\x06", "compressed_file", "the file is an empty zip archive"),
    (b"\x28\xb5\x2f\xfd", "compressed_file", "the file is Zstandard"),
    (b"BZh", "compressed_file", "the file is bzip2"),
    (b"\xfd7zXZ\x00", "compressed_file", "the file is xz"),
    (b"7z\xbc\xaf\x27\x1c", "compressed_file", "the file is a 7z archive"),
    (b"PAR1", "binary_file", "the file is Parquet"),
    (b"ARROW1", "binary_file", "the file is Arrow"),
    (b"SQLite format 3\0", "binary_file", "the file is an SQLite database"),
    (b"%PDF-", "binary_file", "the file is a PDF"),
    (b"\x80\x04\x95", "binary_file", "the file is a Python pickle"),
    (b"\xff\xfe", "utf16_file", "the file is UTF-16 or UTF-32"),
    (b"\xfe\xff", "utf16_file", "the file is UTF-16"),
    (b"\0\0\xfe\xff", "utf16_file", "the file is UTF-32"),
)


def check(
    path: Path,
    purpose: str,
    *,
    max_findings: int = MAX_FINDINGS,
    max_line_bytes: int = MAX_LINE_BYTES,
    fast: bool = True,
) -> Report:
    """Check a file for a purpose (`fine-tune`, `evals`, `batch`; any other is accepted unread).

    Bad input never raises: it is a finding. `fast=False` sends every line the slow way; the report is the same. The
    least number of training examples is no rule here, since it depends on the job: see `Report.rows`.
    """
    size = path.stat().st_size
    findings = Findings(max_findings)
    if purpose not in CHECKED_PURPOSES:
        return findings.report(form=None, rows=0, size=size, statistics={})
    checker = _Checker(purpose, findings, max_line_bytes, fast)
    if checker.accepts_start(path):
        if purpose == "fine-tune":
            checker.form = leading_form(path, max_line_bytes)
        for block, overlong in blocks(path, max_line_bytes):
            if block:
                checker.take_block(block)
            if overlong:
                checker.take_line(None)
        checker.finish()
    return findings.report(form=checker.form, rows=checker.rows, size=size, statistics=checker.statistics())


def leading_form(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Format | None:
    """The format of a file whose first row may mislead; None: the first row tells it.

    A conversation without its answer reads as one for a grader. Where most of the first rows have an answer, it is they
    that tell what the file is, and the other one is at fault.
    """
    forms: list[Format | None] = []
    for _, line in islice(lines(path, max_line_bytes), LEADING_ROWS):
        with suppress(Fault):
            forms.append(formats.format_of(parse(line, max_line_bytes)))
    if forms and forms[0] == "reinforcement" and forms.count("chat") > forms.count("reinforcement"):
        return "chat"
    return None


class _Checker:
    """What has to be remembered from line to line."""

    def __init__(self, purpose: str, findings: Findings, max_line_bytes: int, fast: bool) -> None:
        self.form: Format | None = "batch" if purpose == "batch" else None
        self.rows = 0
        self._purpose = purpose
        self._findings = findings
        self._max_line_bytes = max_line_bytes
        self._fast = fast
        self._line = 0
        self._longest_line = 0
        self._counted: Counter[str] = Counter()
        self._labels = Counter[str]()
        self._multi_label: bool | None = None
        self._custom_ids: set[int] = set()
        self._batch: dict[str, str] = {}

    def accepts_start(self, path: Path) -> bool:
        """Whether the first bytes may be JSONL."""
        with path.open("rb") as file:
            start = file.read(64)
        if not start.removeprefix(BOM):
            self._findings.add("empty_file", 0, "$", "the file is empty")
            return False
        for magic, code, words in _MAGIC:
            if start.startswith(magic):
                self._findings.add(code, 0, "$", words)
                return False
        if start[1::2].count(0) > len(start) // 4 or start[::2].count(0) > len(start) // 4:
            self._findings.add("utf16_file", 0, "$", "every other byte is NUL: the file is UTF-16 without a mark")
            return False
        return True

    def take_block(self, block: bytes) -> None:
        """Check whole lines."""
        if self._fast and self.form in clean.FORMATS and not self._multi_label and self._take_clean(block):
            return
        if not block.strip(b"\r\n"):
            self._take_blanks(block.count(b"\n") + (not block.endswith(b"\n")))
            return
        parts = block.split(b"\n")
        if parts[-1] == b"":
            parts.pop()
        for line in parts:
            self.take_line(line)

    def take_line(self, line: bytes | None) -> None:
        """Check one line, given without its line feed; None is a line over the cap."""
        if line is not None:
            line = line.removesuffix(b"\r")
            if not line.strip():
                self._take_blanks(1)
                return
            self._longest_line = max(self._longest_line, len(line))
            if len(line) > self._max_line_bytes:
                line = None
        self._line += 1
        try:
            row = parse(line, self._max_line_bytes)
        except Fault as fault:
            self._take_fault(fault, line or b"")
            return
        self.rows += 1
        self._take_row(row)

    def finish(self) -> None:
        """What only the whole file tells."""
        if self.rows == 0:
            self._findings.add("no_rows", 0, "$", f"none of the {self._line:,} lines holds a JSON object")
        if len(self._labels) > MAX_LABELS:
            self._findings.add("too_many_labels", 0, "$", f"there are more than {MAX_LABELS:,} different labels")
        if self.form == "classification" and len(self._labels) == 1 and not self._multi_label:
            self._findings.add("one_label_only", 0, "$", f"every row has the label {next(iter(self._labels))!r:.60}")
        if self._purpose == "batch" and self.rows > MAX_BATCH_REQUESTS:
            self._findings.add("too_many_requests", 0, "$", f"the batch has {self.rows:,} requests")

    def statistics(self) -> dict[str, Any]:
        """For the report."""
        counted: dict[str, Any] = dict(sorted((+self._counted).items()))
        if self.form == "classification":
            counted["multi_label"] = bool(self._multi_label)
        if 0 < len(self._labels) <= MAX_LABELS:
            counted["labels"] = dict(sorted(self._labels.items()))
        return {"lines": self._line, "longest_line_bytes": self._longest_line, **counted}

    def _take_clean(self, block: bytes) -> bool:
        assert self.form is not None
        seen = clean.clean_rows(block, self.form, self._max_line_bytes)
        if seen is None:
            return False
        self.rows += seen.rows
        self._line += seen.rows
        self._longest_line = max(self._longest_line, seen.longest_line)
        self._counted.update(seen.counted)
        self._count_labels(seen.labels)
        return True

    def _count_labels(self, labels: Mapping[str, int]) -> None:
        if len(self._labels) <= MAX_LABELS:
            self._labels.update(labels)

    def _take_blanks(self, number: int) -> None:
        words = "the line is blank" if number == 1 else f"{number:,} blank lines begin here"
        self._findings.add("blank_line", self._line + 1, "$", words, times=number)
        self._line += number

    def _take_fault(self, fault: Fault, line: bytes) -> None:
        code, message = fault.code, fault.message
        if (
            self._line == 1
            and line.lstrip().startswith(b"[")
            and code in ("not_an_object", "invalid_json", "spread_over_lines")
        ):
            code, message = "json_array", "the file is one JSON array"
        self._findings.add(code, self._line, "$", message)

    def _take_row(self, row: dict[str, Any]) -> None:
        line = self._line
        add = self._findings.add

        def note(code: str, path: str, message: str) -> None:
            add(code, line, path, message)

        if self._purpose == "evals":
            formats.check_item(row, note)
            return
        if self._purpose == "batch":
            formats.check_row(row, "batch", note, self._counted)
            self._take_request(row, note)
            return
        form = formats.format_among(row, self.form)
        if form is None:
            keys = ", ".join(sorted(row)[:8])
            note("unknown_format", "$", f"the row's keys ({keys[:120] or 'none'}) are those of no format")
            return
        self.form = self.form or form
        if form != self.form:
            note("mixed_formats", "$", f"the row is {form}, the rows before it are {self.form}")
            return
        formats.check_row(row, form, note, self._counted)
        if form == "classification":
            self._take_labels(row, note)

    def _take_labels(self, row: dict[str, Any], note: Add) -> None:
        """Count a row's labels; a file has one label a row, or lists of labels."""
        multi_label = "label" not in row
        if self._multi_label is None:
            self._multi_label = multi_label
        if multi_label != self._multi_label:
            here, before = ("labels", "label") if multi_label else ("label", "labels")
            note("mixed_formats", "$", f"the row has {here}, the rows before it have {before}")
        labels = row["labels"] if multi_label else [row["label"]]
        if isinstance(labels, list):
            self._count_labels(Counter({str(label) for label in labels if isinstance(label, str | int)}))

    def _take_request(self, row: dict[str, Any], note: Add) -> None:
        """What requests of one batch must share, and what they must not."""
        name = hash(str(row.get("custom_id")))
        if "custom_id" in row and name in self._custom_ids:
            note("duplicate_custom_id", "$.custom_id", f"the custom_id {row['custom_id']!r:.60} was used before")
        if len(self._custom_ids) <= MAX_BATCH_REQUESTS:
            self._custom_ids.add(name)
        body = row.get("body")
        model = body.get("model") if isinstance(body, dict) else None
        url = row.get("url") if row.get("url") in formats.BATCH_URLS else None
        for key, value, code, path in (
            ("url", url, "mixed_urls", "$.url"),
            ("model", model, "mixed_models", "$.body.model"),
        ):
            if isinstance(value, str) and value != self._batch.setdefault(key, value):
                note(code, path, f"the {key} is {value!r:.60}, the first request's is {self._batch[key]!r:.60}")
