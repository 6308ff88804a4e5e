import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.cli.console import plain
from finery.cli.figures import ago, curve, duration, parameters, size

LOSSES = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=500)
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(column, row from the top) of every dot, read back from the characters."""
    return {
        (2 * column + x, 4 * row + y)
        for row, line in enumerate(lines)
        for column, character in enumerate(line)
        for y in range(4)
        for x in range(2)
        if (ord(character) - 0x2800) & DOTS[y][x]
    }


@given(LOSSES, st.integers(1, 80), st.integers(1, 8))
def test_a_curve_fills_its_width_and_touches_top_and_bottom(values, columns, rows):
    lines = curve(values, columns=columns, rows=rows)
    drawn = dots(lines)
    assert [len(line) for line in lines] == [columns] * rows
    assert {x for x, _ in drawn} == set(range(2 * columns))
    levels = {y for _, y in drawn}
    assert max(levels) == 4 * rows - 1
    if len(values) == 2 * columns and max(values) > min(values):
        assert min(levels) == 0


@given(st.lists(st.integers(0, 19), min_size=120, max_size=120))
def test_a_curve_as_wide_as_its_values_shows_each_of_them(levels):
    levels[0], levels[1] = 0, 19  # The whole range is used, so that a level is a row of dots.
    drawn = dots(curve([float(level) for level in levels], columns=60, rows=5))
    assert all((x, 19 - level) in drawn for x, level in enumerate(levels))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1_400_000), "1.4 MB"),
        (size(3.2e12), "3.2 TB"),
        (duration(48.4), "48 s"),
        (duration(190), "3 min 10 s"),
        (duration(7500), "2 h 5 min"),
        (ago(100, now=130), "30 s ago"),
        (ago(0, now=86400 * 3), "3 days ago"),
        (ago(200, now=100), "0 s ago"),
        (ago(None), None),
        (parameters(134_515_008), "135M"),
        (parameters(3.8e9), "3.8B"),
    ],
)
def test_figures_as_people_say_them(shown, expected):
    assert shown == expected


@given(st.text())
def test_plain_text_holds_nothing_that_commands_a_terminal(text):
    shown = plain(text)
    assert len(shown) == len(text)
    assert all(c in "\n\t" or ord(c) >= 32 for c in shown)
    assert not set(shown) & set("\x1b\x7f\x9b\u202e\u2066")
