"""Why a line is not the JSON we take: turns a parser's refusal into a code, a place and words for people.

Slow by design, since only faulty lines come here. It knows nothing of rows, and the codes' meaning is in `findings`.
"""

import json
import re
from typing import Any

_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}|\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_MAX_EXPLAINED_BYTES = 1 << 20
"""Longer lines get the parser's own words: explaining must not cost more than checking."""


class Fault(Exception):
    """A line that can't be read; `code` is a key of `findings.CODES`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def diagnose(line: bytes, error: Exception) -> Fault:
    """The fault of a line that the parser refused with `error`."""
    if isinstance(error, RecursionError):
        return Fault("too_deep", "arrays and objects nest too deep to be read")
    try:
        line.decode()
    except UnicodeDecodeError as broken:
        return Fault("not_utf8", f"byte {broken.start + 1} of the line (0x{line[broken.start]:02x}) is not UTF-8")
    if b"\0" in line:
        return Fault("nul_character", f"byte {line.index(0) + 1} of the line is NUL")
    if line.strip() in (b"{", b"[") or line.strip().rstrip(b",") in (b"}", b"]"):
        return Fault("spread_over_lines", "the line holds a part of an object that is spread over several lines")
    return _explain(line, error) if len(line) <= _MAX_EXPLAINED_BYTES else Fault("invalid_json", str(error))


def duplicate_key(line: bytes) -> str | None:
    """The first key that an object of this (valid) line has twice, or None."""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            found.extend(key for position, key in enumerate(keys) if key in keys[:position])

    json.loads(line, object_pairs_hook=note)
    return found[0] if found else None


def _explain(line: bytes, error: Exception) -> Fault:
    """What Python's laxer parser says tells apart the faults that the strict one lumps together."""
    if "out of range" in str(error):
        return Fault("number_out_of_range", "a number is too large")
    constants: list[str] = []
    try:
        json.loads(line, parse_constant=constants.append)
    except json.JSONDecodeError as wrong:
        return _malformed(line.decode(), wrong)
    except (RecursionError, ValueError):
        # Broken in more ways than one: too deep or too many digits for this parser, after what stopped the first.
        return Fault("invalid_json", str(error))
    if constants:
        return Fault("not_finite", f"{constants[0]} is not JSON")
    half = _SURROGATE.search(line)
    if half:
        return Fault("lone_surrogate", f"{half.group().decode()} is half of a surrogate pair")
    return Fault("invalid_json", str(error))


def _malformed(text: str, wrong: json.JSONDecodeError) -> Fault:
    column = wrong.pos + 1
    near = text[wrong.pos : wrong.pos + 1]
    if wrong.msg == "Extra data":
        rest = text[wrong.pos :].lstrip(" ,")
        code = "several_values" if rest[:1] in "{[" else "invalid_json"
        return Fault(code, f"after the object, at column {column}, the line goes on with {near!r}")
    if wrong.msg.startswith("Invalid control character"):
        return Fault("control_character", f"the control character {near!r} at column {column} stands raw in a string")
    if wrong.msg.startswith("Unterminated string"):
        return Fault(
            "invalid_json", f"the string that opens at column {column} is never closed: the line is cut or broken"
        )
    if near == "'":
        return Fault("invalid_json", f"at column {column} stands a single quote; JSON takes double quotes")
    seen = f"found {near!r}" if near else "the line ends"
    return Fault("invalid_json", f"{_plain(wrong.msg)} at column {column}, {seen}")


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]
