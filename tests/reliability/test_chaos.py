"""kill -9 and freezes at random under jobs in flight: 0 lost, 0 ended twice, 0 stuck, 0 billed twice."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres
from reliability.chaos import LEASE_SECONDS, WORKER_KEY, Chaos, Workers, told
from reliability.checker import check
from reliability.seeds import dice_of
from servers import Server


def chaos_on(folder: Path, models: Path, dice: random.Random, *, workers: int, **environment: str) -> Chaos:
    server = Server(
        folder / "home",
        models,
        options=["--no-worker"],
        FINERY_WORKER_KEY=WORKER_KEY,
        FINERY_LEASE_SECONDS=str(LEASE_SECONDS),
        # Nobody's words are what is tried here, and reading them takes longest.
        FINERY_TRAINING_DATA_THRESHOLD="Off",
        **environment,
    )
    return Chaos(server.start(), Workers(server, folder, models, workers), dice)


@pytest.fixture
def ended() -> Iterator[list[Chaos]]:
    """Everything that was started and must end."""
    started: list[Chaos] = []
    yield started
    for chaos in started:
        chaos.workers.end()
        chaos.server.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_few_kills_lose_nothing(tmp_path: Path, tiny_folder: Path, ended: list[Chaos]) -> None:
    chaos = chaos_on(tmp_path, tiny_folder, random.Random(11), workers=2)
    ended.append(chaos)
    chaos.run(kills=8, in_flight=4, pause_seconds=0.7)
    chaos.workers.end()
    chaos.server.stop()
    seen = check(tmp_path / "home", chaos.history)
    assert seen["succeeded"] > 0
    assert seen["claims"] > seen["succeeded"], "nobody was killed in the middle of a job"


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_thousand_kills(
    tmp_path: Path, tiny_folder: Path, ended: list[Chaos], engine: str, request: pytest.FixtureRequest
) -> None:
    """The figure of the promise; FINERY_KILLS (1000), FINERY_JOBS in flight (50), FINERY_SEED repeats a run of it."""
    seed, dice = dice_of()
    environment = {}
    if engine == "postgresql":
        cluster: postgres.Cluster = request.getfixturevalue("cluster")
        environment["FINERY_DATABASE_URL"] = cluster.url()
    chaos = chaos_on(tmp_path, tiny_folder, dice, workers=4, **environment)
    ended.append(chaos)
    kills, in_flight = int(os.environ.get("FINERY_KILLS", "1000")), int(os.environ.get("FINERY_JOBS", "50"))
    try:
        seconds = chaos.run(kills=kills, in_flight=in_flight, pause_seconds=1.0)
    finally:
        print(f"\n{engine}, seed {seed}: {told(chaos.history)}")
    chaos.workers.end()
    chaos.server.stop()
    seen = check(tmp_path / "home", chaos.history, environment.get("FINERY_DATABASE_URL", ""))
    print(f"all over {seconds:.0f} s after the last fault: {seen}; 0 lost, 0 ended twice, 0 stuck, 0 billed twice")
