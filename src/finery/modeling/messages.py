"""OpenAI's chat messages and tools in the form that chat templates expect: plain text contents, arguments as objects.

It checks only what a template could not be given at all; whether a conversation makes sense is for preflight.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from finery.core.errors import InvalidRequest

Message = dict[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def plain_messages(messages: Sequence[Mapping[str, Any]], template: str) -> list[Message]:
    """Messages as templates read them; InvalidRequest names the message that can't be one.

    Text parts are joined, a missing content becomes empty, `arguments` become objects, the old `function_call` and role
    `function` become tool calls and tools, and `developer` becomes `system` unless the `template` source knows it.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InvalidRequest("messages must be a list with at least one message.", param="messages")
    return [_plain_message(message, i, template) for i, message in enumerate(messages)]


def plain_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[Message] | None:
    """Tools as templates read them: a list of objects, or None where there are none."""
    if not tools:
        return None
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping) or not isinstance(tool.get("function"), Mapping):
            raise InvalidRequest(f'tools[{i}] needs "type": "function" and a "function" object.', param=f"tools[{i}]")
    return [dict(tool) for tool in tools]


def _plain_message(message: Mapping[str, Any], i: int, template: str) -> Message:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise InvalidRequest(
            f"messages[{i}] has the role {role!r}; known roles are {known}.", param=f"messages[{i}].role"
        )
    plain = {k: v for k, v in message.items() if k not in {"content", "weight", "function_call"} and v is not None}
    plain["content"] = _text(message.get("content"), i)
    if role == "developer" and "developer" not in template:
        plain["role"] = "system"
    if role == "function":
        plain["role"] = "tool"
    calls = message.get("tool_calls") or (
        [{"function": message["function_call"]}] if message.get("function_call") else []
    )
    if calls:
        plain["tool_calls"] = [_plain_call(call, i) for call in calls]
    else:
        plain.pop("tool_calls", None)
    return plain


def _text(content: Any, i: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part_text(part, i, j) for j, part in enumerate(content))
    raise InvalidRequest(
        f"messages[{i}].content is neither a text nor a list of parts.", param=f"messages[{i}].content"
    )


def _part_text(part: Any, i: int, j: int) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    for key in ("text", "refusal"):
        if (
            isinstance(part, Mapping)
            and kind in {key, f"input_{key}", f"output_{key}"}
            and isinstance(part.get(key), str)
        ):
            return str(part[key])
    raise InvalidRequest(
        f"messages[{i}].content[{j}] is a part of type {kind!r}; this model reads text only.",
        param=f"messages[{i}].content[{j}]",
    )


def _plain_call(call: Any, i: int) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequest(
            f"messages[{i}].tool_calls needs a function with a name.", param=f"messages[{i}].tool_calls"
        )
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise InvalidRequest(
                f"messages[{i}].tool_calls: the arguments of {function['name']} are not JSON.",
                param=f"messages[{i}].tool_calls",
            ) from None
    return {**call, "type": "function", "function": {**function, "arguments": arguments}}
