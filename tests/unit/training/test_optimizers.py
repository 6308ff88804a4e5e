"""Every optimizer against its reference: torch's, transformers', or its paper's formula."""

import copy
import math

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from finery.training.optimizers import Optimizer
from finery.training.spec import OptimizerSpec

NAMES = ("adamw", "adam", "sgd", "adafactor", "lion", "adamw_8bit")


def make_weights(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (16, 8), "b": (8, 16), "bias": (7,), "c": (40, 30)}
    return {name: nn.Parameter(torch.randn(*shape, generator=generator)) for name, shape in shapes.items()}


def set_gradients(weights: dict[str, nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for weight in weights.values():
        weight.grad = torch.randn(weight.shape, generator=generator) * 3


def run_ours(spec: OptimizerSpec, steps: int = 12) -> dict[str, nn.Parameter]:
    weights = make_weights()
    optimizer = Optimizer(spec, weights)
    for step in range(1, steps + 1):
        set_gradients(weights, step)
        optimizer.step(step, spec.learning_rate, optimizer.gradient_norm())
    return weights


def run_reference(spec: OptimizerSpec, build, steps: int = 12) -> dict[str, nn.Parameter]:
    weights = make_weights()
    decayed = [weight for weight in weights.values() if weight.ndim > 1]
    plain = [weight for weight in weights.values() if weight.ndim == 1]
    optimizer = build([{"params": decayed, "weight_decay": spec.weight_decay}, {"params": plain, "weight_decay": 0.0}])
    for step in range(1, steps + 1):
        set_gradients(weights, step)
        if spec.max_grad_norm:
            nn.utils.clip_grad_norm_(weights.values(), spec.max_grad_norm)
        optimizer.step()
    return weights


REFERENCES = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99), eps=1e-6),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1e-2, betas=(0.9, 0.99), eps=1e-6),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "adafactor": lambda groups: Adafactor(groups, lr=1e-2, scale_parameter=False, relative_step=False),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_equal_to_the_reference(name: str, max_grad_norm: float) -> None:
    spec = OptimizerSpec(
        name=name,  # type: ignore[arg-type]
        learning_rate=1e-2,
        betas=(0.9, 0.99),
        eps=1e-6,
        weight_decay=0.1,
        max_grad_norm=max_grad_norm,
    )
    ours, reference = run_ours(spec), run_reference(spec, REFERENCES[name])
    for key in ours:
        torch.testing.assert_close(ours[key], reference[key], rtol=2e-5, atol=2e-6)


def test_lion_follows_its_paper() -> None:
    spec = OptimizerSpec(name="lion", learning_rate=1e-2, betas=(0.9, 0.99), weight_decay=0.1, max_grad_norm=0)
    weights, momenta = make_weights(), {name: torch.zeros_like(weight) for name, weight in make_weights().items()}
    for step in range(1, 13):
        set_gradients(weights, step)
        with torch.no_grad():
            for name, weight in weights.items():
                gradient, decay = weight.grad, 0.1 if weight.ndim > 1 else 0.0
                direction = torch.sign(0.9 * momenta[name] + 0.1 * gradient)
                momenta[name] = 0.99 * momenta[name] + 0.01 * gradient
                weight.sub_(1e-2 * (direction + decay * weight))
    ours = run_ours(spec)
    for name, weight in weights.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)


def test_8_bit_stays_close_to_adamw_and_needs_a_quarter_of_its_state() -> None:
    spec = OptimizerSpec(name="adamw", learning_rate=1e-2, max_grad_norm=0)
    small = OptimizerSpec(name="adamw_8bit", learning_rate=1e-2, max_grad_norm=0)
    exact, coded, start = run_ours(spec), run_ours(small), make_weights()
    for name in exact:
        moved = (exact[name] - start[name]).norm()
        assert (coded[name] - exact[name]).norm() < 0.1 * moved

    def state_bytes(which: OptimizerSpec) -> int:
        weights = {"w": nn.Parameter(torch.zeros(256, 64))}
        return sum(tensor.nbytes for tensor in Optimizer(which, weights).state().values())

    assert state_bytes(small) < 0.27 * state_bytes(spec)


def test_8_bit_survives_gradients_of_very_different_size() -> None:
    weights = {"w": nn.Parameter(torch.ones(4, 256))}
    optimizer = Optimizer(OptimizerSpec(name="adamw_8bit", max_grad_norm=0), weights)
    for step in range(1, 30):
        weights["w"].grad = torch.logspace(-12, 6, 1024).view(4, 256) * (-1) ** step
        optimizer.step(step, 1e-3, optimizer.gradient_norm())
    assert (weights["w"] - 1).abs().max() < 30 * 1e-3 * 2


@pytest.mark.parametrize("name", NAMES)
def test_going_on_from_saved_state_is_exact(name: str) -> None:
    spec = OptimizerSpec(name=name, learning_rate=1e-2, weight_decay=0.01)  # type: ignore[arg-type]
    whole = run_ours(spec, steps=9)
    weights = make_weights()
    optimizer = Optimizer(spec, weights)
    for step in range(1, 10):
        if step == 5:
            saved, weights = optimizer.state(), copy.deepcopy(weights)
            optimizer = Optimizer(spec, weights)
            optimizer.load_state(saved)
        set_gradients(weights, step)
        optimizer.step(step, 1e-2, optimizer.gradient_norm())
    for key, weight in weights.items():
        assert torch.equal(weight, whole[key])


def test_state_of_another_optimizer_is_refused() -> None:
    weights = make_weights()
    saved = Optimizer(OptimizerSpec(name="lion"), weights).state()
    with pytest.raises(ValueError, match="another optimizer"):
        Optimizer(OptimizerSpec(name="adamw"), weights).load_state(saved)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_norm_tells_of_gradients_that_are_not_finite(value: float) -> None:
    weights = make_weights()
    set_gradients(weights, 1)
    weights["b"].grad[3, 3] = value
    assert not math.isfinite(Optimizer(OptimizerSpec(), weights).gradient_norm())
