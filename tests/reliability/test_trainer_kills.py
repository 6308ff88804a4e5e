"""A trainer killed with SIGKILL at any moment goes on to the same losses, to the bit, and to the same files."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.modeling.manifests import sha256_of
from finery.training.run import main
from finery.training.spec import EXIT_STOPPED, Event, LoraSpec, OptimizerSpec, RunSpec
from tiny_models import own_copy

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"the ticket {i} is about " + "red and nice " * (i % 7)},
            {"role": "assistant", "content": "route red"},
        ]
    }
    for i in range(40)
]
PAIRS = [
    {
        "input": {"messages": row["messages"][:1]},
        "preferred_output": row["messages"][1:],
        "non_preferred_output": [{"role": "assistant", "content": "blue"}],
    }
    for row in ROWS
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_copy(tmp_path_factory.mktemp("models") / "llama", "llama", tmp_path_factory)


def make_run(folder: Path, model: Path, **fields: object) -> Path:
    """A run with dropout (so that random numbers matter), validation and short checkpoint intervals."""
    folder.mkdir()
    rows = PAIRS if fields.get("objective") == "preference" else ROWS
    for name in ("training.jsonl", "validation.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = RunSpec(
        job_id=folder.name,
        base_model="tiny",
        model_folder=str(model),
        training_file="training.jsonl",
        validation_file="validation.jsonl",
        n_epochs=3,
        batch_size=4,
        tokens_per_pass=128,
        threads=1,
        precision="fp32",
        lora=LoraSpec(rank=4, alpha=8, dropout=0.1),
        optimizer=OptimizerSpec(learning_rate=1e-2),
        checkpoint_interval_steps=4,
        eval_interval_steps=5,
    )
    dataclasses.replace(spec, **fields).write(folder)  # type: ignore[arg-type]
    return folder


class Trainer:
    """A trainer forked off this process, which has imported torch: it starts in milliseconds instead of seconds."""

    def __init__(self, folder: Path) -> None:
        import finery.training.session  # noqa: F401 (so that the child has it)

        self.pid = os.fork()
        if self.pid == 0:
            os._exit(main([str(folder)]))
        self.status: int | None = None

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def send(self, number: int) -> None:
        if not self.ended():
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def events(folder: Path) -> list[Event]:
    """The whole lines so far."""
    path = folder / "events.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [Event.parse(line.decode()) for line in whole.splitlines()]


def losses(folder: Path) -> dict[int, set[str]]:
    """Every loss told of each step, as hex."""
    told: dict[int, set[str]] = {}
    for event in events(folder):
        if event.type == "metrics":
            told.setdefault(event.data["step"], set()).add(float(event.data["train_loss"]).hex())
    return told


def result(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the result."""
    return {path.name: sha256_of(path) for path in sorted((folder / "result").iterdir())}


def steps_told(folder: Path) -> int:
    return sum(event.type == "metrics" for event in events(folder))


def kill_after(folder: Path, more_steps: int, pause_seconds: float) -> bool:
    """Start the trainer, kill it that many steps (and a moment) later; whether it was still running."""
    before = steps_told(folder)
    trainer = Trainer(folder)
    while not trainer.ended() and steps_told(folder) < before + more_steps:
        time.sleep(0.001)
    time.sleep(pause_seconds)
    trainer.send(signal.SIGKILL)
    return trainer.wait() == -signal.SIGKILL


def run_to_end(folder: Path) -> None:
    assert Trainer(folder).wait() == 0, events(folder)[-1].message


def kill_at_random(folder: Path, kills: int, dice: random.Random) -> int:
    """Kill up to so many times, then let it end; how often it was really killed in the middle."""
    done = sum(kill_after(folder, dice.randint(0, 8), dice.random() * 0.02) for _ in range(kills))
    run_to_end(folder)
    return done


def check_equal(disturbed: Path, undisturbed: Path) -> None:
    assert result(disturbed) == result(undisturbed)
    assert losses(disturbed) == losses(undisturbed)
    assert all(len(told) == 1 for told in losses(disturbed).values())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "undisturbed", model)
    run_to_end(folder)
    return folder


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_it_ends_the_same(tmp_path: Path, model: Path, undisturbed: Path, seed: int) -> None:
    folder = make_run(tmp_path / "disturbed", model)
    assert kill_at_random(folder, 3, random.Random(seed)) > 0
    check_equal(folder, undisturbed)


def test_killed_while_asking_the_reference_or_later_preferences_end_the_same(tmp_path: Path, model: Path) -> None:
    whole = make_run(tmp_path / "whole", model, objective="preference")
    run_to_end(whole)
    folder = make_run(tmp_path / "disturbed", model, objective="preference")
    assert kill_after(folder, 6, 0)
    (folder / "reference.safetensors").write_bytes(b"torn")
    run_to_end(folder)
    check_equal(folder, whole)


def test_asked_to_stop_it_keeps_its_last_step_and_goes_on(tmp_path: Path, model: Path, undisturbed: Path) -> None:
    folder = make_run(tmp_path / "stopped", model)
    trainer = Trainer(folder)
    while steps_told(folder) < 6:
        time.sleep(0.001)
    trainer.send(signal.SIGTERM)
    assert trainer.wait() == EXIT_STOPPED
    last = next(event for event in reversed(events(folder)) if event.type == "checkpoint")
    assert last.data["step"] == steps_told(folder)
    assert last.data["deployable"]
    run_to_end(folder)
    check_equal(folder, undisturbed)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, model: Path, undisturbed: Path) -> None:
    folder = make_run(tmp_path / "damaged", model)
    assert kill_after(folder, 10, 0)
    newest = max((folder / "checkpoints").glob("step-*"))
    victim = newest / "optimizer.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    run_to_end(folder)
    assert any(event.level == "warn" and newest.name in event.message for event in events(folder))
    check_equal(folder, undisturbed)


def test_the_trainer_dies_with_its_parent(tmp_path: Path, model: Path) -> None:
    folder = make_run(tmp_path / "orphan", model, n_epochs=50)
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'finery.training.run', sys.argv[1]]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    while steps_told(folder) < 2:
        time.sleep(0.005)
    (child,) = children_of(parent.pid)
    parent.kill()
    parent.wait()
    while is_running(child):
        time.sleep(0.005)
    assert events(folder)[-1].type != "result"


def children_of(process: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                yield int(folder.name)
        except OSError:
            continue


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_over_five_runs(tmp_path: Path, model: Path) -> None:
    """The figure of the promise. Prints its seed; FINERY_SEED repeats a run of it."""
    seed = int(os.environ.get("FINERY_SEED", random.SystemRandom().randrange(10**6)))
    dice = random.Random(seed)
    kills = 0
    for number in range(5):
        whole = make_run(tmp_path / f"whole-{number}", model, seed=number)
        run_to_end(whole)
        folder = make_run(tmp_path / f"disturbed-{number}", model, seed=number)
        mine = 0
        while mine < 10:
            if not kill_after(folder, dice.randint(0, 5), dice.random() * 0.03):
                for path in ("checkpoints", "result"):  # it came to its end: once more from the start
                    subprocess.run(["rm", "-rf", str(folder / path)], check=True)
                continue
            mine += 1
        run_to_end(folder)
        check_equal(folder, whole)
        kills += mine
    print(f"\n{kills} kills over 5 runs, seed {seed}: every loss and every file of every result the same")
