"""What the control plane and an inference server say to each other, both ways, as frozen dataclasses and their JSON.

It knows no engine and no HTTP. An answer is a stream of lines (NDJSON): any number of `{"delta": …}`, then exactly one
`{"finish": …}` or `{"error": …}`. A stream that ends with neither was cut: the server died.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from finery.core import errors

TOKEN_VARIABLE = "FINERY_INFERENCE_TOKEN"  # noqa: S105 - the name of a variable, not a secret
"""Environment variable with the bearer token that an inference server asks of its callers."""

MAX_LOGPROBS = 20
"""Most alternatives a position can show, as in OpenAI's API."""

OUT_OF_MEMORY = "out_of_memory"
"""Code of the Unavailable that says that a model or an adapter found no room."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""An engine says stop or length; tool_calls is what the control plane makes of a stop after a call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """One answer to one prompt. Exactly one of `messages`, `prompt` and `prompt_tokens` is given."""

    messages: list[dict[str, Any]] | None = None
    """A conversation in OpenAI's shape; the model's own chat template turns it into tokens."""
    prompt: str | None = None
    """Plain text, tokenised as the model's tokenizer does it, beginning-of-text token included."""
    prompt_tokens: list[int] | None = None
    """Token ids, used as they are."""
    tools: list[dict[str, Any]] | None = None
    """Tools in OpenAI's shape, handed to the chat template."""
    adapter: str | None = None
    """Name of a loaded adapter; None is the base model."""
    max_tokens: int | None = None
    """Most tokens to generate; None is the rest of the context."""
    temperature: float = 1.0
    """0 is greedy: the likeliest token each time."""
    top_p: float = 1.0
    """Draw from the smallest set of tokens that holds this probability, 0 to 1."""
    seed: int | None = None
    """The same seed, prompt and settings give the same answer; None draws a fresh one."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    logprobs: int | None = None
    """Alternatives shown with each token (0 is the chosen token only); None shows no log-probabilities."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    """Added to the logits of these token ids."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON that fits this schema."""
    grammar: str | None = None
    """The answer fits this grammar, in llama.cpp's GBNF."""
    echo: bool = False
    """Show the prompt (with its log-probabilities, where asked) before the answer."""
    cache_scope: str = ""
    """Prompts share cached prefixes only within one scope, such as a project's id."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "GenerateRequest":
        """The inverse of `to_json`; an unknown field is an InvalidRequest."""
        try:
            return GenerateRequest(
                **{
                    **data,
                    "stop": tuple(data.get("stop", ())),
                    "logit_bias": {int(token): float(bias) for token, bias in data.get("logit_bias", {}).items()},
                }
            )
        except (TypeError, ValueError) as error:
            raise errors.InvalidRequest(f"Not a request this inference server knows: {error}.") from error

    def check(self) -> None:
        """Raise InvalidRequest, naming the field, where a value can't be used by any engine."""
        given = [name for name in ("messages", "prompt", "prompt_tokens") if getattr(self, name) is not None]
        if len(given) != 1:
            raise errors.InvalidRequest(f"Give one of messages, prompt and prompt_tokens; got {given or 'none'}.")
        _check_range("temperature", self.temperature, 0.0, 2.0)
        _check_range("top_p", self.top_p, 0.0, 1.0)
        _check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check_range("logprobs", self.logprobs or 0, 0, MAX_LOGPROBS)
        if self.max_tokens is not None and self.max_tokens < 0:
            raise errors.InvalidRequest(f"max_tokens is {self.max_tokens}; it can't be negative.", param="max_tokens")
        if self.json_schema is not None and self.grammar is not None:
            raise errors.InvalidRequest("Give json_schema or grammar, not both.", param="grammar")


