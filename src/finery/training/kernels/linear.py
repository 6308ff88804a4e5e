"""Linear layers of one input as one product, each part with a low-rank adapter or without. It does not know names.

y = W x + b + scale · B A x, with W of all parts stacked. The adapters' A are stacked too and their B laid on a block
diagonal, so that a group of layers costs two small products more than its base. Kept for the backward pass: x and A x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finery.training.kernels.products import Frozen, add_times_transposed_, times, times_transposed


class Adapter(nn.Module):
    """A [r, K] and B [N, r] of one linear layer in fp32, with DoRA's magnitude [N] if it has one."""

    def __init__(self, a_rK: Tensor, b_Nr: Tensor, *, scale: float, dropout: float, magnitude_N: Tensor | None) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(a_rK)
        self.lora_B = nn.Parameter(b_Nr)
        self.magnitude = None if magnitude_N is None else nn.Parameter(magnitude_N)
        self.scale = scale
        self.dropout = dropout
        self.active = True


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a stacked weight that were one linear layer, and its adapter."""

    start: int
    end: int
    adapter: Adapter | None


class Projection(nn.Module):
    """The stacked linear layers of one input: [..., K] in, [..., N] out.

    Adapters multiply as copies in the base's dtype: call `refresh` whenever their weights have changed.
    """

    def __init__(self, frozen: Frozen, parts: list[Part]) -> None:
        super().__init__()
        self.frozen = frozen
        self.parts = [part for part in parts if part.adapter is not None]
        self.adapters = nn.ModuleList(part.adapter for part in parts if part.adapter is not None)
        self._squares: dict[int, Tensor] = {}
        self._stacked = _Stacked.of(self.parts, frozen)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] → [..., N]."""
        y_TN = self._project(x.flatten(0, -2))
        return y_TN.view(*x.shape[:-1], self.frozen.out_features)

    def copies(self) -> tuple[list[Tensor], list[Tensor], list[float]]:
        """Where the copies of A and B lie, the weights they are copies of, and what each is multiplied by."""
        adapters = [part.adapter for part in self.parts if part.adapter is not None]
        into = [view for views in self._stacked.views() for view in views]
        weights = [weight.detach() for adapter in adapters for weight in (adapter.lora_A, adapter.lora_B)]
        return into, weights, [factor for adapter in adapters for factor in (1.0, adapter.scale)]

    def _project(self, x_TK: Tensor) -> Tensor:
        adapters = [part.adapter for part in self.parts if part.adapter is not None and part.adapter.active]
        if not adapters:
            out: Tensor = _FrozenProduct.apply(x_TK, self.frozen)
            return out
        dropout = adapters[0].dropout if self.training else 0.0
        parameters = [parameter for adapter in adapters for parameter in (adapter.lora_A, adapter.lora_B)]
        y_TN: Tensor = _AdaptedProduct.apply(x_TK, self.frozen, self._stacked, dropout, *parameters)
        if all(adapter.magnitude is None for adapter in adapters):
            return y_TN
        ratio_N = self._magnitude_ratio(self.parts).to(y_TN.dtype)
        if self.frozen.bias_N is None:
            return y_TN * ratio_N
        return (y_TN - self.frozen.bias_N) * ratio_N + self.frozen.bias_N

    def _magnitude_ratio(self, parts: list[Part]) -> Tensor:
        """DoRA's magnitude over the norm of each row of W + scale · B A [N], fp32; the norm gets no gradient."""
        ratios = []
        row = 0
        device = next(self.parameters()).device
        for part in parts:
            adapter = part.adapter
            assert adapter is not None
            assert adapter.magnitude is not None
            ratios.append(torch.ones(part.start - row, device=device))
            with torch.no_grad():
                norm_n = self._row_norms(part, adapter)
            ratios.append(adapter.magnitude / norm_n)
            row = part.end
        ratios.append(torch.ones(self.frozen.out_features - row, device=device))
        return torch.cat(ratios)

    def _row_norms(self, part: Part, adapter: Adapter) -> Tensor:
        """|W + s B A| by row, from |W|² + 2 s <W A^T, B> + s² <B (A A^T), B>: the sum itself is never laid out."""
        rows = slice(part.start, part.end)
        if part.start not in self._squares:
            self._squares[part.start] = self.frozen.dense()[rows].float().square().sum(1)
        a_rK, b_nr, scale = adapter.lora_A, adapter.lora_B, adapter.scale
        wa_rN = self.frozen.forward(a_rK.to(self.frozen.dtype)).float()
        if self.frozen.bias_N is not None:
            wa_rN = wa_rN - self.frozen.bias_N.float()
        cross_n = (wa_rN[:, rows].t() * b_nr).sum(1)
        own_n = ((b_nr @ (a_rK @ a_rK.t())) * b_nr).sum(1)
        return (self._squares[part.start] + 2 * scale * cross_n + scale * scale * own_n).clamp_min_(0).sqrt_()


