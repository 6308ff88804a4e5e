"""Losses against formulas written out over the unpacked model, and passes that add up to the same loss however cut."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from finery.evaluation import calibration, values
from finery.training import batches, head_reports, objectives
from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.ranks import Ranks
from finery.training.spec import LossSpec, RunSpec
from finery.training.tasks import Item, read_items

MakeRun = Callable[..., tuple[Path, RunSpec]]


def load(spec: RunSpec) -> tuple[TrainableModel, objectives.Objective, list[Item]]:
    model = TrainableModel.load(spec, "cpu")
    objective = objectives.build(spec, model)
    shake(model)
    return model, objective, read_items(Path(spec.training_file), spec)


def shake(model: TrainableModel, scale: float = 0.05) -> None:
    """Move the adapter away from zero, so that it counts."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def mean_loss(objective: objectives.Objective, items: list[Item], tokens_per_pass: int) -> torch.Tensor:
    parts = batches.passes(items, tokens_per_pass=tokens_per_pass)
    return sum(objective.sums(part).loss_sum for part in parts) / sum(item.weight for item in items)


def test_a_batch_gives_the_same_loss_and_gradients_however_it_is_cut(make_run: MakeRun, chat_rows: list[Any]) -> None:
    rows = [json.loads(json.dumps(row)) for row in chat_rows[:8]]
    rows[3]["messages"] += [
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "more", "weight": 0.5},
    ]
    model, objective, items = load(make_run(rows=rows)[1])
    figures = []
    for budget in (10, 80, 10_000):
        loss = mean_loss(objective, items, budget)
        loss.backward()
        gradients = torch.cat([parameter.grad.flatten().clone() for parameter in model.trainable.values()])
        for parameter in model.trainable.values():
            parameter.grad = None
        figures.append((loss.detach(), gradients))
    for loss, gradients in figures[1:]:
        torch.testing.assert_close(loss, figures[0][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients, figures[0][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [LossSpec(), LossSpec(name="label_smoothing", smoothing=0.2), LossSpec(name="focal", gamma=1.5)]
)
def test_language_modelling_against_the_plain_model(make_run: MakeRun, loss: LossSpec) -> None:
    spec = make_run(loss=loss)[1]
    model = TrainableModel.load(spec, "cpu")
    items = read_items(Path(spec.training_file), spec)[:5]
    base = AutoModelForCausalLM.from_pretrained(spec.model_folder, dtype=torch.float32)
    total, weight = 0.0, 0.0
    for item in items:
        (document,) = item.documents
        logits = base(input_ids=torch.tensor([document.tokens])).logits[0, :-1]
        targets, weights = torch.tensor(document.tokens[1:]), torch.tensor(document.weights[1:])
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=loss.smoothing)
        if loss.name == "focal":
            losses = losses * (1 - torch.exp(-losses)) ** loss.gamma
        total += float((losses * weights).sum().detach())
        weight += float(weights.sum())
    ours = mean_loss(objectives.build(spec, model), items, 128)
    assert float(ours) == pytest.approx(total / weight, rel=1e-5)


PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"It is {colour}"}]},
        "preferred_output": [{"role": "assistant", "content": colour}],
        "non_preferred_output": [{"role": "assistant", "content": "nice and nice"}],
    }
    for colour in ("red", "green", "blue", "black")
]


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge"])
def test_preferences_against_their_formula(make_run: MakeRun, name: str) -> None:
    spec = make_run(rows=PAIRS, objective="preference", loss=LossSpec(name=name, beta=0.3))[1]  # type: ignore[arg-type]
    model = TrainableModel.load(spec, "cpu")
    objective = objectives.build(spec, model)
    assert isinstance(objective, objectives.Preferences)
    items = objective.with_reference(
        read_items(Path(spec.training_file), spec), tokens_per_pass=64, before_pass=lambda: None
    )
    at_start = objective.sums(items)
    expected_at_start = {"dpo": 0.6931472, "ipo": (1 / 0.6) ** 2, "hinge": 1.0}[name]
    assert float(at_start.loss_sum) / 4 == pytest.approx(expected_at_start, rel=1e-4)

    shake(model)
    logprobs = [[document_logprob(model, item, side, mean=name == "ipo") for side in (0, 1)] for item in items]
    expected = 0.0
    for item, (preferred, other) in zip(items, logprobs, strict=True):
        margin = torch.tensor((preferred - item.reference[0]) - (other - item.reference[1]))
        expected += {
            "dpo": float(-F.logsigmoid(0.3 * margin)),
            "ipo": float((margin - 1 / 0.6) ** 2),
            "hinge": float(torch.relu(1 - 0.3 * margin)),
        }[name]
    sums = objective.sums(items)
    assert float(sums.loss_sum) == pytest.approx(expected, rel=1e-4)
    assert sums.counted == 4


