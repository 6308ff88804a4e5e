"""What people have, as what Finery takes: columns, ShareGPT, Alpaca, completions, chosen and rejected → JSONL.

The result is chat JSONL, or preference, classification and regression rows where the source has such; whether it is
sound is for `preflight`. One row at a time is in memory.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from finery.core.errors import InvalidRequest
from finery.data.sources import read_rows

Row = dict[str, Any]

_MAX_SKIPPED_SHOWN = 200
_ROLES = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "assistant": "assistant", "model": "assistant", "system": "system", "developer": "developer", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "function_call",
}  # fmt: skip
_PAIRS = (
    ("question", "answer"), ("query", "response"), ("prompt", "response"), ("instruction", "response"),
    ("input", "output"), ("input", "target"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which columns hold what: `user` and `assistant` (and `system`) for chat, or `text` with `label` or `target`."""

    user: str | None = None
    assistant: str | None = None
    system: str | None = None
    text: str | None = None
    label: str | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What a conversion did."""

    shape: str
    """What the rows were taken for: one of `SHAPES`, or columns."""
    rows: int
    """Rows written."""
    skipped: dict[str, int]
    """Rows left out, by reason."""
    skipped_rows: tuple[int, ...]
    """The first 200 of them, counted from 1 over the source's rows."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**dataclasses.asdict(self), "skipped_rows": list(self.skipped_rows)}


def convert(
    source: Path, destination: Path, *, shape: str | None = None, columns: Columns | None = None, split: str = "train"
) -> Conversion:
    """Write the source's rows as JSONL; a row that can't be converted is left out and counted.

    `shape` is one of `SHAPES`; without it, and without `columns`, the first row tells. `split` picks files of a folder.

    Raises:
        InvalidRequest: the source can't be read, its shape is unknown, a column is missing, or no row fits.
    """
    skipped: Counter[str] = Counter()
    skipped_rows: list[int] = []
    name, make, rows = "", None, 0
    part = destination.with_name(f".{destination.name}.part")
    try:
        with part.open("wb") as output:
            for number, row in enumerate(read_rows(source, split), 1):
                if make is None and row:
                    name, make = _shape(row, shape, columns)
                try:
                    if make is None:
                        raise _Unfit("the line has not the header's number of columns, or is no object")
                    output.write(msgspec.json.encode(make(row)) + b"\n")
                    rows += 1
                except (_Unfit, UnicodeEncodeError) as error:
                    skipped[str(error) if isinstance(error, _Unfit) else "a text holds half a surrogate pair"] += 1
                    skipped_rows += [number] if len(skipped_rows) < _MAX_SKIPPED_SHOWN else []
            output.flush()
            os.fsync(output.fileno())
        if not rows:
            reasons = "; ".join(f"{reason} ({times})" for reason, times in skipped.most_common(3)) or "it holds none"
            raise InvalidRequest(f"No row of {source.name} could be converted: {reasons}.")
        os.replace(part, destination)
    finally:
        part.unlink(missing_ok=True)
    return Conversion(shape=name, rows=rows, skipped=dict(skipped), skipped_rows=tuple(skipped_rows))


class _Unfit(Exception):
    """A row that can't be converted, and why."""


def _shape(row: Row, shape: str | None, columns: Columns | None) -> tuple[str, Callable[[Row], Row]]:
    if columns is not None:
        return "columns", _by_columns(row, columns)
    if shape is not None:
        if shape not in SHAPES:
            raise InvalidRequest(f"There is no shape {shape!r:.60}; there are {', '.join(SHAPES)}.", param="shape")
        return shape, SHAPES[shape].convert
    for name, kind in SHAPES.items():
        if all(key in row for key in kind.keys):
            return name, kind.convert
    for user, assistant in _PAIRS:
        if user in row and assistant in row:
            return "columns", _by_columns(row, Columns(user=user, assistant=assistant))
    keys = ", ".join(sorted(map(str, row))[:10])
    raise InvalidRequest(
        f"The columns ({keys:.200}) don't tell what the rows are; name them with columns.", param="columns"
    )


def _by_columns(first: Row, columns: Columns) -> Callable[[Row], Row]:
    for field in dataclasses.fields(columns):
        name = getattr(columns, field.name)
        if name is not None and name not in first:
            known = ", ".join(sorted(map(str, first))[:20])
            raise InvalidRequest(f"There is no column {name!r:.60}; there are {known:.300}.", param="columns")
    if columns.user and columns.assistant:
        return lambda row: _chat(row.get(columns.system or ""), [(row, columns.user or "", columns.assistant or "")])
    if columns.text and columns.label:
        return lambda row: {"text": _text(row, columns.text or ""), "label": _label(row.get(columns.label or ""))}
    if columns.text and columns.target:
        return lambda row: {"text": _text(row, columns.text or ""), "target": _number(row.get(columns.target or ""))}
    raise InvalidRequest("Name the columns: user and assistant, or text with label or target.", param="columns")


