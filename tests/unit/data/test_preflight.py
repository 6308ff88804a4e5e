"""Preflight on clean, hostile and random input: no false finding, no crash, constant memory, two paths that agree."""

import csv
import json
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.data.preflight import Report, check

DATA = Path(os.environ.get("FINERY_DATA_DIR", Path(__file__).parents[4] / "shared" / "data"))
MIB = 1 << 20

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is missing; set FINERY_DATA_DIR")
no_shrink_limits = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def chat_line(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def banking_lines(number: int) -> list[str]:
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    step = len(rows) // number
    return [chat_line(row["text"], row["category"]) for row in rows[::step][:number]]


def gsm_lines(number: int) -> list[str]:
    with (DATA / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [chat_line(row["question"], row["answer"]) for row in rows[:number]]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "data.jsonl"
    path.write_bytes(content)
    return path


@needs_data
@pytest.mark.parametrize("lines", [banking_lines, gsm_lines])
@pytest.mark.parametrize("fast", [True, False])
def test_a_thousand_clean_rows_give_no_finding(tmp_path: Path, lines: Any, fast: bool) -> None:
    path = write(tmp_path, "\n".join(lines(1000)).encode())
    report = check(path, "fine-tune", fast=fast)
    assert report.findings == ()
    assert (report.ok, report.format, report.rows) == (True, "chat", 1000)
    assert report.statistics["assistant"] == 1000


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_mark_line_ends_and_a_missing_last_one_are_all_fine(
    tmp_path: Path, mark: bytes, end: bytes, last: bool
) -> None:
    lines = [chat_line(f"Frage {number}: süß?", "Ja 🙂").encode() for number in range(2000)]
    path = write(tmp_path, mark + end.join(lines) + (end if last else b""))
    report = check(path, "fine-tune")
    assert (report.ok, report.rows, report.findings) == (True, 2000, ())
    assert report.statistics["lines"] == 2000


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "chat"),
        ({"prompt": "a", "completion": "b"}, "completion"),
        ({"prompt": "a", "prompt_id": "1", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
          {"role": "assistant", "content": "b", "weight": 1}]}, "chat"),
        ({"text": "a", "label": 3}, "classification"),
        ({"text": "a", "labels": []}, "classification"),
        ({"text": "a", "target": -1}, "regression"),
    ],
)  # fmt: skip
def test_format_is_told_by_the_rows(tmp_path: Path, row: dict[str, Any], form: str) -> None:
    other = {**row, "label": 4} if "label" in row else row
    path = write(tmp_path, (json.dumps(row) + "\n" + json.dumps(other)).encode())
    report = check(path, "fine-tune")
    assert (report.ok, report.format, report.findings) == (True, form, ())


@pytest.mark.parametrize("fast", [True, False])
def test_labels_are_counted_for_the_job_that_needs_them(tmp_path: Path, fast: bool) -> None:
    one = write(tmp_path, b'{"text": "a", "label": "x"}\n{"text": "b", "label": 2}\n{"text": "c", "label": "x"}')
    statistics = check(one, "fine-tune", fast=fast).statistics
    assert (statistics["labels"], statistics["multi_label"]) == ({"2": 1, "x": 2}, False)
    several = write(tmp_path, b'{"text": "a", "labels": ["x", "y"]}\n{"text": "b", "labels": ["x"]}')
    statistics = check(several, "fine-tune", fast=fast).statistics
    assert (statistics["labels"], statistics["multi_label"]) == ({"x": 2, "y": 1}, True)


def test_other_purposes_are_taken_unread(tmp_path: Path) -> None:
    report = check(write(tmp_path, b"\xff\x00 not JSON"), "assistants")
    assert (report.ok, report.format, report.rows, report.bytes) == (True, None, 0, 11)


