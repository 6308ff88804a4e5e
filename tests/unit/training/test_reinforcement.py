"""Runs of reinforcement on tiny models: the reward rises, a killed run ends the same, and what goes wrong is told."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from finery.core.errors import InvalidRequest
from finery.modeling import manifests
from finery.modeling.template import ChatTemplate
from finery.training import batches, objectives, results
from finery.training.checkpoint import ADAPTER_FILE, spec_hash
from finery.training.events import EventLog
from finery.training.model import TrainableModel
from finery.training.objectives import Policy
from finery.training.policy import token_losses
from finery.training.rollouts import Explorer, GraderUnavailable
from finery.training.session import run_session
from finery.training.spec import Event, LossSpec, OptimizerSpec, ReinforcementSpec, RunSpec
from finery.training.tasks import Attempt, read_prompts

MakeRun = Callable[..., tuple[Path, RunSpec]]

COLOURS = ["red", "green", "blue", "yellow"]
PROMPTS = [
    {"messages": [{"role": "user", "content": f"It is {COLOURS[i % 4]} {'and nice ' * (i % 3)}"}], "letter": "e"}
    for i in range(16)
]
CHECK = {
    "type": "string_check",
    "name": "has the letter",
    "input": "{{sample.output_text}}",
    "reference": "{{item.letter}}",
    "operation": "like",
}
PYTHON = {"type": "python", "name": "mine", "source": "def grade(sample, item):\n    return len(item['letter'])\n"}


def reinforce(make_run: MakeRun, family: str = "llama", **fields: Any) -> tuple[Path, RunSpec]:
    knobs = {"grader": CHECK, "group_size": 8, "max_completion_tokens": 8, **fields.pop("reinforcement", {})}
    return make_run(
        family,
        **{
            "rows": PROMPTS,
            "objective": "reinforcement",
            "loss": LossSpec(name="grpo"),
            "reinforcement": ReinforcementSpec(**knobs),
            "batch_size": 4,
            "n_epochs": 1,
            "optimizer": OptimizerSpec(learning_rate=1e-2, schedule="constant"),
            **fields,
        },
    )


def train(folder: Path, spec: RunSpec) -> list[Event]:
    assert run_session(folder, spec, EventLog(folder), lambda: False)
    return events(folder)


def events(folder: Path) -> list[Event]:
    return [Event.parse(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def rows(folder: Path) -> list[results.ResultRow]:
    return results.from_csv((folder / "result/results.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("family", "kl_weight"), [("llama", 0.04), ("phi3", 0.0)])
def test_the_reward_rises(make_run: MakeRun, family: str, kl_weight: float) -> None:
    folder, spec = reinforce(
        make_run, family, n_epochs=5, validation=PROMPTS[:8], reinforcement={"kl_weight": kl_weight, "eval_samples": 4}
    )
    told = train(folder, spec)
    measured = rows(folder)
    before = [row.train_reward_mean or 0.0 for row in measured[:4]]
    after = [row.train_reward_mean or 0.0 for row in measured[-4:]]
    assert sum(after) / 4 > sum(before) / 4 + 0.2
    validated = [row.valid_reward_mean for row in measured if row.valid_reward_mean is not None]
    assert len(validated) == 5
    assert validated[-1] > validated[0]
    assert all((row.kl_mean is not None) == bool(kl_weight) for row in measured)
    last = next(event for event in reversed(told) if event.type == "metrics")
    assert last.message.startswith("Step 20/20: train mean reward=")
    assert last.data["scores"]["train_reward_mean"] == last.data["train_reward_mean"]
    assert last.data["scores"]["valid_reward_mean"] == last.data["valid_reward_mean"] == validated[-1]
    assert last.data["scores"]["graders"][0]["name"] == "has the letter"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_killed_run_ends_in_the_same_bits(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    fields: dict[str, Any] = {"method": method, "n_epochs": 2, "checkpoint_interval_steps": 3}
    if method == "full":
        fields["reinforcement"] = {"kl_weight": 0.0}
    whole, spec = reinforce(make_run, name="whole", **fields)
    train(whole, spec)
    folder, spec = reinforce(make_run, name="disturbed", **fields)
    explore = Explorer.explore

    def dies(self: Explorer, prompts: Any, step: int) -> Any:
        if step == 6:
            raise KeyboardInterrupt
        return explore(self, prompts, step)

    with monkeypatch.context() as patch:
        patch.setattr(Explorer, "explore", dies)
        with pytest.raises(KeyboardInterrupt):
            run_session(folder, spec, EventLog(folder), lambda: False)
    train(folder, spec)
    assert any(event.key.startswith("resumed:4") for event in events(folder))
    assert weights_hash(folder) == weights_hash(whole)
    assert rows(folder) == rows(whole)


def weights_hash(folder: Path) -> str:
    adapter = folder / "result" / ADAPTER_FILE
    return manifests.sha256_of(adapter if adapter.exists() else folder / "result/model.safetensors")


def test_the_loss_of_a_pass_is_that_of_its_answers_one_by_one(make_run: MakeRun) -> None:
    spec = reinforce(make_run)[1]
    model = TrainableModel.load(spec, "cpu")
    policy = objectives.build(spec, model)
    assert isinstance(policy, Policy)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    explorer = Explorer(spec, model, policy, ChatTemplate.load(Path(spec.model_folder)))
    found = explorer.explore(read_prompts(Path(spec.training_file), spec)[:3], 1)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        packed = sum(policy.sums(one_pass).loss_sum for one_pass in batches.passes(found.attempts, tokens_per_pass=96))
        alone = [policy.sums([attempt]).loss_sum for attempt in found.attempts]
    torch.testing.assert_close(packed, sum(alone), rtol=1e-4, atol=1e-4)

    base = AutoModelForCausalLM.from_pretrained(spec.model_folder).eval()
    for attempt, loss in zip(found.attempts, alone, strict=True):
        tokens = torch.tensor([attempt.documents[0].tokens])
        answer = slice(-len(attempt.sampled), None)
        with torch.no_grad():
            logprobs = base(input_ids=tokens).logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[answer, 0]
        torch.testing.assert_close(torch.tensor(attempt.reference), logprobs, rtol=1e-4, atol=1e-4)
        assert attempt.weight == len(attempt.sampled)
        now = _logprobs(model, attempt)
        expected = token_losses(
            now,
            torch.tensor(attempt.sampled),
            torch.full_like(now, attempt.advantage),
            logprobs,
            clip=0.2,
            kl_weight=0.04,
        )
        torch.testing.assert_close(loss, expected.sum(), rtol=1e-4, atol=1e-4)


def _logprobs(model: TrainableModel, attempt: Attempt) -> torch.Tensor:
    from finery.training.packing import pack

    packed = pack(attempt.documents, "cpu")
    with torch.no_grad():
        return model.token_logprobs(model.hidden(packed)[packed.trained_N], packed.targets_T[packed.trained_N])


def test_prompts_end_where_the_assistant_begins_to_speak(make_run: MakeRun) -> None:
    spec = reinforce(make_run)[1]
    template = ChatTemplate.load(Path(spec.model_folder))
    prompts = read_prompts(Path(spec.training_file), spec)
    assert template.decode(prompts[1].documents[0].tokens).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert [prompt.place for prompt in prompts] == list(range(16))
    assert prompts[3].row == PROMPTS[3]


def test_a_prompt_without_room_for_its_answers_is_named(make_run: MakeRun) -> None:
    spec = reinforce(make_run, max_tokens_per_example=30, reinforcement={"max_completion_tokens": 20})[1]
    with pytest.raises(InvalidRequest, match=r"Line 1 .* answers up to 20, this job allows 30 for both"):
        read_prompts(Path(spec.training_file), spec)


def test_graders_in_a_multi_grader_are_told_of_one_by_one(make_run: MakeRun) -> None:
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"letter": CHECK, "exact": {**CHECK, "name": "exact", "operation": "eq"}},
        "calculate_output": "0.75 * letter + 0.25 * exact",
    }
    folder, spec = reinforce(make_run, reinforcement={"grader": multi})
    told = [event.data["scores"] for event in train(folder, spec) if event.type == "metrics"]
    for scores in told:
        letter, exact = (part["train_reward_mean"] for part in scores["graders"])
        assert [part["name"] for part in scores["graders"]] == ["letter", "exact"]
        assert scores["train_reward_mean"] == pytest.approx(0.75 * letter + 0.25 * exact)


def test_answers_that_cant_be_graded_count_as_nothing_and_are_told(make_run: MakeRun) -> None:
    asks_json = {**CHECK, "input": "{{sample.output_json.answer}}"}
    folder, spec = reinforce(make_run, reinforcement={"grader": asks_json})
    told = train(folder, spec)
    warned = [event for event in told if event.level == "warn"]
    assert [event.key for event in warned] == ["grader:invalid_variable_error"] * len(warned)
    assert "count as 0" in warned[0].message
    metrics = next(event for event in told if event.type == "metrics")
    assert metrics.data["train_reward_mean"] == 0.0
    assert metrics.data["errors"]["graders"][0]["train_invalid_variable_error_mean"] == 1.0
    assert metrics.data["taught_share"] == 0.0


def test_a_python_grader_grades(make_run: MakeRun) -> None:
    folder, spec = reinforce(
        make_run,
        rows=PROMPTS[:2],
        batch_size=2,
        reinforcement={"grader": PYTHON, "group_size": 2},
    )
    metrics = next(event for event in train(folder, spec) if event.type == "metrics")
    assert metrics.data["train_reward_mean"] == 1.0


def test_a_grader_that_cant_be_run_ends_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = reinforce(make_run, reinforcement={"grader": PYTHON})
    monkeypatch.setattr("finery.evaluation.python_grader.sys.platform", "darwin")
    with pytest.raises(GraderUnavailable, match="need Linux"):
        run_session(folder, spec, EventLog(folder), lambda: False)


def test_early_stopping_watches_the_reward(make_run: MakeRun) -> None:
    never = {**CHECK, "reference": "no answer has this"}
    folder, spec = reinforce(
        make_run,
        validation=PROMPTS[:2],
        n_epochs=9,
        early_stopping_patience=2,
        rows=PROMPTS[:4],
        reinforcement={"grader": never},
    )
    told = train(folder, spec)
    assert len(rows(folder)) == 3
    assert any("no better validation reward than" in event.message for event in told)
    assert told[-1].data["weights_of_step"] == 1


def test_the_spec_comes_back_and_runs_of_other_methods_keep_their_hash(make_run: MakeRun) -> None:
    spec = reinforce(make_run)[1]
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    plain = make_run(name="plain")[1]
    facts = plain.to_json()
    del facts["reinforcement"]
    assert RunSpec.from_json(facts) == plain
    other = dataclasses.replace(spec, reinforcement=dataclasses.replace(spec.reinforcement, clip=0.1))  # type: ignore[type-var]
    assert spec_hash(other) != spec_hash(spec)
