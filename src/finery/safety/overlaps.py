"""Whether a text says what another one says, word for word: texts as hashed runs of words. Knows no works and no rows.

A run is so many words one behind the other, whatever stands between them, with MIN_LETTERS letters at least: rows of
numbers and single letters are no run. Eight bytes are kept of a run, and nothing of the text. In scripts without spaces
what stands between two marks counts as one word.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from finery.safety.normalise import fold

MIN_LETTERS = 40
LONGEST_RUN_CHARACTERS = 600
"""How far back a stream is read again: thirty long words."""

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’ʼ\u00ad\u200b\u200c\u200d")
"""Stand inside words, or are not seen at all."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
_STORED = np.dtype("<u8")

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of texts, ready to be looked for."""

    words: int
    """Of one run."""
    hashes: Hashes
    """Sorted, each once."""

    @staticmethod
    def of(words: int, parts: Sequence[Hashes]) -> "Runs":
        """The runs of several texts."""
        return Runs(words, np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64))

    def occur_in(self, text: str) -> bool:
        """Whether one of them stands in a text, as it is or disguised."""
        return len(self.hashes) > 0 and any(self._holds(hashes(form, self.words)) for form in {text, fold(text)})

    def _holds(self, asked: Hashes) -> bool:
        places = np.minimum(np.searchsorted(self.hashes, asked), len(self.hashes) - 1)
        return bool((self.hashes[places] == asked).any())


def hashes(text: str, words: int) -> Hashes:
    """The hash of every run of a text, in its order."""
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    known = [_hash(word) for word in _WORD.findall(plain)]
    count = len(known) - words + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    each = np.array([value for value, _ in known], np.uint64)
    letters = np.cumsum([0, *(number for _, number in known)])
    found = np.zeros(count, np.uint64)
    for place in range(words):
        found = found * _BASE + each[place : place + count]
    runs: Hashes = found[letters[words:] - letters[:-words] >= MIN_LETTERS]
    return runs


def distinctive(texts: Iterable[str], words: int, *, most: int, one_in: int = 1) -> Hashes:
    """Runs that at most `most` of the texts have; of many texts only one run in so many is kept."""
    parts = [np.unique(hashes(text, words)) for text in texts]
    parts = [part[(part >> np.uint64(32)) % np.uint64(one_in) == 0] for part in parts]
    found, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]), return_counts=True)
    return found[counts <= most]


def to_bytes(found: Hashes) -> bytes:
    """Hashes as they are stored; `from_bytes` is the inverse."""
    return found.astype(_STORED).tobytes()


def from_bytes(stored: bytes) -> Hashes:
    """The inverse of `to_bytes`."""
    return np.frombuffer(stored, _STORED).astype(np.uint64)


@lru_cache(maxsize=1 << 16)
def _hash(word: str) -> tuple[int, int]:
    """A word's hash, the same on every machine, and how many letters it has."""
    value = int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    return value, sum(map(str.isalpha, word))
