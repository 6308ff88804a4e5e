"""The caretaker looks for what is pending when something changed, and now and then; not all the time."""

import asyncio
from pathlib import Path

import pytest

from finery import bootstrap
from finery.control import caretaker
from finery.control.plane import ControlPlane
from finery.settings import Settings


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    (tmp_path / "home").mkdir()
    return bootstrap.control_plane(Settings(home=tmp_path / "home"))


def test_a_change_wakes_it_and_quiet_lets_it_rest(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caretaker, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(caretaker, "QUIET_SECONDS", 1e9)
    looked: list[int] = []

    async def look() -> None:
        looked.append(plane.database.changes)

    def change() -> None:
        with plane.database.write() as connection:
            connection.exec_driver_sql("UPDATE projects SET name = name")

    async def run() -> None:
        caring = asyncio.ensure_future(caretaker._whenever_changed(plane, look))
        while not looked:
            await asyncio.sleep(0.001)
        # Many pauses pass, and nobody looks.
        await asyncio.sleep(0.05)
        assert len(looked) == 1
        await asyncio.to_thread(change)
        while len(looked) < 2:
            await asyncio.sleep(0.001)
        # What only falls due is looked for too.
        monkeypatch.setattr(caretaker, "QUIET_SECONDS", 0.0)
        await asyncio.to_thread(change)
        while len(looked) < 6:
            await asyncio.sleep(0.001)
        caring.cancel()

    asyncio.run(run())
    assert looked[1] == looked[0] + 1
    plane.database.close()
