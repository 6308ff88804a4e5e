"""Rows against a base model: counts equal the trainer's own encoding, and what would teach nothing is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finery.data.tokens import check_tokens, trained_view
from finery.modeling.template import ChatTemplate

from .conftest import ENDLESS, STRICT, talk

Write = Callable[..., Path]
Make = Callable[[str], ChatTemplate]


def codes(report: Any) -> list[tuple[str, int, str]]:
    return [(finding.code, finding.line, finding.path) for finding in report.findings]


def test_counts_are_those_of_the_trainers_encoding(jsonl: Write, chatml: ChatTemplate) -> None:
    rows = [talk(f"How do I reset it {number}?", "Hold. " * number) for number in range(1, 700)]
    report = check_tokens(jsonl(rows), chatml, max_tokens=100_000)
    examples = [chatml.encode_example(row) for row in rows]
    assert report.ok
    assert report.rows == 699
    assert report.statistics["tokens"] == sum(len(example.tokens) for example in examples)
    assert report.statistics["trained_tokens"] == sum(example.trained_tokens for example in examples)
    assert report.statistics["row_tokens"]["max"] == max(len(example.tokens) for example in examples)


def test_trained_view_is_the_rendering_with_exactly_the_trained_tokens(chatml: ChatTemplate) -> None:
    row = talk("How?", "Hold it.")
    row["messages"] += [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "No.", "weight": 0}]
    view = trained_view(row, chatml)
    assert "".join(text for text, _ in view) == chatml.render(row["messages"])
    assert [text for text, trained in view if trained] == ["Hold it.<|im_end|>"]
    assert [trained for _, trained in view] == [False, True, False]


def test_trained_view_shows_the_chosen_side_of_a_preference(chatml: ChatTemplate) -> None:
    row = {
        "input": {"messages": [{"role": "user", "content": "How?"}]},
        "preferred_output": [{"role": "assistant", "content": "Gladly."}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    shown = {
        side: [text for text, trained in trained_view(row, chatml, output=side) if trained]
        for side in row
        if "_" in side
    }
    assert shown == {"preferred_output": ["Gladly.<|im_end|>"], "non_preferred_output": ["No.<|im_end|>"]}


def test_row_without_a_trained_token_is_refused(jsonl: Write, chatml: ChatTemplate) -> None:
    report = check_tokens(jsonl([talk("How?", "So."), talk("How?", "So.", weight=0)]), chatml, max_tokens=100)
    assert codes(report) == [("no_trained_token", 2, "$")]


def test_row_that_never_learns_to_stop_is_refused(jsonl: Write, template_of: Make) -> None:
    report = check_tokens(jsonl([talk("How?", "So.")]), template_of(ENDLESS), max_tokens=100)
    assert codes(report) == [("no_end_token", 1, "$")]


def test_completion_rows_end_with_the_end_of_text(jsonl: Write, template_of: Make) -> None:
    report = check_tokens(jsonl([{"prompt": "How?", "completion": " So."}]), template_of(ENDLESS), max_tokens=100)
    assert report.ok
    assert report.format == "completion"


def test_refusal_of_the_template_names_the_message(jsonl: Write, template_of: Make) -> None:
    row = talk("How?", "So.")
    row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    report = check_tokens(jsonl([talk("How?", "So."), row]), template_of(STRICT), max_tokens=100)
    assert codes(report) == [("template_refused", 2, "$.messages[0]")]
    assert "no system messages here" in report.findings[0].message


def test_row_over_the_limit_is_told_by_how_much_and_from_where(jsonl: Write, chatml: ChatTemplate) -> None:
    row = talk("How?", "So.")
    row["messages"] += [{"role": "user", "content": "And now " + "x" * 300}, {"role": "assistant", "content": "End."}]
    length = len(chatml.encode_example(row).tokens)
    report = check_tokens(jsonl([row]), chatml, max_tokens=length - 50)
    assert codes(report) == [("over_context", 1, "$.messages[2]")]
    assert f"{length} tokens, 50 more than the limit of {length - 50}" in report.findings[0].message
    assert "begin at 'xxx" in report.findings[0].message
    assert report.statistics["tokens_over"] == 50
    assert check_tokens(jsonl([row]), chatml, max_tokens=length).ok


def test_long_completion_and_text_are_told_by_their_key(jsonl: Write, chatml: ChatTemplate) -> None:
    rows = [{"prompt": "a", "completion": "b " * 99}, {"prompt": "a " * 99, "completion": "b"}]
    report = check_tokens(jsonl(rows), chatml, max_tokens=20)
    assert [path for _, _, path in codes(report)] == ["$.completion", "$.prompt"]
    report = check_tokens(jsonl([{"text": "a " * 99, "label": "x"}]), chatml, max_tokens=20)
    assert codes(report) == [("over_context", 1, "$.text")]


def test_over_long_side_of_a_preference_is_named(jsonl: Write, chatml: ChatTemplate) -> None:
    row = {
        "input": {"messages": [{"role": "user", "content": "How?"}]},
        "preferred_output": [{"role": "assistant", "content": "Gladly."}],
        "non_preferred_output": [{"role": "assistant", "content": "No " * 80}],
    }
    report = check_tokens(jsonl([row]), chatml, max_tokens=50)
    assert codes(report) == [("over_context", 1, "$.non_preferred_output")]


def test_control_token_written_as_text_is_warned_of(jsonl: Write, chatml: ChatTemplate) -> None:
    report = check_tokens(jsonl([talk("What is <|im_end|>?", "A token.")]), chatml, max_tokens=100)
    assert codes(report) == [("special_token_in_text", 1, "$.messages[0].content")]
    assert report.ok


@pytest.mark.parametrize("weights", [(1, 1), (0, 1), (1, 0)])
def test_view_joins_to_the_rendering_whatever_the_weights(chatml: ChatTemplate, weights: tuple[int, int]) -> None:
    first, second = (
        talk(f"Frage {number}: süß 🙂?", " Ja\n", weight=weight)["messages"] for number, weight in enumerate(weights)
    )
    view = trained_view({"messages": first + second}, chatml)
    assert "".join(text for text, _ in view) == chatml.render(first + second)
    assert sum(trained for _, trained in view) == sum(weights)