class TrainedLinear(nn.Module):
    """A linear layer whose fp32 weight is trained itself, its products in `dtype`."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] → [..., N], in `dtype`."""
        x_TK = x.reshape(-1, x.shape[-1]).to(self.dtype)
        y_TN: Tensor = _TrainedProduct.apply(x_TK, self.weight, self.bias)
        return y_TN.view(*x.shape[:-1], -1)


def refresh(projections: Sequence[Projection]) -> None:
    """Copy the adapters' weights, which a step has changed, to where the products take them from."""
    into: list[Tensor] = []
    weights: list[Tensor] = []
    factors: list[float] = []
    for projection in projections:
        copies, sources, scales = projection.copies()
        into += copies
        weights += sources
        factors += scales
    if into:
        torch._foreach_copy_(into, torch._foreach_mul(weights, factors))


@dataclass(frozen=True, slots=True)
class _Stacked:
    """The adapters of some parts as one, in the base's dtype: R is the sum of their ranks; B holds its scale."""

    a_RK: Tensor
    b_NR: Tensor
    places: list[tuple[int, int, int, int, float]]
    """For each adapter: its rows of y, its columns of A x, its scale."""

    @staticmethod
    def of(parts: list[Part], frozen: Frozen) -> "_Stacked":
        places = []
        column = 0
        device: torch.device | None = None
        for part in parts:
            if part.adapter is not None:
                rank, device = len(part.adapter.lora_A), part.adapter.lora_A.device
                places.append((part.start, part.end, column, column + rank, part.adapter.scale))
                column += rank
        a_RK = torch.zeros(column, frozen.in_features, dtype=frozen.dtype, device=device)
        return _Stacked(a_RK, a_RK.new_zeros(frozen.out_features, column), places)

    def views(self) -> list[tuple[Tensor, Tensor]]:
        """For each adapter: where its A and its B lie."""
        return [(self.a_RK[first:last], self.b_NR[start:end, first:last]) for start, end, first, last, _ in self.places]


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TK: Tensor, frozen: Frozen) -> Tensor:
        ctx.frozen = frozen
        return frozen.forward(x_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.frozen.backward(grads[0].contiguous()) if ctx.needs_input_grad[0] else None, None


class _AdaptedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TK: Tensor, frozen: Frozen, stacked: _Stacked, dropout: float, *parameters: Tensor
    ) -> Tensor:
        y_TN = frozen.forward(x_TK)
        kept_TK = None
        if dropout:
            kept_TK = F.dropout(torch.ones_like(x_TK), dropout)
            x_TK = x_TK * kept_TK
        low_TR = times_transposed(x_TK, stacked.a_RK)
        add_times_transposed_(y_TN, low_TR, stacked.b_NR)
        ctx.frozen, ctx.stacked = frozen, stacked
        ctx.save_for_backward(x_TK, low_TR, kept_TK)
        return y_TN

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TK, low_TR, kept_TK = ctx.saved_tensors
        stacked: _Stacked = ctx.stacked
        dy_TN = grads[0].contiguous()
        dlow_TR = times(dy_TN, stacked.b_NR)
        db_RN = times(low_TR.t().contiguous(), dy_TN).float()
        da_RK = times(dlow_TR.t().contiguous(), x_TK).float()
        parameter_grads: list[Tensor | None] = []
        for start, end, first, last, scale in stacked.places:
            parameter_grads += [da_RK[first:last], db_RN[first:last, start:end].t().contiguous().mul_(scale)]
        dx_TK = None
        if ctx.needs_input_grad[0]:
            dx_TK = ctx.frozen.backward(dy_TN)
            if kept_TK is None:
                add_times_transposed_(dx_TK, dlow_TR, stacked.a_RK.t())
            else:
                dx_TK.add_(times(dlow_TR, stacked.a_RK).mul_(kept_TK))
        return dx_TK, None, None, None, *parameter_grads


class _TrainedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_TK, weight_NK)
        bias_N = None if bias_N is None else bias_N.to(x_TK.dtype)
        return times_transposed(x_TK, weight_NK.to(x_TK.dtype), bias_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TK, weight_NK = ctx.saved_tensors
        dy_TN = grads[0].contiguous()
        dx_TK = times(dy_TN, weight_NK.to(x_TK.dtype)) if ctx.needs_input_grad[0] else None
        dweight_NK = times(dy_TN.t().contiguous(), x_TK).to(weight_NK.dtype)
        dbias_N = dy_TN.sum(0, dtype=weight_NK.dtype) if ctx.needs_input_grad[2] else None
        return dx_TK, dweight_NK, dbias_N
