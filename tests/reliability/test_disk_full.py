"""A disk that is full, on a small tmpfs: whatever can't be kept is refused, nothing is half kept, and with space all
goes on without anybody's help.
"""

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery import bootstrap
from finery.control import files, jobs, runs, validation
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import StorageFull
from finery.core.files import FileStatus
from finery.core.jobs import JobStatus
from finery.modeling.manifests import sha256_of
from finery.settings import Settings
from finery.storage import files as file_rows
from finery.storage import projects
from finery.storage.pages import Cursor
from finery.training.spec import EXIT_STORAGE_FULL, LoraSpec, RunSpec
from reliability.seeds import dice_of
from tiny_models import write_model

MEGABYTE = 1024 * 1024
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    if os.geteuid():
        pytest.skip("only root may mount a tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def only(disk: Path, free_bytes: int) -> Iterator[None]:
    """All of the disk taken but so much."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(b"x" * max(0, state.f_bavail * state.f_frsize - free_bytes))
    yield
    filler.unlink()


class World:
    """A control plane on the disk, and what it acknowledged."""

    def __init__(self, disk: Path, models: Path) -> None:
        self.settings = Settings(home=disk / "home", models=models, training_data_threshold="Off")
        self.settings.home.mkdir(exist_ok=True)
        self.plane: ControlPlane = bootstrap.control_plane(self.settings)
        with self.plane.database.read() as connection:
            project = projects.find_project(connection, "default")
        assert project is not None
        self.caller = Caller(project=project, key_id="key_1")
        self.kept: dict[str, bytes] = {}
        self.refused = 0

    def upload(self, content: bytes) -> None:
        with self._refused_at_most():
            file = files.create(self.plane, self.caller, filename="f", purpose="user_data", chunks=[content])
            self.kept[file.id] = content

    def train(self, training_file: str) -> None:
        """A job's way: taken in, validated, claimed, told of, ended."""
        with self._refused_at_most():
            request = jobs.JobRequest(model="tiny-phi3", training_file=training_file, seed=1)
            jobs.submit(self.plane, self.caller, request)
            validation.validate_pending(self.plane)
            claim = runs.claim(self.plane, "worker")
            if claim is not None:
                result = self.plane.blobs.put([os.urandom(3 * PAGE)])
                fact = {"sha256": result.sha256, "bytes": result.bytes}
                artifact = {"files": {"adapter_model.safetensors": fact, runs.RESULTS_FILE: fact}}
                runs.succeed(self.plane, claim.job_id, claim.epoch, artifact=artifact, trained_tokens=1, step=1)

    @contextlib.contextmanager
    def _refused_at_most(self) -> Iterator[None]:
        try:
            yield
        except StorageFull:
            self.refused += 1

    def check(self) -> None:
        """What was acknowledged is there, to the byte, and the database is whole."""
        for file_id, content in self.kept.items():
            assert b"".join(files.content(self.plane, self.caller, file_id)[1]) == content
        with self.plane.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            every = file_rows.list_page(connection, self.caller.project.id, Cursor(limit=10**6)).items
        for sha256 in self.plane.blobs.list_all():
            self.plane.blobs.save_to(sha256, self.settings.home.parent.parent / "out")
        assert {file.id for file in every if file.purpose == "user_data"} == set(self.kept)
        whole = set(self.plane.blobs.list_all())
        there = {path.name for path in (self.settings.home / "blobs").glob("[0-9a-f][0-9a-f]/*")}
        assert there == whole, "something was kept by halves"
        assert not list((self.settings.home / "blobs" / "scratch").iterdir())


ROWS = b"".join(
    b'{"messages": [{"role": "user", "content": "It is red %d"}, {"role": "assistant", "content": "red"}]}\n' % n
    for n in range(12)
)


def fill_again_and_again(disk: Path, models: Path, dice: random.Random, levels: list[int]) -> World:
    world = World(disk, models)
    training = files.create(world.plane, world.caller, filename="red.jsonl", purpose="fine-tune", chunks=[ROWS])
    assert training.status == FileStatus.PROCESSED
    for free in levels:
        with only(disk, free):
            for _ in range(3):
                world.upload(dice.randbytes(dice.randint(1, 2 * PAGE)))
                world.train(training.id)
        world.check()
        # Space again: everything goes on unaided, what waited too.
        refused = world.refused
        world.upload(dice.randbytes(PAGE))
        world.train(training.id)
        assert world.refused == refused
    while (claim := runs.claim(world.plane, "worker")) is not None:
        runs.fail(world.plane, claim.job_id, claim.epoch, code="over", text="over")
    page = jobs.list_page(world.plane, world.caller, Cursor(limit=10**6), None)
    assert {job.status for job in page.items} <= {JobStatus.SUCCEEDED, JobStatus.FAILED}
    world.plane.database.close()
    return world


def test_a_full_disk_refuses_and_keeps_nothing_by_halves(disk: Path, tiny_folder: Path) -> None:
    world = fill_again_and_again(disk, tiny_folder, random.Random(3), [0, PAGE, 3 * PAGE, 10 * PAGE, 40 * PAGE])
    assert world.refused > 3
    again = World(disk, tiny_folder)
    again.kept = world.kept
    again.check()
    again.plane.database.close()


def train(folder: Path) -> int:
    command = [sys.executable, "-m", "finery.training.run", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_trainer_without_space_goes_on_when_there_is_some(disk: Path, tmp_path: Path) -> None:
    """The real one: it says that the disk is full, and ends as if nothing had been once it isn't."""
    model = write_model(tmp_path / "model", "llama")
    spec = RunSpec(
        job_id="run",
        base_model="tiny",
        model_folder=str(model),
        training_file="training.jsonl",
        batch_size=4,
        threads=1,
        precision="fp32",
        lora=LoraSpec(rank=4, alpha=8),
        checkpoint_interval_steps=2,
    )
    results = []
    for folder, free in ((tmp_path / "run", None), (disk / "run", [0, 20, 60, 120])):
        folder.mkdir()
        (folder / "training.jsonl").write_bytes(ROWS)
        spec.write(folder)
        for pages in free or ():
            with only(disk, pages * PAGE):
                assert train(folder) == EXIT_STORAGE_FULL, pages
        assert train(folder) == 0
        results.append({path.name: sha256_of(path) for path in sorted((folder / "result").iterdir())})
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_disk_that_is_full_at_every_page(disk: Path, tiny_folder: Path) -> None:
    """The figure of the promise: every free space up to 100 pages, each with uploads and jobs."""
    seed, dice = dice_of()
    world = fill_again_and_again(disk, tiny_folder, dice, [page * PAGE for page in range(100)])
    print(f"\n100 levels of free space, seed {seed}: {world.refused} refused, {len(world.kept)} kept, all whole")
