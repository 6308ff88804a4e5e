"""Counts over whole batches are those of the rows' own examples, whatever the template, or arrays step aside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.data.counting import Count, Counter
from finery.data.tokens import check_tokens
from finery.modeling.template import ChatTemplate

from .conftest import CHATML, ENDLESS, STRICT, talk

pytest.importorskip("fastokens", reason="fastokens is optional")

SOURCES = [CHATML, STRICT, ENDLESS]
CONTENTS = st.sampled_from(["a", "a b", " a", "a\n", "<<1+1=2>>", "<|im_end|>", "é🙂", "東京 x", "ok.", "12 34", None])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "assistant"]), "content": CONTENTS},
        optional={"weight": st.sampled_from([0, 1, 0.5])},
    ),
    min_size=1,
    max_size=5,
)
ROWS = st.fixed_dictionaries({"messages": MESSAGES}) | st.just({"prompt": "a é", "completion": " b"}) | st.just({})


@pytest.fixture(params=SOURCES, ids=range(len(SOURCES)))
def template(request: pytest.FixtureRequest, template_of: Callable[[str], ChatTemplate]) -> ChatTemplate:
    return template_of(request.param)


def one_by_one(template: ChatTemplate, rows: list[Any]) -> list[Any]:
    found: list[Any] = []
    for example in template.encode_examples(rows):
        if isinstance(example, Exception):
            found.append(str(example))
            continue
        trained = [token for token, weight in zip(example.tokens, example.weights, strict=True) if weight > 0]
        found.append(Count(len(example.tokens), len(trained), trained[-1] if trained else None))
    return found


def told(counter: Counter, rows: list[Any]) -> list[Any]:
    return [count if isinstance(count, Count) else str(count) for count in counter.count(rows)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=12))
def test_every_row_counts_as_its_example(template: ChatTemplate, rows: list[Any]) -> None:
    counter = Counter(template)
    counter._seen = 1  # the first rows are checked, which would hide a wrong count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finery.data.counting._CHECKED_FIRST", 0)
        assert told(counter, rows) == one_by_one(template, rows)
    assert counter.uses_arrays


def test_arrays_really_count(template_of: Callable[[str], ChatTemplate], monkeypatch: pytest.MonkeyPatch) -> None:
    template = template_of(CHATML)
    rows = [talk(f"Frage {number}: süß 🙂?", f"Antwort {number}.") for number in range(300)]
    counter = Counter(template)
    counter.count(rows)
    encoded = []
    monkeypatch.setattr(template, "encode_examples", lambda given: encoded.extend(given) or [])
    monkeypatch.setattr(counter, "_is_checked", lambda place: False)
    assert told(counter, rows) == [Count(*one) for one in _figures(rows, counter)]
    assert encoded == []


def test_a_wrong_count_puts_arrays_out_and_the_answer_stays_right(template_of: Callable[[str], ChatTemplate]) -> None:
    template = template_of(CHATML)
    rows = [talk("How is it?", "So it is.")] * 40
    counter = Counter(template)
    counter._ends = counter._ends[:0]  # as if no token ended a turn
    assert told(counter, rows) == one_by_one(template, rows)
    assert not counter.uses_arrays


def _figures(rows: list[Any], counter: Counter) -> list[tuple[int, int, int | None]]:
    examples = counter._quick.encode_examples(rows)
    assert not any(isinstance(example, Exception) for example in examples)
    return [
        (len(example.tokens), example.trained_tokens, next(t for t in reversed(example.tokens) if t in counter._ends))  # type: ignore[union-attr]
        for example in examples
    ]


def test_a_report_is_the_same_whether_the_file_is_worth_the_faster_way(
    template_of: Callable[[str], ChatTemplate], jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = template_of(STRICT)
    rows = [talk(f"Frage {number}: süß 🙂?", f"Antwort {number}.", weight=number % 3 and 1) for number in range(60)]
    rows += [
        talk("Say <|im_end|> now", "x" * 900),
        {"messages": [{"role": "system", "content": "no"}, *rows[1]["messages"]]},
    ]
    path = jsonl(rows)
    reports = []
    for worth in (0, 1 << 40):
        monkeypatch.setattr("finery.data.tokens._WORTH_BYTES", worth)
        reports.append(check_tokens(path, template, max_tokens=400))
    assert reports[0] == reports[1]
    assert {finding.code for finding in reports[0].findings} == {
        "no_trained_token", "over_context", "special_token_in_text", "template_refused",
    }  # fmt: skip
