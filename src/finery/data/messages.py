"""The rules of a chat example: roles and their order, contents, weights, names (tools have their own in `tools`).

Rules are OpenAI's chat format for fine-tuning. It knows no tokens and no chat template; what a model's template
refuses is told by `tokens`.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from finery.data import tools

Add = Callable[[str, str, str], None]
"""Takes a code of `findings.CODES`, a JSON path and a message."""

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MESSAGE_KEYS = frozenset(
    (
        "role",
        "content",
        "name",
        "weight",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "audio",
        "annotations",
    )
)

_PLAIN_ROLES = ("system", "developer", "user", "assistant")
_NAME = re.compile(r"[^\s<>|\\/]{1,64}")
_MEANT_ROLES = {
    "human": "user", "customer": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant",
    "model": "assistant", "chatgpt": "assistant", "instruction": "system", "observation": "tool",
}  # fmt: skip


def check_chat(row: dict[str, Any], add: Add, counted: Counter[str]) -> None:
    """Check a row with `messages`; counts messages by role, and the row under `with_tools` and `with_weights`."""
    offered = tools.check_offered(row, "$", add)
    messages: list[Any] = row["messages"]
    roles = check_messages(messages, "$.messages", offered, add)
    for role in roles:
        counted[role] += 1
    counted["with_tools"] += offered is not None
    if roles:
        _check_trained(messages, roles, add, counted)


def check_prompt(row: dict[str, Any], add: Add, counted: Counter[str]) -> None:
    """Check a row whose answers are to be drawn: the same, but the last word is the user's and none is trained."""
    offered = tools.check_offered(row, "$", add)
    roles = check_messages(row["messages"], "$.messages", offered, add)
    counted.update(role for role in roles if role)
    counted["with_tools"] += offered is not None
    if roles and roles[-1] not in ("user", ""):
        add("last_message_not_user", f"$.messages[{len(roles) - 1}]", f"the last message is from {roles[-1]}")


def check_messages(messages: Any, path: str, offered: frozenset[str] | None, add: Add) -> list[str]:
    """Check a list of messages one by one and their order; the answer is their roles ("" where unknown)."""
    if not isinstance(messages, list):
        add("wrong_type", path, f"messages is {kind(messages)}, not a list")
        return []
    if not messages:
        add("empty_list", path, "messages is empty")
        return []
    roles = [_check_message(message, f"{path}[{index}]", offered, add) for index, message in enumerate(messages)]
    _check_order(roles, path, add)
    tools.check_answers(messages, roles, path, add)
    return roles


def check_content(content: Any, path: str, add: Add) -> bool | None:
    """Check a message's content: text or text parts. True: there is text; False: it is blank; None: it is faulty."""
    if isinstance(content, str):
        return _is_text(content)
    if not isinstance(content, list):
        add("wrong_type", path, f"content is {kind(content)}, not text or a list of parts")
        return None
    return _check_parts(content, path, add)


def kind(value: Any) -> str:
    """A JSON value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def short(value: Any) -> str:
    """A value at fault, cut to fit a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def _check_message(message: Any, path: str, offered: frozenset[str] | None, add: Add) -> str:
    if not isinstance(message, dict):
        add("wrong_type", path, f"the message is {kind(message)}, not an object")
        return ""
    role = message.get("role")
    if len(message) == 2 and role in _PLAIN_ROLES and _is_text(message.get("content")):
        # Most messages are so, and have nothing else that could be wrong.
        return str(role)
    role = _check_role(message, path, add)
    if not MESSAGE_KEYS.issuperset(message):
        for key in sorted(message.keys() - MESSAGE_KEYS):
            add("unknown_message_key", f"{path}.{key}", f"messages have no {short(key)}")
    if "name" in message and message["name"] is not None:
        _check_name(message["name"], f"{path}.name", add)
    if "weight" in message:
        _check_weight(message["weight"], role, f"{path}.weight", add)
    calls = tools.check_calls(message, role, path, offered, add)
    _check_message_content(message, role, calls, path, add)
    return role


def _is_text(content: Any) -> bool:
    return isinstance(content, str) and bool(content) and not content.isspace()


