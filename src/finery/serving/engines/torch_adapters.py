"""What the adapters of a pass add to its linear layers, for all its rows at once; it knows no model and no requests.

Adapters lie in a stack, for every layer one tensor with a place for each. Rows come in the order of their adapters'
places, rows without one last: neighbours with equally many rows are one batched product.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbours in the stack that have equally many rows in the pass."""

    place: int
    adapters: int
    row: int
    rows: int
    """Of each."""


class AdapterRows:
    """The adapters of the pass at hand.

    One that stays from pass to pass stays where it is; one that comes is copied to where one has left.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: torch.dtype) -> None:
        """`shapes` are (out, in) of each linear layer."""
        self._shapes = shapes
        self._dtype = dtype
        self._rank = 0
        self._held: list[Adapter | None] = []
        """What lies at each place, also if left from earlier passes."""
        self._runs: list[_Run] = []
        self._low_SIR: dict[str, Tensor] = {}
        self._high_SRO: dict[str, Tensor] = {}

    def arrange(self, rows: Sequence[tuple[Adapter, int]]) -> list[int]:
        """Take the adapters of these (adapter, count of rows) for the next pass; the order in which they shall come."""
        counts: Counter[int] = Counter()
        for adapter, count in rows:
            counts[id(adapter)] += count
        self._take({id(adapter): adapter for adapter, _ in rows if adapter})
        places = {id(adapter): place for place, adapter in enumerate(self._held) if adapter}
        self._runs, row = [], 0
        for identity in sorted(counts.keys() & places.keys(), key=places.__getitem__):
            self._append(places[identity], row, counts[identity])
            row += counts[identity]
        return sorted(range(len(rows)), key=lambda number: places.get(id(rows[number][0]), len(places)))

    def add(self, path: str, inputs_TI: Tensor, output_TO: Tensor) -> None:
        """Add each row's low-rank part of the layer to its output, in place."""
        if path not in self._low_SIR:
            return
        for run in self._runs:
            stack = slice(run.place, run.place + run.adapters)
            span = slice(run.row, run.row + run.adapters * run.rows)
            inputs_SNI = inputs_TI[span].view(run.adapters, run.rows, -1)
            output_SNO = output_TO[span].view(run.adapters, run.rows, -1)
            output_SNO.baddbmm_(torch.bmm(inputs_SNI, self._low_SIR[path][stack]), self._high_SRO[path][stack])

    def _append(self, place: int, row: int, rows: int) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last.rows == rows and last.place + last.adapters == place:
            self._runs[-1] = replace(last, adapters=last.adapters + 1)
        else:
            self._runs.append(_Run(place, 1, row, rows))

    def _take(self, wanted: dict[int, Adapter]) -> None:
        self._grow(wanted.values())
        held = {id(adapter) for adapter in self._held}
        free = [place for place, one in enumerate(self._held) if id(one) not in wanted]
        for place, identity in zip(free, wanted.keys() - held, strict=False):
            self._put(place, wanted[identity])

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

    def _grow(self, adapters: Collection[Adapter]) -> None:
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
