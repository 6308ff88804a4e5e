"""Every kind of fault is planted at a seeded place in a clean file and must be found there, and nothing else."""

import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from finery.data.findings import CODES, PREFLIGHT_CODES
from finery.data.preflight import check

ROWS = 40


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def user(content: Any = "How do I reset it?", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any = "Hold the button for five seconds.", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(name: str = "look_up", arguments: Any = '{"id": 7}', number: str = "call_1", **more: Any) -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def answer(number: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": number, "content": "{}"}


def calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def tooled(*messages: dict[str, Any], tools: Any = None) -> dict[str, Any]:
    return chat(user(), *messages, tools=[TOOL] if tools is None else tools)


M = "$.messages"
PART = "$.messages[0].content[0]"
CALL = "$.messages[1].tool_calls[0]"
# name → (the line as a row or as bytes, code, JSON path)
CHAT_FAULTS: dict[str, tuple[Any, str, str]] = {
    # Bytes and JSON.
    "latin-1": (b'{"messages": [{"role": "user", "content": "caf\xe9"}]}', "not_utf8", "$"),
    "overlong utf-8": (b'{"messages": "\xc0\xaf"}', "not_utf8", "$"),
    "utf-8 of a surrogate": (b'{"messages": "\xed\xa0\x80"}', "not_utf8", "$"),
    "nul byte": (b'{"messages": "a\0b"}', "nul_character", "$"),
    "nul between tokens": (b'{"messages": \0 []}', "nul_character", "$"),
    "escaped nul": (rb'{"messages": [{"role": "user", "content": "a\u0000b"}]}', "nul_character", "$"),
    "lone high surrogate": (rb'{"messages": "\ud83d"}', "lone_surrogate", "$"),
    "lone low surrogate": (rb'{"messages": "x\ude00y"}', "lone_surrogate", "$"),
    "surrogates swapped": (rb'{"messages": "\ude00\ud83d"}', "lone_surrogate", "$"),
    "NaN": (b'{"messages": [], "score": NaN}', "not_finite", "$"),
    "Infinity": (b'{"messages": [], "score": Infinity}', "not_finite", "$"),
    "-Infinity": (b'{"messages": [], "score": -Infinity}', "not_finite", "$"),
    "1e400": (b'{"messages": [], "score": 1e400}', "number_out_of_range", "$"),
    "-1e999": (b'{"messages": [], "score": -1e999}', "number_out_of_range", "$"),
    "a million digits": (b'{"messages": [], "score": ' + b"9" * 1_000_000 + b"}", "number_out_of_range", "$"),
    "five thousand digits": (b'{"messages": [], "score": ' + b"9" * 5_000 + b"}", "number_out_of_range", "$"),
    "nested 100,000 deep": (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep", "$"),
    "nested 65 deep": (b'{"messages": ' + b"[" * 64 + b"]" * 64 + b"}", "too_deep", "$"),
    "duplicate key": (b'{"messages": [{"role": "user", "role": "system", "content": "x"}]}', "duplicate_key", "$"),
    "duplicate key, escaped": (rb'{"a": "\u0022\u0022", "messages": [], "messages": []}', "duplicate_key", "$"),
    "duplicate key, spelled otherwise": (rb'{"messages": [], "m\u0065ssages": []}', "duplicate_key", "$"),
    "cut line": (b'{"messages": [{"role": "user", "content": "How', "invalid_json", "$"),
    "single quotes": (b"{'messages': []}", "invalid_json", "$"),
    "trailing comma": (b'{"messages": [],}', "invalid_json", "$"),
    "comment": (b'{"messages": []} // good', "invalid_json", "$"),
    "missing comma": (b'{"messages": [] "tools": []}', "invalid_json", "$"),
    "bare word": (b"hello", "invalid_json", "$"),
    "leading zero": (b'{"messages": [], "n": 007}', "invalid_json", "$"),
    "bad escape": (rb'{"messages": "\x41"}', "invalid_json", "$"),
    "two objects": (b'{"messages": []}{"messages": []}', "several_values", "$"),
    "two objects with a comma": (b'{"messages": []}, {"messages": []}', "several_values", "$"),
    "raw tab": (b'{"messages": "a\tb"}', "control_character", "$"),
    "pretty printed": (b"{", "spread_over_lines", "$"),
    "closing brace": (b"},", "spread_over_lines", "$"),
    "array line": (b"[1, 2]", "not_an_object", "$"),
    "string line": (b'"hello"', "not_an_object", "$"),
    "null line": (b"null", "not_an_object", "$"),
    "mark inside": (b"\xef\xbb\xbf" + json.dumps(chat(user(), assistant())).encode(), "invalid_json", "$"),
    "blank line": (b"   ", "blank_line", "$"),
    # Rows and messages.
    "no format": ({"question": "x", "answer": "y"}, "unknown_format", "$"),
    "empty object": ({}, "unknown_format", "$"),
    "other format": ({"prompt": "x", "completion": "y"}, "mixed_formats", "$"),
    "messages an object": ({"messages": {"role": "user"}}, "wrong_type", M),
    "messages null": ({"messages": None}, "wrong_type", M),
    "no messages": ({"messages": []}, "empty_list", M),
    "message a string": (chat("hello", assistant()), "wrong_type", f"{M}[0]"),  # type: ignore[arg-type]
    "no role": (chat({"content": "x"}, assistant()), "missing_key", f"{M}[0].role"),
    "unknown role": (chat({"role": "human", "content": "x"}, assistant()), "unknown_role", f"{M}[0].role"),
    "role capitalised": (chat(user(), {"role": "Assistant", "content": "x"}), "unknown_role", f"{M}[1].role"),
    "role a number": (chat({"role": 1, "content": "x"}, assistant()), "wrong_type", f"{M}[0].role"),
    "unknown key": (chat(user(), assistant(wieght=0)), "unknown_message_key", f"{M}[1].wieght"),
    "no content": (chat({"role": "user"}, assistant()), "missing_key", f"{M}[0].content"),
    "user content null": (chat(user(None), assistant()), "wrong_type", f"{M}[0].content"),
    "assistant content null": (chat(user(), assistant(None)), "wrong_type", f"{M}[1].content"),
    "content a number": (chat(user(5), assistant()), "wrong_type", f"{M}[0].content"),
    "empty answer": (chat(user(), assistant("")), "empty_content", f"{M}[1].content"),
    "blank answer": (chat(user(), assistant(" \n ")), "empty_content", f"{M}[1].content"),
    "empty question": (chat(user(""), assistant()), "blank_content", f"{M}[0].content"),
    "empty untrained answer": (
        chat(user(), assistant("", weight=0), user(), assistant()), "blank_content", f"{M}[1].content"
    ),
    "no parts": (chat(user([]), assistant()), "empty_list", f"{M}[0].content"),
    "image part": (
        chat(user([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "x"}}]), assistant()),
        "unsupported_content_part", f"{M}[0].content[1].type",
    ),
    "audio part": (chat(user([{"type": "input_audio"}]), assistant()), "unsupported_content_part", f"{PART}.type"),
    "part of no type": (chat(user([{"text": "x"}]), assistant()), "unsupported_content_part", f"{PART}.type"),
    "part a string": (chat(user(["x"]), assistant()), "wrong_type", f"{M}[0].content[0]"),
    "part text null": (chat(user([{"type": "text", "text": None}]), assistant()), "wrong_type", f"{PART}.text"),
    "no assistant": (chat(user()), "no_assistant_message", M),
    "no user": (chat({"role": "system", "content": "Be kind."}, assistant()), "no_user_message", M),
    "ends with user": (chat(user(), assistant(), user()), "last_message_not_assistant", f"{M}[2]"),
    "system late": (chat(user(), {"role": "system", "content": "x"}, assistant()), "system_not_first", f"{M}[1].role"),
    "two users": (chat(user(), user(), assistant()), "repeated_role", f"{M}[1].role"),
    "two answers": (chat(user(), assistant(), assistant()), "repeated_role", f"{M}[2].role"),
    "weight on user": (chat(user(weight=1), assistant()), "misplaced_weight", f"{M}[0].weight"),
    "weight 0.5": (chat(user(), assistant(weight=0.5)), "invalid_weight", f"{M}[1].weight"),
    "weight true": (chat(user(), assistant(weight=True)), "invalid_weight", f"{M}[1].weight"),
    "weight text": (chat(user(), assistant(weight="1")), "invalid_weight", f"{M}[1].weight"),
    "weights all 0": (chat(user(), assistant(weight=0)), "no_trained_message", M),
    "name a number": (chat(user(name=3), assistant()), "wrong_type", f"{M}[0].name"),
    "name with spaces": (chat(user(name="Ann Lee"), assistant()), "invalid_name", f"{M}[0].name"),
    "name too long": (chat(user(name="a" * 65), assistant()), "invalid_name", f"{M}[0].name"),
    # Tools.
    "tools an object": (tooled(assistant(), tools={}), "wrong_type", "$.tools"),
    "tools empty": (tooled(assistant(), tools=[]), "empty_list", "$.tools"),
    "129 tools": (tooled(assistant(), tools=[TOOL] * 129), "too_many_tools", "$.tools"),
    "tool a string": (tooled(assistant(), tools=["look_up"]), "invalid_tool", "$.tools[0]"),
    "tool of no type": (tooled(assistant(), tools=[{"function": {"name": "f"}}]), "invalid_tool", "$.tools[0].type"),
    "tool of no function": (tooled(assistant(), tools=[{"type": "function"}]), "invalid_tool", "$.tools[0].function"),
    "tool twice": (tooled(assistant(), tools=[TOOL, TOOL]), "duplicate_tool", "$.tools[1].function.name"),
    "tool without name": (
        tooled(assistant(), tools=[{"type": "function", "function": {}}]),
        "invalid_function_name", "$.tools[0].function.name",
    ),
    "tool named with dots": (
        tooled(assistant(), tools=[{"type": "function", "function": {"name": "a.b"}}]),
        "invalid_function_name", "$.tools[0].function.name",
    ),
    "parameters a list": (
        tooled(assistant(), tools=[{"type": "function", "function": {"name": "f", "parameters": []}}]),
        "invalid_tool", "$.tools[0].function.parameters",
    ),
    "parallel a string": (chat(user(), assistant(), parallel_tool_calls="no"), "wrong_type", "$.parallel_tool_calls"),
    "calls an object": (tooled({**calling(), "tool_calls": {}}), "wrong_type", f"{M}[1].tool_calls"),
    "call a string": (tooled(calling("look_up")), "invalid_tool_call", f"{M}[1].tool_calls[0]"),
    "call without id": (tooled(calling(call(number=""))), "invalid_tool_call", f"{M}[1].tool_calls[0].id"),
    "call of a type": (tooled(calling(call(type="web"))), "invalid_tool_call", f"{M}[1].tool_calls[0].type"),
    "call of no function": (
        tooled(calling({"id": "a", "type": "function"})), "invalid_tool_call", f"{M}[1].tool_calls[0].function"
    ),
    "call of unknown tool": (tooled(calling(call("delete"))), "unknown_tool", f"{M}[1].tool_calls[0].function.name"),
    "call without tools": (chat(user(), calling(call())), "tools_not_given", f"{M}[1].tool_calls[0].function"),
    "arguments an object": (
        tooled(calling(call(arguments={"id": 7}))), "invalid_tool_arguments", f"{M}[1].tool_calls[0].function.arguments"
    ),
    "arguments no JSON": (
        tooled(calling(call(arguments="id=7"))), "invalid_tool_arguments", f"{M}[1].tool_calls[0].function.arguments"
    ),
    "arguments a list": (
        tooled(calling(call(arguments="[7]"))), "invalid_tool_arguments", f"{M}[1].tool_calls[0].function.arguments"
    ),
    "user calls": (
        chat(user(tool_calls=[call()]), assistant(), tools=[TOOL]), "misplaced_tool_calls", f"{M}[0].tool_calls"
    ),
    "call unanswered": (tooled(calling(call()), user(), assistant()), "tool_call_unanswered", f"{CALL}.id"),
    "one call of two unanswered": (
        tooled(calling(call(), call(number="call_2")), answer(), assistant()),
        "tool_call_unanswered", f"{M}[1].tool_calls[1].id",
    ),
    "answer unasked": (
        tooled(calling(call()), answer(), answer("call_9"), assistant()), "tool_answer_unasked", f"{M}[3].tool_call_id"
    ),
    "answer twice": (
        tooled(calling(call()), answer(), answer(), assistant()), "tool_answer_unasked", f"{M}[3].tool_call_id"
    ),
    "answer without id": (
        tooled(calling(call()), answer(), {"role": "tool", "content": "x"}, assistant()),
        "missing_key", f"{M}[3].tool_call_id",
    ),
    "call id twice": (
        tooled(calling(call()), answer(), user(), calling(call()), answer(), assistant()),
        "duplicate_tool_call_id", f"{M}[4].tool_calls[0].id",
    ),
    "old call of unknown function": (
        chat(
            user(), {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
            functions=[{"name": "f"}],
        ),
        "unknown_tool", f"{M}[1].function_call.name",
    ),
}  # fmt: skip

GOOD_OUTPUT = [assistant("Gladly.")]
PAIR = {"input": {"messages": [user()]}, "preferred_output": GOOD_OUTPUT, "non_preferred_output": [assistant("No.")]}
ASKS = {"messages": [user()], "answer": "Gladly."}
OTHER_FAULTS: dict[str, tuple[dict[str, Any], Any, str, str]] = {
    "no input": (PAIR, {k: v for k, v in PAIR.items() if k != "input"}, "missing_key", "$.input"),
    "input a list": (PAIR, {**PAIR, "input": [user()]}, "wrong_type", "$.input"),
    "input of no messages": (PAIR, {**PAIR, "input": {"tools": [TOOL]}}, "missing_key", "$.input.messages"),
    "input ends with assistant": (
        PAIR, {**PAIR, "input": {"messages": [user(), assistant()]}},
        "input_ends_with_assistant", "$.input.messages[1]",
    ),
    "no preferred": (
        PAIR, {k: v for k, v in PAIR.items() if k != "preferred_output"}, "missing_key", "$.preferred_output"
    ),
    "preferred a text": (PAIR, {**PAIR, "preferred_output": "Gladly."}, "wrong_type", "$.preferred_output"),
    "preferred empty": (PAIR, {**PAIR, "preferred_output": []}, "empty_list", "$.preferred_output"),
    "preferred from user": (
        PAIR, {**PAIR, "preferred_output": [user(), assistant()]}, "invalid_output_role", "$.preferred_output[0].role"
    ),
    "outputs equal": (PAIR, {**PAIR, "non_preferred_output": GOOD_OUTPUT}, "same_outputs", "$.non_preferred_output"),
    "output empty text": (
        PAIR, {**PAIR, "preferred_output": [assistant("")]}, "empty_content", "$.preferred_output[0].content"
    ),
    "asks, yet is answered": (
        ASKS, {**ASKS, "messages": [user(), assistant()]}, "last_message_not_user", "$.messages[1]"
    ),
    "no completion": ({"prompt": "a", "completion": "b"}, {"prompt": "a"}, "missing_key", "$.completion"),
    "prompt a list": (
        {"prompt": "a", "completion": "b"}, {"prompt": ["a"], "completion": "b"}, "wrong_type", "$.prompt"
    ),
    "completion empty": (
        {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}, "empty_content", "$.completion"
    ),
    "label null": ({"text": "a", "label": "x"}, {"text": "a", "label": None}, "wrong_type", "$.label"),
    "label blank": ({"text": "a", "label": "x"}, {"text": "a", "label": ""}, "blank_label", "$.label"),
    "text blank": ({"text": "a", "label": "x"}, {"text": " ", "label": "x"}, "blank_text", "$.text"),
    "text a number": ({"text": "a", "label": "x"}, {"text": 4, "label": "x"}, "wrong_type", "$.text"),
    "labels beside label": (
        {"text": "a", "label": "x"}, {"text": "a", "labels": ["x"]}, "mixed_formats", "$"
    ),
    "labels a text": ({"text": "a", "labels": ["x"]}, {"text": "a", "labels": "x"}, "wrong_type", "$.labels"),
    "labels twice": (
        {"text": "a", "labels": ["x"]}, {"text": "a", "labels": ["x", "x"]}, "duplicate_label", "$.labels[1]"
    ),
    "target a text": ({"text": "a", "target": 0.5}, {"text": "a", "target": "0.5"}, "wrong_type", "$.target"),
    "target true": ({"text": "a", "target": 0.5}, {"text": "a", "target": True}, "wrong_type", "$.target"),
}  # fmt: skip

REQUEST = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [user()]}}
BATCH_FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no custom_id": (REQUEST, "missing_key", "$.custom_id"),
    "custom_id a number": ({**REQUEST, "custom_id": 4}, "wrong_type", "$.custom_id"),
    "custom_id again": ({**REQUEST, "custom_id": "row-0"}, "duplicate_custom_id", "$.custom_id"),
    "GET": ({**REQUEST, "custom_id": "x", "method": "GET"}, "invalid_method", "$.method"),
    "unknown url": ({**REQUEST, "custom_id": "x", "url": "/v1/files"}, "invalid_url", "$.url"),
    "other url": (
        {**REQUEST, "custom_id": "x", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}},
        "mixed_urls", "$.url",
    ),
    "other model": (
        {**REQUEST, "custom_id": "x", "body": {"model": "n", "messages": [user()]}}, "mixed_models", "$.body.model"
    ),
    "no body": ({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}, "missing_key", "$.body"),
    "no model": ({**REQUEST, "custom_id": "x", "body": {"messages": [user()]}}, "missing_key", "$.body.model"),
    "stream": (
        {**REQUEST, "custom_id": "x", "body": {"model": "m", "messages": [user()], "stream": True}},
        "stream_in_batch", "$.body.stream",
    ),
    "no messages": ({**REQUEST, "custom_id": "x", "body": {"model": "m"}}, "missing_key", "$.body.messages"),
}  # fmt: skip


