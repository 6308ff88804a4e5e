"""Which format a row has, and the rules of every format but chat (`messages`).

Completion, preference, reinforcement, classification, regression, batch and evals' items. It sees one row at a time.
"""

from collections import Counter
from typing import Any

from finery.core.datasets import Format
from finery.data import messages, tools
from finery.data.messages import Add, kind, short

BATCH_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

_OUTPUTS = ("preferred_output", "non_preferred_output")
_RARE_KEYS: dict[str, Format] = {
    "messages": "chat", "preferred_output": "preference", "non_preferred_output": "preference", "prompt": "completion",
    "completion": "completion", "target": "regression", "label": "classification", "labels": "classification",
}  # fmt: skip


_TALKS = ("chat", "reinforcement")
_CHAT_KEYS = frozenset(("messages", "tools", "parallel_tool_calls", "functions", "function_call"))


def format_of(row: dict[str, Any]) -> Format | None:
    """The format a row is meant to have, by its keys; None where they tell nothing.

    Reinforcement is told from chat by its end: the user speaks last, no answer is trained, and there is a field besides
    for the grader.
    """
    for key, form in _RARE_KEYS.items():
        if key not in row:
            continue
        if key == "messages" and _asks(row):
            return "reinforcement"
        if key in ("target", "label", "labels") and "text" not in row:
            continue
        return form
    return None


def format_among(row: dict[str, Any], before: Format | None) -> Format | None:
    """The same in a file whose rows so far are of the format `before`.

    Chat and reinforcement are told apart by how a row ends: in a file of one of them, a row that ends as the other does
    is at fault, not of another kind.
    """
    form = format_of(row)
    return before if form in _TALKS and before in _TALKS else form


def item_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Of a reinforcement row, what is there for the grader alone."""
    return {name: value for name, value in row.items() if name not in _CHAT_KEYS}


def check_row(row: dict[str, Any], form: Format, add: Add, counted: Counter[str]) -> None:
    """Check a row against its format; what the report's statistics tell of it is added to `counted`."""
    if form == "chat":
        messages.check_chat(row, add, counted)
    elif form == "reinforcement":
        messages.check_prompt(row, add, counted)
    elif form == "preference":
        _check_preference(row, add, counted)
    elif form == "completion":
        _check_completion(row, add)
    elif form == "batch":
        _check_request(row, add)
    else:
        _check_labelled(row, form, add)


def check_item(row: dict[str, Any], add: Add) -> None:
    """Check a row of an evals file: `item`, where there is one, is an object."""
    for key in ("item", "sample"):
        if row.get(key) is not None and not isinstance(row[key], dict):
            add("wrong_type", f"$.{key}", f"{key} is {kind(row[key])}, not an object")


def _asks(row: dict[str, Any]) -> bool:
    talk = row["messages"]
    if not isinstance(talk, list) or not talk or _CHAT_KEYS.issuperset(row):
        return False
    roles = [message.get("role") for message in talk if isinstance(message, dict) and message.get("weight") != 0]
    return bool(roles) and roles[-1] == "user" and "assistant" not in roles


def _check_preference(row: dict[str, Any], add: Add, counted: Counter[str]) -> None:
    given = row.get("input")
    offered = None
    if "input" not in row:
        add("missing_key", "$.input", "the row has no input")
    elif not isinstance(given, dict):
        add("wrong_type", "$.input", f"input is {kind(given)}, not an object")
    elif "messages" not in given:
        add("missing_key", "$.input.messages", "input has no messages")
    else:
        offered = tools.check_offered(given, "$.input", add)
        roles = messages.check_messages(given["messages"], "$.input.messages", offered, add)
        counted.update(roles)
        if roles and roles[-1] == "assistant":
            add(
                "input_ends_with_assistant",
                f"$.input.messages[{len(roles) - 1}]",
                "the input ends with an assistant message",
            )
    for key in _OUTPUTS:
        _check_output(row, key, offered, add)
    if row.get(_OUTPUTS[0]) is not None and row.get(_OUTPUTS[0]) == row.get(_OUTPUTS[1]):
        add("same_outputs", "$.non_preferred_output", "both outputs are the same")
    counted["with_tools"] += offered is not None


