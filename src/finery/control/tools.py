"""Tools in a conversation: what the model is asked for, and the calls in what it says.

In `auto` the model calls a tool in its own words (`modeling.toolcalls` knows them). Where a call is demanded, decoding
is constrained to JSON of that call, so that any model obeys. Knows no HTTP and no engine.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from finery.core.errors import InvalidRequest
from finery.modeling import toolcalls
from finery.modeling.toolcalls import ToolCall

MAX_TOOLS = 128

_MARKERS = ("<tool_call>", "<|tool_call|>")
_OPENERS = ("{", "[{")
"""How a call begins that stands alone: Llama's bare object, and Phi-4-mini's list once its special tokens are gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPart:
    """A piece of a call: its name comes first and once, then its arguments."""

    index: int
    id: str
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How tools and an answer's form are asked of a model."""

    tools: list[dict[str, Any]] | None = None
    """For the chat template."""
    json_schema: dict[str, Any] | None = None
    calls: Literal["none", "maybe", "one", "named"] = "none"
    """maybe: in the model's words; one: the answer is `{"name", "arguments"}`; named: it is the arguments of `name`."""
    name: str = ""


def plan(
    tools: Sequence[dict[str, Any]] | None, choice: Any, schema: dict[str, Any] | None, *, param: str = "tools"
) -> Plan:
    """What follows from `tools`, `tool_choice` and the schema the answer must fit.

    Raises:
        InvalidRequest: something that is no function tool, or a choice of a tool that isn't there.
    """
    functions = _functions(tools, param)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        names = [_chosen_name(tool) for tool in allowed.get("tools", [])]
        functions = {name: _known(functions, name) for name in names}
        choice = allowed.get("mode", "auto")
    if isinstance(choice, dict):
        name = _chosen_name(choice)
        return Plan(
            tools=list(functions.values()),
            json_schema=_parameters(_known(functions, name)),
            calls="named",
            name=name,
        )
    if choice not in (None, "auto", "none", "required"):
        raise InvalidRequest(
            f"tool_choice is {choice!r}; it is one of none, auto, required, or names a function.", param="tool_choice"
        )
    if choice == "required" and not functions:
        raise InvalidRequest("tool_choice is 'required', but there are no tools.", param="tool_choice")
    if not functions or choice == "none":
        return Plan(json_schema=schema)
    calls = [_call_schema(name, tool) for name, tool in functions.items()]
    asked = list(functions.values())
    if choice == "required":
        return Plan(tools=asked, json_schema={"anyOf": calls}, calls="one")
    # A grammar leaves no room for the model's own words for a call: it may fit the schema, or be a call as JSON.
    return Plan(tools=asked, json_schema={"anyOf": [schema, *calls]} if schema else None, calls="maybe")


@dataclass(kw_only=True, slots=True)
class CallReader:
    """Reads an answer as it comes: what is certainly text comes out at once, calls when they are whole."""

    plan: Plan
    _held: str = field(default="", init=False)
    _begun: bool = field(default=False, init=False)
    """Something was shown: a call that stands alone can't begin any more."""
    calls: int = field(default=0, init=False)
    _id: str = field(default="", init=False)

    def push(self, text: str) -> list[str | CallPart]:
        """The next piece of the answer."""
        if self.plan.calls == "none":
            return [text] if text else []
        if self.plan.calls == "named":
            return self._named(text)
        self._held += text
        if self.plan.calls == "one":
            return []
        size = self._certainly_text()
        shown, self._held = self._held[:size], self._held[size:]
        self._begun = self._begun or bool(shown.strip())
        return [shown] if shown else []

    def finish(self) -> list[str | CallPart]:
        """The end of the answer: what was held back, as calls where it reads as such."""
        if self.plan.calls in ("none", "named"):
            return []
        held, self._held = self._held, ""
        if not self._begun and held.lstrip().startswith("["):
            held = f"<|tool_call|>{held.strip()}<|/tool_call|>"
            text, found = toolcalls.parse(held)
            text = text.removeprefix("<|tool_call|>").removesuffix("<|/tool_call|>")
        else:
            text, found = toolcalls.parse(held)
        known = {_name_of(tool) for tool in self.plan.tools or []}
        if not found or any(call.name not in known for call in found):
            # A call cut short where it was demanded is shown as far as it went, as text.
            return [held] if held else []
        return [*([text] if text else []), *(self._whole(call) for call in found)]

    def _named(self, text: str) -> list[str | CallPart]:
        name = None if self.calls else self.plan.name
        if name is not None:
            self.calls, self._id = 1, _call_id()
        elif not text:
            return []
        return [CallPart(index=0, id=self._id, name=name, arguments=text)]

    def _whole(self, call: ToolCall) -> CallPart:
        self.calls += 1
        return CallPart(index=self.calls - 1, id=_call_id(), name=call.name, arguments=call.arguments)

    def _certainly_text(self) -> int:
        held = self._held
        if not self._begun:
            start = held.lstrip()
            if not start or any(start.startswith(o) or o.startswith(start) for o in _OPENERS):
                return 0
        places = [place for marker in _MARKERS if (place := held.find(marker)) >= 0]
        if places:
            return min(places)
        return len(held) - max(_overlap(held, marker) for marker in _MARKERS)


def _overlap(text: str, marker: str) -> int:
    """Characters at the end of a text with which the marker begins."""
    return next((size for size in range(len(marker) - 1, 0, -1) if text.endswith(marker[:size])), 0)


def _functions(tools: Sequence[dict[str, Any]] | None, param: str) -> dict[str, dict[str, Any]]:
    if tools and len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"There are {len(tools)} tools; at most {MAX_TOOLS} can be given.", param=param)
    found = {}
    for i, tool in enumerate(tools or []):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise InvalidRequest(
                f"{param}[{i}] is a tool of type {tool.get('type')!r}; only function tools can be used here.",
                code="unsupported_tool",
                param=f"{param}[{i}]",
            )
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise InvalidRequest(f"{param}[{i}].function needs a name.", param=f"{param}[{i}].function.name")
        if not isinstance(function.get("parameters") or {}, dict):
            raise InvalidRequest(
                f"{param}[{i}].function.parameters must be a JSON schema.", param=f"{param}[{i}].function.parameters"
            )
        found[function["name"]] = tool
    return found


def _chosen_name(choice: Any) -> str:
    function = choice.get("function", choice) if isinstance(choice, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("tool_choice must name a function.", param="tool_choice")
    return str(function["name"])


def _known(functions: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in functions:
        there = ", ".join(functions) or "none"
        raise InvalidRequest(f"tool_choice names {name!r}, which is none of the tools: {there}.", param="tool_choice")
    return functions[name]


def _name_of(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"])


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    return tool["function"].get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False}


def _call_schema(name: str, tool: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": _parameters(tool)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _call_id() -> str:
    return f"call_{secrets.token_urlsafe(18)}"
