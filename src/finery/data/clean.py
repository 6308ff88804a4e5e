"""The fast path of preflight: says of a block of lines that there is nothing to find, or nothing at all.

Rows are decoded into typed structs in one call and looked over with a few counts. Whatever is unusual (tools, weights,
an odd order, an escape that could hide something) is left to the slow path, so a mistake here costs time, never truth.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from finery.core.datasets import Format
from finery.data.rows import MAX_LINE_BYTES

FORMATS: tuple[Format, ...] = ("chat", "completion", "classification", "regression")


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "developer", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | msgspec.UnsetType = msgspec.UNSET


class _Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]


class _Completion(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _Classification(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str
    label: str | int


class _Regression(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str
    target: int | float


_DECODERS: dict[Format, msgspec.json.Decoder[Any]] = {
    "chat": msgspec.json.Decoder(_Chat),
    "completion": msgspec.json.Decoder(_Completion),
    "classification": msgspec.json.Decoder(_Classification),
    "regression": msgspec.json.Decoder(_Regression),
}
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, kw_only=True, slots=True)
class Clean:
    """What a block of clean rows adds to the report."""

    rows: int
    longest_line: int
    counted: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    """Rows by label."""


def clean_rows(block: bytes, form: Format, max_line_bytes: int = MAX_LINE_BYTES) -> Clean | None:
    """Sizes of a block whose every line is a clean row of this format; None where a closer look is needed."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\\u0022" in block or b"\\u0000" in block or not block.startswith(b"{"):
        return None
    if not block.endswith(b"\n"):
        block += b"\n"
    longest = max(map(len, block.split(b"\n")))
    if longest > max_line_bytes:
        return None
    try:
        rows = _DECODERS[form].decode_lines(block)
        encoded = _ENCODER.encode_lines(rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, ValueError):
        return None
    # One object a line: each of the line ends stands between } and {, which no place inside an object does.
    if block.count(b"\n") != len(rows) or block.count(b"}\n{") != len(rows) - 1 or not block.endswith(b"}\n"):
        return None
    # A key given twice is lost in decoding, and its quotation marks with it.
    if encoded.count(b'"') != block.count(b'"'):
        return None
    return _LOOKS[form](rows, longest)


def _chat(rows: list[_Chat], longest: int) -> Clean | None:
    counted = Counter[str]()
    for row in rows:
        talk = row.messages
        opener = talk[0].role if talk else "user"
        if opener in ("system", "developer"):
            if not _full(talk[0].content) or talk[0].weight is not msgspec.UNSET:
                return None
            counted[opener] += 1
            talk = talk[1:]
        if not talk or len(talk) % 2:
            return None
        counted["user"] += len(talk) // 2
        trained = weighted = False
        for asks, answers in zip(talk[::2], talk[1::2], strict=True):
            if asks.role != "user" or answers.role != "assistant" or asks.weight is not msgspec.UNSET:
                return None
            if not (_full(asks.content) and _full(answers.content)):
                return None
            trained |= answers.weight != 0
            weighted |= answers.weight is not msgspec.UNSET
        if not trained:
            return None
        counted["with_weights"] += weighted
    counted["assistant"] = counted["user"]
    return Clean(rows=len(rows), longest_line=longest, counted=counted)


def _full(text: str) -> bool:
    return bool(text) and not text.isspace()


def _completion(rows: list[_Completion], longest: int) -> Clean | None:
    if not all(row.completion.strip() for row in rows):
        return None
    return Clean(rows=len(rows), longest_line=longest)


def _classification(rows: list[_Classification], longest: int) -> Clean | None:
    labels = Counter(str(row.label) for row in rows)
    if not all(row.text.strip() for row in rows) or not all(label.strip() for label in labels):
        return None
    return Clean(rows=len(rows), longest_line=longest, labels=labels)


def _regression(rows: list[_Regression], longest: int) -> Clean | None:
    if not all(row.text.strip() for row in rows):
        return None
    return Clean(rows=len(rows), longest_line=longest)


_LOOKS: dict[Format, Callable[[list[Any], int], Clean | None]] = {
    "chat": _chat,
    "completion": _completion,
    "classification": _classification,
    "regression": _regression,
}
