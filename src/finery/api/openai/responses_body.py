"""What a response can be asked, and the object that answers it."""

import secrets
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from finery.api.context import Metadata
from finery.api.openai.chat_body import schema_of
from finery.control import tools
from finery.control.plane import now
from finery.control.tools import Plan
from finery.core.errors import InvalidRequest
from finery.serving.protocol import Finish, GenerateRequest

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer ended too early: chat's word and the one of responses."""


class CreateResponse(BaseModel):
    """The body of a response; fields that mean nothing here are passed over."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = False
    store: bool | None = True
    background: bool | None = False
    conversation: str | dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] | None = 1.0
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True
    text: dict[str, Any] | None = None
    metadata: Metadata | None = None
    user: str | None = None

    def check(self) -> None:
        """Refuse what would silently be something else."""
        if self.background and self.store is False:
            raise InvalidRequest(
                "A background response is kept, or nobody could read it; leave store out.", param="store"
            )

    @property
    def conversation_id(self) -> str | None:
        """The conversation it goes on from, named by itself or in an object."""
        return conversation_id(self.conversation)

    def plan(self) -> Plan:
        """What is asked for: text, JSON or calls."""
        schema = schema_of((self.text or {}).get("format"), param="text.format")
        return tools.plan(self.chat_tools(), self.tool_choice, schema)

    def chat_tools(self) -> list[dict[str, Any]] | None:
        """The tools in the form chat has them."""
        return [
            {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
            if tool.get("type") == "function"
            else tool
            for tool in self.tools or []
        ] or None

    def request(self, messages: list[dict[str, Any]]) -> GenerateRequest:
        """What is asked of the model; tools and schema are the plan's."""
        head = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return GenerateRequest(
            messages=[*head, *messages],
            max_tokens=self.max_output_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
        )

    def response(self, model: str) -> dict[str, Any]:
        """OpenAI's `response` of a model, before anything is answered."""
        return {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "background": bool(self.background),
            "error": None,
            "incomplete_details": None,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "model": model,
            "output": [],
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "conversation": {"id": self.conversation_id} if self.conversation_id else None,
            "reasoning": {"effort": None, "summary": None},
            "store": self.store is not False,
            "temperature": self.temperature,
            "text": {"format": {"type": "text"}, **(self.text or {})},
            "tool_choice": self.tool_choice or "auto",
            "tools": [{"strict": True, "parameters": {}, "description": None, **tool} for tool in self.tools or []],
            "top_p": self.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": self.user,
            "metadata": self.metadata or {},
        }


def conversation_id(named: str | dict[str, Any] | None) -> str | None:
    """The id in OpenAI's `conversation`: a string, or an object with an `id`.

    Raises:
        InvalidRequest: an object without one.
    """
    if not isinstance(named, dict):
        return named or None
    found = named.get("id")
    if not isinstance(found, str) or not found:
        raise InvalidRequest("conversation is the id of a conversation, or an object with an id.", param="conversation")
    return found


def finished(response: dict[str, Any], output: list[dict[str, Any]], finish: Finish) -> dict[str, Any]:
    """The response at its end."""
    cut = INCOMPLETE.get(finish.reason)
    return {
        **response,
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else now(),
        "incomplete_details": {"reason": cut} if cut else None,
        "output": output,
        "usage": usage(finish),
    }


def usage(finish: Finish) -> dict[str, Any]:
    """What an answer took, in the words of responses."""
    return {
        "input_tokens": finish.prompt_tokens,
        "input_tokens_details": {"cached_tokens": finish.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": finish.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
    }
