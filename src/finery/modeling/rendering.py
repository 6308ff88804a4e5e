"""A conversation as the text its model's Jinja template makes of it, and where in that text an assistant speaks.

What an assistant says in message i begins where the rendering of the messages before it, with the generation prompt,
ends: at the very prompt that is served. Templates for which no beginning of a conversation renders to a beginning of
the whole are searched with a marked content instead. It does not know tokens; `template` does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Template, TemplateError, meta

from finery.core.errors import InvalidRequest
from finery.modeling.messages import Message, plain_messages, plain_tools
from finery.modeling.sandbox import MAX_TEMPLATE_CHARACTERS, TemplateSandbox
from finery.modeling.toolcalls import spell_out

_MARK = "\ue000\ue001\ue002"
"""Private-use characters: a content that no template treats in its own way."""


class Span(NamedTuple):
    """Characters of a rendering that an assistant says, and that are trained."""

    start: int
    body_end: int
    """The content's end, at or after which the turn's end token is looked for."""
    limit: int
    """The turn ends before this character."""
    weight: float


class Rendered(NamedTuple):
    """A row as text, before it is cut into tokens."""

    text: str
    spans: list[Span]
    ends_with_eos: bool = False
    """Append the end-of-text token, trained: plain completions have no template that would."""


class Renderer:
    """One chat template. Immutable; safe to share between threads."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """`special_tokens` are the template's variables (bos_token, ...); InvalidRequest if it does not compile."""
        self.source = source
        self._special = dict(special_tokens)
        self._sandbox = TemplateSandbox()
        self._template = self._compile(source)
        self.takes_tools = "tools" in meta.find_undeclared_variables(self._sandbox.parse(source))
        """Whether the template has a place for tools; where it hasn't, `toolcalls` spells them out."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
    ) -> str:
        """The conversation as text; InvalidRequest names the message that the template refuses, and why."""
        plain, functions = self._plain(messages, tools)
        try:
            return self._render(plain, functions, add_generation_prompt)
        except TemplateError as error:
            raise self._refusal(plain, functions, error) from error

    def after_assistant(self) -> str:
        """The text that follows what an assistant says in the middle of a conversation; empty if there can't be one."""
        said = {"role": "assistant", "content": _MARK}
        try:
            text = self._render([{"role": "user", "content": "x"}, said, {"role": "user", "content": "y"}], None, False)
        except TemplateError:
            return ""
        return text.partition(_MARK)[2].lstrip()

    def render_trained(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        turns_end_with_token: bool,
    ) -> Rendered:
        """The conversation with its trained spans, one an assistant message whose weight isn't 0.

        `turns_end_with_token`: a token ends each turn, so that it need not be told from the text where one ends.
        InvalidRequest names a message that the template refuses or leaves out.
        """
        text = self.render(messages, tools, False)
        plain, functions = self._plain(messages, tools)
        _check_nothing_left_out(plain, text)
        trained = [i for i, m in enumerate(plain) if m["role"] == "assistant" and _weight(messages[i]) > 0]
        starts = [self._start(plain, functions, i, text) for i in trained]
        spans = []
        for i, start, following in zip(trained, starts, [*starts, len(text)][1:], strict=True):
            limit = following
            if not turns_end_with_token:
                limit = min(following, self._limit(plain, functions, i, text, start))
            body_end = _body_end(text, plain[i], start, limit)
            if body_end == start and plain[i]["content"]:
                self._marked(plain, functions, i, text)
            spans.append(Span(start=start, body_end=body_end, limit=limit, weight=_weight(messages[i])))
        return Rendered(text, spans)

    def _compile(self, source: str) -> Template:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise InvalidRequest(f"The chat template has {len(source)} characters; {MAX_TEMPLATE_CHARACTERS} can be.")
        try:
            return self._sandbox.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise InvalidRequest(f"The model's chat template does not compile: {error}.") from error

    def _render(self, messages: list[Message], tools: list[Message] | None, add_generation_prompt: bool) -> str:
        variables = {
            **self._special,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        return self._sandbox.render_text(self._template, variables)

    def _plain(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[Message], list[Message] | None]:
        """Messages and tools as the template takes them; as many messages as there were."""
        plain, functions = plain_messages(messages, self.source), plain_tools(tools)
        return (plain, functions) if self.takes_tools else (spell_out(plain, functions), None)

    def _refusal(self, messages: list[Message], tools: list[Message] | None, error: TemplateError) -> InvalidRequest:
        """The error for people: the first message without which the template would have gone on."""
        for count in range(1, len(messages) + 1):
            try:
                self._render(messages[:count], tools, False)
            except TemplateError as first:
                role = messages[count - 1].get("role")
                return InvalidRequest(
                    f"The model's chat template refuses messages[{count - 1}] (role {role!r}): {first}. "
                    "Change the roles or their order to what the model knows.",
                    param=f"messages[{count - 1}]",
                )
        return InvalidRequest(f"The model's chat template refuses the conversation: {error}.", param="messages")

    def _start(self, messages: list[Message], tools: list[Message] | None, i: int, text: str) -> int:
        """Where, in the rendering of all messages, the assistant begins to speak in message i."""
        try:
            prompt = self._render(messages[:i], tools, True)
            if text.startswith(prompt) and len(prompt) < len(text):
                return len(prompt)
        except TemplateError:
            pass  # no conversation ends here for this template: see where another content would change the text
        return _common_prefix(text, self._marked(messages, tools, i, text))

    def _marked(self, messages: list[Message], tools: list[Message] | None, i: int, text: str) -> str:
        """The conversation with a mark for the content of message i; InvalidRequest if that makes no difference."""
        said = {"role": "assistant", "content": _MARK}
        try:
            marked = self._render([*messages[:i], said, *messages[i + 1 :]], tools, False)
        except TemplateError as error:
            raise self._refusal(messages, tools, error) from error
        if _MARK not in marked or marked == text:
            raise InvalidRequest(
                f"What the assistant says in messages[{i}] can't be found in the model's rendering of the row; give "
                'the message "weight": 0, or use a model with another chat template.',
                param=f"messages[{i}]",
            )
        return marked

    def _limit(self, messages: list[Message], tools: list[Message] | None, i: int, text: str, start: int) -> int:
        """Where message i, whose words begin at `start`, ends in the rendering of all."""
        if i == len(messages) - 1:
            return len(text)
        try:
            limit = _common_prefix(text, self._render(messages[: i + 1], tools, False))
        except TemplateError as error:
            raise self._refusal(messages, tools, error) from error
        if limit > start:
            return limit
        marked = self._marked(messages, tools, i, text)
        return len(text) - _common_prefix(text[::-1], marked[::-1])


def _check_nothing_left_out(messages: list[Message], text: str) -> None:
    for i, message in enumerate(messages):
        if message["role"] in {"system", "user"} and message["content"].strip() not in text:
            raise InvalidRequest(
                f"The model's chat template leaves out messages[{i}] (role {message['role']!r}); move its content into "
                "a message of another role.",
                param=f"messages[{i}]",
            )


def _weight(message: Mapping[str, Any]) -> float:
    weight = message.get("weight")
    return 1.0 if weight is None else float(weight)


def _body_end(text: str, message: Message, start: int, limit: int) -> int:
    """Where the content of an assistant message ends in the rendering (`start` where it can't be told)."""
    body = message["content"].strip()
    found = text.find(body, start, limit) if body and not message.get("tool_calls") else -1
    return start if found < 0 else found + len(body)


def _common_prefix(left: str, right: str) -> int:
    """Length of the longest common beginning."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
