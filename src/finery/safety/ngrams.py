"""Texts as hashed words, pairs of words and pieces of words: features that cost microseconds. Knows no category.

Each n-gram's place in the table comes from a polynomial hash whose prefix sums are taken over the whole text at once,
so that millions of characters are hashed without a loop in Python (Rabin and Karp's rolling hash, modulo 2^64).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TABLE_BITS = 17
TABLE = 1 << TABLE_BITS
PIECES = (3, 4, 5)
"""Characters of the pieces of words; they run across the spaces between words."""
CHUNK_CHARACTERS = 1 << 16
"""Longest text that is hashed in one go."""

_BASE = 0x9E3779B97F4A7C15 | 1
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SPACE = 32

Array = npt.NDArray[np.uint64]


def _powers(base: int) -> Array:
    found = np.full(CHUNK_CHARACTERS + 2, base, np.uint64)
    found[0] = 1
    return np.multiply.accumulate(found)


_POWERS = _powers(_BASE)
_INVERSES = _powers(pow(_BASE, -1, 1 << 64))


@dataclass(frozen=True, slots=True)
class Grams:
    """N-grams of a text in the order of their starts, each family after the other."""

    buckets: npt.NDArray[np.int64]
    """Places in the table, 0 to TABLE - 1."""
    starts: npt.NDArray[np.int64]
    """Where each begins, in characters of the text as it was given."""


def grams(text: str) -> Grams:
    """The n-grams of a text of at most CHUNK_CHARACTERS characters."""
    codes, origin = _words_only(text.lower()[:CHUNK_CHARACTERS])
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * _POWERS[: len(codes)], out=sums[1:])
    spaces = np.flatnonzero(codes == _SPACE)
    starts, ends = spaces[:-1] + 1, spaces[1:]
    families = [(starts, ends), (starts[:-1], ends[1:])]
    for size in PIECES:
        first = np.arange(max(len(codes) - size + 1, 0))
        families.append((first, first + size))
    buckets = [_hash(sums, begin, end, salt) for salt, (begin, end) in enumerate(families, start=1)]
    return Grams(np.concatenate(buckets), origin[np.concatenate([begin for begin, _ in families])])


def _words_only(text: str) -> tuple[Array, npt.NDArray[np.int64]]:
    """Characters of words, one space before, between and behind them, and where each came from."""
    codes = np.frombuffer(text.encode("utf-32-le", errors="replace"), np.uint32)
    word = _WORDLIKE[np.minimum(codes, len(_WORDLIKE) - 1)]
    before = np.concatenate(([False], word[:-1])) if len(word) else word
    keep = np.flatnonzero(word | before)
    spelled = np.where(word[keep], codes[keep], _SPACE).astype(np.uint64)
    ends = [] if len(keep) and not word[keep[-1]] else [_SPACE]
    codes_out = np.concatenate((np.array([_SPACE], np.uint64), spelled, np.array(ends, np.uint64)))
    origin = np.concatenate((keep[:1], keep, keep[-1:] if ends else keep[:0]))
    if not len(keep):
        origin = np.zeros(len(codes_out), np.int64)
    return codes_out, origin


def _hash(sums: Array, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], salt: int) -> npt.NDArray[np.int64]:
    value = (sums[end] - sums[begin]) * _INVERSES[begin]
    value = (value ^ np.uint64(salt * 0x632BE59BD9B4E019 & (2**64 - 1))) * _MIX
    value ^= value >> np.uint64(29)
    return ((value * _MIX) >> np.uint64(64 - TABLE_BITS)).astype(np.int64)


def _wordlike() -> npt.NDArray[np.bool_]:
    table = np.ones(0x3100, bool)
    for code in range(len(table)):
        character = chr(code)
        table[code] = character.isalnum() or character in "'*$@" or 0x300 <= code < 0x370
    return table


_WORDLIKE = _wordlike()