def _chat(system: Any, turns: list[tuple[Mapping[str, Any], str, str]]) -> Row:
    messages = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    for row, user, assistant in turns:
        messages.append({"role": "user", "content": _text(row, user)})
        messages.append({"role": "assistant", "content": _text(row, assistant)})
    return {"messages": messages}


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if isinstance(value, bool | int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _Unfit(f"{key} is empty or no text")
    return value


def _label(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise _Unfit("the label is empty or no text")
    return value


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _Unfit("the target is no number") from None
    if number - number != 0:
        raise _Unfit("the target is not finite")
    return number


def _messages(row: Row) -> Row:
    """Chat rows: parts that are None (Parquet fills what a message lacks) go, everything else stays."""
    return _with_tools({"messages": _talk(row.get("messages"))}, row)


def _sharegpt(row: Row) -> Row:
    talk = _talk(row.get("conversations", row.get("conversation")))
    system = row.get("system", row.get("system_prompt"))
    if isinstance(system, str) and system.strip() and talk[0]["role"] != "system":
        talk.insert(0, {"role": "system", "content": system})
    return _with_tools({"messages": talk}, row)


def _alpaca(row: Row) -> Row:
    task = _text(row, "instruction")
    given = row.get("input")
    asked = f"{task}\n\n{given}" if isinstance(given, str) and given.strip() else task
    history = row.get("history")
    pairs = [pair for pair in history if isinstance(pair, list) and len(pair) == 2] if isinstance(history, list) else []
    turns: list[tuple[Mapping[str, Any], str, str]] = [
        ({"user": user, "answer": said}, "user", "answer") for user, said in pairs
    ]
    return _chat(
        row.get("system"), [*turns, ({"instruction": asked, "output": row.get("output")}, "instruction", "output")]
    )


def _completion(row: Row) -> Row:
    """Prompt and completion as a talk; the space that completions of old began with is no part of it."""
    if isinstance(row.get("prompt"), list):
        return _with_tools({"messages": _talk(row["prompt"]) + _talk(row["completion"])}, row)
    said = _text(row, "completion").lstrip(" ")
    return _chat(row.get("system"), [({"prompt": row.get("prompt"), "completion": said}, "prompt", "completion")])


def _preference(row: Row) -> Row:
    """Chosen and rejected: answers, or whole talks that begin alike."""
    good, bad = _said(row.get("chosen")), _said(row.get("rejected"))
    given = _said(row.get("prompt"), "user") if row.get("prompt") is not None else []
    if not given or (given and good[: len(given)] == given):
        alike = next((place for place, (left, right) in enumerate(zip(good, bad, strict=False)) if left != right), 0)
        given, good, bad = good[:alike], good[alike:], bad[alike:]
    if not given or not good or not bad:
        raise _Unfit("chosen and rejected do not begin with the same question")
    return {"input": {"messages": given}, "preferred_output": good, "non_preferred_output": bad}


def _said(value: Any, role: str = "assistant") -> list[Row]:
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    return _talk(value)


def _as_is(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def _regression(row: Row) -> Row:
    return {**_as_is(row), "target": _number(row.get("target"))}


def _talk(messages: Any) -> list[Row]:
    """Messages with OpenAI's roles and keys, out of either spelling."""
    if not isinstance(messages, list) or not messages:
        raise _Unfit("the row has no messages")
    talk: list[Row] = []
    for message in messages:
        if not isinstance(message, dict):
            raise _Unfit("a message is no object")
        role = _ROLES.get(str(message.get("role", message.get("from"))).strip().lower())
        if role is None:
            raise _Unfit(f"unknown role {message.get('role', message.get('from'))!r:.40}")
        talk.append(_message({**message, "role": role}, talk))
    return talk


def _message(message: Row, before: list[Row]) -> Row:
    kept = {key: value for key, value in message.items() if value is not None and key not in ("from", "value", "text")}
    content = message.get("content", message.get("value", message.get("text")))
    if message["role"] == "function_call":
        return _call(content, len(before))
    if content is None and not kept.get("tool_calls"):
        raise _Unfit("a message has no content")
    if message["role"] == "tool" and "tool_call_id" not in kept and before and before[-1].get("tool_calls"):
        kept["tool_call_id"] = before[-1]["tool_calls"][0]["id"]
    return {**kept, "content": content}


def _call(content: Any, place: int) -> Row:
    """A ShareGPT function call: JSON with name and arguments."""
    try:
        call = msgspec.json.decode(content)
        name, arguments = call["name"], call.get("arguments", call.get("parameters", {}))
    except (msgspec.MsgspecError, TypeError, KeyError, AttributeError, RecursionError):
        raise _Unfit("a function call is no JSON with a name") from None
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    call = {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _with_tools(new: Row, row: Row) -> Row:
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = msgspec.json.decode(tools)
        except (msgspec.MsgspecError, RecursionError):
            raise _Unfit("tools is no JSON") from None
    if isinstance(tools, list) and tools:
        wrapped = [
            tool if isinstance(tool, dict) and "function" in tool else {"type": "function", "function": tool}
            for tool in tools
        ]
        return {**new, "tools": wrapped}
    return new


class ShapeKind(NamedTuple):
    """The keys by which a shape is told, and how a row of it is converted."""

    keys: tuple[str, ...]
    convert: Callable[[Row], Row]


SHAPES: dict[str, ShapeKind] = {
    "chat": ShapeKind(("messages",), _messages),
    "sharegpt": ShapeKind(("conversations",), _sharegpt),
    "alpaca": ShapeKind(("instruction", "output"), _alpaca),
    "preference": ShapeKind(("chosen", "rejected"), _preference),
    "openai-preference": ShapeKind(("input", "preferred_output", "non_preferred_output"), _as_is),
    "completion": ShapeKind(("prompt", "completion"), _completion),
    "classification": ShapeKind(("text", "label"), _as_is),
    "multi-label": ShapeKind(("text", "labels"), _as_is),
    "regression": ShapeKind(("text", "target"), _regression),
}
"""Shapes by name, in the order in which they are tried on the first row."""
