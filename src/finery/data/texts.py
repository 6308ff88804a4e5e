"""The texts of a row: what people wrote in it, whatever its format. Knows no rules and no tokens."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def texts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text of a row that people or models wrote, tool calls' arguments among them, with its JSON path."""
    for key in ("prompt", "completion", "text"):
        if isinstance(row.get(key), str):
            yield f"$.{key}", row[key]
    given = row.get("input")
    if isinstance(given, dict):
        yield from _message_texts(given.get("messages"), "$.input.messages")
    for key in ("messages", "preferred_output", "non_preferred_output"):
        yield from _message_texts(row.get(key), f"$.{key}")


def item_texts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in the fields that a reinforcement row has for its grader, with its JSON path."""
    waiting: list[tuple[str, Any]] = [(f"$.{name}", value) for name, value in fields.items()]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            waiting += [(f"{path}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]


def map_texts(row: dict[str, Any], change: Callable[[str], str], *, arguments: bool = False) -> dict[str, Any]:
    """The row with every text changed, with `arguments` those of tool calls too; the very row where nothing changes."""
    new: dict[str, Any] = {
        key: change(row[key]) for key in ("prompt", "completion", "text") if isinstance(row.get(key), str)
    }
    given = row.get("input")
    if isinstance(given, dict) and isinstance(given.get("messages"), list):
        new["input"] = {**given, "messages": _map_messages(given["messages"], change, arguments)}
    for key in ("messages", "preferred_output", "non_preferred_output"):
        if isinstance(row.get(key), list):
            new[key] = _map_messages(row[key], change, arguments)
    return row if all(row[key] == value for key, value in new.items()) else {**row, **new}


def row_text(row: Mapping[str, Any]) -> str:
    """What makes a row the row it is, as one text: all but system messages, which many rows share; with tool calls."""
    parts = [text for path, text in texts(row) if not path.startswith(("$.messages", "$.input"))]
    given = row.get("input")
    talks = (row.get("messages"), given.get("messages") if isinstance(given, dict) else None)
    for talk in talks:
        for message in talk if isinstance(talk, list) else ():
            if isinstance(message, dict) and message.get("role") not in ("system", "developer"):
                parts.append(content_text(message))
                parts.extend(_call_texts(message))
    label = row.get("label", row.get("labels", row.get("target")))
    return "\n".join(parts if label is None else [*parts, str(label)])


def asked_and_answered(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the model is given and what it should say; None where the row isn't one question and one answer."""
    if isinstance(row.get("messages"), list):
        talk = [message for message in row["messages"] if isinstance(message, dict)]
        if not talk or talk[-1].get("role") != "assistant":
            return None
        before = (f"{message.get('role')}: {content_text(message)}" for message in talk[:-1])
        return "\n".join(before), "\n".join([content_text(talk[-1]), *_call_texts(talk[-1])]).strip()
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        return row["prompt"], row["completion"]
    if isinstance(row.get("text"), str):
        return row["text"], str(row.get("label", row.get("labels", row.get("target"))))
    return None


def answers(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text that is trained to be said, with its JSON path; of a preference row, the preferred one."""
    if isinstance(row.get("completion"), str):
        yield "$.completion", row["completion"]
    for key in ("messages", "preferred_output"):
        talk = row.get(key)
        for index, message in enumerate(talk if isinstance(talk, list) else []):
            if isinstance(message, dict) and message.get("role") == "assistant" and message.get("weight") != 0:
                yield f"$.{key}[{index}].content", content_text(message)


def content_text(message: Mapping[str, Any]) -> str:
    """A message's content as one text: text parts joined, empty where there is none."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _message_texts(messages: Any, path: str) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            yield f"{path}[{index}].content", content_text(message)
            for number, function in enumerate(_called(message)):
                if isinstance(function.get("arguments"), str):
                    yield f"{path}[{index}].tool_calls[{number}].function.arguments", function["arguments"]


def _call_texts(message: Mapping[str, Any]) -> Iterator[str]:
    for function in _called(message):
        yield f"{function.get('name')} {function.get('arguments')}"


def _called(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    if calls is None and message.get("function_call") is None:
        return []
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [function for function in (*functions, message.get("function_call")) if isinstance(function, dict)]


def _map_messages(messages: list[Any], change: Callable[[str], str], arguments: bool) -> list[Any]:
    return [_map_message(message, change, arguments) if isinstance(message, dict) else message for message in messages]


def _map_message(message: dict[str, Any], change: Callable[[str], str], arguments: bool) -> dict[str, Any]:
    new = dict(message)
    content = message.get("content")
    if isinstance(content, str):
        new["content"] = change(content)
    elif isinstance(content, list):
        new["content"] = [_map_values(part, ("text", "refusal"), change) for part in content]
    if not arguments:
        return new
    if isinstance(message.get("tool_calls"), list):
        new["tool_calls"] = [
            {**call, "function": _map_values(call["function"], ("arguments",), change)}
            if isinstance(call, dict) and "function" in call
            else call
            for call in message["tool_calls"]
        ]
    if "function_call" in message:
        new["function_call"] = _map_values(message["function_call"], ("arguments",), change)
    return new


def _map_values(item: Any, keys: tuple[str, ...], change: Callable[[str], str]) -> Any:
    if not isinstance(item, dict):
        return item
    return {key: change(value) if key in keys and isinstance(value, str) else value for key, value in item.items()}
