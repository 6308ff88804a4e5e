"""Rows become items; a row that can't is named by its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from finery.core.errors import InvalidRequest
from finery.training.spec import RunSpec
from finery.training.tasks import read_items

MakeRun = Callable[..., tuple[Path, RunSpec]]


def items_of(make_run: MakeRun, **fields: Any) -> list[Any]:
    _, spec = make_run(**fields)
    return read_items(Path(spec.training_file), spec)


def text_of(spec: RunSpec, tokens: list[int]) -> str:
    return Tokenizer.from_file(f"{spec.model_folder}/tokenizer.json").decode(tokens, skip_special_tokens=False)


def test_chat_trains_the_answer_and_its_end(make_run: MakeRun) -> None:
    _, spec = make_run()
    item = read_items(Path(spec.training_file), spec)[2]
    (document,) = item.documents
    trained = [token for token, weight in zip(document.tokens, document.weights, strict=True) if weight]
    assert text_of(spec, trained) == "blue<|im_end|>"
    assert item.weight == item.num_trained == len(trained)
    assert item.num_tokens == len(document.tokens)


def test_completion_trains_the_completion_and_the_end_of_text(make_run: MakeRun) -> None:
    _, spec = make_run(task="completion", rows=[{"prompt": "It is red and", "completion": " nice"}])
    (item,) = read_items(Path(spec.training_file), spec)
    (document,) = item.documents
    trained = [token for token, weight in zip(document.tokens, document.weights, strict=True) if weight]
    assert text_of(spec, trained) == " nice<|im_end|>"


def test_preferences_have_two_documents_and_count_once(make_run: MakeRun) -> None:
    said = [
        {"role": "user", "content": "Red?"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "And?"},
    ]
    row = {
        "input": {"messages": said},
        "preferred_output": [{"role": "assistant", "content": "blue"}],
        "non_preferred_output": [{"role": "assistant", "content": "black and nice"}],
    }
    _, spec = make_run(rows=[row], objective="preference")
    (item,) = read_items(Path(spec.training_file), spec)
    trained = [
        text_of(spec, [t for t, weight in zip(document.tokens, document.weights, strict=True) if weight])
        for document in item.documents
    ]
    assert trained == ["blue<|im_end|>", "black and nice<|im_end|>"]
    assert item.weight == 1


def test_targets_of_heads(make_run: MakeRun) -> None:
    labels = ("red", "blue", "warm")
    rows = [{"text": "x", "label": "blue", "labels": ["warm", "red"], "target": 2.5}]
    (one,) = items_of(make_run, rows=rows, task="classification", labels=labels, name="a")
    (several,) = items_of(make_run, rows=rows, task="multi_label", labels=labels, name="b")
    (number,) = items_of(make_run, rows=rows, task="regression", name="c")
    assert (one.target, several.target, number.target) == ((1.0,), (1.0, 0.0, 1.0), (2.5,))


GOOD = {"messages": [{"role": "user", "content": "red"}, {"role": "assistant", "content": "red"}]}
SILENT = {"messages": [{"role": "user", "content": "red"}, {"role": "assistant", "content": "red", "weight": 0}]}
LONG = {"messages": [{"role": "user", "content": "red " * 200}, {"role": "assistant", "content": "red"}]}


@pytest.mark.parametrize(
    ("fields", "bad", "says"),
    [
        ({}, SILENT, "trains nothing"),
        ({"max_tokens_per_example": 64}, LONG, "this job allows 64"),
        ({}, {"text": "x"}, "messages"),
        ({"task": "classification", "labels": ("red",)}, {"text": "x", "label": "pink"}, "'pink'"),
        ({"task": "classification", "labels": ("red",)}, {"text": "x"}, "'label'"),
        ({"task": "regression"}, {"text": "x", "target": float("nan")}, "finite"),
        ({"task": "regression"}, {"text": "x", "target": "much"}, "much"),
    ],
)
def test_a_faulty_row_is_named_by_its_line(make_run: MakeRun, fields: dict[str, Any], bad: Any, says: str) -> None:
    good = {**GOOD, "text": "x", "label": "red", "target": 1}
    _, spec = make_run(rows=[good, bad, good], **fields)
    with pytest.raises(InvalidRequest, match=r"Line 2 of training\.jsonl") as caught:
        read_items(Path(spec.training_file), spec)
    assert says in caught.value.message
    assert caught.value.code == "invalid_training_row"


def test_an_empty_file_is_refused_by_name(make_run: MakeRun) -> None:
    _, spec = make_run(validation=[])
    with pytest.raises(InvalidRequest, match=r"validation\.jsonl has no examples"):
        read_items(Path(spec.validation_file or ""), spec)