def _check_role(message: dict[str, Any], path: str, add: Add) -> str:
    if "role" not in message:
        hint = ' (ShareGPT rows have "from": `finery files convert` reads them)' if "from" in message else ""
        add("missing_key", f"{path}.role", f"the message has no role{hint}")
        return ""
    role = message["role"]
    if not isinstance(role, str):
        add("wrong_type", f"{path}.role", f"role is {kind(role)}, not a string")
        return ""
    if role not in ROLES:
        meant = role.strip().lower()
        meant = _MEANT_ROLES.get(meant, meant)
        add(
            "unknown_role",
            f"{path}.role",
            f"there is no role {short(role)}" + (f"; {meant}?" if meant in ROLES else ""),
        )
        return ""
    return role


def _check_name(name: Any, path: str, add: Add) -> None:
    if not isinstance(name, str):
        add("wrong_type", path, f"name is {kind(name)}, not a string")
    elif not _NAME.fullmatch(name):
        add("invalid_name", path, f"{short(name)} can't be a name")


def _check_weight(weight: Any, role: str, path: str, add: Add) -> None:
    if weight is None:
        return
    if role and role != "assistant":
        add("misplaced_weight", path, f"a {role} message has a weight")
    elif isinstance(weight, bool) or weight not in (0, 1):
        add("invalid_weight", path, f"weight is {short(weight)}")


def _check_message_content(message: dict[str, Any], role: str, calls: bool, path: str, add: Add) -> None:
    instead = calls or (role == "assistant" and isinstance(message.get("refusal"), str) and message["refusal"])
    if message.get("content") is None:
        if instead:
            return
        if "content" not in message:
            hint = ' (ShareGPT rows have "value": `finery files convert` reads them)' if "value" in message else ""
            add("missing_key", f"{path}.content", f"the message has no content{hint}")
        else:
            add(
                "wrong_type",
                f"{path}.content",
                "content is null, which only an assistant message that calls tools may have",
            )
        return
    full = check_content(message["content"], f"{path}.content", add)
    if full is not False or instead:
        return
    if role == "assistant" and message.get("weight") != 0:
        add("empty_content", f"{path}.content", "the assistant's content is empty")
    elif role not in ("tool", "function"):
        add("blank_content", f"{path}.content", f"the {role or 'message'}'s content is empty")


def _check_parts(parts: list[Any], path: str, add: Add) -> bool | None:
    if not parts:
        add("empty_list", path, "content is an empty list")
        return None
    sound, full = True, False
    for index, part in enumerate(parts):
        where = f"{path}[{index}]"
        if not isinstance(part, dict):
            add("wrong_type", where, f"the content part is {kind(part)}, not an object")
        elif part.get("type") not in ("text", "refusal"):
            add(
                "unsupported_content_part",
                f"{where}.type",
                f"parts of type {short(part.get('type'))} are not supported",
            )
        elif not isinstance(part.get(part["type"]), str):
            name = part["type"]
            add("wrong_type", f"{where}.{name}", f"{name} is {kind(part.get(name))}, not a string")
        else:
            full = full or bool(part[part["type"]].strip())
            continue
        sound = False
    return full if sound else None


def _check_order(roles: list[str], path: str, add: Add) -> None:
    before = ""
    for index, role in enumerate(roles):
        if role in ("system", "developer"):
            if any(earlier not in ("system", "developer", "") for earlier in roles[:index]):
                add(
                    "system_not_first", f"{path}[{index}].role", f"a {role} message stands after the conversation began"
                )
        elif role == before and role in ("user", "assistant"):
            add("repeated_role", f"{path}[{index}].role", f"two {role} messages in a row")
        before = role
    if "assistant" in roles and "user" not in roles and "" not in roles:
        add("no_user_message", path, "there is no user message")


def _check_trained(messages: list[Any], roles: list[str], add: Add, counted: Counter[str]) -> None:
    # A message that is no object has no role either, so what has one can be asked for its weight.
    weights = [message.get("weight") for message, role in zip(messages, roles, strict=True) if role == "assistant"]
    if not weights and "" not in roles:
        add("no_assistant_message", "$.messages", "there is no assistant message")
        return
    if weights.count(None) < len(weights):
        counted["with_weights"] += 1
        if weights.count(0) == len(weights):
            add("no_trained_message", "$.messages", "every assistant message has weight 0")
    if weights and roles[-1] not in ("assistant", ""):
        add("last_message_not_assistant", f"$.messages[{len(roles) - 1}]", f"the last message is from {roles[-1]}")
