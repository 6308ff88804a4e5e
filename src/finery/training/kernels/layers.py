"""Our attention and feed-forward layers in the place of transformers', where they give the same output.

A layer is replaced when its parts have the well-known names and a trial with random input shows that ours computes what
transformers' does; any other layer keeps transformers' code, with only its linear layers replaced. It does not know
how adapters are named or made.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finery.training import attention
from finery.training.attention import HeadShape
from finery.training.kernels.linear import Adapter, Part, Projection, TrainedLinear
from finery.training.kernels.pointwise import RmsNorm, swiglu
from finery.training.kernels.products import Dense, Frozen

Freeze = Callable[[Tensor, Tensor | None], Frozen]
_TRIAL_TOKENS = 7
_TRIAL_TOLERANCE = 1e-4


class FeedForward(nn.Module):
    """down(silu(gate x) · up x)."""

    def __init__(self, gate_up: Projection, down: Projection) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] → [..., H]."""
        y: Tensor = self.down(swiglu(self.gate_up(x)))
        return y


class SelfAttention(nn.Module):
    """Projections, optional norms of each head, rotary embedding and attention within documents."""

    def __init__(
        self, qkv: Projection, out: Projection, norms: tuple[nn.Module, nn.Module] | None, shape: HeadShape
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.out = out
        self.q_norm: nn.Module | None
        self.k_norm: nn.Module | None
        self.q_norm, self.k_norm = norms or (None, None)
        self.shape = shape

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **kwargs: Any
    ) -> tuple[Tensor, None]:
        """[1, T, H] → [1, T, H], and no attention weights."""
        shape = self.shape
        x_TH = hidden_states.flatten(0, 1)
        heads_TAd = self.qkv(x_TH).view(len(x_TH), -1, shape.width)
        query, key, value = heads_TAd.split([shape.queries, shape.keys, shape.keys], 1)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        cos, sin = position_embeddings
        out = attention.attend(query, key, value, scale=shape.scale, window=shape.window, rotary=(cos[0], sin[0]))
        return self.out(out.flatten(1)).unsqueeze(0), None


def replace(
    model: nn.Module, adapters: Mapping[str, Adapter], freeze: Freeze, *, rotary: nn.Module | None, output: nn.Module
) -> None:
    """Put our layers into `model`, in place: attention, feed-forward, norms, and then what linear layers are left.

    `adapters` go by the path of the linear layer they belong to, `rotary` is the model's rotary embedding if it has
    one, and `output` (the language-model head) is left alone.
    """
    # By path, so that a replaced layer's weights are free before the next is laid out.
    for path in [path for path, _ in model.named_modules()]:
        ours = _ours(model.get_submodule(path), path, adapters, freeze, rotary) if _has(model, path) else None
        if ours is not None:
            _put(model, path, ours)
    for path in [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]:
        module = model.get_submodule(path)
        if isinstance(module, nn.Linear) and module is not output:
            _put(model, path, _projection([(path, module)], adapters, freeze))


def replace_trained(model: nn.Module, dtype: torch.dtype, *, output: nn.Module) -> None:
    """Put our norms and linear layers into a `model` whose own weights are trained, in place; products in `dtype`."""
    for path, module in list(model.named_modules()):
        ours: nn.Module | None = _norm(module)
        if isinstance(module, nn.Linear) and module is not output:
            ours = TrainedLinear(module, dtype)
        if ours is not None:
            _put(model, path, ours)


def _ours(
    module: nn.Module, path: str, adapters: Mapping[str, Adapter], freeze: Freeze, rotary: nn.Module | None
) -> nn.Module | None:
    parts = {name for name, _ in module.named_children()}
    linears = {name for name in parts if name.endswith("_proj")}
    rest = parts - linears
    gated = linears in ({"gate_proj", "up_proj", "down_proj"}, {"gate_up_proj", "down_proj"})
    if gated and rest <= {"act_fn", "activation_fn"} and _same_feed_forward(module):
        return _feed_forward(module, path, adapters, freeze)
    if linears in ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"qkv_proj", "o_proj"}) and rotary is not None:
        shape = _same_attention(module, rotary) if rest in (set(), {"q_norm", "k_norm"}) else None
        if shape is not None:
            return _self_attention(module, path, adapters, freeze, shape)
    return _norm(module)


def _feed_forward(module: nn.Module, path: str, adapters: Mapping[str, Adapter], freeze: Freeze) -> FeedForward:
    first = ["gate_up_proj"] if hasattr(module, "gate_up_proj") else ["gate_proj", "up_proj"]
    return FeedForward(
        _projection(_linears(module, path, first), adapters, freeze),
        _projection(_linears(module, path, ["down_proj"]), adapters, freeze),
    )


