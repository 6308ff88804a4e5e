"""Matrix products, each by the fastest exact routine the device has. It does not know models or gradients.

On x86 CPUs with AVX-512, oneDNN multiplies fp32 at twice the speed of the library behind `torch.mm` where that library
keeps to narrower registers, and weights laid out for it ahead of time save a further tenth; both give true fp32 sums.
x86 CPUs without products of bf16 emulate them, ten times slower than fp32: there, bf16 is only how numbers are kept,
and each product is done in fp32 and rounded once.
"""

import platform
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

_PACKED_FOR_ROWS = 1024


class Frozen(Protocol):
    """A weight [N, K] (and bias [N]) that isn't trained."""

    out_features: int
    in_features: int
    bias_N: Tensor | None
    dtype: torch.dtype
    """Of the products."""

    def forward(self, x_TK: Tensor) -> Tensor:
        """x W^T + b: [T, N], fresh memory."""

    def backward(self, dy_TN: Tensor) -> Tensor:
        """dy W: [T, K], fresh memory."""

    def dense(self) -> Tensor:
        """The weight itself, [N, K]."""


class Dense:
    """A weight as it is."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight_NK.shape
        self._weight_NK = weight_NK
        self.bias_N = bias_N
        self.dtype = weight_NK.dtype

    def forward(self, x_TK: Tensor) -> Tensor:
        """x W^T + b."""
        return times_transposed(x_TK, self._weight_NK, self.bias_N)

    def backward(self, dy_TN: Tensor) -> Tensor:
        """dy W."""
        return times(dy_TN, self._weight_NK)

    def dense(self) -> Tensor:
        """The weight itself."""
        return self._weight_NK


class Packed:
    """A weight in oneDNN's own layout, once for each direction; the plain weight isn't kept."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight_NK.shape
        self.bias_N = bias_N
        self.dtype = weight_NK.dtype
        self._forward = torch.ops.mkldnn._reorder_linear_weight(weight_NK.contiguous(), _PACKED_FOR_ROWS)
        self._backward = torch.ops.mkldnn._reorder_linear_weight(weight_NK.t().contiguous(), _PACKED_FOR_ROWS)

    def forward(self, x_TK: Tensor) -> Tensor:
        """x W^T + b."""
        return _onednn(x_TK, self._forward, self.bias_N)

    def backward(self, dy_TN: Tensor) -> Tensor:
        """dy W."""
        return _onednn(dy_TN, self._backward, None)

    def dense(self) -> Tensor:
        """The weight, laid out plainly again."""
        plain: Tensor = self._forward.to_dense()
        return plain


def freeze(weight_NK: Tensor, bias_N: Tensor | None = None) -> Frozen:
    """The weight in the layout that is fastest on its device."""
    if weight_NK.device.type == "cpu" and has_onednn():
        return Packed(weight_NK, bias_N)
    return Dense(weight_NK, bias_N)


def times_transposed(a_MK: Tensor, b_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """a b^T + bias: [M, N]."""
    if _widens(a_MK):
        bias_N = None if bias_N is None else bias_N.float()
        return times_transposed(a_MK.float(), b_NK.float(), bias_N).to(a_MK.dtype)
    if _prefers_onednn(a_MK):
        return _onednn(a_MK, b_NK, bias_N)
    if bias_N is not None:
        return torch.addmm(bias_N, a_MK, b_NK.t())
    return torch.mm(a_MK, b_NK.t())


def times(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """a b: [M, N]."""
    if _widens(a_MK):
        return times(a_MK.float(), b_KN.float()).to(a_MK.dtype)
    if _prefers_onednn(a_MK):
        return _onednn(a_MK, b_KN.t(), None)
    return torch.mm(a_MK, b_KN)


def add_times_transposed_(into_MN: Tensor, a_MK: Tensor, b_NK: Tensor) -> None:
    """into += a b^T, in place."""
    if _widens(a_MK):
        into_MN.add_(times_transposed(a_MK.float(), b_NK.float()))
        return
    if _prefers_onednn(a_MK):
        into_MN.add_(_onednn(a_MK, b_NK, None))
        return
    into_MN.addmm_(a_MK, b_NK.t())


def batched_times_transposed(a_BMK: Tensor, b_BNK: Tensor) -> Tensor:
    """a b^T for each of a batch: [B, M, N]."""
    if _widens(a_BMK):
        return batched_times_transposed(a_BMK.float(), b_BNK.float()).to(a_BMK.dtype)
    if _prefers_onednn(a_BMK):
        return torch.stack([_onednn(a_MK, b_NK, None) for a_MK, b_NK in zip(a_BMK, b_BNK, strict=True)])
    return torch.bmm(a_BMK, b_BNK.transpose(1, 2))


def batched_times(a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
    """a b for each of a batch: [B, M, N]."""
    if _widens(a_BMK):
        return batched_times(a_BMK.float(), b_BKN.float()).to(a_BMK.dtype)
    if _prefers_onednn(a_BMK):
        return batched_times_transposed(a_BMK, b_BKN.transpose(1, 2))
    return torch.bmm(a_BMK, b_BKN)


def batched_transposed_times(a_BMK: Tensor, b_BMN: Tensor) -> Tensor:
    """a^T b for each of a batch: [B, K, N]."""
    if _widens(a_BMK):
        return batched_transposed_times(a_BMK.float(), b_BMN.float()).to(a_BMK.dtype)
    if _prefers_onednn(a_BMK):
        return batched_times_transposed(a_BMK.transpose(1, 2).contiguous(), b_BMN.transpose(1, 2))
    return torch.bmm(a_BMK.transpose(1, 2), b_BMN)


@cache
def has_onednn() -> bool:
    """Whether oneDNN's products on AVX-512 are there."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.cpu._is_avx512_supported()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


@cache
def multiplies_bf16() -> bool:
    """Whether this CPU has products of bf16 of its own."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def _emulates_bf16() -> bool:
    return platform.machine() in {"x86_64", "AMD64"} and not multiplies_bf16()


def _widens(a: Tensor) -> bool:
    return a.dtype == torch.bfloat16 and a.device.type == "cpu" and _emulates_bf16()


def _prefers_onednn(a: Tensor) -> bool:
    return a.dtype == torch.float32 and a.device.type == "cpu" and has_onednn()


def _onednn(a_MK: Tensor, b_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a_MK, b_NK, bias_N, "none", [], "")
    return product
