"""A model's tokenizer, made several times faster where a second engine gives the very same tokens.

fastokens encodes byte-level BPE some four times as fast as tokenizers, but tells no offsets; they follow from the
bytes of each token. It is trusted only as far as it is checked: a text whose tokens don't add up to its bytes is left
to tokenizers, and one text in `CHECKED_ONE_IN` is encoded by both. At the first difference fastokens is out for good.
Where it isn't installed, or the model's tokenizer is no byte-level BPE, nothing changes but the time.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from finery.data.fast_rendering import FastRenderer
from finery.modeling.template import ChatTemplate

CHECKED_ONE_IN = 512
_CHECKED_FIRST = 32
_CACHE_BYTES = 1 << 20


def accelerated(template: ChatTemplate) -> ChatTemplate:
    """A copy of the template that renders and encodes rows faster, to the same tokens."""
    quick = copy.copy(template)
    quick._renderer = FastRenderer(template._renderer)  # type: ignore[assignment]
    fast = FastTokenizer.of(template.tokenizer)
    if fast is not None:
        quick.tokenizer = fast  # type: ignore[assignment]
    return quick


@dataclass(frozen=True, slots=True)
class FastEncoding:
    """What of an Encoding the chat template reads."""

    ids: list[int]
    offsets: "Offsets"


@dataclass(frozen=True, slots=True)
class Flat:
    """The tokens of many texts in one row."""

    ids: NDArray[np.uint32]
    starts: NDArray[np.int64]
    """The byte at which each token begins, counted over all texts; at the end, one more: the number of bytes."""
    bounds: NDArray[np.int64]
    """The first token of each text; at the end, one more: the number of tokens."""
    adds_up: NDArray[np.bool_]
    """Whether a text's tokens have as many bytes as the text: else they are not to be used."""

    def of(self, place: int, text: str) -> FastEncoding:
        """The encoding of one text, which must add up."""
        first, last = int(self.bounds[place]), int(self.bounds[place + 1])
        return _encoding(text, self.ids[first:last], self.starts[first : last + 1] - self.starts[first])


class Offsets(Sequence[tuple[int, int]]):
    """Where each token begins and ends, in characters. Pairs are made when asked for: most never are."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: list[int], ends: list[int]) -> None:
        self._starts = starts
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        return list(self)[place] if isinstance(place, slice) else (self._starts[place], self._ends[place])

    def __radd__(self, before: list[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        return [*before, *self] if before else self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class FastTokenizer:
    """Encodes batches with fastokens, everything else with tokenizers."""

    def __init__(self, exact: Tokenizer, engine: Any) -> None:
        self._exact = exact
        self._engine = engine
        self._lengths = _byte_lengths(exact)
        self._seen = 0

    @staticmethod
    def of(exact: Tokenizer) -> "FastTokenizer | None":
        """None where fastokens is missing or can't read this tokenizer."""
        try:
            from fastokens import Tokenizer as Engine  # type: ignore[import-untyped]
        except ImportError:
            return None
        try:
            engine = Engine.from_json_str(exact.to_str())
            # Chat rows share texts between control tokens: the system message, roles.
            engine.enable_segment_cache(_CACHE_BYTES)
        except Exception:  # whatever it can't read, tokenizers can
            return None
        return FastTokenizer(exact, engine)

    @property
    def uses_engine(self) -> bool:
        """Whether the second engine is still trusted."""
        return self._engine is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exact, name)

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[Any]:
        """As `Tokenizer.encode_batch`: objects with ids and offsets (in characters), one a text."""
        flat = None if add_special_tokens else self.encode_flat(texts)
        if flat is None:
            return list(self._exact.encode_batch(texts, add_special_tokens=add_special_tokens))
        known = flat.adds_up.tolist()
        encoded: list[Any] = [flat.of(place, text) if known[place] else None for place, text in enumerate(texts)]
        left = [place for place, encoding in enumerate(encoded) if encoding is None]
        exact = self._exact.encode_batch([texts[place] for place in left], add_special_tokens=False)
        for place, encoding in zip(left, exact, strict=True):
            encoded[place] = encoding
        return encoded

    def encode_flat(self, texts: Sequence[str]) -> Flat | None:
        """All texts at once; None where the second engine isn't trusted."""
        if self._engine is None:
            return None
        ids, bounds = self._engine.encode_batch_flat(list(texts), add_special_tokens=False)
        numbers = np.frombuffer(ids, dtype="<u4")
        starts = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(self._lengths[numbers], out=starts[1:])
        edges = np.frombuffer(bounds, dtype="<u8").astype(np.int64)
        sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
        flat = Flat(numbers, starts, edges, np.diff(starts[edges]) == sizes)
        if not self._holds(flat, texts):
            self._engine = None
            return None
        return flat

    def _holds(self, flat: Flat, texts: Sequence[str]) -> bool:
        """Whether some of the texts have the very tokens that tokenizers gives."""
        checked = [place for place in range(len(texts)) if self._is_checked(place) and flat.adds_up[place]]
        self._seen += len(texts)
        exact = self._exact.encode_batch([texts[place] for place in checked], add_special_tokens=False)
        same = all(
            ours.ids == other.ids and list(ours.offsets) == other.offsets
            for ours, other in zip((flat.of(place, texts[place]) for place in checked), exact, strict=True)
        )
        return same and (not len(texts) or bool(flat.adds_up.any()))

    def _is_checked(self, place: int) -> bool:
        number = self._seen + place
        return number < _CHECKED_FIRST or number % CHECKED_ONE_IN == 0


def _encoding(text: str, ids: NDArray[np.uint32], edges: NDArray[np.int64]) -> FastEncoding:
    """`edges` are the bytes at which tokens begin and end: one more than there are tokens."""
    if text.isascii():
        places = edges.tolist()
        return FastEncoding(ids.tolist(), Offsets(places[:-1], places[1:]))
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    # A token inside a character of several bytes has all of that character, as in tokenizers.
    character = np.cumsum((data & 0xC0) != 0x80) - 1
    starts, ends = character[edges[:-1]], character[edges[1:] - 1] + 1
    return FastEncoding(ids.tolist(), Offsets(starts.tolist(), ends.tolist()))


def _byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Bytes of each token: in byte-level BPE one for each character of its name, an added token as it is written."""
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    lengths = [0] * (max(vocabulary.values()) + 1)
    for name, number in vocabulary.items():
        lengths[number] = len(name)
    for number, token in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = len(token.content.encode())
    return np.asarray(lengths, dtype=np.int64)
