"""Sizes, times and the loss curve as text. Pure."""

import itertools
import time
from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the eight dots of a Unicode braille character, by row from the top and by column."""

_BRAILLE = 0x2800


def size(num_bytes: float) -> str:
    """Bytes as people say it: `1.4 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def count(number: float | None) -> str | None:
    """A large number with separators: `12,345`."""
    return None if number is None else f"{number:,.0f}"


def parameters(number: float | None) -> str | None:
    """Parameters of a model as people say it: `135M`, `3.8B`."""
    if number is None:
        return None
    return f"{number / 1e9:.3g}B" if number >= 1e9 else f"{number / 1e6:.3g}M"


def duration(seconds: float) -> str:
    """`48 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(timestamp: float | None, now: float | None = None) -> str | None:
    """How long ago a moment (seconds since 1970) was: `3 min ago`."""
    if timestamp is None:
        return None
    seconds = max(0, (time.time() if now is None else now) - timestamp)
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (172800, 3600, "h"), (float("inf"), 86400, "days")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    raise AssertionError("the last limit is infinite")


def moment(timestamp: float | None) -> str | None:
    """A moment (seconds since 1970) in local time: `2026-11-24 14:03:11`."""
    return None if timestamp is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def curve(values: Sequence[float], *, columns: int = 60, rows: int = 5) -> list[str]:
    """A line plot in braille dots, from the top line to the bottom one; values are spread over the whole width.

    Each character holds 2 by 4 dots; neighbouring points are joined by vertical strokes, so a spike stays visible.
    """
    width, height = columns * 2, rows * 4
    points = _resample(values, width)
    low, high = min(points), max(points)
    scale = (height - 1) / (high - low) if high > low else 0.0
    levels = [height - 1 - round((point - low) * scale) for point in points]
    cells = [[0] * columns for _ in range(rows)]
    previous = levels[0]
    for x, level in enumerate(levels):
        for y in range(min(previous, level), max(previous, level) + 1):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        previous = level
    return ["".join(chr(_BRAILLE + cell) for cell in row) for row in cells]


def _resample(values: Sequence[float], width: int) -> list[float]:
    """The mean of each slice when there are more values than places, the nearest value when there are fewer."""
    if len(values) <= width:
        return [values[x * len(values) // width] for x in range(width)]
    bounds = [x * len(values) // width for x in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
