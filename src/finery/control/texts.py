"""Tokens of texts and conversations, without an inference server: a base model's tokenizer and template are enough."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.control import chat, models
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.modeling.sources import LocalModel
from finery.modeling.template import ChatTemplate
from finery.serving.protocol import GenerateRequest

MAX_TEXT_CHARACTERS = 4_000_000


_INFILL = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
"""What stands before a prefix, a suffix and the middle in the vocabularies of Qwen, StarCoder and CodeLlama."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenized:
    """Tokens, their spellings in the vocabulary, and what the model has room for."""

    tokens: list[int]
    strings: list[str]
    context_tokens: int


def tokenize(
    plane: ControlPlane,
    caller: Caller,
    name: str | None,
    *,
    text: str | None = None,
    messages: list[dict[str, Any]] | None = None,
    special_tokens: bool = True,
) -> Tokenized:
    """Tokens of a text or of a conversation, as the model would read it.

    Raises:
        UnknownModel: no such model; InvalidRequest: no model named where there are several, or a text too long.
    """
    base = _base(plane, caller, name)
    template = template_of(base)
    if text is not None and len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"The text has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are tokenized at once.", param="prompt"
        )
    if messages is not None:
        tokens = template.encode_prompt(messages)
    elif special_tokens:
        tokens = template.encode_text(text or "")
    else:
        tokens = template.tokenizer.encode(text or "", add_special_tokens=False).ids
    strings = [template.tokenizer.id_to_token(token) or "" for token in tokens]
    context = min(base.context_tokens, plane.settings.inference_context)
    return Tokenized(tokens=tokens, strings=strings, context_tokens=context)


def detokenize(plane: ControlPlane, caller: Caller, name: str | None, tokens: Sequence[int]) -> str:
    """The text of tokens.

    Raises:
        InvalidRequest: a token that isn't in the vocabulary.
    """
    template = template_of(_base(plane, caller, name))
    check_tokens(template, tokens, param="tokens")
    return template.decode(tokens)


def infill(plane: ControlPlane, caller: Caller, name: str, prefix: str | Sequence[int], suffix: str) -> list[int]:
    """Tokens that ask for what stands between two texts: prefix, suffix, then the middle (arXiv:2207.14255, PSM).

    Raises:
        InvalidRequest: the model has no tokens for that: it wasn't trained to.
    """
    tokenizer = template_of(_base(plane, caller, name)).tokenizer
    for spelled in _INFILL:
        marks = [found for mark in spelled if (found := tokenizer.token_to_id(mark)) is not None]
        if len(marks) == len(spelled):
            break
    else:
        raise InvalidRequest(
            f"'{name}' was not trained to fill in the middle of a text: its vocabulary has no tokens for it. Leave "
            "suffix out, or ask a model that was (Qwen2.5-Coder, StarCoder, CodeLlama).",
            param="suffix",
        )
    before = tokenizer.encode(prefix, add_special_tokens=False).ids if isinstance(prefix, str) else list(prefix)
    after = tokenizer.encode(suffix, add_special_tokens=False).ids
    return [marks[0], *before, marks[1], *after, marks[2]]


def count_prompt(plane: ControlPlane, caller: Caller, name: str, request: GenerateRequest) -> int:
    """Tokens of what a model is asked."""
    if request.prompt_tokens is not None:
        return len(request.prompt_tokens)
    template = template_of(chat.find(plane, caller, name).base)
    if request.messages is not None:
        return len(template.encode_prompt(request.messages, request.tools))
    return len(template.encode_text(request.prompt or ""))


def tokenizer_info(plane: ControlPlane, caller: Caller, name: str | None) -> dict[str, Any]:
    """The tokenizer's configuration, with the chat template in it."""
    base = _base(plane, caller, name)
    path = base.folder / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    template = template_of(base)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": template.tokenizer.id_to_token(template.eos_token_id),
        "pad_token": None,
        "model_max_length": base.context_tokens,
        **settings,
        "chat_template": template.source,
        "vocab_size": template.tokenizer.get_vocab_size(with_added_tokens=True),
    }


def template_of(base: LocalModel) -> ChatTemplate:
    """A base model's template and tokenizer."""
    return _load(base.folder, base.folder.stat().st_mtime_ns)


def check_tokens(template: ChatTemplate, tokens: Sequence[int], *, param: str) -> None:
    """Refuse token ids outside the vocabulary."""
    size = template.tokenizer.get_vocab_size(with_added_tokens=True)
    wrong = next((token for token in tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise InvalidRequest(f"Token {wrong} is outside the vocabulary of {size} tokens.", param=param)


def _base(plane: ControlPlane, caller: Caller, name: str | None) -> LocalModel:
    if name:
        return chat.find(plane, caller, name).base
    bases = models.list_bases(plane)
    if len(bases) == 1:
        return bases[0]
    there = ", ".join(base.id for base in bases) or "none"
    raise InvalidRequest(f"Name the model whose tokens are meant; base models on this machine: {there}.", param="model")


@functools.lru_cache(maxsize=8)
def _load(folder: Path, _changed: int) -> ChatTemplate:
    return ChatTemplate.load(folder)
