"""What the adapters of a pass add to its linear layers, for all its rows at once; it knows no model and no requests.

Rows come sorted: first those whose adapter has one row in the pass, then stretches of rows of one adapter, then rows
without. The first kind, which is most of a crowd decoding, is one batched product a layer with the adapters stacked in
the rows' order; each stretch is a product of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """One layer's part of an adapter."""

    a_IR: Tensor
    """[in, rank]"""
    b_RO: Tensor
    """[rank, out], the scale multiplied in."""


Adapter = dict[str, LowRank]
"""By the path of a linear layer. The empty one is the base model."""


class AdapterRows:
    """The adapters of the pass at hand."""

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: torch.dtype) -> None:
        """`shapes` are (out, in) of each linear layer."""
        self._stack = _Stack(shapes, dtype)
        self._stretches: list[tuple[int, int, Adapter]] = []
        """First row, end, adapter."""

    def arrange(self, rows: Sequence[tuple[Adapter, int]]) -> list[int]:
        """Take the adapters of these (adapter, count of rows) for the next pass; the order in which they shall come."""
        counts: dict[int, int] = {}
        for adapter, count in rows:
            counts[id(adapter)] = counts.get(id(adapter), 0) + count
        self._stack.take([adapter for adapter, _ in rows if adapter and counts[id(adapter)] == 1])
        places = self._stack.places()
        several = list(counts)

        def place(number: int) -> tuple[int, int]:
            adapter, _ = rows[number]
            if not adapter:
                return 2, 0
            if counts[id(adapter)] == 1:
                return 0, places[id(adapter)]
            return 1, several.index(id(adapter))

        order = sorted(range(len(rows)), key=place)
        self._stretches, row = [], 0
        for number in order:
            adapter, count = rows[number]
            if adapter and counts[id(adapter)] > 1:
                first = row
                if self._stretches and self._stretches[-1][2] is adapter:
                    first = self._stretches.pop()[0]
                self._stretches.append((first, row + count, adapter))
            row += count
        return order

    def add(self, path: str, inputs_TI: Tensor, output_TO: Tensor) -> None:
        """Add each row's low-rank part of the layer to its output, in place."""
        self._stack.add(path, inputs_TI, output_TO)
        for first, end, adapter in self._stretches:
            if layer := adapter.get(path):
                output_TO[first:end].addmm_(inputs_TI[first:end] @ layer.a_IR, layer.b_RO)


class _Stack:
    """Adapters of one row each, in the order of those rows.

    An adapter that stays from pass to pass stays where it is; one that comes is copied to where one has left.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: torch.dtype) -> None:
        self._shapes = shapes
        self._dtype = dtype
        self._rank = 0
        self._held: list[Adapter | None] = []
        """What lies at each place, also if left from earlier passes."""
        self._runs: list[tuple[int, int, int]] = []
        """First row, first place and count of neighbours in use: no place between them stands idle."""
        self._low_SIR: dict[str, Tensor] = {}
        self._high_SRO: dict[str, Tensor] = {}

    def places(self) -> dict[int, int]:
        """By an adapter's identity."""
        return {id(adapter): place for place, adapter in enumerate(self._held) if adapter}

    def take(self, adapters: Sequence[Adapter]) -> None:
        """Hold these, and use no others."""
        self._grow(adapters)
        wanted, held = {id(adapter) for adapter in adapters}, self.places()
        free = [place for place, one in enumerate(self._held) if id(one) not in wanted]
        for place, adapter in zip(free, (one for one in adapters if id(one) not in held), strict=False):
            self._put(place, adapter)
        places = self.places()
        self._runs = []
        for row, place in enumerate(sorted(places[identity] for identity in wanted)):
            first_row, first, count = self._runs[-1] if self._runs else (row, place, 0)
            if place == first + count:
                self._runs[-1:] = [(first_row, first, count + 1)]
            else:
                self._runs.append((row, place, 1))

    def add(self, path: str, inputs_TI: Tensor, output_TO: Tensor) -> None:
        if path not in self._low_SIR:
            return
        low_SIR, high_SRO = self._low_SIR[path], self._high_SRO[path]
        for row, place, count in self._runs:
            low_S1R = torch.bmm(inputs_TI[row : row + count, None], low_SIR[place : place + count])
            output_TO[row : row + count, None].baddbmm_(low_S1R, high_SRO[place : place + count])

    def _put(self, place: int, adapter: Adapter) -> None:
        self._held[place] = adapter
        for path in self._low_SIR:
            low_IR, high_RO = self._low_SIR[path][place], self._high_SRO[path][place]
            layer = adapter.get(path)
            rank = 0 if layer is None else layer.b_RO.shape[0]
            if layer is not None:
                low_IR[:, :rank] = layer.a_IR
                high_RO[:rank] = layer.b_RO
            if rank < self._rank:
                low_IR[:, rank:] = 0
                high_RO[rank:] = 0

    def _grow(self, adapters: Sequence[Adapter]) -> None:
        """Make room for so many, of their ranks and on their layers."""
        ranks = [layer.b_RO.shape[0] for adapter in adapters for layer in adapter.values()]
        more_places = max(0, len(adapters) - len(self._held))
        more_rank = max(0, max(ranks, default=0) - self._rank)
        self._held += [None] * more_places
        self._rank += more_rank
        if more_places or more_rank:
            for path in self._low_SIR:
                self._low_SIR[path] = F.pad(self._low_SIR[path], (0, more_rank, 0, 0, 0, more_places))
                self._high_SRO[path] = F.pad(self._high_SRO[path], (0, 0, 0, more_rank, 0, more_places))
        for path in {path for adapter in adapters for path in adapter} - self._low_SIR.keys():
            out, into = self._shapes[path]
            self._low_SIR[path] = torch.zeros(len(self._held), into, self._rank, dtype=self._dtype)
            self._high_SRO[path] = torch.zeros(len(self._held), self._rank, out, dtype=self._dtype)
