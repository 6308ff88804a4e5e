"""Where low, medium and high begin, in log-odds of texts that the heads never saw. Knows no file.

The borders of the four categories were set by hand: best F1 on OpenAI's labels would block one harmless prompt in fifteen,
so they were moved up until one in twenty was left (benchmarks/safety.py; the prompts there are thus no longer unseen by
whoever set the borders, though still by the heads). High lies above every one of these prompts.
"""

import folds
import numpy as np
import numpy.typing as npt
from folds import Corpus
from sources import HEADS

CATEGORIES = {
    "hate": [0.6, 4.0, 4.2],
    "sexual": [-0.3, 0.95, 3.9],
    "violence": [0.0, 1.3, 3.0],
    "self_harm": [-0.6, 0.7, 3.5],
}
"""Low, medium, high."""
HARMLESS = ("personas", "plain", "bastion")
HARMLESS_SHARE = 0.005
"""Most of the harmless texts that another head may count."""
ATTACK_SHARE = 0.004
"""And most that may be called an attack."""

Array = npt.NDArray[np.float32]


def choose(corpus: Corpus, linear: Array, network: Array, both: Array) -> dict[str, list[float]]:
    """Log-odds for every head: low, medium and high of a category; one border of any other head."""
    scores = folds.of_texts(corpus, linear * both[:, 0] + network * both[:, 1] + both[:, 2])
    labels = np.array([[row.labels.get(head, np.nan) for head in HEADS] for row in corpus.rows], np.float32)
    sources = np.array([row.source for row in corpus.rows])
    # Finery's own harmless sentences are the twins of harmful ones: too hard to set a border by.
    harmless = np.isin(sources, HARMLESS)
    twins = (sources == "own") & (np.nan_to_num(labels, nan=1).sum(1) == 0)
    found = {}
    for h, head in enumerate(HEADS):
        floor = float(np.quantile(scores[harmless, h], 1 - HARMLESS_SHARE))
        if head in CATEGORIES:
            found[head] = CATEGORIES[head]
        elif head in ("jailbreak", "indirect_attack"):
            found[head] = [float(np.quantile(scores[harmless | twins, h], 1 - ATTACK_SHARE))]
        else:
            found[head] = [max(floor, _best_border(labels[:, h], scores[:, h]))]
    return {head: [round(value, 3) for value in values] for head, values in found.items()}


def _best_border(labels: Array, scores: Array) -> float:
    """The border with the best F1."""
    known = ~np.isnan(labels)
    order = np.argsort(-scores[known], kind="stable")
    hits = np.cumsum(labels[known][order] == 1)
    taken = np.arange(1, len(order) + 1)
    f1 = 2 * hits / (taken + hits[-1])
    return float(scores[known][order][int(f1.argmax())])