def test_findings_are_counted_beyond_the_cap_and_errors_come_first(tmp_path: Path) -> None:
    warned = json.dumps({"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]})
    path = write(tmp_path, ("\n".join([warned] * 50 + ["nope"] * 30)).encode())
    report = check(path, "fine-tune", max_findings=40)
    assert report.counts == {"blank_content": 50, "invalid_json": 30}
    assert [finding.level for finding in report.findings].count("error") == 30
    assert (len(report.findings), report.truncated_findings) == (40, 40)
    assert "30 errors and 50 warnings in 50 chat rows" in report.summary
    assert "line 51" in report.summary


def test_report_survives_json(tmp_path: Path) -> None:
    report = check(write(tmp_path, b"nope\n{}"), "fine-tune")
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_too_many_requests_in_a_batch(tmp_path: Path) -> None:
    body = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    lines = [json.dumps({"custom_id": f"r{number}", **body}) for number in range(50_001)]
    report = check(write(tmp_path, "\n".join(lines).encode()), "batch")
    assert report.counts == {"too_many_requests": 1}


@contextmanager
def peak_below(limit_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit_bytes, f"peak {peak / MIB:.1f} MiB"


@pytest.mark.parametrize("size", [256 * MIB, pytest.param(2048 * MIB, marks=pytest.mark.slow)])
def test_a_huge_line_takes_the_memory_of_the_cap(tmp_path: Path, size: int) -> None:
    path = write(tmp_path, (chat_line("a", "b") + '\n{"messages": "').encode())
    os.truncate(path, size)
    with path.open("ab") as file:
        file.write(b'"}\n' + chat_line("c", "d").encode())
    with peak_below(16 * MIB):
        report = check(path, "fine-tune")
    assert [(finding.code, finding.line) for finding in report.findings] == [("line_too_long", 2)]
    assert report.rows == 2


def test_ten_million_empty_lines_are_counted_not_kept(tmp_path: Path) -> None:
    path = write(tmp_path, b"\n" * 10_000_000)
    with peak_below(4 * MIB):
        report = check(path, "fine-tune")
    assert report.counts == {"blank_line": 10_000_000, "no_rows": 1}
    assert report.ok is False
    assert len(report.findings) <= 200


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = "".join(chat_line(f"Question {number}?", "Answer. " * 20) + "\n" for number in range(1000)).encode()
    path = write(tmp_path, rows * 40)
    with peak_below(4 * MIB):
        assert check(path, "fine-tune").rows == 40_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "assistant", "tool", "function", "human", 1, None])
texts = st.sampled_from(["hi", "", " ", "é\u2028", '"', "\\", "\0", "}\n{", None, [], [{"type": "text", "text": "a"}]])
calls = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from(["a", "b", ""]), "function": json_values}) | json_values, max_size=2
)
messages = st.fixed_dictionaries(
    {"role": roles, "content": texts},
    optional={
        "weight": st.sampled_from([0, 1, 2, True, None, 1.0, "1"]), "tool_calls": calls | json_values, "name": texts,
        "tool_call_id": st.sampled_from(["a", "b", 3]), "function_call": json_values, "x": json_values,
    },
)  # fmt: skip
plain_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.sampled_from(["a", "b c", '"', "\n", "é"])}
)
rows = (
    st.fixed_dictionaries({"messages": st.lists(plain_messages, max_size=5)})
    | st.fixed_dictionaries(
        {"messages": st.lists(messages | json_values, max_size=5) | json_values}, optional={"tools": json_values}
    )
    | st.fixed_dictionaries({"prompt": texts, "completion": texts})
    | st.fixed_dictionaries({"text": texts}, optional={"label": texts, "labels": json_values, "target": json_values})
    | st.fixed_dictionaries(
        {"input": st.fixed_dictionaries({"messages": st.lists(messages, max_size=2)}) | json_values},
        optional={"preferred_output": st.lists(messages, max_size=2), "non_preferred_output": json_values},
    )
    | st.dictionaries(st.sampled_from(["custom_id", "method", "url", "body", "item"]), json_values)
    | json_values
)
lines = (
    rows.map(json.dumps).map(str.encode)
    | st.binary(max_size=20)
    | st.sampled_from([b"", b"{", b"\r", b'{"a":1}{"b":2}'])
)


@no_shrink_limits
@given(
    st.lists(lines, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.sampled_from(["fine-tune", "evals", "batch"])
)
def test_any_lines_give_a_report_and_both_paths_the_same(
    tmp_path: Path, parts: list[bytes], end: bytes, purpose: str
) -> None:
    path = write(tmp_path, end.join(parts))
    report = check(path, purpose)
    assert report == check(path, purpose, fast=False)
    number = report.statistics.get("lines", 0)
    assert all(0 <= finding.line <= number for finding in report.findings)
    assert report.ok == (not any(finding.level == "error" for finding in report.findings))


@no_shrink_limits
@given(st.data(), st.lists(plain_messages, min_size=1, max_size=4))
def test_broken_bytes_give_a_report_and_both_paths_the_same(
    tmp_path: Path, data: st.DataObject, talk: list[dict[str, Any]]
) -> None:
    content = bytearray((json.dumps({"messages": talk}) + "\n").encode() * 4)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3) | st.just(b"\n"))
    path = write(tmp_path, bytes(content))
    assert check(path, "fine-tune") == check(path, "fine-tune", fast=False)


@no_shrink_limits
@given(st.lists(st.text(st.sampled_from("ab\n\r"), max_size=9), max_size=9), st.integers(1, 8))
def test_lines_are_cut_where_python_cuts_them_whatever_the_cap(tmp_path: Path, parts: list[str], cap: int) -> None:
    from finery.data.rows import lines as read_lines

    content = "\n".join(parts).encode()
    path = write(tmp_path, content)
    wanted = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if wanted[-1] == b"" and not content.endswith(b"\r"):
        wanted.pop()
    seen = list(read_lines(path, max_line_bytes=cap))
    assert [number for number, _ in seen] == list(range(1, len(wanted) + 1))
    for (_, line), whole in zip(seen, wanted, strict=True):
        assert line == whole or (line is None and len(whole) >= cap)
        assert line is not None or len(whole) >= cap
