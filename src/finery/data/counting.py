"""How long rows are in tokens and what of them is trained, told of many rows at once without making their lists.

The answer is that of `ChatTemplate.encode_examples`, counted in arrays over a whole batch. It is trusted only as far as
it is checked: what arrays can't tell (a token across the beginning of an answer, bytes that don't add up, plain
completions) is encoded row by row, and so is one row in `CHECKED_ONE_IN`; at the first difference all rows are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finery.core.errors import InvalidRequest
from finery.data.fast_tokenizer import FastTokenizer, Flat, accelerated
from finery.modeling.rendering import Rendered
from finery.modeling.template import ChatTemplate, Example

CHECKED_ONE_IN = 512
_CHECKED_FIRST = 32


class Count(NamedTuple):
    """What is counted of a row."""

    tokens: int
    trained: int
    last: int | None
    """The last trained token; None where none is trained."""


class Counter:
    """Counts rows for one model."""

    def __init__(self, template: ChatTemplate, *, fast: bool = True) -> None:
        """`fast`: worth the most of a second that the faster ways need to get ready."""
        self._exact = template
        self._quick = accelerated(template) if fast else template
        self._seen = 0
        self._trusted = isinstance(self._quick.tokenizer, FastTokenizer)
        self._ends = np.asarray(template.end_token_ids, np.uint32)

    @property
    def uses_arrays(self) -> bool:
        """Whether counting by arrays is still trusted."""
        return self._trusted

    def count(self, rows: Iterable[Mapping[str, Any]]) -> list[Count | InvalidRequest]:
        """Each row's count; a row that can't be encoded gives its error."""
        given = list(rows)
        if not self._trusted:
            return [_counted(example) for example in self._quick.encode_examples(given)]
        rendered = self._quick.render_rows(given)
        texts = [one.text for one in rendered if isinstance(one, Rendered)]
        flat = self._quick.tokenizer.encode_flat(texts)  # type: ignore[attr-defined]
        if flat is None:
            self._trusted = False
            return self.count(given)
        counts = iter(self._count_flat(flat, [one for one in rendered if isinstance(one, Rendered)]))
        found = [one if isinstance(one, InvalidRequest) else next(counts) for one in rendered]
        left = [place for place, one in enumerate(found) if one is None]
        checked = [place for place in range(len(given)) if self._is_checked(place) and isinstance(found[place], Count)]
        self._seen += len(given)
        exact = [_counted(one) for one in self._exact.encode_examples(given[place] for place in (*left, *checked))]
        if any(found[place] != one for place, one in zip(checked, exact[len(left) :], strict=True)):
            self._trusted = False
            return self.count(given)
        for place, one in zip(left, exact, strict=False):
            found[place] = one
        return [one for one in found if one is not None]

    def _is_checked(self, place: int) -> bool:
        number = self._seen + place
        return number < _CHECKED_FIRST or number % CHECKED_ONE_IN == 0

    def _count_flat(self, flat: Flat, rendered: list[Rendered]) -> list[Count | None]:
        """None for rows that must be encoded one by one. As `ChatTemplate._weigh`, which see for the rules."""
        spans = _Spans.of(rendered, flat.starts[flat.bounds[:-1]])
        starts, ids = flat.starts[:-1], flat.ids
        first, body, last = np.searchsorted(starts, spans.edges)
        over = flat.bounds[spans.rows + 1]
        first, body, last = (np.minimum(places, over) for places in (first, body, last))
        straddled = flat.starts[first] != spans.edges[0]
        end = self._ends_of_turns(ids, body, last, spans.edges)
        trained = np.bincount(spans.rows, weights=end - first, minlength=len(rendered)).astype(np.int64)
        apart = ~flat.adds_up
        apart[spans.rows[straddled | (end < first)]] = True
        final = np.full(len(rendered), -1, np.int64)
        some = end > first
        final[spans.rows[some]] = ids[end[some] - 1]
        return [
            None if alone or one.ends_with_eos else Count(tokens + self._bos(one.text), own, None if last < 0 else last)
            for one, alone, tokens, own, last in zip(
                rendered, apart.tolist(), np.diff(flat.bounds).tolist(), trained.tolist(), final.tolist(), strict=True
            )
        ]

    def _ends_of_turns(
        self, ids: NDArray[np.uint32], body: NDArray[np.int64], last: NDArray[np.int64], edges: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """One past the last trained token of each span: as `ChatTemplate._turn_end`."""
        closing = np.append(np.flatnonzero(np.isin(ids, self._ends)), len(ids))
        following = closing[np.searchsorted(closing, body)]
        end = np.where(following < last, following + 1, last)
        if self._exact.end_of_turn_id is None:
            end = np.where(edges[1] == edges[2], last, end)
        return end

    def _bos(self, text: str) -> int:
        return len(self._exact.missing_bos(text))


@dataclass(frozen=True, slots=True)
class _Spans:
    """The trained spans of many rows, in order."""

    rows: NDArray[np.int64]
    edges: NDArray[np.int64]
    """(3, spans): where each begins, its body ends, and its turn ends at the latest; in bytes over all texts."""

    @staticmethod
    def of(rendered: list[Rendered], offsets: NDArray[np.int64]) -> "_Spans":
        """`offsets` has the byte at which each text begins."""
        rows, edges = [], []
        for number, one in enumerate(rendered):
            for span in one.spans:
                rows.append(number)
                places = span[:3]
                edges.append(places if one.text.isascii() else _bytes_before(one.text, places))
        numbers = np.asarray(rows, np.int64)
        return _Spans(numbers, np.asarray(edges, np.int64).reshape(-1, 3).T + offsets[numbers])


def _bytes_before(text: str, places: tuple[int, int, int]) -> tuple[int, ...]:
    """The bytes before each of some places, which are in order."""
    pieces = [text[start:end] for start, end in zip((0, *places), places, strict=False)]
    return tuple(accumulate(len(piece.encode()) for piece in pieces))


def _counted(example: Example | InvalidRequest) -> Count | InvalidRequest:
    if isinstance(example, InvalidRequest):
        return example
    weights = example.weights
    last = next((place for place in range(len(weights) - 1, -1, -1) if weights[place] > 0), None)
    return Count(len(weights), len(weights) - weights.count(0.0), None if last is None else example.tokens[last])
