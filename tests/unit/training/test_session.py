"""Whole runs on tiny models: every method, task and optimizer learns, and PEFT reads what they leave."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from finery.training import results
from finery.training.events import EventLog
from finery.training.model import TrainableModel
from finery.training.objectives import build
from finery.training.packing import pack
from finery.training.session import run_session
from finery.training.spec import Event, LoraSpec, LossSpec, OptimizerSpec, RunSpec
from finery.training.tasks import num_outputs, read_items

MakeRun = Callable[..., tuple[Path, RunSpec]]

COLOURS = ["red", "green", "blue"]
LABELS = (*COLOURS, "nice")
ROWS = [
    {
        "prompt": f"It is {colour} ",
        "completion": colour,
        "text": f"It is {colour} " + "and nice " * (i % 2),
        "label": colour,
        "labels": [colour, "nice"][: 1 + i % 2],
        "target": float(COLOURS.index(colour)),
        "input": {"messages": [{"role": "user", "content": f"It is {colour}"}]},
        "preferred_output": [{"role": "assistant", "content": colour}],
        "non_preferred_output": [{"role": "assistant", "content": "and nice"}],
    }
    for i in range(4)
    for colour in COLOURS
]
TASKS: dict[str, dict[str, Any]] = {
    "chat": {},
    "completion": {"task": "completion", "rows": ROWS},
    "dpo": {"objective": "preference", "loss": LossSpec(name="dpo"), "rows": ROWS},
    "ipo": {"objective": "preference", "loss": LossSpec(name="ipo", beta=0.5), "rows": ROWS},
    "hinge": {"objective": "preference", "loss": LossSpec(name="hinge"), "rows": ROWS},
    "classification": {"task": "classification", "labels": LABELS, "rows": ROWS},
    "multi_label": {"task": "multi_label", "labels": LABELS, "rows": ROWS},
    "regression": {"task": "regression", "rows": ROWS},
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"lora": LoraSpec(rank=4, alpha=4, rank_stabilised=True, dropout=0.1)},
    "dora": {"lora": LoraSpec(rank=4, alpha=8, dora=True)},
    "qlora": {"method": "qlora"},
    "full": {"method": "full"},
}
OPTIMIZERS = {"adamw": 5e-3, "adam": 5e-3, "sgd": 2e-2, "adafactor": 3e-3, "lion": 1e-3, "adamw_8bit": 5e-3}
FAMILIES = ("llama", "phi3", "qwen2")
EVERY = list(itertools.product(METHODS, TASKS, OPTIMIZERS, FAMILIES))
PAIRS = list(itertools.product(METHODS, TASKS))
SOME = [
    (method, task, list(OPTIMIZERS)[number % 6], FAMILIES[(number + number // 6) % 3])
    for number, (method, task) in enumerate(PAIRS)
]
"""Every method with every task; optimizers and families take turns. The slow test has every combination."""


def train(folder: Path, spec: RunSpec) -> list[Event]:
    assert run_session(folder, spec, EventLog(folder), lambda: False)
    return [Event.parse(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def check_it_learns(make_run: MakeRun, method: str, task: str, optimizer: str, family: str) -> None:
    rate = OPTIMIZERS[optimizer] * (0.3 if method == "full" else 1.0)
    folder, spec = make_run(
        family,
        n_epochs=8,
        batch_size=6,
        optimizer=OptimizerSpec(name=optimizer, learning_rate=rate, schedule="constant"),  # type: ignore[arg-type]
        **{**TASKS[task], **METHODS[method]},
    )
    train(folder, spec)
    losses = [row.train_loss for row in results.from_csv((folder / "result/results.csv").read_text(encoding="utf-8"))]
    quarter = len(losses) // 4
    assert sum(losses[-quarter:]) < sum(losses[:quarter])


@pytest.mark.parametrize(("method", "task", "optimizer", "family"), SOME)
def test_it_learns(make_run: MakeRun, method: str, task: str, optimizer: str, family: str) -> None:
    check_it_learns(make_run, method, task, optimizer, family)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "task", "optimizer", "family"), EVERY)
def test_every_combination_learns(make_run: MakeRun, method: str, task: str, optimizer: str, family: str) -> None:
    check_it_learns(make_run, method, task, optimizer, family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("task", ["chat", "classification"])
def test_peft_gives_the_same_logits(make_run: MakeRun, family: str, method: str, task: str) -> None:
    folder, spec = make_run(family, n_epochs=1, batch_size=6, **{**TASKS[task], **METHODS[method]})
    train(folder, spec)
    items = read_items(Path(spec.training_file), spec)[:3]

    ours = TrainableModel.load(spec, "cpu")
    build(spec, ours)
    ours.load_state(load_file(folder / "result/adapter_model.safetensors"))
    ours.train(False)
    if num_outputs(spec):
        base = AutoModelForSequenceClassification.from_pretrained(spec.model_folder, num_labels=num_outputs(spec))
    else:
        base = AutoModelForCausalLM.from_pretrained(spec.model_folder)
    theirs = PeftModel.from_pretrained(base.float(), folder / "result").eval()
    for item in items:
        tokens = torch.tensor([item.documents[0].tokens])
        packed = pack(item.documents, "cpu")
        with torch.no_grad():
            expected = theirs(input_ids=tokens).logits[0]
            hidden = ours.hidden(packed)
            if num_outputs(spec):
                torch.testing.assert_close(ours.head_outputs(hidden, packed)[0], expected, rtol=1e-5, atol=1e-5)
            else:
                logprobs = ours.token_logprobs(hidden[:-1], tokens[0, 1:])
                wanted = expected[:-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
                torch.testing.assert_close(logprobs, wanted, rtol=1e-5, atol=1e-5)


def test_full_weights_are_a_model_folder(make_run: MakeRun) -> None:
    folder, spec = make_run("qwen2", method="full", optimizer=OptimizerSpec(learning_rate=1e-3))
    train(folder, spec)
    before = AutoModelForCausalLM.from_pretrained(spec.model_folder).state_dict()
    after = AutoModelForCausalLM.from_pretrained(folder / "result").state_dict()
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) > len(before) // 2
    assert (folder / "result/tokenizer.json").exists()


def test_going_on_from_a_tuned_model_starts_where_it_ended(make_run: MakeRun) -> None:
    folder, spec = make_run(name="first")
    rows = [event for event in train(folder, spec) if event.type == "metrics"]
    again, next_spec = make_run(name="second", start_from=str(folder / "result"), n_epochs=1)
    more = [event for event in train(again, next_spec) if event.type == "metrics"]
    assert more[0].data["train_loss"] < rows[0].data["train_loss"] * 0.9
    other, wrong = make_run(name="third", start_from=str(folder / "result"), lora=LoraSpec(rank=8))
    with pytest.raises(Exception, match="rank 4, this job asks for 8"):
        train(other, wrong)


def test_the_story_of_a_run(make_run: MakeRun, chat_rows: list[Any]) -> None:
    folder, spec = make_run(batch_size=8, validation=chat_rows[:5], eval_interval_steps=2, checkpoint_interval_steps=2)
    events = train(folder, spec)
    kinds = [event.type for event in events]
    assert events[-1].type == "result"
    assert kinds.count("metrics") == 6
    assert [event.data["step"] for event in events if event.type == "checkpoint"] == [2, 3, 4, 6]
    assert [event.data["deployable"] for event in events if event.type == "checkpoint"] == [False, True, False, True]
    assert any("24 training examples" in event.message for event in events)
    assert sum("Measured: longest batch needs" in event.message for event in events) == 1
    steps = [event.data for event in events if event.type == "metrics"]
    assert [data["step"] for data in steps] == [1, 2, 3, 4, 5, 6]
    assert all(data["total_steps"] == 6 and data["tokens_per_second"] > 0 for data in steps)
    assert ["valid_loss" in data for data in steps] == [False, True, False, True, False, True]
    assert ["full_valid_loss" in data for data in steps] == [False, False, True, False, False, True]
    assert [data["epoch"] for data in steps] == [1, 1, 1, 2, 2, 2]
    rows = results.from_csv((folder / "result/results.csv").read_text(encoding="utf-8"))
    assert [row.train_loss for row in rows] == [data["train_loss"] for data in steps]
    tokens = sum(item.num_tokens for item in read_items(Path(spec.training_file), spec))
    assert events[-1].data["trained_tokens"] == 2 * tokens
