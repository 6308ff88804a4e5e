"""Rows of reinforcement: told from chat by how they end, checked, and counted as prompts."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finery.data import preflight, steps, tokens
from finery.data.formats import format_of, item_fields
from finery.data.steps import Line
from finery.data.texts import item_texts
from finery.modeling.template import ChatTemplate

Write = Callable[..., Path]

USER = {"role": "user", "content": "How do I reset it?"}
ANSWER = {"role": "assistant", "content": "Hold the button."}


def prompt(*before: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [*before, USER], **(fields or {"answer": "button"})}


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (prompt(), "reinforcement"),
        (prompt({"role": "system", "content": "Be short."}), "reinforcement"),
        (prompt(USER, {**ANSWER, "weight": 0}), "reinforcement"),
        (prompt(target=1.5), "reinforcement"),
        (prompt(prompt="as Azure's samples have it"), "reinforcement"),
        ({"messages": [USER]}, "chat"),
        ({"messages": [USER], "tools": []}, "chat"),
        ({"messages": [USER, ANSWER], "id": 1}, "chat"),
        ({"messages": [USER, ANSWER, USER], "id": 1}, "chat"),
        ({"messages": [], "id": 1}, "chat"),
        ({"messages": 3, "id": 1}, "chat"),
        ({"messages": ["x"], "id": 1}, "chat"),
    ],
)
def test_a_row_is_told_by_its_end(row: dict[str, Any], form: str) -> None:
    assert format_of(row) == form


def codes(path: Path) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in preflight.check(path, "fine-tune").findings]


def test_sound_rows_pass(jsonl: Write) -> None:
    report = preflight.check(jsonl([prompt(), prompt(USER, ANSWER, number=[1, {"a": 2}])]), "fine-tune")
    assert (report.ok, report.format, report.rows, report.findings) == (True, "reinforcement", 2, ())
    assert report.statistics["user"] == 3


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"messages": [USER, ANSWER], "answer": "x"}, "last_message_not_user"),
        ({"messages": [{"role": "system", "content": "Be short."}], "answer": "x"}, "last_message_not_user"),
        ({"messages": [], "answer": "x"}, "empty_list"),
        ({"messages": [{"role": "user", "content": 3}], "answer": "x"}, "wrong_type"),
        ({"prompt": "a", "completion": "b"}, "mixed_formats"),
    ],
)
def test_faults_are_named_by_line(jsonl: Write, row: dict[str, Any], code: str) -> None:
    assert codes(jsonl([prompt(), row])) == [(code, 2)]


def test_a_chat_row_without_its_answer_is_at_fault_in_a_chat_file(jsonl: Write) -> None:
    chat = {"messages": [USER, ANSWER], "id": 1}
    assert codes(jsonl([chat, {"messages": [USER], "id": 2}])) == [("no_assistant_message", 2)]


def test_most_of_the_first_rows_tell_chat_from_prompts(jsonl: Write) -> None:
    chat = {"messages": [USER, ANSWER], "id": 1}
    path = jsonl([{"messages": [USER], "id": 0}, chat, chat, {"messages": [USER], "id": 3}, chat])
    report = preflight.check(path, "fine-tune")
    assert (report.format, report.ok) == ("chat", False)
    assert codes(path) == [("no_assistant_message", 1), ("no_assistant_message", 4)]
    assert preflight.check(path, "fine-tune", fast=False).findings == report.findings
    # A file of prompts stays one.
    assert codes(jsonl([prompt(), prompt(), chat])) == [("last_message_not_user", 3)]


def test_cleaning_drops_the_conversation_without_its_answer_and_not_the_others(jsonl: Write) -> None:
    chat = {"messages": [USER, ANSWER], "id": 1}
    path = jsonl([{"messages": [USER], "id": 0}, chat, chat])
    step = steps.drop_faulty(path, None, warnings=False)  # type: ignore[arg-type]
    counts: Counter[str] = Counter()
    kept = [step(Line(number=number, data=row), counts) for number, row in enumerate(path.read_bytes().splitlines(), 1)]
    assert [row is not None for row in kept] == [False, True, True]
    assert counts == {"no_assistant_message": 1}


def test_prompts_are_counted_as_they_are_served(jsonl: Write, chatml: ChatTemplate) -> None:
    rows = [prompt(), prompt(USER, ANSWER)]
    report = tokens.check_tokens(jsonl(rows), chatml, max_tokens=1000)
    lengths = [len(chatml.encode_prompt(row["messages"])) for row in rows]
    assert (report.ok, report.format) == (True, "reinforcement")
    assert (report.statistics["tokens"], report.statistics["trained_tokens"]) == (sum(lengths), 0)
    assert [len(example.tokens) for example in tokens.examples_of(rows[0], chatml)] == lengths[:1]
    short = tokens.check_tokens(jsonl(rows), chatml, max_tokens=lengths[0])
    assert [(finding.code, finding.line) for finding in short.findings] == [("over_context", 2)]


def test_a_template_that_refuses_is_told(jsonl: Write, template_of: Callable[[str], ChatTemplate]) -> None:
    template = template_of("{{ raise_exception('never') }}")
    report = tokens.check_tokens(jsonl([prompt()]), template, max_tokens=1000)
    assert [finding.code for finding in report.findings] == ["template_refused"]


def test_what_the_grader_reads_is_told_apart() -> None:
    row = prompt(answer="button", deep={"list": ["a", {"b": "c"}], "number": 3}, tools=None)
    assert item_fields(row) == {"answer": "button", "deep": row["deep"]}
    assert sorted(item_texts(item_fields(row))) == [
        ("$.answer", "button"), ("$.deep.list[0]", "a"), ("$.deep.list[1].b", "c"),
    ]  # fmt: skip
