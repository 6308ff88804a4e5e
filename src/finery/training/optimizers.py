"""Gradients → new weights. It does not know models, losses or schedules: the learning rate comes with every step.

    adamw       Loshchilov & Hutter 2019, arXiv 1711.05101
    adam        Kingma & Ba 2015, arXiv 1412.6980; weight decay is added to the gradient
    sgd         with heavy-ball momentum, betas[0]; weight decay is added to the gradient
    lion        Chen et al. 2023, arXiv 2302.06675
    adafactor   Shazeer & Stern 2018, arXiv 1804.04235; external learning rate, update clipped to root mean square 1
    adamw_8bit  AdamW whose two moments are stored as 8-bit floats, one scale per 256 numbers
                (block-wise as in Dettmers et al. 2022, arXiv 2110.02861)

The formulas are written out here, over a few flat tensors: quick to step, easy to save exactly, and the same for those
that torch.optim lacks. Tests hold each against its reference. Weights of one dimension (norms, biases, DoRA's
magnitudes) are never decayed.
"""

# Names end in their shape. N: the numbers of all weights of a group, R and C: rows and columns of one weight.

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from finery.training.spec import OptimizerSpec

State = dict[str, Tensor]
_GROUP_NUMBERS = 1 << 24
_BLOCK = 256
_CODES = torch.float8_e4m3fn
_LARGEST_CODE = 448.0
_SMALLEST_CODE = 2.0**-9


class Optimizer:
    """One optimizer over named weights."""

    def __init__(self, spec: OptimizerSpec, weights: Mapping[str, nn.Parameter]) -> None:
        self._spec = spec
        self._weights = list(weights.values())
        self._groups = _grouped(weights, alone=spec.name == "adafactor")
        self._states = [_initial_state(spec, group) for group in self._groups]

    def gradient_norm(self) -> float:
        """The L2 norm of all gradients as one vector; not finite if any gradient isn't."""
        norms = [torch.linalg.vector_norm(weight.grad) for weight in self._weights if weight.grad is not None]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def gradients(self) -> list[Tensor]:
        """Every gradient, in a fixed order; a weight that got none has zeros."""
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self._weights if weight.grad is not None]

    @torch.no_grad()
    def step(self, number: int, learning_rate: float, gradient_norm: float) -> None:
        """Apply the gradients, clipped to the spec's norm, and drop them; `number` counts steps from 1."""
        limit = self._spec.max_grad_norm
        scale = limit / gradient_norm if 0 < limit < gradient_norm else 1.0
        for group, state in zip(self._groups, self._states, strict=True):
            gradient_N = torch.cat([_gradient(weight) for weight in group])
            if scale != 1.0:
                gradient_N *= scale
            decay = self._spec.weight_decay if group[0].ndim > 1 else 0.0
            if decay and self._spec.name in ("adam", "sgd"):
                gradient_N += decay * torch.cat([weight.flatten() for weight in group])
            elif decay:
                torch._foreach_mul_(list[Tensor](group), 1 - learning_rate * decay)
            update_N = _update(self._spec, state, gradient_N, number, group[0].shape)
            sizes = [weight.numel() for weight in group]
            for weight, part in zip(group, torch.split(update_N, sizes), strict=True):
                weight.sub_(part.view_as(weight), alpha=learning_rate)
        for weight in self._weights:
            weight.grad = None

    def state(self) -> State:
        """Everything that the next step depends on, besides weights and step number."""
        return {
            f"{name}.{index}": tensor.detach().to("cpu", copy=True)
            for index, state in enumerate(self._states)
            for name, tensor in state.items()
        }

    def load_state(self, state: State) -> None:
        """The inverse of `state`, for the same spec and weights; ValueError for any other."""
        own = {f"{name}.{index}": tensor for index, part in enumerate(self._states) for name, tensor in part.items()}
        if {name: tensor.shape for name, tensor in own.items()} != {name: part.shape for name, part in state.items()}:
            raise ValueError("this optimizer state belongs to another optimizer or to other weights")
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _grouped(weights: Mapping[str, nn.Parameter], *, alone: bool) -> list[list[nn.Parameter]]:
    """Weights treated alike, together up to a size: few large operations, and little memory in flight."""
    groups: list[list[nn.Parameter]] = []
    for decays in (True, False):
        room = 0
        for weight in (weight for weight in weights.values() if (weight.ndim > 1) == decays):
            if alone or weight.numel() > room:
                groups.append([])
                room = _GROUP_NUMBERS
            groups[-1].append(weight)
            room -= weight.numel()
    return groups


