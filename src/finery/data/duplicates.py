"""Exact and near duplicates among rows, in one file or several.

Exact: the same training content, whatever the white space and key order. Near: the texts' 5-character shingles (of the
UTF-8, case and white space folded) have a Jaccard similarity of at least the threshold. Candidates come from MinHash
(Broder 1997) with 20 bands of 6 (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4): a pair at similarity
0.8 is missed 2 times in 1,000. Every candidate is then checked against the texts themselves, so nothing below the
threshold is ever reported. Some 200 bytes a row are kept in memory.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from finery.data.texts import row_text

THRESHOLD = 0.8
"""Jaccard similarity from which two texts are near duplicates."""

_SHINGLE_BYTES = 5
_BANDS, _BAND_ROWS = 20, 6
_CHUNK = 4096
_TRAINING_KEYS = frozenset(
    ("messages", "tools", "functions", "prompt", "completion", "input", "preferred_output", "non_preferred_output",
     "text", "label", "labels", "target")
)  # fmt: skip


def _random_column(seed: int) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 2**32, (_BANDS * _BAND_ROWS, 1), dtype=np.uint32)


# h → a·h + b modulo 2³² with odd a permutes the 32-bit numbers.
_FACTORS, _SUMMANDS = _random_column(1) | np.uint32(1), _random_column(2)


class RowSequence(Protocol):
    """Rows by position: a `Corpus`, or a plain list."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A row and an earlier row it repeats; positions from 0."""

    row: int
    of: int
    similarity: float
    """Jaccard similarity of the shingles; 1.0 for an exact duplicate."""
    exact: bool


def find_repeats(rows: RowSequence, *, threshold: float = THRESHOLD, near: bool = True) -> list[Repeat]:
    """Every row that repeats an earlier one, in the order of the rows; a row is named once, with the best it repeats.

    `near=False` looks for exact duplicates only, which takes 8 bytes a row.
    """
    return _best(_pairs(rows, threshold, near))


def find_leaks(rows: RowSequence, first_validation: int, *, threshold: float = THRESHOLD) -> list[Repeat]:
    """Every validation row (from that position on) that repeats a training row, with the best it repeats."""
    pairs = _pairs(rows, threshold, near=True)
    leaks = {leak.row: leak for leak in _best([pair for pair in pairs if pair.of < first_validation <= pair.row])}
    for pair in pairs:
        # The near duplicates of a row that stands twice are looked up for its first place only.
        if pair.exact and pair.of in leaks:
            leaks.setdefault(pair.row, replace(leaks[pair.of], row=pair.row))
    return sorted(leaks.values(), key=lambda leak: leak.row)


def groups(rows: RowSequence, *, threshold: float = THRESHOLD, near: bool = True) -> list[int]:
    """For each row the position of the first row of its group: what duplicates share, directly or through others."""
    group = list(range(len(rows)))
    for repeat in find_repeats(rows, threshold=threshold, near=near):
        group[repeat.row] = group[repeat.of]
    return group


def exact_key(row: Mapping[str, Any]) -> int:
    """64 bits that rows with the same training content share, whatever their white space, key order or other keys."""
    content = {key: value for key, value in row.items() if key in _TRAINING_KEYS} or row
    encoded = msgspec.json.encode(_folded(content), order="sorted")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())


def shingles(text: str) -> NDArray[np.uint64]:
    """The set of 5-byte pieces of the folded text, each as one number, rising."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    data = np.frombuffer(folded.encode().ljust(_SHINGLE_BYTES, b"\0"), dtype=np.uint8).astype(np.uint64)
    count = len(data) - _SHINGLE_BYTES + 1
    pieces = np.zeros(count, dtype=np.uint64)
    for place in range(_SHINGLE_BYTES):
        pieces |= data[place : place + count] << np.uint64(8 * place)
    return np.unique(pieces)


def similarity(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """Jaccard similarity of two sets of shingles."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