def _self_attention(
    module: nn.Module, path: str, adapters: Mapping[str, Adapter], freeze: Freeze, shape: HeadShape
) -> SelfAttention:
    first = ["qkv_proj"] if hasattr(module, "qkv_proj") else ["q_proj", "k_proj", "v_proj"]
    norms = None
    if hasattr(module, "q_norm"):
        q_norm, k_norm = module.get_submodule("q_norm"), module.get_submodule("k_norm")
        norms = _norm(q_norm) or q_norm, _norm(k_norm) or k_norm
    return SelfAttention(
        _projection(_linears(module, path, first), adapters, freeze),
        _projection(_linears(module, path, ["o_proj"]), adapters, freeze),
        norms,
        shape,
    )


def _linears(module: nn.Module, path: str, names: list[str]) -> list[tuple[str, nn.Linear]]:
    found = []
    for name in names:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        found.append((f"{path}.{name}", linear))
    return found


def _projection(linears: list[tuple[str, nn.Linear]], adapters: Mapping[str, Adapter], freeze: Freeze) -> Projection:
    parts = []
    row = 0
    for path, linear in linears:
        parts.append(Part(row, row + linear.out_features, adapters.get(path)))
        row += linear.out_features
    weight = torch.cat([linear.weight.detach() for _, linear in linears])
    biased = any(linear.bias is not None for _, linear in linears)
    biases = [weight.new_zeros(m.out_features) if m.bias is None else m.bias.detach() for _, m in linears]
    return Projection(freeze(weight, torch.cat(biases) if biased else None), parts)


def _norm(module: nn.Module) -> RmsNorm | None:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, nn.Parameter) or eps is None:
        return None
    ours = RmsNorm(weight, float(eps))
    x = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(0)).to(weight)
    with torch.no_grad():
        return ours if torch.allclose(module(x).float(), ours(x).float(), rtol=2e-2, atol=1e-3) else None


def _same_feed_forward(module: nn.Module) -> bool:
    trial, x = _trial(module)
    with torch.no_grad():
        return _close(trial(x[None])[0], _feed_forward(trial, "", {}, Dense)(x[None])[0])


def _same_attention(module: nn.Module, rotary: nn.Module) -> HeadShape | None:
    """How `module` attends, if our layer gives the same output; None if it doesn't."""
    trial, x = _trial(module)
    places = torch.arange(len(x), device=x.device)
    with torch.no_grad(), attention.documents([0, len(x)], x.device), attention.watched() as seen:
        try:
            turns = rotary(x[None], places[None])
            theirs = trial(x[None], position_embeddings=turns, attention_mask=None)[0]
        except (TypeError, NotImplementedError):
            return None
        if len(seen) != 1:
            return None
        ours = _self_attention(trial, "", {}, Dense, seen[0])(x[None], turns)[0]
    return seen[0] if _close(theirs, ours) else None


def _trial(module: nn.Module) -> tuple[nn.Module, Tensor]:
    """A copy in fp32 with weights under which every entry of the output tells, and input [tokens, H] for it."""
    generator = torch.Generator().manual_seed(0)
    trial = copy.deepcopy(module).float()
    for parameter in trial.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        spread = 1.5 / parameter.shape[1] ** 0.5 if parameter.ndim == 2 else 1.0
        parameter.data.copy_(values * spread)
    width = next(m.in_features for m in trial.modules() if isinstance(m, nn.Linear) and _takes_input(trial, m))
    x = torch.randn(_TRIAL_TOKENS, width, generator=generator)
    return trial, x.to(next(trial.parameters()).device)


def _takes_input(module: nn.Module, linear: nn.Module) -> bool:
    """Whether `linear` is the first layer of an attention or feed-forward layer."""
    first = ("q_proj", "qkv_proj", "gate_proj", "gate_up_proj")
    return any(child is linear for name, child in module.named_children() if name in first)


def _close(theirs: Tensor, ours: Tensor) -> bool:
    return bool((theirs - ours).abs().max() <= _TRIAL_TOLERANCE * theirs.abs().max())


def _has(model: nn.Module, path: str) -> bool:
    """Whether `path` still leads to a layer (it may have been part of one that was replaced)."""
    module: nn.Module | None = model
    for name in path.split(".") if path else ():
        module = dict(module.named_children()).get(name) if module is not None else None
    return module is not None


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
