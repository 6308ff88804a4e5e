"""A worker that was asleep while another took its job over: whatever it still says changes nothing.

In each round the old worker speaks at the very moment in which the new one claims, and once more after it. Where the
old one came first the new one gets nothing; where it came second it is refused. Never both, and never a trace of it.
"""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finery import bootstrap
from finery.control import files, jobs, runs, validation
from finery.control.plane import ControlPlane
from finery.control.runs import Claim
from finery.core.access import Caller
from finery.core.costs import Meter
from finery.core.errors import Fenced
from finery.core.jobs import Job, JobStatus
from finery.settings import Settings
from finery.storage import costs, projects
from finery.storage import jobs as job_rows
from finery.storage.pages import Cursor
from reliability.seeds import dice_of

ROWS = b"".join(
    b'{"messages": [{"role": "user", "content": "It is red %d"}, {"role": "assistant", "content": "red"}]}\n' % n
    for n in range(12)
)


class Round:
    """One job, an old worker whose lease is over already, and a new one."""

    def __init__(self, plane: ControlPlane, caller: Caller, training_file: str) -> None:
        self.plane, self.caller = plane, caller
        request = jobs.JobRequest(model="tiny-phi3", training_file=training_file, seed=1)
        self.job = jobs.submit(plane, caller, request)
        validation.validate_pending(plane)
        self.old = self.claim("old")
        blob = plane.blobs.put([self.job.id.encode()])
        fact = {"sha256": blob.sha256, "bytes": blob.bytes}
        self.artifact = {"files": {"adapter_model.safetensors": fact, runs.RESULTS_FILE: fact}}

    def claim(self, worker: str) -> Claim:
        claim = runs.claim(self.plane, worker)
        assert claim is not None
        assert claim.job_id == self.job.id
        return claim

    def now(self) -> Job:
        with self.plane.database.read() as connection:
            job = job_rows.get(connection, self.job.project_id, self.job.id)
        assert job is not None
        return job

    def says(self, what: str, epoch: int) -> None:
        """One call of a worker, as `api.worker` makes it."""
        name, job_id = self.plane, self.job.id
        metrics = {"step": 1, "total_steps": 2, "train_loss": epoch}
        event = {"key": f"by:{epoch}", "type": "metrics", "level": "info", "message": "", "data": metrics}
        calls: dict[str, Callable[[], object]] = {
            "heartbeat": lambda: runs.heartbeat(name, job_id, epoch),
            "events": lambda: runs.record_events(name, job_id, epoch, [{**event, "created_at": 1}]),
            "checkpoint": lambda: runs.record_checkpoint(
                name, job_id, epoch, step=epoch, artifact=self.artifact, metrics={}
            ),
            "succeeded": lambda: runs.succeed(
                name, job_id, epoch, artifact=self.artifact, trained_tokens=1000 * epoch, step=2
            ),
            "failed": lambda: runs.fail(name, job_id, epoch, code="late", text=f"by {epoch}"),
            "give-back": lambda: runs.give_back(name, job_id, epoch),
            "blob": lambda: runs.require_lease(name, job_id, epoch),
        }
        calls[what]()

    def trace(self) -> Any:
        """All that a worker can change."""
        with self.plane.database.read() as connection:
            events = job_rows.list_events(connection, self.job.id, Cursor(limit=1000, order="asc"))
            made = job_rows.list_checkpoints(connection, self.job.id, Cursor(limit=1000))
            charged = costs.charged(connection, self.job.project_id, Meter.TRAINING, self.job.id)
        job = self.now()
        return job, [event["key"] for event in events.items], [one.step for one in made.items], charged


SAYINGS = ("heartbeat", "events", "checkpoint", "succeeded", "failed", "give-back", "blob")


@pytest.fixture
def plane(tmp_path: Path, tiny_folder: Path, database_url: str) -> Any:
    """A control plane without a caretaker, whose leases are over at once."""
    url = "" if database_url.startswith("sqlite") else database_url
    settings = Settings(
        home=tmp_path / "home",
        models=tiny_folder,
        database_url=url,
        lease_seconds=-1.0,
        # Nobody's words are what is tried here, and reading them takes longest.
        training_data_threshold="Off",
    )
    settings.home.mkdir()
    made = bootstrap.control_plane(settings)
    yield made
    made.database.close()


def run_rounds(plane: ControlPlane, count: int, dice: random.Random) -> dict[str, int]:
    """Rounds with as many jobs; how often the old worker was heard first, refused, and refused afterwards."""
    with plane.database.read() as connection:
        project = projects.find_project(connection, "default")
    assert project is not None
    caller = Caller(project=project, key_id="key_1")
    file = files.create(plane, caller, filename="red.jsonl", purpose="fine-tune", chunks=[ROWS])
    outcomes = {"first": 0, "refused": 0, "late": 0}
    for number in range(count):
        round_ = Round(plane, caller, file.id)
        what = dice.choice(SAYINGS)
        outcomes["first" if _at_the_same_moment(round_, what) else "refused"] += 1
        if round_.now().status == JobStatus.RUNNING:
            new = round_.now().lease_epoch
            before = round_.trace()
            for late in SAYINGS:
                with pytest.raises(Fenced):
                    round_.says(late, round_.old.epoch)
                outcomes["late"] += 1
            assert round_.trace() == before, f"round {number}: {what}"
            if new > round_.old.epoch:
                round_.says("succeeded", new)
        ended = round_.now()
        if ended.status == JobStatus.SUCCEEDED:
            _, keys, _, charged = round_.trace()
            assert charged == ended.trained_tokens, f"round {number}: {what} was billed {charged}"
            assert keys.count("succeeded") == 1
        if not ended.status.terminal:
            jobs.cancel(plane, caller, ended.id)
    return outcomes


def _at_the_same_moment(round_: Round, what: str) -> bool:
    """The old worker speaks while the new one claims; whether it was heard."""
    start = threading.Barrier(2)
    heard: list[bool] = []
    claims: list[Claim | None] = []

    def speak() -> None:
        start.wait()
        try:
            round_.says(what, round_.old.epoch)
            heard.append(True)
        except Fenced:
            heard.append(False)

    def claim() -> None:
        start.wait()
        claims.append(runs.claim(round_.plane, "new"))

    threads = [threading.Thread(target=act) for act in (speak, claim)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job, keys, _, _ = round_.trace()
    if not heard[0]:
        # Refused: the new one has it, and there is no trace of the old one.
        assert claims[0] is not None
        assert (job.status, job.lease_epoch, job.worker_id) == (JobStatus.RUNNING, round_.old.epoch + 1, "new")
        assert f"run:by:{round_.old.epoch}" not in keys
    elif what in ("succeeded", "failed"):
        # Heard: it was over before anybody else could claim it.
        assert claims[0] is None
        assert job.status.terminal
    return heard[0]


def test_a_zombies_words_change_nothing(plane: ControlPlane, tmp_path: Path) -> None:
    run_rounds(plane, 12, random.Random(5))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_zombies(plane: ControlPlane) -> None:
    """The figure of the promise; prints its seed, FINERY_SEED repeats a run of it."""
    seed, dice = dice_of()
    outcomes = run_rounds(plane, 500, dice)
    engine = plane.database.engine.dialect.name
    print(
        f"\n500 zombie rounds on {engine}, seed {seed}: {outcomes['refused']} refused at the very moment of the claim, "
        f"{outcomes['first']} heard before it, {outcomes['late']} refused afterwards; 0 stale writes"
    )