def _initial_state(spec: OptimizerSpec, group: list[nn.Parameter]) -> State:
    size, device = sum(weight.numel() for weight in group), group[0].device

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    if spec.name in ("sgd", "lion"):
        return {"momentum": zeros(size)}
    if spec.name == "adafactor" and group[0].ndim > 1:
        rows, columns = _matrix_shape(group[0].shape)
        return {"rows": zeros(rows), "columns": zeros(columns)}
    if spec.name == "adafactor":
        return {"second": zeros(size)}
    if spec.name == "adamw_8bit":
        blocks = math.ceil(size / _BLOCK)
        return {
            "first": zeros(blocks, _BLOCK, dtype=_CODES),
            "first_scale": zeros(blocks, 1),
            "second_root": zeros(blocks, _BLOCK, dtype=_CODES),
            "second_root_scale": zeros(blocks, 1),
        }
    return {"first": zeros(size), "second": zeros(size)}


def _update(spec: OptimizerSpec, state: State, gradient_N: Tensor, number: int, shape: Iterable[int]) -> Tensor:
    """What is subtracted, times the learning rate, from the weights; changes `state`."""
    if spec.name == "sgd":
        return state["momentum"].mul_(spec.betas[0]).add_(gradient_N)
    if spec.name == "lion":
        direction_N = torch.lerp(gradient_N, state["momentum"], spec.betas[0]).sign_()
        state["momentum"].lerp_(gradient_N, 1 - spec.betas[1])
        return direction_N
    if spec.name == "adafactor":
        return _adafactor(state, gradient_N, number, tuple(shape))
    if spec.name == "adamw_8bit":
        return _adam_8bit(spec, state, gradient_N, number)
    return _adam(spec, state["first"], state["second"], gradient_N, number)


def _adam(spec: OptimizerSpec, first_N: Tensor, second_N: Tensor, gradient_N: Tensor, number: int) -> Tensor:
    beta1, beta2 = spec.betas
    first_N.lerp_(gradient_N, 1 - beta1)
    second_N.mul_(beta2).addcmul_(gradient_N, gradient_N, value=1 - beta2)
    root_N = second_N.sqrt().div_(math.sqrt(1 - beta2**number)).add_(spec.eps)
    return (first_N / root_N).div_(1 - beta1**number)


def _adam_8bit(spec: OptimizerSpec, state: State, gradient_N: Tensor, number: int) -> Tensor:
    size = len(gradient_N)
    first_N = (state["first"].float() * state["first_scale"]).flatten()[:size]
    second_N = (state["second_root"].float() * state["second_root_scale"]).square_().flatten()[:size]
    update_N = _adam(spec, first_N, second_N, gradient_N, number)
    _encode(first_N, state["first"], state["first_scale"])
    # The root, since its range fits 8 bits; never 0 where there was a gradient, or the next update would explode.
    _encode(second_N.sqrt_(), state["second_root"], state["second_root_scale"], at_least=_SMALLEST_CODE)
    return update_N


def _encode(values_N: Tensor, codes: Tensor, scales: Tensor, *, at_least: float | None = None) -> None:
    blocks = torch.nn.functional.pad(values_N, (0, codes.numel() - len(values_N))).view_as(codes)
    scales.copy_(blocks.abs().amax(dim=1, keepdim=True).div_(_LARGEST_CODE).clamp_(min=torch.finfo(torch.float32).tiny))
    scaled = blocks / scales
    if at_least is not None:
        scaled = torch.where(blocks > 0, scaled.clamp(min=at_least), scaled)
    codes.copy_(scaled.clamp_(-_LARGEST_CODE, _LARGEST_CODE).to(_CODES))


def _adafactor(state: State, gradient_N: Tensor, number: int, shape: tuple[int, ...]) -> Tensor:
    keep = 1 - number**-0.8
    squares_N = gradient_N.square().add_(1e-30)
    if "second" in state:
        update_N = gradient_N * state["second"].mul_(keep).add_(squares_N, alpha=1 - keep).rsqrt()
    else:
        squares_RC = squares_N.view(_matrix_shape(shape))
        rows_R = state["rows"].mul_(keep).add_(squares_RC.mean(dim=1), alpha=1 - keep)
        columns_C = state["columns"].mul_(keep).add_(squares_RC.mean(dim=0), alpha=1 - keep)
        factor_RC = (rows_R / rows_R.mean()).rsqrt().unsqueeze(1) * columns_C.rsqrt().unsqueeze(0)
        update_N = gradient_N * factor_RC.flatten()
    return update_N.div_(update_N.square().mean().sqrt_().clamp_(min=1.0))


def _matrix_shape(shape: Iterable[int]) -> tuple[int, int]:
    rows, *rest = shape
    return rows, math.prod(rest)


def _gradient(weight: nn.Parameter) -> Tensor:
    return (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