def _pairs(rows: RowSequence, threshold: float, near: bool) -> list[Repeat]:
    """Every pair found: each exact duplicate with its first, and near duplicates among the firsts."""
    bands = np.zeros((len(rows) if near else 0, _BANDS), dtype=np.uint64)
    first: dict[int, int] = {}
    found: list[Repeat] = []
    for position in range(len(rows)):
        row = rows[position]
        of = first.setdefault(exact_key(row), position)
        if of != position:
            found.append(Repeat(row=position, of=of, similarity=1.0, exact=True))
        elif near:
            bands[position] = _band_hashes(shingles(row_text(row)))
    if near:
        alone = np.fromiter(first.values(), dtype=np.int64, count=len(first))
        found += _near_pairs(rows, alone, bands, threshold)
    return found


def _best(pairs: list[Repeat]) -> list[Repeat]:
    """One pair for each later row: the most similar, of equals the earliest."""
    best: dict[int, Repeat] = {}
    for pair in pairs:
        known = best.get(pair.row)
        if known is None or (pair.similarity, -pair.of) > (known.similarity, -known.of):
            best[pair.row] = pair
    return sorted(best.values(), key=lambda pair: pair.row)


def _folded(value: Any) -> Any:
    """JSON with white space and Unicode forms made equal in its texts."""
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, list):
        return [_folded(item) for item in value]
    if isinstance(value, dict):
        return {key: _folded(item) for key, item in value.items()}
    return value


def _band_hashes(pieces: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for each band of the MinHash signature."""
    mixed = pieces * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    hashes = (mixed >> np.uint64(32)).astype(np.uint32)
    # A long text is taken in chunks, lest 120 times its length lie in memory.
    parts = [(hashes[start : start + _CHUNK] * _FACTORS + _SUMMANDS).min(1) for start in range(0, len(hashes), _CHUNK)]
    signature = parts[0] if len(parts) == 1 else np.minimum.reduce(parts)
    banded = signature.reshape(_BANDS, _BAND_ROWS).astype(np.uint64)
    number = np.zeros(_BANDS, dtype=np.uint64)
    for place in range(_BAND_ROWS):
        number = (number ^ banded[:, place]) * np.uint64(0x9FB21C651E98DF25)
        number ^= number >> np.uint64(29)
    return number


def _near_pairs(
    rows: RowSequence, alone: NDArray[np.int64], bands: NDArray[np.uint64], threshold: float
) -> list[Repeat]:
    """Near duplicates among rows that are no exact duplicates of one another."""

    @lru_cache(maxsize=1024)
    def pieces(position: int) -> NDArray[np.uint64]:
        return shingles(row_text(rows[position]))

    found = []
    for earlier, later in _candidates(alone, bands):
        close = similarity(pieces(earlier), pieces(later))
        if close >= threshold:
            found.append(Repeat(row=later, of=earlier, similarity=close, exact=False))
    return found


def _candidates(alone: NDArray[np.int64], bands: NDArray[np.uint64]) -> Sequence[tuple[int, int]]:
    """Pairs (earlier, later) that share a band: each row with the first and with the one before it in its bucket.

    Not every pair of a bucket, which would be quadratic where thousands of rows are alike.
    """
    found: list[NDArray[np.int64]] = []
    for band in range(_BANDS):
        hashes = bands[alone, band]
        order = np.argsort(hashes, kind="stable")
        sorted_hashes, members = hashes[order], alone[order]
        begins = np.r_[True, sorted_hashes[1:] != sorted_hashes[:-1]] if len(order) else np.zeros(0, bool)
        starts = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
        inner = np.flatnonzero(~begins)
        found.append(np.stack([members[starts[inner]], members[inner]], axis=1))
        found.append(np.stack([members[inner - 1], members[inner]], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), dtype=np.int64)
    return [(int(earlier), int(later)) for earlier, later in pairs]
