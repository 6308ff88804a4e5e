"""Tools for models whose chat template has no place for them, and calls of tools found in what a model says.

Where a template takes `tools`, it is left to do so. Where it doesn't, tools, calls and results are spelled out in the
messages' text, calls as `<tool_call>{"name", "arguments"}</tool_call>`: the same words in training and in serving, so
that a model can be tuned to call tools though it never did. `parse` reads that form (Qwen and Hermes models use it
too), Phi-4-mini's `<|tool_call|>[...]<|/tool_call|>` and Llama's bare JSON object. It checks no call against its tool.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finery.modeling.messages import Message

_TAGGED = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_PHI = re.compile(r"<\|tool_call\|>\s*(\[.*?\]|\{.*?\})\s*<\|/tool_call\|>", re.DOTALL)

_INTRODUCTION = (
    "You can call these functions, one JSON description a line:\n{functions}\n"
    'To call one, answer with <tool_call>{{"name": "its name", "arguments": {{...}}}}</tool_call>, once for each call. '
    "Results come back as <tool_response>...</tool_response>."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """One call that a model made."""

    name: str
    arguments: str
    """A JSON object, as text: OpenAI's form."""


def spell_out(messages: Sequence[Message], tools: Sequence[Message] | None) -> list[Message]:
    """The messages with tools, calls and results in their texts; as many messages as before, in the same places."""
    spelled = [_spelled(message) for message in messages]
    if tools:
        lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
        introduction = _INTRODUCTION.format(functions=lines)
        first = spelled[0]
        parts = [first["content"], introduction] if first["role"] == "system" else [introduction, first["content"]]
        spelled[0] = {**first, "content": "\n\n".join(part for part in parts if part)}
    return spelled


def parse(text: str) -> tuple[str, list[ToolCall]]:
    """What a model said apart from its calls, and the calls; what does not read as a call stays text."""
    for pattern in (_TAGGED, _PHI):
        calls = [call for found in pattern.findall(text) for call in _calls(found)]
        if calls:
            return pattern.sub("", text).strip(), calls
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}"):
        calls = _calls(bare)
        if calls:
            return "", calls
    return text, []


def _spelled(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    if not message.get("tool_calls"):
        return message
    calls = [_call_text(call["function"]) for call in message["tool_calls"]]
    content = "\n".join(part for part in [message["content"], *calls] if part)
    return {**{k: v for k, v in message.items() if k != "tool_calls"}, "content": content}


def _call_text(function: Message) -> str:
    call = {"name": function["name"], "arguments": function["arguments"]}
    return f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>"


def _calls(text: str) -> list[ToolCall]:
    """The calls of one JSON text: an object or a list of objects with a name and arguments (or parameters)."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    entries = data if isinstance(data, list) else [data]
    calls = []
    for entry in entries:
        arguments = entry.get("arguments", entry.get("parameters")) if isinstance(entry, dict) else None
        if not isinstance(arguments, dict) or not isinstance(entry.get("name"), str):
            return []
        calls.append(ToolCall(name=entry["name"], arguments=json.dumps(arguments, ensure_ascii=False)))
    return calls
