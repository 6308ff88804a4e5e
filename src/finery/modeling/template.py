"""Chat messages to tokens, and to what of them is trained: one code for preflight, trainer and inference server.

A model's own Jinja template renders the conversation, its own tokenizer.json cuts it into tokens, once and as a whole.
What an assistant message trains is what follows the prompt that would be served at its place (the messages before it,
rendered with the generation prompt), up to and including the token that ends the turn: so a tuned model has seen
exactly the prompts it will be asked with, and it stops. It does not know datasets or files of rows, nor torch.

Span rules, with "|" around what is trained (ChatML): `<|im_start|>assistant\\n|Hello.<|im_end|>|\\n`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer, processors

from finery.core.errors import CorruptArtifact, InvalidRequest
from finery.modeling.architectures import read_json
from finery.modeling.rendering import Rendered, Renderer, Span

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One training example."""

    tokens: list[int]
    weights: list[float]
    """One a token: 0 where nothing is trained, else the message's weight (1 unless the row says otherwise)."""

    @property
    def trained_tokens(self) -> int:
        """How many tokens are trained."""
        return sum(weight > 0 for weight in self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One token as people see it."""

    token: int
    text: str
    """Its part of the rendered text; empty for later tokens of one character and for a BOS that no text shows."""
    weight: float


class ChatTemplate:
    """The chat template and tokenizer of one model folder. Immutable; safe to share between threads."""

    def __init__(
        self, *, tokenizer: Tokenizer, source: str, special_tokens: Mapping[str, str], eos_ids: Iterable[int]
    ) -> None:
        """`source` is the Jinja text, `special_tokens` its variables (bos_token, eos_token, ...)."""
        self.source = source
        self._special = {name: token for name, token in special_tokens.items() if token}
        self.bos_ids: list[int] = tokenizer.encode("", add_special_tokens=True).ids
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Offsets are wanted with the space before a word, and special tokens are the template's business.
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        self.tokenizer = tokenizer
        self._added = frozenset(tokenizer.get_added_tokens_decoder())
        self._prefixes_text = "\u2581" in "".join(tokenizer.encode("x", add_special_tokens=False).tokens)
        self._renderer = Renderer(source, self._special)
        self.end_of_turn_id = self._probe_end_of_turn()
        """The token that ends an assistant's turn, or None where the template has no token for it."""
        ends = {*eos_ids, self.end_of_turn_id}
        self.end_token_ids: tuple[int, ...] = tuple(sorted(i for i in ends if i is not None))
        """Ids at which generation stops: end of text and end of turn."""

    @staticmethod
    def load(folder: Path) -> "ChatTemplate":
        """From a model folder's tokenizer.json, chat_template.jinja and tokenizer_config.json.

        CorruptArtifact if a file is missing or unreadable, InvalidRequest if the template does not compile.
        """
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CorruptArtifact(
                f"{folder} has no readable tokenizer.json and chat_template.jinja ({error})."
            ) from error
        settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        special = {name: token_text(settings.get(name)) for name in _SPECIAL_NAMES}
        return ChatTemplate(
            tokenizer=tokenizer, source=source, special_tokens=special, eos_ids=_eos_ids(folder, tokenizer, special)
        )

    @property
    def eos_token_id(self) -> int:
        """The end-of-text token, which closes plain completions."""
        found = self.special_token_id("eos_token")
        return self.end_token_ids[0] if found is None else found

    def special_token_id(self, name: str) -> int | None:
        """The id of bos_token, eos_token, unk_token or pad_token, where the tokenizer names one."""
        token = self._special.get(name)
        return None if token is None else self.tokenizer.token_to_id(token)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as text; InvalidRequest names the message that the template refuses, and why."""
        return self._renderer.render(messages, tools, add_generation_prompt)

    def encode_prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of the conversation up to where the assistant begins to speak."""
        return self.encode_text(self.render(messages, tools, add_generation_prompt=True))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text as it is, special tokens in it read as such, BOS in front if the tokenizer wants one."""
        return [*self.missing_bos(text), *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=skip_special)

    def encode_example(self, row: Mapping[str, Any]) -> Example:
        """Tokens and weights of a row: `{"messages", "tools"?}` or `{"prompt", "completion"}`.

        InvalidRequest names the message that can't be rendered or trained on.
        """
        rendered = self._render_row(row)
        return self._weigh(rendered, self.tokenizer.encode(rendered.text, add_special_tokens=False))[0]

    def encode_examples(self, rows: Iterable[Mapping[str, Any]]) -> list[Example | InvalidRequest]:
        """As `encode_example`, for many rows at once on all cores; a row that can't be encoded gives its error."""
        results = self.render_rows(rows)
        texts = [r.text for r in results if isinstance(r, Rendered)]
        encodings = iter(self.tokenizer.encode_batch(texts, add_special_tokens=False))
        return [r if isinstance(r, InvalidRequest) else self._weigh(r, next(encodings))[0] for r in results]

    def render_rows(self, rows: Iterable[Mapping[str, Any]]) -> list[Rendered | InvalidRequest]:
        """Rows as texts with what is trained of them; a row that can't be rendered gives its error."""
        results: list[Rendered | InvalidRequest] = []
        for row in rows:
            try:
                results.append(self._render_row(row))
            except InvalidRequest as error:
                results.append(error)
        return results

    def missing_bos(self, text: str) -> list[int]:
        """BOS where the tokenizer wants one and the text has none: never two, never forgotten."""
        bos = self._special.get("bos_token")
        return [] if bos is not None and text.startswith(bos) else self.bos_ids

    def encode_preference(self, row: Mapping[str, Any]) -> tuple[Example, Example]:
        """(preferred, non-preferred) of a row with `input`, `preferred_output` and `non_preferred_output`.

        `input` has `messages` and perhaps `tools`; what an assistant says there counts as prompt.
        """
        given = row["input"]
        context = [{**m, "weight": 0} if m.get("role") == "assistant" else m for m in given["messages"]]
        tools = given.get("tools")
        preferred, other = (
            self.encode_example({"messages": [*context, *row[key]], "tools": tools})
            for key in ("preferred_output", "non_preferred_output")
        )
        return preferred, other

    def encode_completion(self, prompt: str, completion: str) -> Example:
        """A plain completion: the prompt untrained, the completion and the end-of-text token trained."""
        return self.encode_example({"prompt": prompt, "completion": completion})

    def explain(self, row: Mapping[str, Any]) -> list[Piece]:
        """The row's tokens with their text and weight, for showing people what is trained."""
        rendered = self._render_row(row)
        encoding = self.tokenizer.encode(rendered.text, add_special_tokens=False)
        example, offsets = self._weigh(rendered, encoding)
        pieces, shown = [], 0
        for token, weight, (_, end) in zip(example.tokens, example.weights, offsets, strict=True):
            pieces.append(Piece(token=token, text=rendered.text[shown:end], weight=weight))
            shown = max(shown, end)
        return pieces

    def _probe_end_of_turn(self) -> int | None:
        """The added token that follows the content of an assistant message in the middle of a conversation, if any."""
        ids = self.tokenizer.encode(self._renderer.after_assistant(), add_special_tokens=False).ids
        return ids[0] if ids and ids[0] in self._added else None

    def _render_row(self, row: Mapping[str, Any]) -> Rendered:
        if "messages" in row:
            tools = row.get("tools") or _old_tools(row.get("functions"))
            ends = self.end_of_turn_id is not None
            return self._renderer.render_trained(row["messages"], tools, turns_end_with_token=ends)
        if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
            text = row["prompt"] + row["completion"]
            span = Span(len(row["prompt"]), len(text), len(text), 1.0)
            return Rendered(text, [span], ends_with_eos=True)
        raise InvalidRequest('A row needs "messages", or the texts "prompt" and "completion".')

    def _weigh(self, rendered: Rendered, encoding: Encoding) -> tuple[Example, list[tuple[int, int]]]:
        """Tokens with weights and, beside them, each token's characters."""
        ids, offsets = encoding.ids, encoding.offsets
        cuts = [span.start for span in rendered.spans if self._straddles(ids, offsets, span.start)]
        if cuts:
            ids, offsets = self._encode_cut(rendered.text, cuts)
        weights = [0.0] * len(ids)
        starts = [start for start, _ in offsets]
        for span in rendered.spans:
            first, last = bisect_left(starts, span.start), bisect_left(starts, span.limit)
            end = self._turn_end(ids, starts, span, last)
            weights[first:end] = [span.weight] * (end - first)
        bos = self.missing_bos(rendered.text)
        ids, weights, offsets = [*bos, *ids], [0.0] * len(bos) + weights, [(0, 0)] * len(bos) + offsets
        if rendered.ends_with_eos:
            ids, weights, offsets = [*ids, self.eos_token_id], [*weights, 1.0], [*offsets, (len(rendered.text),) * 2]
        return Example(tokens=ids, weights=weights), offsets

    def _turn_end(self, ids: list[int], starts: list[int], span: Span, last: int) -> int:
        """One past the last trained token: the turn's end token, or the last token of a turn that has none."""
        if self.end_of_turn_id is None and span.limit == span.body_end:
            return last
        body = bisect_left(starts, span.body_end)
        return next((i + 1 for i in range(body, last) if ids[i] in self.end_token_ids), last)

    def _straddles(self, ids: list[int], offsets: list[tuple[int, int]], at: int) -> bool:
        """Whether a token joins the prompt's end with the answer's beginning, which no served prompt could.

        (An added token may swallow the white space after it; that changes no id.)
        """
        before = bisect_left(offsets, (at, 0)) - 1
        joined = before >= 0 and offsets[before][0] < at < offsets[before][1] and ids[before] not in self._added
        return joined and not self._prefixes_text

    def _encode_cut(self, text: str, cuts: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of the text, cut where prompts end, so that a trained row begins with the very tokens served."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            part = self.tokenizer.encode(text[start:end], add_special_tokens=False)
            ids += part.ids
            offsets += [(start + a, start + b) for a, b in part.offsets]
        return ids, offsets


def token_text(value: Any) -> str:
    """A special token as tokenizer_config.json gives it: a text, or an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _eos_ids(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> set[int]:
    """End-of-text ids, from generation_config.json, config.json and the tokenizer's eos_token."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        ids |= {i for i in (value if isinstance(value, list) else [value]) if type(i) is int}
    named = tokenizer.token_to_id(special["eos_token"]) if special.get("eos_token") else None
    return ids if named is None else ids | {named}


def _old_tools(functions: Any) -> list[dict[str, Any]] | None:
    """`functions` of older rows, as tools."""
    return [{"type": "function", "function": function} for function in functions] if functions else None
