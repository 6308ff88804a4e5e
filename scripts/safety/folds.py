"""Every text scored by heads that never saw it or its like: five folds over groups. Used by training and the benchmark."""

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path

import learning
import numpy as np
import numpy.typing as npt
import sources
import torch
from features import encode
from learning import Bags
from sources import HEADS, Row

from finery.safety.normalise import fold
from finery.safety.windows import windows

FOLDS = 5
MOST_WINDOWS = {"openai": 6, "personas": 1}
OTHER_WINDOWS = 2

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """All texts, cut into windows; windows know their text."""

    rows: list[Row]
    texts: list[str]
    of_row: npt.NDArray[np.int64]
    features: Array
    bags: Bags
    labels: Array
    """(windows, heads); NaN where nobody said."""
    weights: Array


def load(data: Path, wheels: Path, cache: Path) -> Corpus:
    """Everything that is learned from."""
    rows = sources.rows(data, wheels)
    texts: list[str] = []
    of_row: list[int] = []
    for i, row in enumerate(rows):
        folded = fold(row.text)
        found = windows(folded)[: MOST_WINDOWS.get(row.source, OTHER_WINDOWS)]
        texts += [folded[begin:end] for begin, end in found]
        of_row += [i] * len(found)
    index = np.array(of_row)
    labels = np.full((len(texts), len(HEADS)), np.nan, np.float32)
    for i, row_number in enumerate(of_row):
        for head, label in rows[row_number].labels.items():
            labels[i, HEADS.index(head)] = label
    counts = np.bincount(index)
    weights = np.array([rows[i].weight / counts[i] ** 0.5 for i in of_row], np.float32)
    return Corpus(rows, texts, index, encode(texts, cache), Bags.of(texts), labels, weights)


def fingerprint(corpus: Corpus) -> str:
    """Tells corpora apart."""
    whole = "\n".join([*corpus.texts, str(np.nansum(corpus.labels)), str(corpus.weights.sum())])
    return f"{zlib.crc32(whole.encode()):08x}"


def fold_of(row: Row) -> int:
    """Which fold a text is held out in: the same for texts that are alike."""
    return zlib.crc32(row.group.encode()) % FOLDS


def held_out(corpus: Corpus) -> tuple[Array, Array]:
    """Linear and network logits of every window, each by heads that were fitted without its fold."""
    folds = np.array([fold_of(corpus.rows[i]) for i in corpus.of_row])
    linear = np.zeros_like(corpus.labels)
    network = np.zeros_like(corpus.labels)
    for k in range(FOLDS):
        inside, outside = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        table, net = fit(corpus, inside)
        linear[outside] = learning.apply_linear(table, corpus.bags, outside)
        network[outside] = learning.apply_network(net, corpus.features[outside])
        print(f"fold {k + 1} of {FOLDS}", flush=True)
    return linear, network


def fit(corpus: Corpus, inside: npt.NDArray[np.int64]) -> tuple[torch.nn.EmbeddingBag, learning.Network]:
    """Both kinds of heads on some of the windows."""
    labels, weights = torch.from_numpy(corpus.labels), torch.from_numpy(corpus.weights)
    table = learning.fit_linear(corpus.bags, inside, labels, weights)
    return table, learning.fit_network(corpus.features, inside, labels, weights)


def joint(corpus: Corpus, linear: Array, network: Array) -> tuple[Array, Array]:
    """Per head: weights of (linear, network, 1), and of (linear, 1) alone, that give calibrated log-odds."""
    both, alone = [], []
    for h in range(len(HEADS)):
        scores = np.stack([linear[:, h], network[:, h]], 1)
        both.append(learning.fit_joint(scores, corpus.labels[:, h], corpus.weights))
        alone.append(learning.fit_joint(scores[:, :1], corpus.labels[:, h], corpus.weights))
    return np.stack(both), np.stack(alone)


def of_texts(corpus: Corpus, windows_scores: Array) -> Array:
    """The highest score of each text's windows."""
    found = np.full((len(corpus.rows), windows_scores.shape[1]), -np.inf, np.float32)
    np.maximum.at(found, corpus.of_row, windows_scores)
    return found


def average_precision(labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> float:
    """Area under precision over recall, step by step, as scikit-learn counts it."""
    order = np.argsort(-scores, kind="stable")
    hits = labels[order] == 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def auroc(labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> float:
    """How often a positive scores above a negative; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels[order] == 1
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def surge(data: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Surge's comments, and 1 for toxic ones; no head learns from them."""
    with (data / "moderation" / "surge_toxicity_en.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([row["is_toxic"] == "Toxic" for row in rows], np.float32)
