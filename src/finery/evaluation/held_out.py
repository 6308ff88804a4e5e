"""Rows of held-out data as questions with known answers. Knows formats, not models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finery.core.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """One question and what should come."""

    question: str
    """What people see of it: the last message, or the prompt."""
    reference: str
    path: str
    """Which endpoint is asked."""
    body: dict[str, Any]
    """What it is asked, but for the model and how to draw."""
    row: Mapping[str, Any]


def read(row: Mapping[str, Any]) -> HeldOut:
    """A chat row that ends with an answer, or a prompt with its completion.

    Raises:
        InvalidRequest: a row that has no question or no answer.
    """
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        prompt, completion = row["prompt"], row["completion"]
        return HeldOut(question=prompt, reference=completion, path="/v1/completions", body={"prompt": prompt}, row=row)
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(each, dict) for each in messages):
        raise InvalidRequest(
            'A row to evaluate on needs "messages" that end with an answer, or "prompt", "completion".'
        )
    *before, last = messages
    reference = said(last)
    if last.get("role") != "assistant" or not reference:
        raise InvalidRequest("The row's last message is no answer: there is nothing to compare with.")
    body: dict[str, Any] = {"messages": [{k: v for k, v in each.items() if k != "weight"} for each in before]}
    if row.get("tools"):
        body["tools"] = row["tools"]
    question = said(before[-1])
    return HeldOut(question=question, reference=reference, path="/v1/chat/completions", body=body, row=row)


def said(message: Mapping[str, Any]) -> str:
    """The text of a message; of one that calls tools, its calls as JSON."""
    calls = message.get("tool_calls")
    if calls:
        functions = [call["function"] for call in calls]
        return json.dumps([{"name": f.get("name"), "arguments": _read(f.get("arguments"))} for f in functions])
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _read(arguments: Any) -> Any:
    try:
        return json.loads(arguments)
    except (TypeError, ValueError):
        return arguments
