"""An Ollama Modelfile for a GGUF file: where the weights lie, how a conversation becomes text, where an answer ends.

Ollama's templates are Go's, a model's own is Jinja. The words around each role's messages are found by rendering
conversations with the model's own template, and put together again in Go; they are written only where the same words,
put together, give what the template gives for other conversations. It starts nothing.

Format: https://github.com/ollama/ollama/blob/main/docs/modelfile.md
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finery.core.errors import InvalidRequest
from finery.modeling.template import ChatTemplate

ROLES = ("system", "user", "assistant")
_MARKS = {"system": "Sys0mark", "user": "Usr1mark", "assistant": "Ast2mark"}

Conversation = Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """The words around messages, for templates that treat each message alike."""

    opening: str
    """Before the first message where that is no system message."""
    before: dict[str, str]
    after: dict[str, str]
    generation: str
    """What asks the assistant to speak."""

    def render(self, messages: Conversation) -> str:
        """The prompt of a conversation, as the Go template gives it."""
        opening = "" if messages[0]["role"] == "system" else self.opening
        turns = (f"{self.before[m['role']]}{m['content']}{self.after[m['role']]}" for m in messages)
        return "".join([opening, *turns, self.generation])

    def to_go(self) -> str:
        """As a Go template over Ollama's `.Messages`."""
        opening = (
            f'{{{{ if ne (index .Messages 0).Role "system" }}}}{self.opening}{{{{ end }}}}' if self.opening else ""
        )
        branches = "".join(
            f'{{{{ {word} eq .Role "{role}" }}}}{self.before[role]}{{{{ .Content }}}}{self.after[role]}'
            for word, role in zip(("if", "else if", "else if"), ROLES, strict=True)
        )
        return f"{opening}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{self.generation}"


def modelfile(template: ChatTemplate, gguf_name: str) -> str:
    """The text of a Modelfile beside the GGUF file of that name."""
    lines = [f"FROM ./{gguf_name}"]
    turns = find_turns(template)
    if turns is None:
        lines.append(
            "# The model's chat template has no equal in Go: Ollama takes what it makes of the one in the file."
        )
    else:
        lines.append(f'TEMPLATE """{turns.to_go()}"""')
    ends = [template.tokenizer.id_to_token(i) for i in template.end_token_ids]
    lines += [f'PARAMETER stop "{end}"' for end in ends if end and '"' not in end]
    return "\n".join(lines) + "\n"


def find_turns(template: ChatTemplate) -> Turns | None:
    """The words around messages; None where the template does more than to put words around them."""
    try:
        turns = _probe(template)
        same = all(turns.render(probe) == _prompt(template, probe) for probe in _PROBES)
    except (InvalidRequest, ValueError):
        return None
    words = "".join([turns.opening, turns.generation, *turns.before.values(), *turns.after.values()])
    return turns if same and '"""' not in words and "{{" not in words else None


def _probe(template: ChatTemplate) -> Turns:
    said = [{"role": role, "content": _MARKS[role]} for role in ROLES]
    system, user, assistant = said
    whole = template.render([system, user, assistant, user])
    head, rest = whole.split(_MARKS["system"], 1)
    to_user, rest = rest.split(_MARKS["user"], 1)
    to_assistant, rest = rest.split(_MARKS["assistant"], 1)
    from_assistant = rest.split(_MARKS["user"], 1)[0]
    after = {
        "user": _shared(to_assistant, _tail(template.render([user]), "user")),
        "assistant": _shared(from_assistant, _tail(template.render([user, assistant]), "assistant")),
    }
    before_user = _without(from_assistant, after["assistant"])
    before = {"system": head, "user": before_user, "assistant": _without(to_assistant, after["user"])}
    after["system"] = _without_end(to_user, before_user)
    generation = _without(_tail(template.render([user], add_generation_prompt=True), "user"), after["user"])
    opening = _without_end(template.render([user]).split(_MARKS["user"], 1)[0], before_user)
    bos = template.decode(template.bos_ids)
    if bos:
        # Ollama puts it in front by itself.
        opening, before["system"] = opening.removeprefix(bos), head.removeprefix(bos)
    return Turns(opening=opening, before=before, after=after, generation=generation)


def _shared(one: str, other: str) -> str:
    """What both begin with, up to the end of a line or a special token: the end of a turn."""
    common = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return common[: max(common.rfind("\n"), common.rfind(">")) + 1]


def _prompt(template: ChatTemplate, messages: Conversation) -> str:
    text = template.render(messages, add_generation_prompt=True)
    return text.removeprefix(template.decode(template.bos_ids))


def _tail(text: str, role: str) -> str:
    return text.rsplit(_MARKS[role], 1)[1]


def _without(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError(f"{text!r} doesn't begin with {start!r}")
    return text[len(start) :]


def _without_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise ValueError(f"{text!r} doesn't end with {end!r}")
    return text[: len(text) - len(end)]


def _said(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]


_PROBES: tuple[list[dict[str, str]], ...] = (
    _said("Hello"),
    _said("One", "Two", "Three"),
    [{"role": "system", "content": "Be brief."}, *_said("One")],
    [{"role": "system", "content": "Be brief."}, *_said("A b\nc", "D: e.", "F?", "G", "H")],
)
"""Conversations whose prompts the words must give exactly."""
