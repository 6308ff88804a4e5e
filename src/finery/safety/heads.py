"""The trained heads: from hashed n-grams and from the encoder's features to log-odds. Knows no severity and no policy.

Their file is safetensors, made by scripts/train_safety.py; docs/safety-model-card.md says from what. All arrays have
one column a head, in the order of `Heads.names`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finery.safety import ngrams

Array = npt.NDArray[np.float32]
Spans = list[tuple[int, int]]

FILE = Path(__file__).with_name("heads.safetensors")
FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Heads:
    """All heads of one training."""

    names: tuple[str, ...]
    version: str
    thresholds: dict[str, list[float]]
    """The log-odds from which a category is low, medium, high; for other heads the one from which they count."""
    tensors: dict[str, npt.NDArray[Any]]

    @staticmethod
    def load(path: Path = FILE) -> "Heads":
        """Read the file.

        Raises:
            ValueError: a file of another format.
        """
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise ValueError(f"{path} has heads of format {facts.get('format')!r}; this release reads {FORMAT!r}.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return Heads(
            names=tuple(json.loads(facts["names"])),
            version=facts["version"],
            thresholds=json.loads(facts["thresholds"]),
            tensors=tensors,
        )

    def linear(self, text: str, spans: Spans) -> Array:
        """(spans, heads) logits of parts of a text, from its n-grams alone; `spans` in characters, ordered by start."""
        out = np.zeros((len(spans), len(self.names)), np.float32)
        first = 0
        while first < len(spans):
            base = spans[first][0]
            last = first
            while last + 1 < len(spans) and spans[last + 1][1] - base <= ngrams.CHUNK_CHARACTERS:
                last += 1
            part = spans[first : last + 1]
            moved = [(begin - base, end - base) for begin, end in part]
            out[first : last + 1] = self._linear(text[base : part[-1][1]], moved)
            first = last + 1
        return out

    def network(self, features: Array) -> Array:
        """(N, heads) logits from the encoder's features, (N, encoder.FEATURES)."""
        t = self.tensors
        x = (features - t["mean"]) * t["scale"]
        hidden = np.maximum(x @ t["hidden.weight"].T + t["hidden.bias"], 0)
        found: Array = hidden @ t["out.weight"].T + t["out.bias"] + x @ t["direct.weight"].T + t["direct.bias"]
        return found

    def joined(self, linear: Array, network: Array) -> Array:
        """Log-odds from both logits."""
        both = self.tensors["both"]
        found: Array = linear * both[:, 0] + network * both[:, 1] + both[:, 2]
        return found

    def alone(self, linear: Array) -> Array:
        """Log-odds where only n-grams were looked at."""
        weights = self.tensors["alone"]
        found: Array = linear * weights[:, 0] + weights[:, 1]
        return found

    def _linear(self, text: str, spans: Spans) -> Array:
        found = ngrams.grams(text)
        order = np.argsort(found.starts, kind="stable")
        starts = found.starts[order]
        buckets = found.buckets[order]
        idf = self.tensors["idf"][buckets].astype(np.float32)
        weighted = self.tensors["linear"][buckets] * (idf[:, None] * self.tensors["linear_scale"])
        sums = _running(weighted)
        squares = _running(idf[:, None] ** 2)
        begin = np.searchsorted(starts, [span[0] for span in spans])
        end = np.searchsorted(starts, [span[1] for span in spans])
        length = np.sqrt(np.maximum(squares[end] - squares[begin], 1e-6))
        result: Array = ((sums[end] - sums[begin]) / length + self.tensors["linear_bias"]).astype(np.float32)
        return result


def _running(values: Array) -> npt.NDArray[np.float64]:
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums
