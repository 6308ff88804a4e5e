"""Which adapters stay in memory: needed ones always, the others by how lately they were wanted, within the room."""

from pathlib import Path

import pytest

from finery.core.errors import UnknownModel
from finery.serving.adapter_shelf import AdapterShelf


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.gguf" for i in range(5)]
    for path in paths:
        path.write_bytes(b"x" * 100)
    return paths


def test_the_last_wanted_stay_within_the_room(files: list[Path]) -> None:
    shelf = AdapterShelf(250)
    for i, path in enumerate(files):
        shelf.put(str(i), path)
    assert shelf.chosen() == files[3:]
    with shelf.need("0"):
        pass
    assert shelf.chosen() == [files[0], files[4]]


def test_needed_ones_stay_even_without_room(files: list[Path]) -> None:
    shelf = AdapterShelf(150)
    for i, path in enumerate(files):
        shelf.put(str(i), path)
    with shelf.need("0"), shelf.need("1"), shelf.need("1"):
        shelf.drop("0")
        assert shelf.chosen() == files[:2]
    assert shelf.chosen() == [files[1]]


def test_names_are_forgotten_and_restored(files: list[Path]) -> None:
    shelf = AdapterShelf(1000)
    assert shelf.put("a", files[0]) is None
    previous = shelf.put("a", files[1])
    shelf.restore("a", previous)
    assert shelf.chosen() == [files[0]]
    shelf.restore("a", None)
    with pytest.raises(UnknownModel, match="'a'"), shelf.need("a"):
        pass
    assert shelf.chosen() == []
