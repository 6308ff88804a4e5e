"""JSONL as lines and rows: a streaming reader with caps on line length and depth, strict about what JSON is.

It knows nothing of messages or labels. Memory is bounded by one block and one line, whatever the file holds.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from finery.core.errors import InvalidRequest
from finery.data.faults import Fault, diagnose, duplicate_key

MAX_LINE_BYTES = 4 << 20
"""Longest line that is read; longer ones are named and skipped."""
MAX_DEPTH = 64
"""Deepest nesting of arrays and objects in a line."""
BLOCK_BYTES = 1 << 16
"""Lines are read in blocks of about this size."""

_BUFFER_BYTES = 1 << 19

BOM = b"\xef\xbb\xbf"


def iterate(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a JSONL file with its line number, from 1; blank lines are skipped but counted.

    Raises InvalidRequest with the line number at the first line that is not a JSON object within the caps.
    """
    for number, line in lines(path):
        if line is not None and not line.strip():
            continue
        try:
            yield number, parse(line)
        except Fault as fault:
            raise InvalidRequest(f"line {number} of {path.name}: {fault.message}", code=fault.code) from None


def iterate_checked(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `iterate`, for a file that has passed `preflight`: what was found sound is not looked at twice."""
    for number, line in lines(path):
        if line and not line.isspace():
            yield number, msgspec.json.decode(line)


def lines(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """Each line without its line end, numbered from 1; None stands for a line over the cap, which is not kept."""
    number = 0
    for block, overlong in blocks(path, max_line_bytes):
        parts = block.split(b"\n")
        if parts[-1] == b"":
            parts.pop()
        for part in parts:
            number += 1
            line = part.removesuffix(b"\r")
            yield number, line if len(line) <= max_line_bytes else None
        if overlong:
            number += 1
            yield number, None


def blocks(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[bytes, bool]]:
    """Whole lines in blocks of about `BLOCK_BYTES`, without the byte order mark.

    The flag says that a line over the cap followed the block and was skipped. A line just over the cap may also stand
    inside the block: look at its length.
    """
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        while block := file.read(min(BLOCK_BYTES, max_line_bytes)):
            if not block.endswith(b"\n"):
                block += file.readline(max_line_bytes + 1)
            if block.endswith(b"\n") or not _skip_line(file):
                yield block, False
                continue
            # The line's beginning, as long as the cap, must not live on while what comes before it is checked.
            block = block[: block.rfind(b"\n") + 1]
            yield block, True


def parse(line: bytes | None, max_line_bytes: int = MAX_LINE_BYTES) -> dict[str, Any]:
    """One line as a dict.

    Raises Fault with a code of `findings.CODES` when it is over a cap, not strict UTF-8 or JSON, holds a NUL, NaN,
    infinity, half a surrogate pair, a number out of range or a key twice, or is no object.
    """
    if line is None:
        raise Fault("line_too_long", f"the line is longer than {max_line_bytes:,} bytes")
    try:
        value = msgspec.json.decode(line)
        encoded = msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
        raise diagnose(line, error) from None
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Fault("too_deep", f"arrays and objects nest deeper than {MAX_DEPTH}")
    if b"\\u0000" in line and b"\\u0000" in encoded:
        raise Fault("nul_character", "a string holds a NUL character (\\u0000)")
    # A key given twice is lost in decoding and with it two quotation marks, which is cheaper to see than keys.
    if line.count(b'"') != encoded.count(b'"') or b"\\u0022" in line:
        twice = duplicate_key(line)
        if twice:
            raise Fault("duplicate_key", f"the key {twice!r} is given twice in one object")
    if not isinstance(value, dict):
        raise Fault("not_an_object", f"the line is {_kind(value)}, not an object")
    return value


def _skip_line(file: BinaryIO) -> bool:
    """Read past the next line end; False at the end of the file, where there was nothing to skip."""
    some = False
    while part := file.readline(_BUFFER_BYTES):
        some = True
        if part.endswith(b"\n"):
            break
    return some


def _depth(value: Any) -> int:
    """Nesting of arrays and objects, without recursion."""
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
