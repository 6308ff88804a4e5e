"""Tables, fields, JSON and errors on a terminal. Knows no HTTP and none of our nouns.

Text that came over the wire (names, messages, answers of a model) may hold anything: it is printed without markup,
and control characters never reach the terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

EXIT_INTERRUPTED = 130
"""What shells say of a command ended by Ctrl-C."""

_WIDE = 400
"""Columns when the output is no terminal: scripts want whole lines."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def out() -> "Console":
    """Standard output: results."""
    return _console(stderr=False)


def err() -> "Console":
    """Standard error: progress, notes and errors."""
    return _console(stderr=True)


def plain(text: object) -> str:
    """Text without characters that move the cursor, change colours or turn the reading direction."""
    return _CONTROLS.sub("\ufffd", str(text))


def say(text: str = "", style: str | None = None) -> None:
    """A line on standard output, never taken for markup."""
    out().print(plain(text), style=style, soft_wrap=True)


def note(text: str, style: str | None = "dim") -> None:
    """A line on standard error for the person who watches."""
    err().print(plain(text), style=style, soft_wrap=True)


def fail(text: str) -> None:
    """The one red line."""
    err().print(plain(text), style="red", soft_wrap=True)


def say_json(value: Any) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table on standard output; `empty` goes to standard error when there are no rows."""
    from rich.table import Table
    from rich.text import Text

    lines = [[Text(plain("" if cell is None else cell)) for cell in row] for row in rows]
    if not lines:
        note(empty)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        # The first column is what people copy.
        grid.add_column(heading, overflow="fold", no_wrap=number == 0)
    for line in lines:
        grid.add_row(*line)
    out().print(grid)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line; pairs without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            grid.add_row(name, Text(plain(value)))
    out().print(grid)


def debugging() -> bool:
    """The person asked for tracebacks."""
    return bool(os.environ.get("FINERY_DEBUG"))


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else _WIDE
    # No markup and no emoji codes: `:m:` in a model's name is no letter in a circle.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
