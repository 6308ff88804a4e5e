"""Root-mean-square norm and gated activation with backward passes that keep no more than their inputs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RmsNorm(nn.Module):
    """y = x / sqrt(mean(x²) + eps) · weight, the mean in fp32 (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] → [..., H]."""
        y: Tensor = _RmsNorm.apply(x, self.weight, self.eps)
        return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        sums = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=sums)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_H, inverse)
        y = torch.mul(x, inverse, out=torch.empty_like(x))
        return y.mul_(weight_H)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_H, inverse = ctx.saved_tensors
        dy = grads[0]
        dweight_H = None
        if ctx.needs_input_grad[1]:
            dweight_H = (dy * x * inverse).flatten(0, -2).sum(0).to(weight_H.dtype)
        if not ctx.needs_input_grad[0]:
            return None, dweight_H, None
        scaled = dy * weight_H
        dot = torch.linalg.vecdot(scaled, x).unsqueeze(-1)
        pull = (inverse.pow(3).div_(-x.shape[-1]) * dot).to(x.dtype)
        dx = torch.mul(scaled, inverse, out=scaled)
        return dx.addcmul_(x, pull), dweight_H, None


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of [..., 2 I] laid out as gate, then up: [..., I]."""
    y: Tensor = _SwiGlu.apply(gate_up)
    return y


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor]:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        dgate_up = torch.empty_like(gate_up)
        dgate, dup = dgate_up.chunk(2, -1)
        torch.ops.aten.silu.out(gate, out=dup).mul_(grads[0])
        torch.mul(grads[0], up, out=dgate)
        torch.ops.aten.silu_backward.grad_input(dgate, gate, grad_input=dgate)
        return (dgate_up,)