@dataclass(frozen=True, kw_only=True, slots=True)
class TopLogprob:
    """One alternative at a position."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerToken:
    """One token of an answer, or of an echoed prompt."""

    id: int
    text: str
    """What the token alone spells; U+FFFD where it holds only part of a character."""
    bytes: tuple[int, ...] | None = None
    """The token's bytes (only where log-probabilities were asked for)."""
    logprob: float | None = None
    """Natural logarithm of its probability under the model, before temperature, penalties and biases."""
    top_logprobs: tuple[TopLogprob, ...] = ()

    @staticmethod
    def from_json(data: dict[str, Any]) -> "AnswerToken":
        """The inverse of `dataclasses.asdict`."""
        spelled = data.get("bytes")
        tops = tuple(TopLogprob(**top) for top in data.get("top_logprobs", ()))
        return AnswerToken(**{**data, "bytes": None if spelled is None else tuple(spelled), "top_logprobs": tops})


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """A further piece of the answer: whole characters only, and never part of a stop string."""

    text: str
    tokens: tuple[AnswerToken, ...] = ()
    """The tokens that end in this piece."""

    def line(self) -> str:
        """As one line of JSON with its newline."""
        return _line({"delta": {"text": self.text, "tokens": [_token_json(token) for token in self.tokens]}})


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """The end of an answer and what it took."""

    reason: FinishReason
    """stop: an end-of-turn token or a stop string; length: max_tokens or the end of the context."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens generated, the end-of-turn token included."""
    cached_tokens: int = 0
    """Prompt tokens that were not computed again."""
    stop_text: str | None = None
    """The stop string that ended the answer."""
    queue_seconds: float = 0.0
    """From the request to its place in the batch."""
    engine_seconds: float = 0.0
    """From its place in the batch to its first token: the engine's own time."""
    first_token_seconds: float = 0.0
    """From the request to its first token."""
    total_seconds: float = 0.0

    def line(self) -> str:
        """As one line of JSON with its newline."""
        return _line({"finish": dataclasses.asdict(self)})


def error_line(error: errors.FineryError) -> str:
    """A failure in the middle of a stream, as one line of JSON with its newline."""
    return _line({"error": error_json(error)})


def error_json(error: errors.FineryError) -> dict[str, Any]:
    """An error as JSON; `raise_error` turns it back into the same class."""
    return {"type": type(error).__name__, "message": error.message, "code": error.code, "param": error.param}


def raise_error(data: dict[str, Any]) -> None:
    """Raise the error that `error_json` described; a class unknown here becomes FineryError."""
    kind = getattr(errors, str(data.get("type")), errors.FineryError)
    if not (isinstance(kind, type) and issubclass(kind, errors.FineryError)):
        kind = errors.FineryError
    raise kind(str(data.get("message")), code=data.get("code"), param=data.get("param"))


def parse_line(line: str | bytes) -> Delta | Finish:
    """One line of an answer's stream. An error line is raised as the error it holds."""
    data = json.loads(line)
    if "delta" in data:
        delta = data["delta"]
        return Delta(text=delta["text"], tokens=tuple(AnswerToken.from_json(token) for token in delta["tokens"]))
    if "finish" in data:
        return Finish(**data["finish"])
    raise_error(data["error"])
    raise AssertionError("raise_error returned")


def score_json(tokens: list[AnswerToken]) -> dict[str, Any]:
    """Scored tokens as JSON; `parse_score` is the inverse."""
    return {"tokens": [dataclasses.asdict(token) for token in tokens]}


def parse_score(data: dict[str, Any]) -> list[AnswerToken]:
    """The inverse of `score_json`."""
    return [AnswerToken.from_json(token) for token in data["tokens"]]


def _token_json(token: AnswerToken) -> dict[str, Any]:
    if token.logprob is None and token.bytes is None:
        return {"id": token.id, "text": token.text}
    return dataclasses.asdict(token)


def _line(data: dict[str, Any]) -> str:
    return _encode(data) + "\n"


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise errors.InvalidRequest(f"{name} is {value}; it must be between {low:g} and {high:g}.", param=name)
