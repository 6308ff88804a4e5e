"""The quality report: what a careful reader would notice about the rows, beyond their form.

Duplicates, leakage, balance, languages, lengths, refusals, personal data and secrets, odd characters. All are warnings:
what is meant and what is a slip only the owner knows. Files must have passed `preflight`. Memory: some 300 bytes a row.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finery.core.datasets import Format
from finery.data import balance, sensitive
from finery.data.characters import find_odd
from finery.data.corpus import Corpus
from finery.data.duplicates import THRESHOLD, find_leaks, find_repeats
from finery.data.findings import MAX_FINDINGS, Findings, Report
from finery.data.formats import format_of
from finery.data.languages import language_of
from finery.data.percentiles import percentiles
from finery.data.refusals import is_refusal
from finery.data.texts import answers, asked_and_answered, row_text, texts

LANGUAGE_SAMPLE = 2000
"""Rows whose language is looked at, evenly spread."""


def inspect(
    training: Path, validation: Path | None = None, *, threshold: float = THRESHOLD, max_findings: int = MAX_FINDINGS
) -> Report:
    """Read a training file, and compare it with a validation file if there is one.

    Findings are of the training file's lines; of the validation file it is told what it shares with the training file.
    The statistics are the tables of the report: see the keys written below.
    """
    corpus = Corpus(training)
    inspector = _Inspector(corpus, Findings(max_findings))
    for position, row in enumerate(corpus):
        inspector.take(position, row)
    inspector.finish(threshold)
    if validation is not None:
        inspector.compare(Corpus(training, validation), threshold)
    return inspector.report(training.stat().st_size)


class _Inspector:
    """What is gathered over all rows of the training file."""

    def __init__(self, corpus: Corpus, findings: Findings) -> None:
        self._corpus = corpus
        self._findings = findings
        self._form: Format | None = None
        self._lengths, self._answer_lengths = array("I"), array("I")
        self._sensitive = Counter[str]()
        self._odd = Counter[str]()
        self._languages: dict[int, str] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        self._balance = balance.Balance()
        self._statistics: dict[str, Any] = {"rows": len(corpus)}

    def take(self, position: int, row: dict[str, Any]) -> None:
        """Look at one row."""
        line = self._corpus.line(position)
        self._form = self._form or format_of(row)
        text = row_text(row)
        self._lengths.append(len(text))
        if position % max(1, len(self._corpus) // LANGUAGE_SAMPLE) == 0 and len(self._languages) < LANGUAGE_SAMPLE:
            self._languages[line] = language_of(text)
        for path, part in texts(row):
            self._read(line, path, part)
        for path, answer in answers(row):
            self._answer_lengths.append(len(answer))
            if is_refusal(answer):
                self._findings.add("refusal", line, path, f"the answer refuses: {answer[:60]!r}")
        self._balance.take(row)
        self._compare_answers(line, row)

    def finish(self, threshold: float) -> None:
        """What takes all rows: duplicates, balance, languages, outliers."""
        repeats = find_repeats(self._corpus, threshold=threshold)
        for repeat in repeats:
            code, words = ("exact_duplicate", "repeats") if repeat.exact else ("near_duplicate", "nearly repeats")
            close = "" if repeat.exact else f" (similarity {repeat.similarity:.2f})"
            self._note(code, repeat.row, f"the row {words} line {self._corpus.line(repeat.of):,}{close}")
        exact = sum(repeat.exact for repeat in repeats)
        self._statistics["duplicates"] = {"exact": exact, "near": len(repeats) - exact}
        for finding in self._balance.findings():
            self._findings.add(finding.code, 0, "$", finding.message)
        self._count_languages()
        self._find_outliers()

    def compare(self, both: Corpus, threshold: float) -> None:
        """Compare with a validation file; `both` holds the training rows, then the validation rows."""
        first = len(self._corpus)
        leaks = find_leaks(both, first, threshold=threshold)
        for leak in leaks:
            close = "also stands" if leak.exact else f"nearly stands (similarity {leak.similarity:.2f})"
            self._note("leaked_row", leak.of, f"the row {close} in the validation file, line {both.line(leak.row):,}")
        exact = sum(leak.exact for leak in leaks)
        self._statistics["leakage"] = {"exact": exact, "near": len(leaks) - exact}
        self._statistics["validation_rows"] = len(both) - first
        unknown = Counter[str]()
        for position in range(first, len(both)):
            unknown.update(self._balance.unknown_labels(both[position]))
        for label, times in unknown.most_common():
            self._findings.add(
                "unknown_label", 0, "$", f"the validation label {label!r:.60} ({times:,} rows) is never trained"
            )

    def report(self, size: int) -> Report:
        """The report on everything taken."""
        statistics = {
            **self._statistics,
            "characters": percentiles(self._lengths),
            "answer_characters": percentiles(self._answer_lengths),
            "labels": self._balance.statistics(),
            "refusals": self._findings.counts["refusal"],
            "conflicting_answers": self._findings.counts["conflicting_answers"],
            "sensitive": dict(self._sensitive.most_common()),
            "odd_characters": dict(self._odd.most_common()),
        }
        return self._findings.report(form=self._form, rows=len(self._corpus), size=size, statistics=statistics)

    def _note(self, code: str, position: int, message: str) -> None:
        self._findings.add(code, self._corpus.line(position), "$", message)

    def _read(self, line: int, path: str, text: str) -> None:
        for match in sensitive.find(text):
            self._sensitive[match.kind] += 1
            code, words = (
                ("secret", "a secret") if match.kind in sensitive.SECRET else ("personal_data", "personal data")
            )
            # The report must not spread what it found: the kind and the place, never the value.
            place = f"characters {match.start + 1} to {match.end}"
            self._findings.add(code, line, path, f"{place} are {words} ({match.kind})")
        for kind, sign in find_odd(text):
            self._odd[kind] += 1
            shown = sign if len(sign) > 6 else ascii(sign)
            self._findings.add("odd_characters", line, path, f"{kind.replace('_', ' ')}: {shown}")

    def _compare_answers(self, line: int, row: Mapping[str, Any]) -> None:
        pair = asked_and_answered(row)
        if pair is None:
            return
        asked, answered = (_key(" ".join(text.split()).casefold()) for text in pair)
        known, known_line = self._asked.setdefault(asked, (answered, line))
        if known != answered:
            self._findings.add(
                "conflicting_answers", line, "$", f"the same is asked, and answered otherwise, in line {known_line:,}"
            )

    def _count_languages(self) -> None:
        counts = Counter(self._languages.values())
        told = counts.total() - counts["und"]
        self._statistics["languages"] = {name: round(count / counts.total(), 4) for name, count in counts.most_common()}
        if not told:
            return
        common = {name for name, count in counts.items() if count >= 0.1 * told}
        for line, name in self._languages.items():
            if name != "und" and name not in common:
                self._findings.add("other_language", line, "$", f"the text seems to be in {name}, most rows are not")

    def _find_outliers(self) -> None:
        """Rows whose log length is beyond 5 robust deviations (the modified z-score of Iglewicz and Hoaglin 1993)."""
        if len(self._lengths) < 20:
            return
        logs = np.log1p(np.frombuffer(self._lengths, dtype=self._lengths.typecode))
        middle = float(np.median(logs))
        spread = max(float(np.median(np.abs(logs - middle))), 0.05)
        for position in np.flatnonzero(np.abs(logs - middle) * 0.6745 / spread > 5):
            length, usual = self._lengths[position], round(float(np.expm1(middle)))
            self._note(
                "length_outlier",
                int(position),
                f"the row has {length:,} characters, half of all have at most {usual:,}",
            )


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
