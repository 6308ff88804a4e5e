"""What a chat completion can be asked, and what of that goes to the model."""

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from finery.api.context import Metadata
from finery.control import tools
from finery.control.tools import Plan
from finery.core.errors import InvalidRequest
from finery.serving.protocol import GenerateRequest

MAX_LOGIT_BIASES = 1024

_SEEDS = 2**31

TokenId = Annotated[int, Field(ge=0, lt=2**31)]


def separate(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """One entry for each text; a list of numbers is one text, as token ids."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [given]
    return [*cast(list[str] | list[list[int]], given)]


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Sampling(BaseModel):
    """What chat and plain completions have in common; fields that mean nothing here are passed over."""

    model_config = ConfigDict(extra="ignore")
    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] | None = 1.0
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    logit_bias: (
        Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_LOGIT_BIASES)] | None
    ) = None

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _only_what_has_an_effect(cls, given: Any) -> Any:
        return {token: bias for token, bias in given.items() if bias != 0} if isinstance(given, dict) else given

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, index: int) -> dict[str, Any]:
        """How the answer number `index` is drawn, as fields of `GenerateRequest`."""
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            # Each of n answers draws its own numbers, and the same ones next time.
            "seed": None if self.seed is None else (self.seed + index) % _SEEDS,
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
            "logit_bias": self.logit_bias or {},
        }


class CreateChatCompletion(Sampling):
    """The body of a chat completion."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    store: bool | None = False
    metadata: Metadata | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens of one answer."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def request(self, index: int) -> GenerateRequest:
        """What is asked of the model for the answer number `index`; tools and schema are the plan's."""
        return GenerateRequest(
            messages=self.messages,
            max_tokens=self.limit,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.sampling(index),
        )

    def plan(self) -> Plan:
        """What is asked for: text, JSON or calls."""
        functions, choice = self.tools, self.tool_choice
        if functions is None and self.functions:
            functions = [{"type": "function", "function": function} for function in self.functions]
            choice = self.function_call
        return tools.plan(functions, choice, schema_of(self.response_format))


def schema_of(wanted: dict[str, Any] | None, *, param: str = "response_format") -> dict[str, Any] | None:
    """The schema that an answer must fit, None for plain text.

    Raises:
        InvalidRequest: a form that isn't one, or a schema that is no object.
    """
    kind = (wanted or {}).get("type", "text")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise InvalidRequest(
            f"{param}.type is {kind!r}; it is one of text, json_object and json_schema.", param=f"{param}.type"
        )
    described = wanted.get("json_schema", wanted)
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise InvalidRequest(
            f"{param} of type 'json_schema' needs a schema, which is an object.", param=f"{param}.json_schema.schema"
        )
    return schema