def document_logprob(model: TrainableModel, item: Item, side: int, *, mean: bool) -> float:
    packed = pack([item.documents[side]], "cpu")
    with torch.no_grad():
        hidden = model.hidden(packed)[packed.trained_N]
        logprobs = model.token_logprobs(hidden, packed.targets_T[packed.trained_N])
    return float(logprobs.mean() if mean else logprobs.sum())


def test_reference_of_full_weights_needs_no_second_model(make_run: MakeRun) -> None:
    spec = make_run(rows=PAIRS, objective="preference", method="full", loss=LossSpec(name="dpo"))[1]
    model = TrainableModel.load(spec, "cpu")
    objective = objectives.build(spec, model)
    items = objective.with_reference(
        read_items(Path(spec.training_file), spec), tokens_per_pass=64, before_pass=lambda: None
    )
    assert float(objective.sums(items).loss_sum) / 4 == pytest.approx(0.6931472, rel=1e-4)


LABELLED = [
    {
        "text": f"It is {colour}" + " nice" * extra,
        "label": colour,
        "labels": [colour, "warm"][: 1 + extra % 2],
        "target": extra,
    }
    for extra, colour in enumerate(["red", "green", "blue", "red", "green"])
]


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        ("classification", LossSpec()),
        ("classification", LossSpec(class_weights=(0.5, 2.0, 1.0, 1.0))),
        ("classification", LossSpec(name="label_smoothing", smoothing=0.1)),
        ("classification", LossSpec(name="focal", gamma=2.0)),
        ("multi_label", LossSpec()),
        ("multi_label", LossSpec(class_weights=(0.5, 2.0, 1.0, 1.0))),
        ("multi_label", LossSpec(name="focal", gamma=2.0)),
        ("multi_label", LossSpec(name="label_smoothing", smoothing=0.1)),
        ("regression", LossSpec()),
    ],
)
def test_heads_against_torch(make_run: MakeRun, task: str, loss: LossSpec) -> None:
    labels = ("red", "green", "blue", "warm") if task != "regression" else ()
    spec = make_run(rows=LABELLED, task=task, labels=labels, loss=loss)[1]
    model, objective, items = load(spec)
    outputs = []
    for item in items:
        packed = pack(item.documents, "cpu")
        outputs.append(model.head_outputs(model.hidden(packed), packed)[0])
    expected = reference_loss(task, torch.stack(outputs), items, loss)
    torch.testing.assert_close(mean_loss(objective, items, 24), expected, rtol=1e-5, atol=1e-6)


ALONE = Ranks(0, 1, torch.device("cpu"))


class OfTwo(Ranks):
    """The first of two ranks that got the same answers."""

    def totals(self, figures: Sequence[float]) -> list[float]:
        return [2 * figure for figure in figures]


def outputs_of(model: Any, items: list[Item]) -> torch.Tensor:
    packs = [pack(item.documents, "cpu") for item in items]
    return torch.cat([model.head_outputs(model.hidden(packed), packed) for packed in packs]).detach()


