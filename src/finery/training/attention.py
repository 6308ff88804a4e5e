"""Attention strictly within a document, over rows of documents laid one after the other. It does not know models.

Registered with transformers under the name "finery", so that every model's own code calls it; the pass at hand is named
by `documents(...)` around the model's call, since the model's code doesn't know of documents. On CPUs it is ours
(`kernels/documents.py`); on GPUs torch's variable-length kernel where it is there, else one call a document.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from finery.training.kernels import documents as kernel

NAME = "finery"


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How a layer attends."""

    queries: int
    """Query heads."""
    keys: int
    """Key and value heads."""
    width: int
    """Entries of a head."""
    scale: float
    window: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """What attention must know of a pass."""

    starts: tuple[int, ...]
    layout: kernel.Plan | None
    """For CPUs."""
    offsets: Tensor | None
    """`starts` as int32 on the GPU."""
    longest: int


_row: ContextVar[Row] = ContextVar("row")
_seen: ContextVar[list[HeadShape] | None] = ContextVar("seen", default=None)
_instead: ContextVar[Callable[..., Tensor] | None] = ContextVar("instead", default=None)


@contextmanager
def documents(starts: Sequence[int], device: torch.device, before: Sequence[int | None] = ()) -> Iterator[None]:
    """Within it, attention keeps to the documents that begin at `starts` (the last entry is the row's length).

    On CPUs a segment may go on from an earlier one, named in `before`; see `kernels.documents.plan`.
    """
    on_cpu = device.type == "cpu"
    assert on_cpu or not before, "only the kernel for CPUs knows of segments that go on from others"
    row = Row(
        tuple(starts),
        kernel.plan(starts, device, before) if on_cpu else None,
        None if on_cpu else torch.tensor(starts, dtype=torch.int32, device=device),
        # A segment that goes on from others is longer than it looks: no window is known to be wide enough for it.
        sys.maxsize if before else max(end - begin for begin, end in pairwise(starts)),
    )
    token = _row.set(row)
    try:
        yield
    finally:
        _row.reset(token)


@contextmanager
def watched() -> Iterator[list[HeadShape]]:
    """Within it, how transformers' layers attend is written into the list."""
    seen: list[HeadShape] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


@contextmanager
def through(instead: Callable[..., Tensor]) -> Iterator[None]:
    """Within it, layers attend by `instead`, which is called as `attend` is: by a sampler that keeps what it reads."""
    token = _instead.set(instead)
    try:
        yield
    finally:
        _instead.reset(token)


