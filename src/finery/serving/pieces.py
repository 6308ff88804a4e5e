"""The bytes that each token of a vocabulary spells, read from `tokenizer.json`; it encodes nothing.

Two kinds of vocabulary are known: byte-level BPE (GPT-2, Llama 3, SmolLM2, Phi-4), whose tokens are bytes written as
printable characters, and SentencePiece-like ones with byte fallback (Llama 2, Phi-3), whose tokens are text with U+2581
for a space and `<0x0A>` for a lone byte. Special tokens spell nothing.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

_LONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"


class TokenPieces:
    """Bytes for each token id of one tokenizer."""

    def __init__(self, tokenizer: dict[str, Any]) -> None:
        """`tokenizer` is the parsed `tokenizer.json`."""
        kinds = list(_decoder_steps(tokenizer.get("decoder")))
        self._byte_level = any(step["type"] == "ByteLevel" for step in kinds)
        self.strips_first_space = any(
            (step["type"] == "Strip" and step.get("start", 0) > 0 and step.get("content") == " ")
            or (step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never")
            for step in kinds
        )
        """Whether a text's first space is an artefact of the tokenizer, to be dropped."""
        self._bytes: dict[int, bytes] = {}
        for text, token in _vocabulary(tokenizer["model"]):
            self._bytes[token] = self._spell(text)
        self._special: dict[int, str] = {}
        for added in tokenizer.get("added_tokens", []):
            self._bytes[added["id"]] = b"" if added.get("special") else added["content"].encode()
            if added.get("special"):
                self._special[added["id"]] = added["content"]

    @staticmethod
    def load(model_folder: Path) -> "TokenPieces":
        """From a base model's folder."""
        return TokenPieces(json.loads((model_folder / "tokenizer.json").read_text(encoding="utf-8")))

    def bytes_of(self, token: int) -> bytes:
        """What a token spells; nothing for a special token or an id outside the vocabulary."""
        return self._bytes.get(token, b"")

    def label(self, token: int) -> str:
        """A token as shown in lists of alternatives: its text, or the name of a special token."""
        return self._special.get(token) or self.bytes_of(token).decode(errors="replace")

    def split(self, spelled: bytes, count: int) -> list[int] | None:
        """Exactly `count` tokens that together spell these bytes, longest first; None where there are none."""
        if count == 0:
            return None if spelled else []
        for size in range(len(spelled) - count + 1, 0, -1):
            token = self._ids.get(spelled[:size])
            if token is None:
                continue
            rest = self.split(spelled[size:], count - 1)
            if rest is not None:
                return [token, *rest]
        return None

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {spelled: token for token, spelled in self._bytes.items() if spelled}

    def _spell(self, text: str) -> bytes:
        if self._byte_level:
            if all(character in _BYTE_OF for character in text):
                return bytes(_BYTE_OF[character] for character in text)
            return text.encode()
        lone = _LONE_BYTE.fullmatch(text)
        return bytes([int(lone[1], 16)]) if lone else text.replace(_SPACE, " ").encode()


def _decoder_steps(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is None:
        return
    yield decoder
    for step in decoder.get("decoders", []):
        yield from _decoder_steps(step)


def _vocabulary(model: dict[str, Any]) -> Iterator[tuple[str, int]]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # Unigram: a list of (text, score)
        yield from ((text, token) for token, (text, _) in enumerate(vocabulary))


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_characters()
