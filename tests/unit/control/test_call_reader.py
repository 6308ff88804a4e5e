"""However an answer is cut into pieces, the same text and the same calls come out of it."""

import json

import pytest

from finery.control.tools import CallPart, CallReader, Plan

TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
CALL = '{"name": "paint", "arguments": {"colour": "red"}}'


def read(text: str, size: int) -> tuple[str, list[CallPart], str]:
    """All text, all calls, and the text that was shown before the end."""
    reader = CallReader(plan=Plan(tools=[TOOL], calls="maybe"))
    early = [part for i in range(0, len(text), size) for part in reader.push(text[i : i + size])]
    parts = early + reader.finish()
    calls = [part for part in parts if isinstance(part, CallPart)]
    shown = "".join(part for part in early if isinstance(part, str))
    return "".join(part for part in parts if isinstance(part, str)), calls, shown


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("said", "text", "calls"),
    [
        ("red is nice", "red is nice", 0),
        (f"<tool_call>\n{CALL}\n</tool_call>", "", 1),
        (f"Sure.\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "Sure.\n", 2),
        (f"<|tool_call|>[{CALL}]<|/tool_call|>", "", 1),
        (f"[{CALL}, {CALL}]", "", 2),
        ('{"name": "paint", "parameters": {"colour": "red"}}', "", 1),
        ('{"colour": "red"}', '{"colour": "red"}', 0),
        ("[1, 2]", "[1, 2]", 0),
        ("a < b and <tool is no call", "a < b and <tool is no call", 0),
        (f"<tool_call>{CALL[:20]}", f"<tool_call>{CALL[:20]}", 0),
        ('{"name": "burn", "arguments": {}}', '{"name": "burn", "arguments": {}}', 0),
    ],
)
def test_pieces_make_no_difference(said: str, text: str, calls: int, size: int) -> None:
    found_text, found, _ = read(said, size)
    assert found_text == text
    assert [call.index for call in found] == list(range(calls))
    for call in found:
        assert call.name == "paint"
        assert json.loads(call.arguments) == {"colour": "red"}


def test_plain_text_is_not_held_back() -> None:
    _, _, shown = read("red is a nice colour", 1)
    assert shown == "red is a nice colour"


def test_a_named_call_streams_its_arguments() -> None:
    reader = CallReader(plan=Plan(tools=[TOOL], calls="named", name="paint"))
    parts = [part for piece in ('{"a"', ":", "1}") for part in reader.push(piece)]
    assert [part.name for part in parts if isinstance(part, CallPart)] == ["paint", None, None]
    assert "".join(part.arguments for part in parts if isinstance(part, CallPart)) == '{"a":1}'
