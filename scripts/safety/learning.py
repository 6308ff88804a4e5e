"""Fits the heads: a linear one on hashed n-grams, a small network on the encoder's features, and what joins them.

Many heads at once; where nobody said anything of a text, a head learns nothing from it. Knows no file.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finery.safety import ngrams

HIDDEN = 96
LINEAR_EPOCHS = 4
NETWORK_EPOCHS = 20
BATCH = 256

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bags:
    """N texts as bags of n-grams: `values` sum to a unit vector in each text."""

    buckets: list[npt.NDArray[np.int64]]
    idf: Array

    @staticmethod
    def of(texts: list[str], idf: Array | None = None) -> "Bags":
        """Bags of texts; how rare an n-gram is is counted here unless it is given."""
        buckets = [ngrams.grams(text).buckets for text in texts]
        if idf is None:
            seen = np.zeros(ngrams.TABLE, np.int64)
            for found in buckets:
                seen[np.unique(found)] += 1
            idf = np.log((1 + len(texts)) / (1 + seen)).astype(np.float32)
        return Bags(buckets, idf)

    def batch(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Buckets, offsets and weights for an EmbeddingBag."""
        picked = [self.buckets[i] for i in rows]
        offsets = np.cumsum([0, *(len(found) for found in picked[:-1])])
        flat = np.concatenate(picked)
        weights = self.idf[flat]
        squares = np.add.reduceat(weights**2, np.minimum(offsets, len(weights) - 1))
        scale = np.repeat(1 / np.sqrt(np.maximum(squares, 1e-6)), [len(found) for found in picked])
        return torch.from_numpy(flat), torch.from_numpy(offsets), torch.from_numpy((weights * scale).astype(np.float32))


def fit_linear(
    bags: Bags, rows: npt.NDArray[np.int64], labels: Tensor, weights: Tensor, seed: int = 0
) -> nn.EmbeddingBag:
    """A weight for each n-gram and head; the bias is the last row's."""
    torch.manual_seed(seed)
    heads = labels.shape[1]
    table = nn.EmbeddingBag(ngrams.TABLE, heads, mode="sum")
    nn.init.zeros_(table.weight)
    bias = nn.Parameter(torch.full((heads,), -2.0))
    optimizer = torch.optim.AdamW(
        [
            {"params": [table.weight], "lr": 0.1, "weight_decay": 0.02},
            {"params": [bias], "lr": 0.02, "weight_decay": 0.0},
        ]
    )
    steps = LINEAR_EPOCHS * (len(rows) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(LINEAR_EPOCHS):
        for part in torch.randperm(len(rows)).split(BATCH):
            chosen = rows[part.numpy()]
            buckets, offsets, values = bags.batch(chosen)
            loss = masked_loss(
                table(buckets, offsets, per_sample_weights=values) + bias, labels[chosen], weights[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    table.register_parameter("bias", bias)
    return table


@torch.no_grad()
def apply_linear(table: nn.EmbeddingBag, bags: Bags, rows: npt.NDArray[np.int64]) -> Array:
    """(len(rows), heads) logits."""
    parts = []
    for start in range(0, len(rows), BATCH):
        buckets, offsets, values = bags.batch(rows[start : start + BATCH])
        parts.append(table(buckets, offsets, per_sample_weights=values) + table.bias)
    return torch.cat(parts).numpy()


class Network(nn.Module):
    """Encoder features → logits."""

    def __init__(self, features: Tensor, heads: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("scale", 1 / (features.std(0) + 1e-3))
        self.hidden = nn.Linear(features.shape[1], HIDDEN)
        self.out = nn.Linear(HIDDEN, heads)
        self.direct = nn.Linear(features.shape[1], heads)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) → (N, heads)."""
        x = (x - self.mean) * self.scale
        if self.training:
            x = nn.functional.dropout(x, 0.2)
        inner = nn.functional.relu(self.hidden(x))
        return self.out(nn.functional.dropout(inner, 0.3, self.training)) + self.direct(x)


def fit_network(
    features: Array, rows: npt.NDArray[np.int64], labels: Tensor, weights: Tensor, seed: int = 0
) -> Network:
    """A small network on the encoder's features."""
    torch.manual_seed(seed)
    x = torch.from_numpy(features[rows])
    y, w = labels[rows], weights[rows]
    network = Network(x, labels.shape[1])
    nn.init.constant_(network.out.bias, -2.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    steps = NETWORK_EPOCHS * (len(rows) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    network.train()
    for _ in range(NETWORK_EPOCHS):
        for part in torch.randperm(len(rows)).split(BATCH):
            optimizer.zero_grad()
            masked_loss(network(x[part]), y[part], w[part]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def apply_network(network: Network, features: Array) -> Array:
    """(N, heads) logits."""
    return network(torch.from_numpy(features)).numpy()


def masked_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy where a label is known (NaN: it isn't), each text by its weight."""
    known = ~labels.isnan()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (losses * known * weights[:, None]).sum() / (known * weights[:, None]).sum().clamp(min=1)


def fit_joint(scores: Array, labels: Array, weights: Array) -> Array:
    """Weights of a logistic regression on a few scores, and its bias: calibrated log-odds. `scores` is (N, k)."""
    known = ~np.isnan(labels)
    x = torch.from_numpy(np.concatenate([scores[known], np.ones((known.sum(), 1), np.float32)], 1)).double()
    y, w = torch.from_numpy(labels[known]).double(), torch.from_numpy(weights[known]).double()
    start = [0.5] * scores.shape[1] + [0.0]
    beta = torch.tensor(start, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # No score may count against its own head.
        raw = torch.cat([nn.functional.softplus(beta[:-1]), beta[-1:]])
        losses = nn.functional.binary_cross_entropy_with_logits(x @ raw, y, reduction="none")
        total: Tensor = (losses * w).sum() / w.sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return torch.cat([nn.functional.softplus(beta[:-1]), beta[-1:]]).float().numpy()
