"""Advantages and the clipped loss, against the formulas written out token by token."""

import math
import random

import pytest
import torch

from finery.training.policy import advantages, divergence, drawn_divergence, token_losses


def test_advantages_are_rewards_in_deviations_of_their_group() -> None:
    rewards = [0.0, 1.0, 1.0, 0.25]
    mean = sum(rewards) / 4
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 4)
    assert advantages(rewards) == pytest.approx([(reward - mean) / deviation for reward in rewards], rel=1e-3)
    assert sum(advantages(rewards)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rewards", [[0.0] * 8, [1.0] * 3, [0.1] * 7, [5.0]])
def test_a_group_whose_answers_are_alike_teaches_nothing(rewards: list[float]) -> None:
    assert advantages(rewards) == pytest.approx([0.0] * len(rewards), abs=1e-9)


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
def test_the_loss_is_that_of_the_formula(kl_weight: float) -> None:
    draw = random.Random(3)
    now, sampled, reference, gains, expected = [], [], [], [], []
    for _ in range(300):
        p, old, base = (draw.uniform(-3, -0.01) for _ in range(3))
        advantage = draw.uniform(-2, 2)
        ratio = math.exp(p - old)
        clipped = min(max(ratio, 0.8), 1.2)
        away = math.exp(base - p) - (base - p) - 1
        now.append(p)
        sampled.append(old)
        reference.append(base)
        gains.append(advantage)
        expected.append(-min(ratio * advantage, clipped * advantage) + kl_weight * away)
    losses = token_losses(
        torch.tensor(now),
        torch.tensor(sampled),
        torch.tensor(gains),
        torch.tensor(reference) if kl_weight else None,
        clip=0.2,
        kl_weight=kl_weight,
    )
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_at_the_very_weights_that_drew_the_gradient_is_that_of_the_plain_policy_gradient() -> None:
    logprobs = torch.tensor([-0.5, -1.5, -0.2], requires_grad=True)
    gains = torch.tensor([1.0, -2.0, 0.5])
    losses = token_losses(logprobs, logprobs.detach(), gains, None, clip=0.2, kl_weight=0.0)
    losses.sum().backward()
    torch.testing.assert_close(logprobs.grad, -gains)


def test_beyond_the_clip_there_is_no_gradient_but_the_way_back() -> None:
    logprobs = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    gains = torch.tensor([1.0, -1.0, 1.0, -1.0])
    token_losses(logprobs, torch.zeros(4), gains, None, clip=0.2, kl_weight=0.0).sum().backward()
    assert logprobs.grad is not None
    assert [bool(grad) for grad in logprobs.grad] == [False, True, True, False]


def test_the_divergence_is_nothing_where_both_agree_and_right_in_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(5, generator=generator).log_softmax(-1) for _ in range(2))
    assert float(divergence(ours, ours).abs().max()) == 0.0
    exact = float((ours.exp() * (ours - theirs)).sum())
    assert float((ours.exp() * divergence(ours, theirs)).sum()) == pytest.approx(exact, rel=1e-5)
    assert drawn_divergence(ours.tolist(), theirs.tolist()) == pytest.approx(float(divergence(ours, theirs).sum()))
