"""A flipped bit in an artifact is always found: in a checkpoint as the trainer and the server read it, in a blob."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from finery.core.errors import CorruptArtifact
from finery.modeling import manifests
from finery.storage.blobs import BlobStore
from reliability.seeds import dice_of

FLIPS = 1000


def flip(path: Path, dice: random.Random) -> bytes:
    """Flip a bit, or cut the file there; gives back what it was."""
    content = path.read_bytes()
    place = dice.randrange(len(content))
    behind = bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1 :]
    path.write_bytes(content[:place] + (b"" if dice.random() < 0.1 else behind))
    return content


def found_in(path: Path, look: Callable[[], object], dice: random.Random) -> None:
    content = flip(path, dice)
    with pytest.raises(CorruptArtifact):
        look()
    path.write_bytes(content)


def test_a_thousand_flips_in_artifacts_are_all_found(tmp_path: Path) -> None:
    seed, dice = dice_of()
    with manifests.fill(tmp_path / "step-000001") as folder:
        (folder / "adapter_model.safetensors").write_bytes(dice.randbytes(40_000))
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16}))
        (folder / "results.csv").write_text("step,train_loss\n1,0.5\n")
        manifests.write_manifest(folder, step=1, loss=0.5)
    artifact = tmp_path / "step-000001"
    blobs = BlobStore(tmp_path / "blobs")
    kept = [blobs.put([path.read_bytes()]).sha256 for path in artifact.iterdir()]
    paths = list(artifact.iterdir())
    for _ in range(FLIPS // 2):
        found_in(dice.choice(paths), lambda: manifests.verify(artifact), dice)
        sha256 = dice.choice(kept)
        with blobs.as_path(sha256) as path:
            found_in(path, lambda sha256=sha256: blobs.save_to(sha256, tmp_path / "out"), dice)  # type: ignore[misc]
        assert not (tmp_path / "out").exists()
    manifests.verify(artifact)
    for sha256 in kept:
        blobs.save_to(sha256, tmp_path / "out")
    print(f"\n{FLIPS} flips and cuts, seed {seed}: all found")