def encoded(row: Any) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row).encode()


def clean_chat(number: int) -> dict[str, Any]:
    return chat(user(f"Question {number}?"), assistant(f"Answer {number}."))


def plant(folder: Path, good: list[bytes], bad: bytes, seed: str) -> tuple[Path, int]:
    """The clean lines with the faulty one among them (never first, which sets the format), and its line number."""
    place = random.Random(seed).randrange(1, len(good) + 1)
    path = folder / "data.jsonl"
    path.write_bytes(b"\n".join([*good[:place], bad, *good[place:]]) + b"\n")
    return path, place + 1


def assert_found(path: Path, purpose: str, expected: tuple[str, int, str]) -> None:
    for fast in (True, False):
        report = check(path, purpose, fast=fast)
        assert [(finding.code, finding.line, finding.path) for finding in report.findings] == [expected]
        assert report.ok == (CODES[expected[0]].level == "warning")
        assert report.findings[0].message
        assert report.findings[0].help


@pytest.mark.parametrize("name", CHAT_FAULTS)
def test_chat_fault_is_found_at_its_line_and_nothing_else(tmp_path: Path, name: str) -> None:
    bad, code, where = CHAT_FAULTS[name]
    good = [encoded(clean_chat(number)) for number in range(ROWS)]
    path, line = plant(tmp_path, good, encoded(bad), name)
    assert_found(path, "fine-tune", (code, line, where))


