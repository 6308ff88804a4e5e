"""docs/data.md names every code with its level and way out, every step and every shape, and no others."""

import re
from pathlib import Path

from finery import data
from finery.data.converters import SHAPES
from finery.data.findings import CODES
from finery.data.steps import STEPS

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def rows(header: str) -> dict[str, list[str]]:
    """Rows of all tables with this header, by their first cell."""
    tables = re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for table in tables for line in table.splitlines()]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_code_is_documented_with_its_level_and_way_out() -> None:
    documented = {name: (level, way_out.replace("&#124;", "|")) for name, (level, way_out) in rows("code").items()}
    assert documented == {name: tuple(code) for name, code in CODES.items()}


def test_every_step_is_documented() -> None:
    assert {name: cells[-1] for name, cells in rows("step").items()} == {
        n: kind.description for n, kind in STEPS.items()
    }


def test_every_shape_is_documented() -> None:
    assert set(rows("shape")) == set(SHAPES)


def test_package_docstring_lists_every_module() -> None:
    listed = {line.split()[0] for line in (data.__doc__ or "").splitlines()[2:] if line}
    assert listed == {path.stem for path in Path(data.__path__[0]).glob("*.py")} - {"__init__"}
