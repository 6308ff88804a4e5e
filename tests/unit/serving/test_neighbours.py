"""Other processes' work is seen, one's own isn't."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from finery.serving import neighbours
from finery.serving.neighbours import is_crowded, others_share, waiting_environment

BUSY = "print(flush=True)\nwhile True: pass"


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_busy_process_counts_unless_it_is_ours(busy: int) -> None:
    async def look() -> list[float]:
        return await asyncio.gather(others_share([], 0.5), others_share([busy], 0.5))

    with_it, without_it = asyncio.run(look())
    assert 0 <= without_it < with_it <= 1


@pytest.mark.parametrize(
    ("share", "before", "after"),
    [(0.5, False, True), (0.2, False, False), (0.2, True, True), (0.1, True, False)],
)
def test_little_changes_change_nothing(
    share: float, before: bool, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(own: object, seconds: float) -> float:
        return share

    monkeypatch.setattr(neighbours, "others_share", told)
    assert asyncio.run(is_crowded([], 0.0, before=before)) is after


def test_threads_spin_longer_on_a_quiet_machine() -> None:
    quiet, crowded = (int(waiting_environment(crowded)["GOMP_SPINCOUNT"]) for crowded in (False, True))
    assert quiet > crowded > 0