@pytest.mark.parametrize("name", OTHER_FAULTS)
def test_fault_of_another_format_is_found_at_its_line(tmp_path: Path, name: str) -> None:
    good, bad, code, where = OTHER_FAULTS[name]
    clean = [encoded(good)] * ROWS
    if "label" in good:
        clean[-1] = encoded({**good, "label": "y"})
    path, line = plant(tmp_path, clean, encoded(bad), name)
    assert_found(path, "fine-tune", (code, line, where))


@pytest.mark.parametrize("name", BATCH_FAULTS)
def test_batch_fault_is_found_at_its_line(tmp_path: Path, name: str) -> None:
    bad, code, where = BATCH_FAULTS[name]
    good = [encoded({**REQUEST, "custom_id": f"row-{number}"}) for number in range(ROWS)]
    path, line = plant(tmp_path, good, encoded(bad), name)
    assert_found(path, "batch", (code, line, where))


def test_evals_items_are_checked_for_their_shape(tmp_path: Path) -> None:
    path, line = plant(tmp_path, [b'{"item": {"q": "x"}}'] * ROWS, b'{"item": "x"}', "evals")
    assert_found(path, "evals", ("wrong_type", line, "$.item"))


PLAIN = b"".join(encoded(clean_chat(number)) + b"\n" for number in range(ROWS))


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data.jsonl", PLAIN)
    return content.getvalue()


