"""The rules of tools in a chat example: what is offered, what is called, what is answered; ids must match.

Both of OpenAI's spellings: `tools` with `tool_calls` and `tool` messages, and the older `functions` with
`function_call` and `function` messages.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

Add = Callable[[str, str, str], None]

MAX_TOOLS = 128

_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_offered(row: dict[str, Any], path: str, add: Add) -> frozenset[str] | None:
    """Check `tools`, `functions` and `parallel_tool_calls` of a row; the names offered, None where it has neither."""
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        add("wrong_type", f"{path}.parallel_tool_calls", "parallel_tool_calls must be true or false")
    functions: list[tuple[Any, str]] = []
    given = False
    for key in ("tools", "functions"):
        offered = row.get(key)
        if offered is None:
            continue
        given = True
        if not isinstance(offered, list):
            add("wrong_type", f"{path}.{key}", f"{key} must be a list")
        elif not offered:
            add("empty_list", f"{path}.{key}", f"{key} is empty")
        elif len(offered) > MAX_TOOLS:
            add("too_many_tools", f"{path}.{key}", f"{len(offered)} {key} are offered")
        else:
            places = [(item, f"{path}.{key}[{index}]") for index, item in enumerate(offered)]
            functions += places if key == "functions" else _unwrapped(places, add)
    return _check_functions(functions, add) if given else None


def check_calls(message: dict[str, Any], role: str, path: str, offered: frozenset[str] | None, add: Add) -> bool:
    """Check a message's `tool_calls` or `function_call`; True where the message calls something."""
    calls, call = message.get("tool_calls"), message.get("function_call")
    if calls is None and call is None:
        return False
    key = "tool_calls" if calls is not None else "function_call"
    if role and role != "assistant":
        add("misplaced_tool_calls", f"{path}.{key}", f"a {role} message has {key}")
        return False
    if call is not None:
        _check_function_call(call, f"{path}.function_call", offered, add)
    if calls is None:
        return True
    if not isinstance(calls, list):
        add("wrong_type", f"{path}.tool_calls", "tool_calls must be a list")
    elif not calls:
        add("empty_list", f"{path}.tool_calls", "tool_calls is empty")
        return call is not None
    else:
        for index, item in enumerate(calls):
            _check_call(item, f"{path}.tool_calls[{index}]", offered, add)
    return True


def check_answers(messages: list[Any], roles: list[str], path: str, add: Add) -> None:
    """Check that every call is answered by the messages that follow it, and every answer was asked for."""
    if "tool" not in roles and not any(isinstance(message, dict) and message.get("tool_calls") for message in messages):
        return
    seen: set[str] = set()
    open_calls: dict[str, str] = {}
    for index, (message, role) in enumerate(zip(messages, roles, strict=True)):
        if role == "tool":
            _check_answer(message, f"{path}[{index}].tool_call_id", open_calls, add)
            continue
        if open_calls:
            _check_all_answered(open_calls, add)
        open_calls = _opened(message, f"{path}[{index}]", seen, add) if role == "assistant" else {}
    # Calls at the very end stay open on purpose: the example teaches the call itself.
    if roles and roles[-1] == "tool":
        _check_all_answered(open_calls, add)


def _unwrapped(places: list[tuple[Any, str]], add: Add) -> list[tuple[Any, str]]:
    functions = []
    for tool, path in places:
        if not isinstance(tool, dict):
            add("invalid_tool", path, "the tool is not an object")
        elif tool.get("type") != "function":
            add("invalid_tool", f"{path}.type", f"the tool's type is {tool.get('type')!r:.60}, not 'function'")
        elif not isinstance(tool.get("function"), dict):
            add("invalid_tool", f"{path}.function", "the tool has no function object")
        else:
            functions.append((tool["function"], f"{path}.function"))
    return functions


