"""Cross-entropy over a large vocabulary whose gradient is made with it, chunk by chunk, so that logits never pile up.

Kept for the backward pass: the gradient by each hidden state [N, H]. It does not know models or weights of tokens.
Focal: (1 − p)^γ · −log p (Lin et al. 2017, arXiv 1708.02002). Smoothing: targets are 1 − ε, every token gets ε / V more
(Szegedy et al. 2016, arXiv 1512.00567).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finery.training.kernels.products import Dense, Frozen, times

_CHUNK_LOGITS = 8_000_000
"""Logits in one chunk: 16 MB in bf16, 32 MB in fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What the loss of one token is."""

    smoothing: float = 0.0
    gamma: float = 0.0
    factor: float = 1.0
    """Logits are multiplied by it (some models scale them)."""


def trained_token_losses(
    hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, shape: Shape
) -> tuple[Tensor, Tensor]:
    """The same for a head whose fp32 weight is trained too: chunks are computed again in the backward pass."""
    losses_N, right_N = _TrainedTokenLosses.apply(hidden_NH, weight_VH, targets_N, shape)
    return losses_N, right_N


def token_losses(hidden_NH: Tensor, output: Frozen, targets_N: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """The loss of each token (fp32 [N]) and whether its target is the most likely one (bool [N])."""
    losses_N, right_N = _TokenLosses.apply(hidden_NH, output, targets_N, shape)
    return losses_N, right_N


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, output: Frozen, targets_N: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        dhidden_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        losses_N, right_N = _losses(hidden_NH, output, targets_N, shape, dhidden_NH)
        ctx.save_for_backward(dhidden_NH)
        ctx.mark_non_differentiable(right_N)
        return losses_N, right_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dhidden_NH,) = ctx.saved_tensors
        return torch.mul(dhidden_NH, grads[0][:, None], out=torch.empty_like(dhidden_NH)), None, None, None


class _TrainedTokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, shape: Shape
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N)
        ctx.shape = shape
        losses_N, right_N = _losses(hidden_NH, Dense(weight_VH.to(hidden_NH.dtype)), targets_N, shape, None)
        ctx.mark_non_differentiable(right_N)
        return losses_N, right_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, targets_N = ctx.saved_tensors
        output = Dense(weight_VH.to(hidden_NH.dtype))
        dhidden_NH, dweight_VH = torch.empty_like(hidden_NH), torch.zeros_like(weight_VH)
        for chunk in _chunks(len(hidden_NH), len(weight_VH)):
            logits_CV = output.forward(hidden_NH[chunk])
            dlogits_CV = _chunk(logits_CV, targets_N[chunk], ctx.shape, gradient=True)[2]
            dlogits_CV.mul_(grads[0][chunk, None])
            dhidden_NH[chunk] = output.backward(dlogits_CV)
            dweight_VH += times(dlogits_CV.t().contiguous(), hidden_NH[chunk])
        return dhidden_NH, dweight_VH, None, None


def _losses(
    hidden_NH: Tensor, output: Frozen, targets_N: Tensor, shape: Shape, dhidden_NH: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Losses and hits; the gradient by the hidden states is written into `dhidden_NH` if it is given."""
    losses_N = hidden_NH.new_empty(len(hidden_NH), dtype=torch.float32)
    right_N = hidden_NH.new_empty(len(hidden_NH), dtype=torch.bool)
    for chunk in _chunks(len(hidden_NH), output.out_features):
        logits_CV = output.forward(hidden_NH[chunk])
        losses_N[chunk], right_N[chunk], dlogits_CV = _chunk(
            logits_CV, targets_N[chunk], shape, gradient=dhidden_NH is not None
        )
        if dhidden_NH is not None:
            dhidden_NH[chunk] = output.backward(dlogits_CV)
    return losses_N, right_N


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    at_once = max(1, _CHUNK_LOGITS // vocabulary)
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]


def _chunk(logits_CV: Tensor, targets_C: Tensor, shape: Shape, *, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, hits and the gradient by the logits (in the logits' dtype; empty when not asked for)."""
    if shape.factor != 1.0:
        logits_CV = logits_CV * shape.factor
    places_C1 = targets_C[:, None]
    best_C1 = logits_CV.amax(-1, keepdim=True)
    target_C1 = logits_CV.gather(1, places_C1)
    p_CV = torch.softmax(logits_CV, -1, dtype=torch.float32)
    # The most likely token's probability is 1 / sum(exp(logit - best)): its log is the log-sum-exp, never -inf.
    lse_C1 = best_C1.float() - p_CV.amax(-1, keepdim=True).log_()
    loss_C1 = lse_C1 - target_C1.float()
    right_C1 = target_C1 == best_C1
    pull_C1 = torch.ones_like(loss_C1)
    if shape.gamma:
        p_C1 = torch.exp(-loss_C1)
        rest_C1 = 1 - p_C1
        pull_C1 = rest_C1**shape.gamma + shape.gamma * p_C1 * rest_C1 ** (shape.gamma - 1) * loss_C1
        loss_C1 = rest_C1**shape.gamma * loss_C1
    if shape.smoothing:
        mean_C1 = logits_CV.mean(-1, keepdim=True, dtype=torch.float32)
        loss_C1 = (1 - shape.smoothing) * loss_C1 + shape.smoothing * (lse_C1 - mean_C1)
    if not gradient:
        return loss_C1[:, 0], right_C1[:, 0], logits_CV
    p_CV.scatter_add_(1, places_C1, torch.full_like(loss_C1, shape.smoothing - 1))
    if shape.smoothing:
        p_CV.sub_(shape.smoothing / logits_CV.shape[1])
    if shape.gamma or shape.factor != 1.0:
        p_CV.mul_(pull_C1 * shape.factor)
    return loss_C1[:, 0], right_C1[:, 0], p_CV.to(logits_CV.dtype)
