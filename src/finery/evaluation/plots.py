"""The pictures of a report, as SVG text: figures with intervals, F1 of labels, confusion matrices, reliability, curves.

No plotting library: a few rectangles and lines that any browser draws, in a page or on their own. Colours are readable
by the colour-blind (Okabe and Ito). Knows numbers and names.
"""

from collections.abc import Sequence
from html import escape

COLOURS = ("#999999", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

_WIDTH = 720
_LEFT = 230
"""Room for names of 30 letters, wide ones too."""
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def intervals(rows: Sequence[tuple[str, float, float, float]], *, unit: str = "", centre: float | None = 0.0) -> str:
    """(name, value, low, high) each as a dot on its interval; a line at `centre`."""
    ends = [edge for _, _, low, high in rows for edge in (low, high)] + ([] if centre is None else [centre])
    scale = _Scale(min(ends, default=0.0), max(ends, default=1.0))
    parts = [] if centre is None else [_line(scale(centre), 8, scale(centre), 18 + 24 * len(rows), "#bbbbbb")]
    for i, (name, value, low, high) in enumerate(rows):
        y = 24 + 24 * i
        parts += [
            _text(_LEFT - 10, y + 4, name, anchor="end"),
            _line(scale(low), y, scale(high), y, COLOURS[1], width=3),
            f'<circle cx="{scale(value):.1f}" cy="{y}" r="5" fill="{COLOURS[1]}"/>',
            _text(_WIDTH - 4, y + 4, f"{value:+.3g}{unit}", anchor="end"),
        ]
    parts.append(_axis(scale, 24 + 24 * len(rows), unit))
    return _svg(_WIDTH, 50 + 24 * len(rows), parts)


def bars(names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Values from 0 to 1 of several series beside each other, a group for each name."""
    scale = _Scale(0.0, 1.0)
    height = 10 * len(series) + 8
    parts = []
    for i, name in enumerate(names):
        top = 24 + height * i
        parts.append(_text(_LEFT - 10, top + height / 2, name, anchor="end"))
        for j, (_, values) in enumerate(series):
            width = max(scale(values[i]) - scale(0.0), 0.5)
            parts.append(_rectangle(scale(0.0), top + 10 * j, width, 9, COLOURS[j % len(COLOURS)]))
    bottom = 24 + height * len(names)
    parts += [_legend([name for name, _ in series]), _axis(scale, bottom, "")]
    return _svg(_WIDTH, bottom + 26, parts)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], predicted: Sequence[str]) -> str:
    """True labels down, predicted ones across; the darker, the larger the share of its row."""
    size = 26
    top = 130
    parts = [_text(_LEFT + i * size + 14, top - 6, name, turned=True) for i, name in enumerate(predicted)]
    for i, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        y = top + i * size
        parts.append(_text(_LEFT - 10, y + 17, label, anchor="end"))
        whole = sum(row) or 1
        for j, count in enumerate(row):
            x = _LEFT + j * size
            share = count / whole
            colour = COLOURS[1] if i == j else COLOURS[6]
            parts.append(_rectangle(x, y, size - 1, size - 1, colour, opacity=share if count else 0.0))
            if count:
                ink = "#ffffff" if share > 0.5 else "#222222"
                parts.append(_text(x + size / 2, y + 17, str(count), anchor="middle", colour=ink))
    return _svg(_LEFT + size * len(predicted) + 10, top + size * len(labels) + 10, parts)


def reliability(
    bins: Sequence[tuple[float, float, int]],
    *,
    x: str = "how sure the answer was",
    y: str = "how often it was right",
    ends: tuple[float, float] = (0.0, 1.0),
) -> str:
    """(said, what came of it, answers) of each bin as a dot, the larger the more answers; on the line is calibrated,
    below it more was said than came. `ends` is where both axes begin and end."""
    across, up = _Scale(*ends, 60, 360), _Scale(*ends, 330, 30)
    low, high = across.low, across.high
    parts = [
        f'<line x1="{across(low)}" y1="{up(low)}" x2="{across(high)}" y2="{up(high)}" stroke="#bbbbbb" '
        'stroke-dasharray="4"/>',
        _axis(across, 342, ""),
        *(_text(54, up(mark) + 4, f"{mark:.3g}", anchor="end", colour="#666666") for mark in up.marks()),
        _text(360, 376, x, anchor="end"),
        _text(4, 22, y),
    ]
    most = max((answers for _, _, answers in bins), default=1)
    for said, came, answers in bins:
        place, height = across(said), up(came)
        parts.append(_line(place, up(said), place, height, COLOURS[6], width=2))
        radius = 3 + 7 * (answers / most) ** 0.5
        parts.append(
            f'<circle cx="{place:.1f}" cy="{height:.1f}" r="{radius:.1f}" fill="{COLOURS[1]}" fill-opacity="0.80"/>'
        )
        parts.append(_text(place + radius + 3, height + 4, str(answers), colour="#666666"))
    return _svg(420, 384, parts)


def curves(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, x: str, y: str) -> str:
    """Lines through (x, y) points, one a series; a lone point is a dot."""
    points = [point for _, line in series for point in line]
    across = _Scale(min((p[0] for p in points), default=0.0), max((p[0] for p in points), default=1.0), 60, _WIDTH - 20)
    up = _Scale(min((p[1] for p in points), default=0.0), max((p[1] for p in points), default=1.0), 250, 30)
    parts = [_legend([name for name, _ in series]), _axis(across, 262, ""), _text(_WIDTH - 20, 292, x, anchor="end")]
    parts += [_text(54, up(mark) + 4, f"{mark:.3g}", anchor="end") for mark in up.marks()]
    parts.append(_text(4, 22, y))
    for i, (_, line) in enumerate(series):
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in line)
        colour = COLOURS[i % len(COLOURS)]
        if len(line) == 1:
            [(a, b)] = line
            parts.append(f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="4" fill="{colour}"/>')
            continue
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return _svg(_WIDTH, 300, parts)


class _Scale:
    """From values to places on the page."""

    def __init__(self, low: float, high: float, start: float = _LEFT, end: float = _WIDTH - 90) -> None:
        self.low, self.high = (low, high) if high > low else (low - 0.5, low + 0.5)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def marks(self) -> list[float]:
        return [self.low + (self.high - self.low) * i / 4 for i in range(5)]


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    return f'{head} role="img" {_FONT}>{"".join(parts)}</svg>'


def _axis(scale: _Scale, y: float, unit: str) -> str:
    return "".join(
        _text(scale(mark), y + 14, f"{mark:.3g}{unit}", anchor="middle", colour="#666666") for mark in scale.marks()
    )


def _legend(names: Sequence[str]) -> str:
    parts, place = [], float(_LEFT)
    for i, name in enumerate(names):
        parts += [_rectangle(place, 4, 10, 10, COLOURS[i % len(COLOURS)]), _text(place + 14, 13, name)]
        place += 34 + 7 * len(name)
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1.0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}" fill-opacity="{opacity:.2f}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222222", turned: bool = False
) -> str:
    shown = text if len(text) <= 30 else f"{text[:29]}…"
    turn = f' transform="rotate(-60 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{turn}>{escape(shown)}</text>'
