"""Causal attention over documents of a row as batched products, with rotary embedding: forward and backward by hand.

Documents of like lengths share a batch, the shorter ones padded at their end, where causality hides the padding from
every real token. Queries go in blocks, and a block meets only the keys before its end, so that little of the hidden
half is computed. A segment may go on from others, whose keys and values it then meets first: what many documents
begin with lies in the row once. It does not know models or layouts of projections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from finery.training.kernels.products import batched_times, batched_times_transposed, batched_transposed_times

_BLOCK = 128
_KEEP_PROBABILITIES_BELOW = 384
_CALLS, _TOKEN, _PAIR = 600.0, 1.5, 0.03
"""Microseconds of a batch, of each of its tokens, and of each pair of tokens of one document: measured on two cores."""
_MOST_DOCUMENTS = 64

Range = tuple[int, int]
"""Begin and end of some tokens in the pass."""


@dataclass(frozen=True, slots=True)
class Group:
    """Documents attended to in one batch; its rows come one document after the other, each padded to `length`."""

    first: int
    """Its first row among the rows of all groups."""
    count: int
    length: int
    before: tuple[Range, ...]
    """Where in the pass the tokens lie that come before each of its documents, first to last."""

    @property
    def context(self) -> int:
        """How many tokens come before."""
        return sum(end - begin for begin, end in self.before)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the documents of a row are laid out for attention: as R rows, group after group."""

    groups: list[Group]
    sources_R: Tensor | None
    """Where each row lies in the pass, padding anywhere in its document; None if the rows are the pass itself."""
    padding: Tensor | None
    """The rows that are padding; None if there are none."""
    places_T: Tensor | None
    """The row of each token of the pass; None if the rows are the pass itself."""


def plan(starts: Sequence[int], device: torch.device, before: Sequence[int | None] = ()) -> Plan:
    """Lay out the segments that begin at `starts` (its last entry is the row's length).

    `before` names for each the segment it goes on from; None, or nothing at all: it is a document's beginning.
    """
    groups: list[Group] = []
    sources: list[Tensor] = []
    padded: list[Tensor] = []
    row = 0
    for context, segments in _by_context(list(pairwise(starts)), before).items():
        segments.sort(key=lambda segment: (segment[1] - segment[0], segment[0]))
        known = sum(end - begin for begin, end in context)
        for members in _cheapest([end - begin for begin, end in segments], known):
            inside = sorted(segments[members])
            begins = torch.tensor([begin for begin, _ in inside])[:, None]
            ends = torch.tensor([end for _, end in inside])[:, None]
            length = int((ends - begins).max())
            steps = begins + torch.arange(length)
            groups.append(Group(row, len(inside), length, context))
            sources.append(torch.minimum(steps, ends - 1).flatten())
            padded.append((steps >= ends).flatten())
            row += steps.numel()
    sources_R, padded_R = torch.cat(sources), torch.cat(padded)
    if len(sources_R) == starts[-1] and bool((sources_R == torch.arange(len(sources_R))).all()):
        return Plan(groups, None, None, None)
    places_T = torch.empty(starts[-1], dtype=torch.int64)
    real = (~padded_R).nonzero()[:, 0]
    places_T[sources_R[real]] = real
    padding = padded_R.nonzero()[:, 0].to(device) if bool(padded_R.any()) else None
    return Plan(groups, sources_R.to(device), padding, places_T.to(device))


def _by_context(segments: list[Range], before: Sequence[int | None]) -> dict[tuple[Range, ...], list[Range]]:
    """The segments by what comes before them."""
    contexts: list[tuple[Range, ...]] = []
    found: dict[tuple[Range, ...], list[Range]] = {}
    for index, segment in enumerate(segments):
        earlier = before[index] if before else None
        contexts.append(() if earlier is None else (*contexts[earlier], segments[earlier]))
        found.setdefault(contexts[-1], []).append(segment)
    return found


