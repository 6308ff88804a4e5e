"""A frozen weight in 4 bits: blocks of 64 values, each a scale and sixteen levels spaced as a normal distribution's.

The levels are those of NormalFloat, quantiles of the normal distribution with an exact zero (Dettmers et al. 2023,
arXiv 2305.14314). Products lay the weight out in full first; only one layer's at a time is ever laid out.
"""

from functools import cache
from statistics import NormalDist

import torch
from torch import Tensor

from finery.training.kernels.products import times, times_transposed

BLOCK = 64
_OUTERMOST = 0.9677083
"""Probability of the outermost level, so that no level lies at infinity: 1 - (1/32 + 1/30) / 2."""


class FourBit:
    """A weight [N, K] in 4 bits and a fraction; K · N must be a multiple of 64."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight_NK.shape
        if weight_NK.numel() % BLOCK:
            raise ValueError(f"a weight of shape {list(weight_NK.shape)} isn't a whole number of blocks of {BLOCK}")
        self.bias_N = bias_N
        self.dtype = weight_NK.dtype
        blocks = weight_NK.detach().float().reshape(-1, BLOCK)
        scales = blocks.abs().amax(1, keepdim=True)
        codes = torch.bucketize(blocks / scales.clamp_min(1e-30), _edges().to(blocks.device)).to(torch.uint8).flatten()
        self._codes = codes[::2] << 4 | codes[1::2]
        self._scales = scales.to(self.dtype)
        table = _levels().to(weight_NK.device, self.dtype)
        self._pairs = torch.stack([table.repeat_interleave(16), table.repeat(16)], 1)

    def forward(self, x_TK: Tensor) -> Tensor:
        """x W^T + b."""
        return times_transposed(x_TK, self.dense(), self.bias_N)

    def backward(self, dy_TN: Tensor) -> Tensor:
        """dy W."""
        return times(dy_TN, self.dense())

    def dense(self) -> Tensor:
        """The weight laid out in full."""
        values = self._pairs.index_select(0, self._codes.int()).view(-1, BLOCK)
        return values.mul_(self._scales).view(self.out_features, self.in_features)


@cache
def _levels() -> Tensor:
    """Sixteen levels from -1 to 1: eight above zero, zero, seven below."""
    normal = NormalDist()
    above = [normal.inv_cdf(0.5 + (_OUTERMOST - 0.5) * step / 8) for step in range(1, 9)]
    below = [-normal.inv_cdf(0.5 + (_OUTERMOST - 0.5) * step / 7) for step in range(7, 0, -1)]
    levels = torch.tensor([*below, 0.0, *above])
    return levels / levels.abs().max()


@cache
def _edges() -> Tensor:
    """Midpoints between neighbouring levels."""
    levels = _levels()
    return (levels[1:] + levels[:-1]) / 2
