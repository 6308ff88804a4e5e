"""Keys and values of all requests of a model, and attention to them; it knows no weights and no adapters.

For every layer, those of short requests lie in one tensor with a place for each, so that all who say one token attend
in one call: for eight of them a third of what eight calls cost. A long past has tensors of its own and attends alone,
as does who reads a prompt.
"""

import heapq
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORT = 512
"""Most tokens of a past that shares a tensor with others."""

_SMALLEST = 64
"""Tokens that a place has room for at first; it doubles."""

_WASTE = 3
"""Attending together may look at so many times the keys that there are."""


class Past:
    """One request's tokens so far, `capacity` at most; its memory is free again once nobody holds it."""

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self.capacity = capacity
        self.place: int | None = None
        """Among the short ones."""
        self.own: dict[int, Tensor] = {}
        """By layer, of a long one: [2 (keys, values), heads, capacity, width]."""
        self.leave: weakref.finalize[Any, Any] | None = None
        """Gives the place back."""


@dataclass(frozen=True, slots=True)
class Span:
    """A request's tokens in the pass at hand."""

    past: Past
    first: int
    """Row of its first token."""
    end: int

    @property
    def total(self) -> int:
        """Tokens that its last one sees."""
        return self.past.length + self.end - self.first


class Pasts:
    """All of them, and the pass at hand."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._written: list[int] = []
        """For each place, how far somebody has written there."""
        self._room = 0
        self._layers: dict[int, Tensor] = {}
        """[2 (keys, values), places, heads, room, width]."""
        self._alone: list[Span] = []
        self._together: _Together | None = None

    def begin(self, spans: Sequence[Span]) -> None:
        """Make room for the tokens of a pass."""
        for span in spans:
            if span.total > _SHORT:
                self._move_out(span.past)
            elif span.past.place is None:
                self._give_place(span.past)
        short = [span for span in spans if span.past.place is not None]
        longest = max((span.total for span in short), default=0)
        if longest > self._room:
            self._room = max(longest, min(2 * self._room, _SHORT), _SMALLEST)
        singles = [span for span in short if span.end - span.first == 1]
        self._together = _together(singles)
        self._alone = [span for span in spans if self._together is None or span not in singles]

    def end(self, spans: Sequence[Span]) -> None:
        """Every layer has seen the tokens."""
        self._alone = []  # whose request is over shall be held by nobody
        for span in spans:
            span.past.length = span.total
            if span.past.place is not None:
                self._written[span.past.place] = max(self._written[span.past.place], span.total)

    def attend(
        self, layer: int, query_HTW: Tensor, key_KTW: Tensor, value_KTW: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """What every token of the pass sees of its own request [tokens, heads, width]; K are heads of keys."""
        output_THW = query_HTW.new_empty(query_HTW.shape[1], query_HTW.shape[0], value_KTW.shape[2])
        new = torch.stack((key_KTW, value_KTW))
        if self._together is not None:
            held = self._shared(layer, key_KTW)
            self._together.attend(held, query_HTW, new, output_THW, scale=scale, window=window)
        for span in self._alone:
            mine = self._of(layer, span.past, key_KTW)[:, :, : span.total]
            mine[:, :, span.past.length :] = new[:, :, span.first : span.end]
            seen = F.scaled_dot_product_attention(
                query_HTW[None, :, span.first : span.end],
                mine[:1],
                mine[1:],
                attn_mask=mask(span.end - span.first, span.total, window),
                scale=scale,
                enable_gqa=True,
            )
            output_THW[span.first : span.end] = seen[0].transpose(0, 1)
        return output_THW

    def _give_place(self, past: Past) -> None:
        if not self._free:
            heapq.heappush(self._free, len(self._written))
            self._written.append(0)
        past.place = heapq.heappop(self._free)
        past.leave = weakref.finalize(past, heapq.heappush, self._free, past.place)
        # What lies behind a past's end is masked, but nothing times what is not a number isn't nothing: a broken
        # model's keys must not be left to others.
        for held in self._layers.values():
            held[:, past.place : past.place + 1, :, : self._written[past.place]] = 0
        self._written[past.place] = 0

    def _move_out(self, past: Past) -> None:
        if past.place is None:
            return
        for layer, held in self._layers.items():
            shared = held[:, past.place, :, : past.length]
            past.own[layer] = shared.new_empty(2, shared.shape[1], past.capacity, shared.shape[3])
            past.own[layer][:, :, : past.length] = shared
        past.place = None
        assert past.leave is not None
        past.leave()

    def _of(self, layer: int, past: Past, like_KTW: Tensor) -> Tensor:
        """A past's own part of the layer [2, heads, room, width]."""
        if past.place is not None:
            return self._shared(layer, like_KTW)[:, past.place]
        if layer not in past.own:
            heads, _, width = like_KTW.shape
            past.own[layer] = like_KTW.new_empty(2, heads, past.capacity, width)
        return past.own[layer]

    def _shared(self, layer: int, like_KTW: Tensor) -> Tensor:
        """The short ones' part of the layer, with as many places and as much room as needed now."""
        held = self._layers.get(layer)
        places = len(self._written)
        if held is not None and held.shape[1] >= places and held.shape[3] >= self._room:
            return held
        heads, _, width = like_KTW.shape
        grown = like_KTW.new_zeros(2, places, heads, self._room, width)
        if held is not None:
            grown[:, : held.shape[1], :, : held.shape[3]] = held
        self._layers[layer] = grown
        return grown


