"""Documents laid one after the other in one row, without padding. It does not know models, templates or batches.

A pass of D documents and T tokens is one row: `tokens_T` holds the documents' tokens, `positions_T` restarts at every
document, `starts` says where each begins. Attention over such a row stays within a document, so that the row gives the
same logits as its documents one by one.

What documents have in common at their beginning (a system prompt; the question of two answers) can lie in the row once,
as a segment that others go on from: a token's hidden state depends on nothing but the tokens before it, so the logits
and the gradients are the same, and the row is shorter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

LEAST_SAVED = 64
"""Tokens that sharing a beginning must save: below, the calls that it costs weigh more."""


class Document(Protocol):
    """What `pack` needs of an example: token ids, and for each token the weight of the loss of predicting it."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def weights(self) -> Sequence[float]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPass:
    """One row of documents on the model's device."""

    tokens_T: Tensor
    """int64[T]."""
    positions_T: Tensor
    """int64[T], from 0 in every document."""
    targets_T: Tensor
    """int64[T]: the next token of the same document; 0 (with weight 0) at a segment's last token."""
    weights_T: Tensor
    """float32[T]: loss weight of predicting `targets_T`; 0 is not trained."""
    starts: tuple[int, ...]
    """Offsets of the segments in the row and, last, T: one more entry than there are segments."""
    before: tuple[int | None, ...]
    """For each segment the one it goes on from, None at a document's beginning; empty where nothing is shared."""
    trained_N: Tensor
    """int64[N]: the places in the row whose weight isn't 0, document by document as they were given."""
    last_D: Tensor
    """int64[D]: the place of each document's last token."""

    @property
    def documents(self) -> int:
        """How many documents lie in the row."""
        return len(self.last_D)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `begin` to `end` of a document, which lie in the row once for all documents that have them."""

    document: int
    begin: int
    end: int
    before: int | None


def pack(examples: Sequence[Document], device: torch.device | str, *, share: bool = False) -> PackedPass:
    """Lay documents one after the other, with `share` each common beginning once.

    Raises ValueError if there are none, or one is empty or uneven.
    """
    if not examples:
        raise ValueError("nothing to pack: a pass needs at least one document")
    for index, example in enumerate(examples):
        if not example.tokens or len(example.tokens) != len(example.weights):
            raise ValueError(f"document {index} has {len(example.tokens)} tokens and {len(example.weights)} weights")
    segments = shared_segments(examples) if share else _apart(examples)
    tokens: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    starts = [0]
    trained: dict[int, list[int]] = {}
    last = [0] * len(examples)
    for segment in segments:
        example, inside = examples[segment.document], slice(segment.begin, segment.end)
        following = slice(segment.begin + 1, segment.end)
        tokens.extend(example.tokens[inside])
        positions.extend(range(segment.begin, segment.end))
        targets.extend([*example.tokens[following], 0])
        weights.extend([*example.weights[following], 0.0])
        trained[segment.document] = [place for place in range(starts[-1], len(weights)) if weights[place]]
        starts.append(len(tokens))
        if segment.end == len(example.tokens):
            last[segment.document] = len(tokens) - 1
    return PackedPass(
        tokens_T=torch.tensor(tokens, dtype=torch.int64).to(device),
        positions_T=torch.tensor(positions, dtype=torch.int64).to(device),
        targets_T=torch.tensor(targets, dtype=torch.int64).to(device),
        weights_T=torch.tensor(weights, dtype=torch.float32).to(device),
        starts=tuple(starts),
        before=tuple(segment.before for segment in segments) if len(segments) > len(examples) else (),
        trained_N=torch.tensor([n for d in range(len(examples)) for n in trained[d]], dtype=torch.int64).to(device),
        last_D=torch.tensor(last, dtype=torch.int64).to(device),
    )


def packed_tokens(examples: Sequence[Document], *, share: bool) -> int:
    """How many tokens the row of `pack` has."""
    segments = shared_segments(examples) if share else _apart(examples)
    return sum(segment.end - segment.begin for segment in segments)


def shared_segments(examples: Sequence[Document]) -> list[Segment]:
    """Cut documents into segments, each after the one it goes on from, so that common beginnings are there once.

    A common beginning ends before the first token that any of its documents is trained to predict, and before the last
    token of each. The last segment of a document holds its end.
    """
    order = sorted(range(len(examples)), key=lambda index: list(examples[index].tokens))
    alike = [_common(examples[a], examples[b]) for a, b in pairwise(order)]
    segments: list[Segment] = []
    # Runs of documents in order, the segment they go on from, and how many tokens are in it and before it.
    waiting: list[tuple[int, int, int | None, int]] = [(0, len(order), None, 0)]
    while waiting:
        first, end, before, known = waiting.pop()
        if end - first == 1:
            document = order[first]
            segments.append(Segment(document, known, len(examples[document].tokens), before))
            continue
        common = min(alike[first : end - 1])
        if (common - known) * (end - first - 1) >= LEAST_SAVED:
            segments.append(Segment(order[first], known, common, before))
            before, known = len(segments) - 1, common
        cut = first + 1 + alike[first : end - 1].index(common)
        waiting += [(cut, end, before, known), (first, cut, before, known)]
    return segments


def _apart(examples: Sequence[Document]) -> list[Segment]:
    return [Segment(index, 0, len(example.tokens), None) for index, example in enumerate(examples)]


def _common(one: Document, other: Document) -> int:
    """How many tokens both begin with, up to what either is trained on and short of either's last token."""
    most = min(len(one.tokens), len(other.tokens)) - 1
    for place in range(most):
        differ = one.tokens[place] != other.tokens[place]
        if differ or one.weights[place + 1] or other.weights[place + 1]:
            # The token at `place` is the last before a trained one: its target must stay with its document.
            return place
    return most
