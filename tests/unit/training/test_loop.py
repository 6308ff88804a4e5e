"""What a loop does when things go wrong, or well enough to stop."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core.errors import Conflict, InvalidRequest
from finery.modeling import manifests
from finery.training import estimate, loop, results
from finery.training.checkpoint import ADAPTER_FILE, Checkpoints
from finery.training.events import EventLog
from finery.training.objectives import LanguageModelling
from finery.training.session import run_session
from finery.training.spec import Event, OptimizerSpec, RunSpec

MakeRun = Callable[..., tuple[Path, RunSpec]]


def events(folder: Path) -> list[Event]:
    return [Event.parse(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def run(folder: Path, spec: RunSpec) -> bool:
    return run_session(folder, spec, EventLog(folder), lambda: False)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder, spec = make_run(batch_size=8, checkpoint_interval_steps=2)
    whole = LanguageModelling.sums
    calls = 0

    def sums(self: LanguageModelling, items: Any) -> Any:
        nonlocal calls
        calls += 1
        done = whole(self, items)
        if calls > 10 and where == "loss":
            object.__setattr__(done, "loss_sum", done.loss_sum * math.nan)
        elif calls > 10:
            done.loss_sum.register_hook(lambda gradient: gradient * math.inf)
        return done

    monkeypatch.setattr(LanguageModelling, "sums", sums)
    with pytest.raises(loop.LossNotFinite, match=rf"the {where} was not a finite number") as caught:
        run(folder, spec)
    assert caught.value.code == "loss_not_finite"
    assert "learning rate at 0.0" in caught.value.message
    kept = sorted((folder / "checkpoints").iterdir())
    assert f"checkpoint of step {int(kept[-1].name[-6:])} is kept" in caught.value.message
    manifests.verify(kept[-1])


def test_early_stopping_gives_the_best_epoch(make_run: MakeRun, chat_rows: list[Any]) -> None:
    odd = [{"messages": [*row["messages"][:2], {"role": "assistant", "content": "nice"}]} for row in chat_rows[:4]]
    folder, spec = make_run(validation=odd, n_epochs=9, early_stopping_patience=2, seed=1)
    run(folder, spec)
    rows = results.from_csv((folder / "result/results.csv").read_text(encoding="utf-8"))
    losses = {row.step: row.full_valid_loss for row in rows if row.full_valid_loss is not None}
    best = min(losses, key=lambda step: losses[step] or 0.0)
    assert len(losses) < 9
    assert list(losses).index(best) == len(losses) - 3
    last = events(folder)[-1]
    assert last.data["weights_of_step"] == best
    assert any("Stopped early" in event.message for event in events(folder))
    kept = manifests.sha256_of(folder / f"checkpoints/step-{best:06d}" / ADAPTER_FILE)
    assert manifests.sha256_of(folder / "result" / ADAPTER_FILE) == kept


def test_old_checkpoints_are_dropped_and_epoch_ends_stay_deployable(make_run: MakeRun) -> None:
    folder, spec = make_run(batch_size=4, checkpoint_interval_steps=2, n_epochs=3)
    run(folder, spec)
    kept = {path.name: path for path in (folder / "checkpoints").iterdir()}
    assert sorted(kept) == ["step-000006", "step-000012", "step-000016", "step-000018"]
    resumable = [name for name, path in kept.items() if (path / "optimizer.safetensors").exists()]
    assert sorted(resumable) == ["step-000016", "step-000018"]
    for path in kept.values():
        assert set(manifests.verify(path).files) == {"adapter_config.json", ADAPTER_FILE, "results.csv"}


def test_a_checkpoint_of_another_spec_or_of_other_data_is_refused(make_run: MakeRun) -> None:
    folder, spec = make_run()
    run(folder, spec)
    import dataclasses

    other = dataclasses.replace(spec, optimizer=OptimizerSpec(learning_rate=0.5))
    with pytest.raises(Conflict, match="another job spec") as caught:
        run(folder, other)
    assert caught.value.code == "checkpoint_of_another_spec"
    with Path(spec.training_file).open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(Conflict):
        run(folder, spec)


def test_a_half_written_checkpoint_is_swept_away(make_run: MakeRun) -> None:
    folder, spec = make_run()
    (folder / "checkpoints/.step-000004.x.part").mkdir(parents=True)
    assert Checkpoints(folder, spec).newest(lambda *_: pytest.fail("nothing is corrupt")) is None
    assert not list((folder / "checkpoints").iterdir())


def test_an_adapter_of_other_layers_can_not_be_gone_on_from(make_run: MakeRun) -> None:
    import dataclasses

    folder, spec = make_run(name="first")
    run(folder, spec)
    again, wish = make_run(name="second", start_from=str(folder / "result"))
    wish = dataclasses.replace(wish, lora=dataclasses.replace(wish.lora, targets=("q_proj",)))
    with pytest.raises(InvalidRequest):
        run(again, wish)


@pytest.mark.parametrize(("tokens_per_pass", "knob"), [(128, "Set tokens_per_pass to 52"), (16, "keep examples below")])
def test_too_little_memory_names_the_knob(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tokens_per_pass: int, knob: str
) -> None:
    folder, spec = make_run(tokens_per_pass=tokens_per_pass)

    def no_memory(*_: Any) -> Any:
        torch.empty(1 << 60)

    monkeypatch.setattr(LanguageModelling, "sums", no_memory)
    with pytest.raises(loop.OutOfMemory) as caught:
        run(folder, spec)
    assert caught.value.code == "out_of_memory"
    assert knob in caught.value.message


def test_the_memory_limit_turns_a_kill_into_an_error() -> None:
    import subprocess
    import sys

    code = (
        "import torch, finery.training.estimate as e\n"
        "e.available_bytes = lambda device: 200 << 20\n"
        "e.limit_memory()\n"
        "try:\n"
        "    torch.zeros(300 << 20)\n"
        "except Exception as error:\n"
        "    print(e.is_out_of_memory(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_meters_are_plausible() -> None:
    device = torch.device("cpu")
    estimate.reset_peak(device)
    before = estimate.peak_bytes(device)
    block = torch.ones(64 << 18)
    assert estimate.peak_bytes(device) - before > 50 << 20
    assert estimate.available_bytes(device) > 50 << 20
    del block
