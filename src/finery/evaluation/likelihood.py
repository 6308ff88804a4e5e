"""How likely the references are under a model: perplexity and token accuracy. Knows log-probabilities, not models."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood:
    """One reference under a model: what an inference server's scoring tells of its trained tokens."""

    logprob: float
    """Sum of the natural logarithms of the tokens' probabilities."""
    tokens: int
    right: int
    """Tokens that the model itself would have chosen."""


def perplexity(found: Iterable[Likelihood]) -> float:
    """exp of the mean loss of a token; infinite where there is no token or one is impossible."""
    likelihoods = list(found)
    loss = mean_loss(likelihoods)
    return math.exp(loss) if loss < 700 else math.inf


def mean_loss(found: Iterable[Likelihood]) -> float:
    """Mean negative log-probability of a token, in nats, all tokens alike."""
    likelihoods = list(found)
    tokens = sum(each.tokens for each in likelihoods)
    return -sum(each.logprob for each in likelihoods) / tokens if tokens else math.inf


def token_accuracy(found: Iterable[Likelihood]) -> float:
    """Share of tokens that the model would have chosen itself."""
    likelihoods = list(found)
    tokens = sum(each.tokens for each in likelihoods)
    return sum(each.right for each in likelihoods) / tokens if tokens else 0.0
