"""The rows of one or several JSONL files as one sequence, kept on disk and read again where they are needed.

It keeps some 12 bytes a row. Files must have passed `preflight`; what can't be read raises InvalidRequest.
"""

from array import array
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from finery.core.errors import InvalidRequest
from finery.data.faults import Fault
from finery.data.rows import BOM, blocks, iterate, parse


class Corpus:
    """Rows by position, from 0, the files one after another. The files must not change while it is in use."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._lines = array("I")
        self._offsets = array("Q")
        sizes = [self._index(path) for path in paths]
        self._starts = [0, *accumulate(sizes)]

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.paths:
            for _, row in iterate(path):
                yield row

    def __getitem__(self, position: int) -> dict[str, Any]:
        with self.paths[self.file_of(position)].open("rb") as file:
            file.seek(self._offsets[position])
            try:
                return parse(file.readline().rstrip(b"\r\n"))
            except Fault as fault:
                raise InvalidRequest(f"line {self.line(position)}: {fault.message}", code=fault.code) from None

    def line(self, position: int) -> int:
        """The row's line number in its file, from 1."""
        return self._lines[position]

    def file_of(self, position: int) -> int:
        """Which of the files the row is in, from 0."""
        return sum(start <= position for start in self._starts[1:-1])

    def _index(self, path: Path) -> int:
        """Note where each row of a file begins; how many there are."""
        with path.open("rb") as file:
            offset = len(BOM) if file.read(len(BOM)) == BOM else 0
        line = rows = 0
        for block, overlong in blocks(path):
            if overlong:
                raise InvalidRequest(f"{path.name} has a line that is too long; check the file first.")
            for part in block.removesuffix(b"\n").split(b"\n"):
                line += 1
                if part and not part.isspace():
                    rows += 1
                    self._lines.append(line)
                    self._offsets.append(offset)
                offset += len(part) + 1
        return rows