def test_a_heads_answers_are_told_with_how_sure_it_was(make_run: MakeRun) -> None:
    spec = make_run(rows=LABELLED, task="classification", labels=("red", "green", "blue"))[1]
    model, objective, items = load(spec)
    passes = [objective.sums(items[:2]), objective.sums(items[2:])]
    found = head_reports.report(spec, [one.said_DK for one in passes], items, ALONE)["labels"]
    wanted = [[0] * 4 for _ in range(3)]
    sure = 0.0
    for item in items:
        packed = pack(item.documents, "cpu")
        chances = model.head_outputs(model.hidden(packed), packed)[0].softmax(-1)
        wanted[int(item.target[0])][int(chances.argmax())] += 1
        sure += float(chances.detach().max()) / len(items)
    assert found["classification"]["confusion"] == wanted
    assert found["classification"]["labels"] == ["red", "green", "blue"]
    assert found["calibration"]["answers"] == len(items)
    assert found["calibration"]["confidence"] == pytest.approx(sure, abs=1e-5)
    assert head_reports.report(make_run(name="plain")[1], [None], items, ALONE) == {}


def test_a_head_of_several_labels_is_told_label_by_label(make_run: MakeRun) -> None:
    labels = ("red", "green", "blue", "warm")
    spec = make_run(rows=LABELLED, task="multi_label", labels=labels)[1]
    model, objective, items = load(spec)
    said = [objective.sums(some).said_DK for some in (items[:2], items[2:])]
    found = head_reports.report(spec, said, items, ALONE)["labels"]
    chances_DL = outputs_of(model, items).sigmoid()
    true_DL = torch.tensor([item.target for item in items]) > 0.5
    assert found["classification"]["exact_match"] == pytest.approx(
        float(((chances_DL > 0.5) == true_DL).all(dim=1).double().mean())
    )
    for place, (label, row) in enumerate(zip(labels, found["classification"]["per_label"], strict=True)):
        wanted = calibration.report(chances_DL[:, place].tolist(), true_DL[:, place].tolist())
        told = found["label_calibration"][place]
        assert told["label"] == label
        assert [each["answers"] for each in told["bins"]] == [each["answers"] for each in wanted["bins"]]
        for figure in ("confidence", "accuracy", "expected_calibration_error"):
            assert told[figure] == pytest.approx(wanted[figure], abs=1e-5)
        assert row["support"] == int(true_DL[:, place].sum())
    assert found["calibration"]["answers"] == len(items) * len(labels)
    # As many again on another rank: twice the answers, the same shares.
    both = head_reports.report(spec, said, items, OfTwo(0, 2, torch.device("cpu")))["labels"]
    assert both["calibration"]["answers"] == 2 * found["calibration"]["answers"]
    assert both["classification"]["exact_match"] == found["classification"]["exact_match"]


def test_a_head_that_says_a_value_is_told_beside_the_actual_ones(make_run: MakeRun) -> None:
    spec = make_run(rows=LABELLED, task="regression")[1]
    model, objective, items = load(spec)
    said = [objective.sums(some).said_DK for some in (items[:2], items[2:])]
    found = head_reports.report(spec, [*said, None], items, ALONE)["values"]
    predicted, actual = outputs_of(model, items)[:, 0].tolist(), [item.target[0] for item in items]
    wanted = values.report(predicted, actual)
    assert found["mean_absolute_error"] == pytest.approx(wanted["mean_absolute_error"], rel=1e-4)
    assert found["answers"] == len(items)
    assert [each["answers"] for each in found["bins"]] == [each["answers"] for each in wanted["bins"]]


def reference_loss(task: str, outputs: torch.Tensor, items: list[Item], loss: LossSpec) -> torch.Tensor:
    targets = torch.tensor([item.target for item in items])
    weight = None if loss.class_weights is None else torch.tensor(loss.class_weights)
    if task == "regression":
        return F.mse_loss(outputs, targets)
    if task == "multi_label":
        if loss.name == "focal":
            chance = torch.where(targets > 0, outputs.sigmoid(), 1 - outputs.sigmoid())
            return (-((1 - chance) ** loss.gamma) * chance.log()).mean()
        smooth = targets * (1 - loss.smoothing) + loss.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smooth, weight=weight)
    places = targets[:, 0].long()
    if loss.name == "focal":
        chance = outputs.softmax(-1)[torch.arange(len(items)), places]
        return (-((1 - chance) ** loss.gamma) * chance.log()).mean()
    # torch weighs smoothed labels another way; the tests give weights and smoothing apart.
    return F.cross_entropy(outputs, places, weight=weight, label_smoothing=loss.smoothing)