def _cheapest(lengths: list[int], known: int) -> list[slice]:
    """Cut ascending `lengths` into runs, each to be padded to its longest, at the least cost in all.

    Each token meets `known` more before its own document.
    """
    costs = [0.0]
    cuts = [0]
    for end in range(1, len(lengths) + 1):
        longest = lengths[end - 1]
        each = _TOKEN * longest + _PAIR * longest * (known + longest)
        choices = [(costs[cut] + _CALLS + (end - cut) * each, cut) for cut in range(max(0, end - _MOST_DOCUMENTS), end)]
        cost, cut = min(choices)
        costs.append(cost)
        cuts.append(cut)
    runs = []
    end = len(lengths)
    while end:
        runs.append(slice(cuts[end], end))
        end = cuts[end]
    return runs[::-1]


def attend(
    query_Tqd: Tensor,
    key_Tkd: Tensor,
    value_Tkd: Tensor,
    layout: Plan,
    *,
    scale: float,
    window: int | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Attention [T, q, d] of q query heads over k key heads (q a multiple of k), within documents only.

    `window` hides keys that many tokens back or more. `rotary` is cos and sin [T, R] that turn the first R entries of
    queries and keys, as halves (the layout of llama's code).
    """
    cos, sin = rotary if rotary is not None else (None, None)
    out_Tqd: Tensor = _Attend.apply(query_Tqd, key_Tkd, value_Tkd, layout, scale, window, cos, sin)
    return out_Tqd


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_Tqd: Tensor,
        key_Tkd: Tensor,
        value_Tkd: Tensor,
        layout: Plan,
        scale: float,
        window: int | None,
        cos: Tensor | None,
        sin: Tensor | None,
    ) -> Tensor:
        heads = key_Tkd.shape[1]
        query_Tqd = _turned(query_Tqd, cos, sin, scale)
        key_Tkd = _turned(key_Tkd, cos, sin, 1.0)
        query_Rqd, key_Rkd, value_Rkd = (_rows(x, layout) for x in (query_Tqd, key_Tkd, value_Tkd))
        out_Rqd = torch.empty_like(query_Rqd)
        saved: list[Tensor] = []
        kept: list[int] = []
        for group in layout.groups:
            query = _batch(query_Rqd, group, heads)
            key = _with_context(_batch(key_Rkd, group, heads), key_Tkd, group)
            value = _with_context(_batch(value_Rkd, group, heads), value_Tkd, group)
            out, probabilities = _forward(query, key, value, group, window)
            _put(out, group, heads, out_Rqd)
            saved += [query, key, value, *probabilities]
            kept.append(len(probabilities))
        ctx.save_for_backward(cos, sin, *saved)
        ctx.plan = layout, kept, scale, window, heads
        return _back_in_order(out_Rqd, layout)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layout, kept, scale, window, heads = ctx.plan
        cos, sin, *saved = ctx.saved_tensors
        dout_Rqd = _rows(grads[0], layout)
        if layout.padding is not None:
            dout_Rqd.index_fill_(0, layout.padding, 0.0)
        dquery_Rqd = torch.empty_like(dout_Rqd, memory_format=torch.contiguous_format)
        dkey_Rkd = dout_Rqd.new_empty(len(dout_Rqd), heads, dout_Rqd.shape[2])
        dvalue_Rkd = torch.empty_like(dkey_Rkd)
        shared: list[tuple[Group, Tensor, Tensor]] = []
        for group, many in zip(layout.groups, kept, strict=True):
            query, key, value, *probabilities = saved[: 3 + many]
            saved = saved[3 + many :]
            dout = _batch(dout_Rqd, group, heads)
            dquery, dkey, dvalue = _backward(query, key, value, dout, group, window, probabilities)
            if group.context:
                shared.append((group, _of_context(dkey, group, heads), _of_context(dvalue, group, heads)))
                dkey, dvalue = dkey[:, group.context :], dvalue[:, group.context :]
            for gradient, into in ((dquery, dquery_Rqd), (dkey, dkey_Rkd), (dvalue, dvalue_Rkd)):
                _put(gradient, group, heads, into)
        dquery_Tqd, dkey_Tkd, dvalue_Tkd = (_back_in_order(x, layout) for x in (dquery_Rqd, dkey_Rkd, dvalue_Rkd))
        for group, dkey_Ckd, dvalue_Ckd in shared:
            _add_to_context(dkey_Ckd, group, dkey_Tkd)
            _add_to_context(dvalue_Ckd, group, dvalue_Tkd)
        dquery_Tqd = _turned_back(dquery_Tqd, cos, sin, scale)
        return dquery_Tqd, _turned_back(dkey_Tkd, cos, sin, 1.0), dvalue_Tkd, None, None, None, None, None


def _turned(x_Thd: Tensor, cos_TR: Tensor | None, sin_TR: Tensor | None, scale: float) -> Tensor:
    """scale · x with the first R entries of each head as pairs (one of each half), turned by the row's angles."""
    if cos_TR is None or sin_TR is None:
        return x_Thd * scale
    rotated = cos_TR.shape[1]
    if rotated < x_Thd.shape[2]:
        still = x_Thd[..., rotated:] * scale
        return torch.cat([_turned(x_Thd[..., :rotated], cos_TR, sin_TR, scale), still], -1)
    turned = x_Thd * (cos_TR[:, None] * scale).to(x_Thd.dtype)
    return turned.addcmul_(x_Thd.roll(rotated // 2, -1), _signed(sin_TR * scale, x_Thd.dtype))


def _turned_back(dy_Thd: Tensor, cos_TR: Tensor | None, sin_TR: Tensor | None, scale: float) -> Tensor:
    """The transpose of `_turned`, which for a rotation is its inverse."""
    if cos_TR is None or sin_TR is None:
        return dy_Thd * scale
    rotated = cos_TR.shape[1]
    if rotated < dy_Thd.shape[2]:
        still = dy_Thd[..., rotated:] * scale
        return torch.cat([_turned_back(dy_Thd[..., :rotated], cos_TR, sin_TR, scale), still], -1)
    dx_Thd = dy_Thd * (cos_TR[:, None] * scale).to(dy_Thd.dtype)
    return dx_Thd.add_((dy_Thd * _signed(sin_TR * scale, dy_Thd.dtype)).roll(rotated // 2, -1))


def _signed(sin_TR: Tensor, dtype: torch.dtype) -> Tensor:
    """[T, 1, R]: minus the sine for the first half, whose new value takes away from the second's."""
    signed = sin_TR[:, None].to(dtype, copy=True)
    signed[..., : sin_TR.shape[1] // 2].neg_()
    return signed


def _rows(x_Thd: Tensor, layout: Plan) -> Tensor:
    """The pass [T, h, d] in the order of the groups: [R, h, d]."""
    if layout.sources_R is None:
        return x_Thd
    return x_Thd.flatten(1).index_select(0, layout.sources_R).view(-1, *x_Thd.shape[1:])


def _back_in_order(x_Rhd: Tensor, layout: Plan) -> Tensor:
    """The inverse of `_rows`, padding left out."""
    if layout.places_T is None:
        return x_Rhd
    return x_Rhd.flatten(1).index_select(0, layout.places_T).view(-1, *x_Rhd.shape[1:])


def _batch(x_Rhd: Tensor, group: Group, heads: int) -> Tensor:
    """A group's rows [count · length, heads · g, d] as [count · heads, length · g, d]."""
    rows = x_Rhd[group.first : group.first + group.count * group.length]
    split = rows.reshape(group.count, group.length, heads, -1, rows.shape[2]).transpose(1, 2)
    return split.reshape(group.count * heads, -1, rows.shape[2])


def _put(x: Tensor, group: Group, heads: int, into_Rhd: Tensor) -> None:
    """The inverse of `_batch`."""
    rows = into_Rhd[group.first : group.first + group.count * group.length]
    split = x.reshape(group.count, heads, group.length, -1, rows.shape[2]).transpose(1, 2)
    rows.view(split.shape).copy_(split)


def _with_context(own: Tensor, x_Tkd: Tensor, group: Group) -> Tensor:
    """A group's keys or values [count · heads, length, d], and in front of each document's what comes before it."""
    if not group.context:
        return own
    context_kCd = torch.cat([x_Tkd[begin:end] for begin, end in group.before]).transpose(0, 1)
    return torch.cat([context_kCd.repeat(group.count, 1, 1), own], 1)


def _of_context(dx: Tensor, group: Group, heads: int) -> Tensor:
    """The gradient by what comes before, [C, heads, d] in fp32: the sum of what each document of the group asks."""
    of_each = dx[:, : group.context].view(group.count, heads, group.context, -1)
    return of_each.sum(0, dtype=torch.float32).transpose(0, 1)


def _add_to_context(dx_Ckd: Tensor, group: Group, into_Tkd: Tensor) -> None:
    start = 0
    for begin, end in group.before:
        into_Tkd[begin:end] += dx_Ckd[start : start + end - begin].to(into_Tkd.dtype)
        start += end - begin


def _blocks(length: int) -> list[tuple[int, int]]:
    many = max(1, round(length / _BLOCK))
    edges = [length * i // many for i in range(many + 1)]
    return list(pairwise(edges))


def _probabilities(
    query: Tensor, key: Tensor, group: Group, begin: int, end: int, window: int | None
) -> tuple[Tensor, int]:
    """Softmax of one block of queries over the keys it may see, and the first of these keys."""
    g = query.shape[1] // group.length
    own = group.context
    first = 0 if window is None else max(0, own + begin - window + 1)
    scores = batched_times_transposed(query[:, begin * g : end * g], key[:, first : own + end])
    view = scores.view(len(scores), end - begin, g, own + end - first)
    if window is None:
        view[..., own + begin :].add_(_ahead(_BLOCK * 2, scores.dtype, scores.device)[: end - begin, :, : end - begin])
    else:
        places = torch.arange(first, own + end, device=query.device)
        back = places[own + begin - first :, None, None] - places
        view.masked_fill_((back < 0) | (back >= window), float("-inf"))
    return torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype), first


@cache
def _ahead(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[size, 1, size]: minus infinity where a key is ahead of its query, else 0."""
    return torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu_(1)[:, None]


def _forward(
    query: Tensor, key: Tensor, value: Tensor, group: Group, window: int | None
) -> tuple[Tensor, list[Tensor]]:
    outs = []
    kept = []
    for begin, end in _blocks(group.length):
        probabilities, first = _probabilities(query, key, group, begin, end, window)
        outs.append(batched_times(probabilities, value[:, first : group.context + end]))
        if group.context + group.length < _KEEP_PROBABILITIES_BELOW:
            kept.append(probabilities)
    return outs[0] if len(outs) == 1 else torch.cat(outs, 1), kept


def _backward(
    query: Tensor, key: Tensor, value: Tensor, dout: Tensor, group: Group, window: int | None, kept: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    g = query.shape[1] // group.length
    blocks = _blocks(group.length)
    dqueries: list[Tensor] = []
    dkey = dvalue = torch.empty(0)
    # Last block first: it meets every key (but for a window), so that its gradients are what the others add to.
    for index in reversed(range(len(blocks))):
        begin, end = blocks[index]
        rows = slice(begin * g, end * g)
        if kept:
            first = 0 if window is None else max(0, group.context + begin - window + 1)
            probabilities = kept[index]
        else:
            probabilities, first = _probabilities(query, key, group, begin, end, window)
        keys = slice(first, group.context + end)
        dprobabilities = batched_times_transposed(dout[:, rows], value[:, keys])
        dscores = torch._softmax_backward_data(dprobabilities, probabilities, -1, probabilities.dtype)
        dkeys, dvalues = (
            batched_transposed_times(x, y) for x, y in ((dscores, query[:, rows]), (probabilities, dout[:, rows]))
        )
        if dkey.numel() == 0 and first == 0:
            dkey, dvalue = dkeys, dvalues
        else:
            if dkey.numel() == 0:
                dkey, dvalue = torch.zeros_like(key), torch.zeros_like(value)
            dkey[:, keys] += dkeys
            dvalue[:, keys] += dvalues
        dqueries.append(batched_times(dscores, key[:, keys]))
    return dqueries[0] if len(dqueries) == 1 else torch.cat(dqueries[::-1], 1), dkey, dvalue