# name → (the file, code, line)
FILE_FAULTS: dict[str, tuple[bytes, str, int]] = {
    "empty": (b"", "empty_file", 0),
    "mark only": (b"\xef\xbb\xbf", "empty_file", 0),
    "gzip": (gzip.compress(PLAIN), "compressed_file", 0),
    "zip": (zipped(), "compressed_file", 0),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(40), "compressed_file", 0),
    "parquet": (b"PAR1" + bytes(100), "binary_file", 0),
    "pickle": (b"\x80\x04\x95" + bytes(100), "binary_file", 0),
    "utf-16 with a mark": (PLAIN.decode().encode("utf-16"), "utf16_file", 0),
    "utf-16 without a mark": (PLAIN.decode().encode("utf-16-le"), "utf16_file", 0),
    "utf-32": (PLAIN.decode().encode("utf-32"), "utf16_file", 0),
    "array on one line": (b"[" + PLAIN.replace(b"\n", b",")[:-1] + b"]", "json_array", 1),
    "labels without end": (
        b"".join(b'{"text": "a", "label": "l%d"}\n' % number for number in range(1001)),
        "too_many_labels",
        0,
    ),
    "one label": (b'{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}', "one_label_only", 0),
    "line over the cap": (PLAIN + b'{"messages": "' + b"a" * (5 << 20) + b'"}\n' + PLAIN, "line_too_long", ROWS + 1),
    "last line over the cap": (PLAIN + b'{"messages": "' + b"a" * (5 << 20) + b'"}', "line_too_long", ROWS + 1),
}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_faults_of_whole_files_are_named_for_what_they_are(tmp_path: Path, name: str) -> None:
    content, code, line = FILE_FAULTS[name]
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    for fast in (True, False):
        report = check(path, "fine-tune", fast=fast)
        assert (code, line) in [(finding.code, finding.line) for finding in report.findings]
        assert set(report.counts) <= {code, "no_rows"}


def test_corpus_plants_sixty_kinds_and_every_code_of_preflight() -> None:
    assert len({*CHAT_FAULTS, *OTHER_FAULTS, *BATCH_FAULTS, *FILE_FAULTS}) >= 60
    planted = {
        fault[-2] for faults in (CHAT_FAULTS, OTHER_FAULTS, BATCH_FAULTS, FILE_FAULTS) for fault in faults.values()
    }
    tested_elsewhere = {"no_rows", "too_many_requests"}
    assert set(PREFLIGHT_CODES) == planted | tested_elsewhere