@dataclass(frozen=True, slots=True)
class _Together:
    """Requests of one new token each."""

    rows: Tensor
    places: Tensor
    lengths: Tensor
    """Tokens before the new one."""
    count: int
    """Places that are looked at: all up to the last one used."""
    longest: int

    def attend(
        self, held: Tensor, query_HTW: Tensor, new: Tensor, output_THW: Tensor, *, scale: float, window: int | None
    ) -> None:
        # Advanced indices apart go to the front: [requests, 2, heads, width].
        held[:, self.places, :, self.lengths] = new[:, :, self.rows].permute(2, 0, 1, 3)
        keys, values = held[:, : self.count, :, : self.longest]
        heads, width = keys.shape[1], keys.shape[3]
        query = query_HTW.new_zeros(self.count, query_HTW.shape[0], width)
        query[self.places] = query_HTW[:, self.rows].transpose(0, 1)
        # The query heads of one key head stand where several tokens would.
        seen = F.scaled_dot_product_attention(
            query.view(self.count, heads, -1, width), keys, values, attn_mask=self._mask(window), scale=scale
        )
        output_THW[self.rows] = seen.reshape(self.count, -1, width)[self.places]

    def _mask(self, window: int | None) -> Tensor:
        lengths = torch.zeros(self.count, dtype=torch.long)
        lengths[self.places] = self.lengths
        columns = torch.arange(self.longest)
        seen = columns <= lengths[:, None]
        if window is not None:
            seen &= columns > lengths[:, None] - window
        return seen[:, None, None]


def _together(singles: Sequence[Span]) -> _Together | None:
    """None where attending one by one looks at far fewer keys, or there is but one."""
    if len(singles) < 2:
        return None
    places = [span.past.place or 0 for span in singles]
    count, longest = max(places) + 1, max(span.total for span in singles)
    if count * longest > _WASTE * sum(span.total for span in singles):
        return None
    return _Together(
        rows=torch.tensor([span.first for span in singles]),
        places=torch.tensor(places),
        lengths=torch.tensor([span.past.length for span in singles]),
        count=count,
        longest=longest,
    )


def mask(new: int, total: int, window: int | None) -> Tensor | None:
    """True where one of the `new` last tokens of `total` may look; None where each may look everywhere."""
    if new == 1 and (window is None or total <= window):
        return None
    rows = torch.arange(total - new, total)[:, None]
    columns = torch.arange(total)[None]
    seen = columns <= rows
    return seen if window is None else seen & (columns > rows - window)