def _check_output(row: dict[str, Any], key: str, offered: frozenset[str] | None, add: Add) -> None:
    if key not in row:
        add("missing_key", f"$.{key}", f"the row has no {key}")
        return
    if isinstance(row[key], dict | str):
        add("wrong_type", f"$.{key}", f"{key} is {kind(row[key])}, not a list of messages")
        return
    seen: list[str] = []

    def note(code: str, path: str, message: str) -> None:
        # An output is the tail of a conversation: that it has no user message is in its nature.
        if code != "no_user_message":
            add(code, path, message)

    seen = messages.check_messages(row[key], f"$.{key}", offered, note)
    for index, role in enumerate(seen):
        if role not in ("assistant", "tool", ""):
            add("invalid_output_role", f"$.{key}[{index}].role", f"{key} holds a {role} message")
    if seen and "assistant" not in seen and "" not in seen:
        add("no_assistant_message", f"$.{key}", f"{key} has no assistant message")


def _check_completion(row: dict[str, Any], add: Add) -> None:
    for key in ("prompt", "completion"):
        if key not in row:
            add("missing_key", f"$.{key}", f"the row has no {key}")
        elif not isinstance(row[key], str):
            add("wrong_type", f"$.{key}", f"{key} is {kind(row[key])}, not a string")
        elif key == "completion" and not row[key].strip():
            add("empty_content", "$.completion", "the completion is empty")


def _check_labelled(row: dict[str, Any], form: Format, add: Add) -> None:
    text = row["text"]
    if not isinstance(text, str):
        add("wrong_type", "$.text", f"text is {kind(text)}, not a string")
    elif not text.strip():
        add("blank_text", "$.text", "the text is empty")
    if form == "regression":
        target = row["target"]
        if isinstance(target, bool) or not isinstance(target, int | float):
            add("wrong_type", "$.target", f"target is {kind(target)}, not a number")
    elif "label" in row:
        _check_label(row["label"], "$.label", add)
    else:
        _check_labels(row["labels"], add)


def _check_label(label: Any, path: str, add: Add) -> None:
    if isinstance(label, bool) or not isinstance(label, str | int):
        add("wrong_type", path, f"the label is {kind(label)}, not a string or a whole number")
    elif isinstance(label, str) and not label.strip():
        add("blank_label", path, "the label is empty")


def _check_labels(labels: Any, add: Add) -> None:
    if not isinstance(labels, list):
        add("wrong_type", "$.labels", f"labels is {kind(labels)}, not a list")
        return
    seen: set[str] = set()
    for index, label in enumerate(labels):
        path = f"$.labels[{index}]"
        _check_label(label, path, add)
        if str(label) in seen:
            add("duplicate_label", path, f"the label {short(label)} is given twice")
        seen.add(str(label))


def _check_request(row: dict[str, Any], add: Add) -> None:
    name = row.get("custom_id")
    if "custom_id" not in row:
        add("missing_key", "$.custom_id", "the request has no custom_id")
    elif not isinstance(name, str) or not name:
        add("wrong_type", "$.custom_id", f"custom_id is {kind(name) if name != '' else 'empty'}, not a text")
    if row.get("method") != "POST":
        add("invalid_method", "$.method", f"the method is {short(row.get('method'))}")
    if row.get("url") not in BATCH_URLS:
        add("invalid_url", "$.url", f"the url is {short(row.get('url'))}")
    body = row.get("body")
    if not isinstance(body, dict):
        add("missing_key" if "body" not in row else "wrong_type", "$.body", "the request has no body object")
        return
    if not isinstance(body.get("model"), str) or not body["model"]:
        add("missing_key", "$.body.model", "the request names no model")
    if body.get("stream"):
        add("stream_in_batch", "$.body.stream", "the request asks for a stream")
    if row.get("url") == "/v1/chat/completions" and not isinstance(body.get("messages"), list):
        add("missing_key", "$.body.messages", "the request has no messages")
