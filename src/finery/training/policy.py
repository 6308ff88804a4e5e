"""Rewards → advantages → the loss of each token: group-relative policy optimisation. It does not know models or tokens.

Advantages are those of GRPO (Shao et al. 2024, DeepSeekMath, arXiv 2402.03300, 4.1.2): a reward less the mean of its
group, over the group's deviation. The loss is clipped as in PPO (Schulman et al. 2017, arXiv 1707.06347), with GRPO's
unbiased estimate of the divergence from a reference. It is summed over tokens, to be divided by all tokens of a step: a
mean by answer first, as GRPO has it, would let wrong answers off the more lightly the longer they are (Liu et al. 2025,
Dr. GRPO, arXiv 2503.20783; Yu et al. 2025, DAPO, arXiv 2503.14476, 3.3).
"""

# Names end in their shape. N: tokens of answers.

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST_DEVIATION = 1e-4
"""Added to a group's deviation, so that rewards which hardly differ don't count as much as those that do."""


def advantages(rewards: Sequence[float]) -> list[float]:
    """How much better than its group each answer is; all 0 where none is."""
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    return [(reward - mean) / (deviation + _LEAST_DEVIATION) if deviation else 0.0 for reward in rewards]


def token_losses(
    logprobs_N: Tensor,
    sampled_N: Tensor,
    advantages_N: Tensor,
    reference_N: Tensor | None,
    *,
    clip: float,
    kl_weight: float,
) -> Tensor:
    """The loss of each token [N].

    `logprobs_N` are the model's now, `sampled_N` those at which it was drawn, `reference_N` those of the model to stay
    near to (None: of no such model).
    """
    ratios_N = torch.exp(logprobs_N - sampled_N)
    gains_N = torch.minimum(ratios_N * advantages_N, ratios_N.clamp(1 - clip, 1 + clip) * advantages_N)
    return -gains_N if reference_N is None else kl_weight * divergence(logprobs_N, reference_N) - gains_N


def divergence(logprobs_N: Tensor, reference_N: Tensor) -> Tensor:
    """By each drawn token, an estimate [N] of how far the model is from the reference: at least 0, right in mean."""
    apart_N = reference_N - logprobs_N
    return torch.exp(apart_N) - apart_N - 1


def drawn_divergence(sampled: Sequence[float], reference: Sequence[float]) -> float:
    """The same summed over one answer as it was drawn; 0 without a reference."""
    apart = [theirs - ours for ours, theirs in zip(sampled, reference, strict=False)]
    return sum(math.exp(each) - each - 1 for each in apart)