def _check_functions(functions: list[tuple[Any, str]], add: Add) -> frozenset[str]:
    names: set[str] = set()
    for function, path in functions:
        if not isinstance(function, dict):
            add("invalid_tool", path, "the function is not an object")
            continue
        name = function.get("name")
        if not _check_function_name(name, f"{path}.name", add):
            continue
        if name in names:
            add("duplicate_tool", f"{path}.name", f"the function {name} is offered twice")
        names.add(str(name))
        for key, wanted, words in (("description", str, "a string"), ("parameters", dict, "an object (JSON Schema)")):
            if function.get(key) is not None and not isinstance(function[key], wanted):
                add("invalid_tool", f"{path}.{key}", f"{key} of {name} must be {words}")
    return frozenset(names)


def _check_function_name(name: Any, path: str, add: Add) -> bool:
    if isinstance(name, str) and _FUNCTION_NAME.fullmatch(name):
        return True
    words = "the function has no name" if name is None else f"{name!r:.60} can't be a function's name"
    add("invalid_function_name", path, words)
    return False


def _check_call(call: Any, path: str, offered: frozenset[str] | None, add: Add) -> None:
    if not isinstance(call, dict):
        add("invalid_tool_call", path, "the call is not an object")
        return
    if not isinstance(call.get("id"), str) or not call["id"]:
        add("invalid_tool_call", f"{path}.id", "the call has no id")
    if call.get("type", "function") != "function":
        add("invalid_tool_call", f"{path}.type", f"the call's type is {call['type']!r:.60}, not 'function'")
    elif not isinstance(call.get("function"), dict):
        add("invalid_tool_call", f"{path}.function", "the call has no function object")
    else:
        _check_function_call(call["function"], f"{path}.function", offered, add)


def _check_function_call(function: Any, path: str, offered: frozenset[str] | None, add: Add) -> None:
    if not isinstance(function, dict):
        add("invalid_tool_call", path, "the call is not an object")
        return
    name = function.get("name")
    if _check_function_name(name, f"{path}.name", add):
        if offered is None:
            add("tools_not_given", path, f"{name} is called, but the row offers no tools")
        elif name not in offered:
            add("unknown_tool", f"{path}.name", f"{name} is called, but not offered")
    _check_arguments(function.get("arguments"), f"{path}.arguments", add)


def _check_arguments(arguments: Any, path: str, add: Add) -> None:
    if not isinstance(arguments, str):
        words = (
            "the call has no arguments" if arguments is None else "the arguments are JSON, not a string holding JSON"
        )
        add("invalid_tool_arguments", path, words)
        return
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        add("invalid_tool_arguments", path, "the arguments are not JSON")
        return
    if not isinstance(value, dict):
        add("invalid_tool_arguments", path, "the arguments are JSON, but no object")


def _check_answer(message: dict[str, Any], path: str, open_calls: dict[str, str], add: Add) -> None:
    asked = message.get("tool_call_id")
    if not isinstance(asked, str) or not asked:
        add("missing_key", path, "the tool message has no tool_call_id")
    elif open_calls.pop(asked, None) is None:
        add("tool_answer_unasked", path, f"no open call just before has the id {asked!r:.60}")


def _check_all_answered(open_calls: dict[str, str], add: Add) -> None:
    for name, where in open_calls.items():
        add("tool_call_unanswered", where, f"the call {name!r:.60} is never answered")


def _opened(message: dict[str, Any], path: str, seen: set[str], add: Add) -> dict[str, str]:
    opened: dict[str, str] = {}
    calls = message.get("tool_calls")
    if calls is None:
        return opened
    for index, call in enumerate(calls if isinstance(calls, list) else []):
        name = call.get("id") if isinstance(call, dict) else None
        if not isinstance(name, str) or not name:
            continue
        where = f"{path}.tool_calls[{index}].id"
        if name in seen:
            add("duplicate_tool_call_id", where, f"the id {name!r:.60} is used twice")
        seen.add(name)
        opened[name] = where
    return opened
