"""Calls of tools are found in what models say, in the forms that models have for them; the rest stays text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.modeling.toolcalls import ToolCall, parse, spell_out

ADD = ToolCall(name="add", arguments='{"a": 12}')
SAID = '{"name": "add", "arguments": {"a": 12}}'


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"<tool_call>{SAID}</tool_call>", "", [ADD]),
        (f"<tool_call>\n{SAID}\n</tool_call>\n<tool_call>\n{SAID}\n</tool_call>", "", [ADD, ADD]),
        (f"Let me see. <tool_call>{SAID}</tool_call>", "Let me see.", [ADD]),
        (f"<|tool_call|>[{SAID}, {SAID}]<|/tool_call|>", "", [ADD, ADD]),
        ('{"name": "add", "parameters": {"a": 12}}', "", [ADD]),
        ("It is 42.", "It is 42.", []),
        ('{"answer": 42}', '{"answer": 42}', []),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
        ('<tool_call>{"name": "add"}</tool_call>', '<tool_call>{"name": "add"}</tool_call>', []),
        (
            '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
            '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
            [],
        ),
    ],
)
def test_calls_are_found(text: str, content: str, calls: list[ToolCall]) -> None:
    assert parse(text) == (content, calls)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(st.text(min_size=1), st.dictionaries(st.text(), json_values), st.text())
def test_what_is_spelled_out_is_found_again(name: str, arguments: dict[str, Any], said: str) -> None:
    """Unless arguments hold the very words that end a call, which no one can tell apart then."""
    if "<" in name + said + json.dumps(arguments, ensure_ascii=False):
        return
    call = {"function": {"name": name, "arguments": arguments}}
    [message] = spell_out([{"role": "assistant", "content": said, "tool_calls": [call]}], None)
    content, calls = parse(message["content"])
    assert content == said.strip()
    assert [(found.name, json.loads(found.arguments)) for found in calls] == [(name, arguments)]


def test_messages_keep_their_places() -> None:
    messages = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]
    spelled = spell_out(messages, [{"type": "function", "function": {"name": "add"}}])
    assert [message["role"] for message in spelled] == ["user", "assistant", "user"]
    assert '{"name": "add"}' in spelled[0]["content"]
    assert spelled[0]["content"].endswith("Add.")
    assert "42" in spelled[2]["content"]
    assert messages[0]["content"] == "Add."