def attend(
    query_Tqd: Tensor,
    key_Tkd: Tensor,
    value_Tkd: Tensor,
    *,
    scale: float,
    window: int | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Causal attention [T, q, d] within each document of the pass; arguments as in `kernels.documents.attend`."""
    how = _instead.get() or within_documents
    return how(query_Tqd, key_Tkd, value_Tkd, scale=scale, window=window, rotary=rotary)


def within_documents(
    query_Tqd: Tensor,
    key_Tkd: Tensor,
    value_Tkd: Tensor,
    *,
    scale: float,
    window: int | None,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """As `attend`, whatever `through` says."""
    row = _row.get()
    if window is not None and window >= row.longest:
        window = None
    query_Tqd, key_Tkd = query_Tqd.to(value_Tkd.dtype), key_Tkd.to(value_Tkd.dtype)
    if row.layout is not None:
        return kernel.attend(query_Tqd, key_Tkd, value_Tkd, row.layout, scale=scale, window=window, rotary=rotary)
    if rotary is not None:
        query_Tqd, key_Tkd = (turn(x, *rotary) for x in (query_Tqd, key_Tkd))
    knows = _varlen_knows()
    if knows and (window is None or "window_size" in knows) and query_Tqd.dtype in {torch.bfloat16, torch.float16}:
        return _varlen(query_Tqd, key_Tkd, value_Tkd, row, scale, window)
    return torch.cat(
        [
            _one_document(query_Tqd[begin:end], key_Tkd[begin:end], value_Tkd[begin:end], scale, window)
            for begin, end in pairwise(row.starts)
        ]
    )


def attend_for_transformers(
    module: nn.Module,
    query_1qTd: Tensor,
    key_1kTd: Tensor,
    value_1kTd: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same in transformers' signature and shapes: [1, heads, T, d] in, [1, T, heads, d] out.

    Dropout of attention is not done: adapters have their own. Extras that change the numbers are refused.
    """
    if kwargs.get("softcap") or kwargs.get("s_aux") is not None:
        raise NotImplementedError(f"{type(module).__name__} caps or sinks its attention scores: not supported")
    query, key, value = (x[0].transpose(0, 1) for x in (query_1qTd, key_1kTd, value_1kTd))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen = _seen.get()
    if seen is not None:
        seen.append(HeadShape(query.shape[1], key.shape[1], query.shape[2], scale, sliding_window))
    return attend(query, key, value, scale=scale, window=sliding_window)[None], None


@functools.cache
def _varlen_attn() -> Callable[..., Any] | None:
    """torch's kernel for rows of documents, where it has one. It brings torch's compiler along, two seconds of imports
    that processors needn't wait for."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    found: Callable[..., Any] = varlen_attn
    return found


@functools.cache
def _varlen_knows() -> frozenset[str]:
    """The names of its arguments, which differ between releases; none where there is no kernel."""
    kernel = _varlen_attn()
    return frozenset() if kernel is None else frozenset(inspect.signature(kernel).parameters)


def _varlen(
    query_Tqd: Tensor, key_Tkd: Tensor, value_Tkd: Tensor, row: Row, scale: float, window: int | None
) -> Tensor:
    """Attention by torch's kernel."""
    varlen_attn, knows = _varlen_attn(), _varlen_knows()
    assert varlen_attn is not None
    extras: dict[str, Any] = {}
    if "window_size" in knows:
        extras["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        extras["is_causal"] = True
    if "scale" in knows:
        extras["scale"] = scale
    else:
        query_Tqd = query_Tqd * (scale * query_Tqd.shape[2] ** 0.5)
    if query_Tqd.shape[1] != key_Tkd.shape[1]:
        if "enable_gqa" in knows:
            extras["enable_gqa"] = True
        else:
            shared = query_Tqd.shape[1] // key_Tkd.shape[1]
            key_Tkd, value_Tkd = (x.repeat_interleave(shared, 1) for x in (key_Tkd, value_Tkd))
    offsets, longest = row.offsets, row.longest
    out: Tensor = varlen_attn(query_Tqd, key_Tkd, value_Tkd, offsets, offsets, longest, longest, **extras)
    return out


def _one_document(query_Lqd: Tensor, key_Lkd: Tensor, value_Lkd: Tensor, scale: float, window: int | None) -> Tensor:
    query, key, value = (x.transpose(0, 1)[None] for x in (query_Lqd, key_Lkd, value_Lkd))
    mask = None
    if window is not None:
        places = torch.arange(len(query_Lqd), device=query.device)
        back = places[:, None] - places[None, :]
        mask = (back >= 0) & (back < window)
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return out[0].transpose(0, 1)


def turn(x_Thd: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Rotary embedding of the first R entries of each head, as halves."""
    rotated = cos_TR.shape[-1]
    cos, sin = cos_TR[:, None].to(x_Thd.dtype), sin_TR[:, None].to(x_Thd.dtype)
    turning, still = x_Thd[..., :rotated], x_Thd[..., rotated:]
    first, second = turning.chunk(2, -1)
    turned = turning * cos + torch.cat([-second, first], -1) * sin
    return turned if rotated == x_Thd.shape[-1] else torch.cat([turned, still], -1)


AttentionInterface.register(NAME, attend_for_transformers)
