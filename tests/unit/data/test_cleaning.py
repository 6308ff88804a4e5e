"""Cleaning: each step does what it says and nothing else, and its record leads back to the parent, row by row."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.core.errors import InvalidRequest
from finery.data.cleaning import CleaningRecord, Step, clean, parse_steps
from finery.data.preflight import check
from finery.data.steps import STEPS, Context
from finery.modeling.template import ChatTemplate

from .conftest import talk

Write = Callable[..., Path]


def run(path: Path, *names: str, context: Context | None = None, **options: Any) -> tuple[list[Any], CleaningRecord]:
    """The cleaned rows and the record; options go to the last step."""
    steps = [Step(name=name) for name in names[:-1]] + [Step(name=names[-1], options=options)]
    result = path.with_name("clean.jsonl")
    record = clean(path, result, steps, context=context)
    return [json.loads(line) for line in result.read_text(encoding="utf-8").splitlines()], record


def test_untouched_rows_keep_their_bytes_and_the_parent_its_own(tmp_path: Path) -> None:
    odd = b'{"messages":   [{"role": "user", "content": "\\u0041"}, {"content": "B", "role": "assistant"}], "id": 1.50}'
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + odd + b"\r\n\r\n" + json.dumps(talk(" a ", "b")).encode())
    before = path.read_bytes()
    record = clean(path, tmp_path / "clean.jsonl", [Step(name="trim_whitespace")])
    assert path.read_bytes() == before
    first, second = (tmp_path / "clean.jsonl").read_bytes().splitlines()
    assert first == odd
    assert json.loads(second) == talk("a", "b")
    assert (record.parent_lines, record.result_rows) == (3, 2)
    assert record.steps[0].changed == (3,)
    assert record.parent_sha256 == hashlib.sha256(before).hexdigest()
    assert record.result_sha256 == hashlib.sha256((tmp_path / "clean.jsonl").read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.jsonl", "data.jsonl"]


def test_lines_of_every_step_are_the_parents(jsonl: Write) -> None:
    rows = [
        talk("a", "1"),
        talk("a", "1"),
        talk(" b", "2"),
        talk("b", "2"),
        talk("c", "I'm sorry, but I can't do it."),
        talk("d ", "4"),
    ]
    cleaned, record = run(jsonl(rows), "drop_exact_duplicates", "drop_refusals", "trim_whitespace")
    assert cleaned == [talk("a", "1"), talk("b", "2"), talk("d", "4")]
    assert [(step.name, step.changed, step.dropped) for step in record.steps] == [
        ("drop_exact_duplicates", (), (2, 4)),
        ("drop_refusals", (), (5,)),
        ("trim_whitespace", (3, 6), ()),
    ]
    assert CleaningRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_faulty_rows_go_and_what_is_left_passes(tmp_path: Path) -> None:
    good = json.dumps(talk("a", "b"))
    bad = [
        "nope",
        json.dumps({"messages": []}),
        json.dumps({"prompt": "a", "completion": "b"}),
        '{"a": 1, "a": 2}',
        "[]",
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([good, *bad, good]), encoding="utf-8")
    cleaned, record = run(path, "drop_faulty")
    assert len(cleaned) == 2
    assert record.steps[0].dropped == (2, 3, 4, 5, 6)
    assert record.steps[0].counts == {
        "invalid_json": 1, "empty_list": 1, "mixed_formats": 1, "duplicate_key": 1, "not_an_object": 1,
    }  # fmt: skip
    assert check(tmp_path / "clean.jsonl", "fine-tune").ok


def test_warned_rows_go_when_asked(jsonl: Write) -> None:
    rows = [talk("a", "b"), talk("", "b")]
    assert len(run(jsonl(rows), "drop_faulty")[0]) == 2
    assert len(run(jsonl(rows), "drop_faulty", warnings=True)[0]) == 1


def test_other_steps_refuse_a_faulty_row_in_words(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(talk("a", "b")) + "\nnope\n", encoding="utf-8")
    for name in ("trim_whitespace", "drop_exact_duplicates", "drop_near_duplicates"):
        with pytest.raises(InvalidRequest, match=r"(?i)line 2"):
            run(path, name)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_masking_reaches_parts_arguments_and_both_sides(jsonl: Write) -> None:
    mail = "ann@mail.de"
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": mail})}}
    row = {
        "input": {"messages": [{"role": "user", "content": [{"type": "text", "text": f"Mail {mail}"}]}]},
        "preferred_output": [{"role": "assistant", "content": None, "tool_calls": [call]}],
        "non_preferred_output": [{"role": "assistant", "content": f"No {mail}"}],
    }
    cleaned, record = run(jsonl([row, talk("a", "b")]), "mask_personal_data")
    assert mail not in json.dumps(cleaned)
    assert json.dumps(cleaned).count("[EMAIL]") == 3
    assert record.steps[0].counts == {"email": 3}
    assert record.steps[0].changed == (1,)
    arguments = cleaned[0]["preferred_output"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "[EMAIL]"}


def test_only_named_kinds_are_masked(jsonl: Write) -> None:
    cleaned, _ = run(jsonl([talk("ann@mail.de 203.0.113.9", "b")]), "mask_personal_data", kinds=["ip_address"])
    assert cleaned == [talk("ann@mail.de [IP_ADDRESS]", "b")]


def test_secrets_are_masked_or_their_rows_dropped(jsonl: Write) -> None:
    rows = [talk("AKIAIOSFODNN7EXAMPLE", "b"), talk("a", "b")]
    assert run(jsonl(rows), "mask_secrets")[0] == [talk("[AWS_KEY]", "b"), talk("a", "b")]
    assert run(jsonl(rows), "drop_sensitive")[0] == [talk("a", "b")]


def test_unicode_is_normalised_and_the_invisible_removed(jsonl: Write) -> None:
    cleaned, record = run(
        jsonl([talk("cafe\u0301 \u200bx", "b"), talk("ok", "b")]), "normalise_unicode", "remove_odd_characters"
    )
    assert cleaned == [talk("caf\u00e9 x", "b"), talk("ok", "b")]
    assert [step.changed for step in record.steps] == [(1,), (1,)]


def test_rows_are_dropped_by_length(jsonl: Write, chatml: ChatTemplate) -> None:
    rows = [talk("a", "b"), talk("a" * 50, "b" * 60), talk("c", "d" * 500)]
    assert len(run(jsonl(rows), "drop_short", min_characters=100)[0]) == 2
    assert len(run(jsonl(rows), "drop_long", max_characters=100)[0]) == 1
    limit = len(chatml.encode_example(rows[1]).tokens)
    context = Context(template=chatml)
    assert run(jsonl(rows), "drop_over_length", context=context, max_tokens=limit)[1].steps[0].dropped == (3,)
    assert run(jsonl(rows), "drop_over_length", context=context, max_tokens=limit - 1)[1].steps[0].dropped == (2, 3)


def test_leaked_rows_are_dropped_by_the_other_file(jsonl: Write) -> None:
    rows = [
        talk(f"How do I get number {number} of the long list?", "Like this, please.")
        for number in (111111, 22, 3333333333)
    ]
    other = jsonl([rows[1]], "validation.jsonl")
    _, record = run(jsonl(rows), "drop_leaked", context=Context(other=other), threshold=0.95)
    assert record.steps[0].dropped == (2,)


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        (["drop_everything"], "no cleaning step 'drop_everything'"),
        ([{"name": "trim_whitespace", "options": {"hard": True}}], "no option 'hard'"),
        ([{"name": "drop_near_duplicates", "options": {"threshold": "high"}}], "'high', not float"),
        ([{"name": "drop_near_duplicates", "options": {"threshold": True}}], "True, not float"),
        ([{"name": "drop_faulty", "options": {"warnings": 1}}], "1, not bool"),
        ([7], "no cleaning step"),
        ([{"name": "trim_whitespace", "options": [1]}], "must be an object"),
    ],
)
def test_wrong_steps_are_refused_before_anything_is_read(specification: list[Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_steps(specification)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("drop_near_duplicates", {"threshold": 0.0}, "threshold is 0.0"),
        ("mask_personal_data", {"kinds": ["aws_key"]}, "no kind 'aws_key'"),
        ("drop_over_length", {}, "base model"),
        ("drop_leaked", {}, "other file"),
    ],
)
def test_what_a_step_lacks_is_said(jsonl: Write, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        run(jsonl([talk("a", "b")]), name, **options)


def test_no_steps_are_refused(jsonl: Write) -> None:
    with pytest.raises(InvalidRequest, match="at least one"):
        clean(jsonl([talk("a", "b")]), Path("never"), [])


def test_every_step_says_what_it_does() -> None:
    for name, kind in STEPS.items():
        assert kind.description.endswith("."), name
        assert parse_steps([{"name": name, "options": kind.options}]) == [Step(name=name, options=kind.options)]


contents = st.text(st.sampled_from("ab \u200b\u0301e1"), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(contents, contents), min_size=1, max_size=8),
    st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=4),
)
def test_record_tells_the_result_from_the_parent(
    jsonl: Write, chatml: ChatTemplate, pairs: list[tuple[str, str]], names: list[str]
) -> None:
    rows = [talk(question, answer) for question, answer in pairs]
    path = jsonl(rows)
    other = jsonl([talk("x", "y")], "other.jsonl")
    cleaned, record = run(path, *names, context=Context(template=chatml, other=other))
    dropped = {line for step in record.steps for line in step.dropped}
    changed = {line for step in record.steps for line in step.changed}
    kept = [line for line in range(1, len(rows) + 1) if line not in dropped]
    assert len(cleaned) == len(kept) == record.result_rows
    for line, row in zip(kept, cleaned, strict=True):
        assert (row == rows[line - 1]) or line in changed
