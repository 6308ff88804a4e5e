"""Two ranks that speak gloo train as one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finery.training.results import ResultRow, from_csv
from finery.training.spec import EXIT_RANK_LOST, Event, LossSpec, RunSpec

MakeRun = Callable[..., tuple[Path, RunSpec]]


def run(folder: Path) -> tuple[dict[str, torch.Tensor], list[ResultRow]]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, "-m", "finery.training.run", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = from_csv((folder / "result/results.csv").read_text(encoding="utf-8"))
    return load_file(folder / "result/adapter_model.safetensors"), rows


def test_two_ranks_equal_one(make_run: MakeRun, chat_rows: list[dict[str, object]]) -> None:
    fields = {"n_epochs": 3, "batch_size": 7, "validation": chat_rows[:5], "loss": LossSpec(name="focal")}
    one, one_rows = run(make_run(name="one", **fields)[0])
    folder, _ = make_run(name="two", ranks=2, **fields)
    two, two_rows = run(folder)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    for left, right in zip(one_rows, two_rows, strict=True):
        assert right.measured() == pytest.approx(left.measured(), rel=1e-5)
    lines = [Event.parse(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(event.message == "2 processes train as one" for event in lines)
    keys = [event.key for event in lines]
    assert len(keys) == len(set(keys)), "both ranks spoke"


def test_a_killed_rank_ends_the_others_and_all_go_on_from_the_checkpoint(make_run: MakeRun) -> None:
    fields = {"n_epochs": 8, "batch_size": 7, "checkpoint_interval_steps": 2}
    folder, _ = make_run(ranks=2, **fields)
    first = subprocess.Popen([sys.executable, "-m", "finery.training.run", str(folder)], stderr=subprocess.PIPE)
    while not list(folder.glob("checkpoints/step-*")):
        assert first.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    _, said = first.communicate(timeout=120)
    assert first.returncode == EXIT_RANK_LOST, said[-3000:]
    assert not [line for line in (folder / "events.jsonl").read_text().splitlines() if '"type": "error"' in line]
    _, rows = run(folder)
    assert [row.step for row in rows] == list(range(1, len(rows) + 1))
