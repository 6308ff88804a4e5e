"""A trainer without arithmetic: it keeps `training.spec`'s contract in milliseconds, so that a thousand kills fit into
half an hour. What it makes is a chain of hashes over its steps: another adapter means a step lost or done twice.

Run as `python quick_trainer.py RUN_FOLDER`.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from finery.core.errors import CorruptArtifact
from finery.modeling import manifests
from finery.training.run import die_with_parent
from finery.training.spec import EXIT_STOPPED, TRAINER_MANIFEST_FILE, Event

STEPS = 12
EVERY = 3
STEP_SECONDS = 0.03
ADAPTER = "adapter_model.safetensors"


def adapter_after(job_id: str, seed: int, steps: int = STEPS) -> bytes:
    """What a job's adapter holds after so many steps."""
    state = f"{job_id}:{seed}".encode()
    for step in range(1, steps + 1):
        state = next_state(state, step)
    return state


def next_state(state: bytes, step: int) -> bytes:
    """One step."""
    return hashlib.sha256(state + str(step).encode()).digest()


def trained_tokens(job_id: str) -> int:
    """What a job says it trained."""
    return 1000 + int(hashlib.sha256(job_id.encode()).hexdigest()[:4], 16)


def tell(folder: Path, key: str, kind: Any, data: dict[str, Any]) -> None:
    """One line, whole."""
    event = Event(key=key, type=kind, message="", created_at=time.time(), data=data)
    with (folder / "events.jsonl").open("a") as file:
        file.write(event.line())
        file.flush()


def save(final: Path, state: bytes, step: int) -> None:
    """Publish a folder as the real trainer does."""
    with manifests.fill(final) as folder:
        (folder / ADAPTER).write_bytes(state)
        (folder / "results.csv").write_text("step\n" + "".join(f"{n}\n" for n in range(1, step + 1)))
        manifests.write_manifest(folder, step=step)
        manifests.write_manifest(folder, name=TRAINER_MANIFEST_FILE, step=step)


def newest(folder: Path) -> tuple[int, bytes] | None:
    """The newest checkpoint that verifies."""
    for path in sorted((folder / "checkpoints").glob("step-*"), reverse=True):
        try:
            manifests.verify(path, name=TRAINER_MANIFEST_FILE)
        except CorruptArtifact:
            continue
        return int(path.name.removeprefix("step-")), (path / ADAPTER).read_bytes()
    return None


def main(folder: Path) -> int:
    """Train; returns the exit status."""
    die_with_parent()
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    spec = json.loads((folder / "spec.json").read_text())
    job_id = spec["job_id"]
    step, state = newest(folder) or (0, f"{job_id}:{spec['seed']}".encode())
    while step < STEPS:
        time.sleep(STEP_SECONDS)
        step, state = step + 1, next_state(state, step + 1)
        data = {"step": step, "total_steps": STEPS, "train_loss": 1 / step}
        tell(folder, f"step:{step}", "metrics", data)
        if step % EVERY == 0 or stopping:
            name = f"checkpoints/step-{step:06d}"
            save(folder / name, state, step)
            told = {"step": step, "folder": name, "resumable": True, "deployable": step % 6 == 0, "metrics": {}}
            tell(folder, f"checkpoint:{step}", "checkpoint", told)
        if stopping:
            return EXIT_STOPPED
    save(folder / "result", state, step)
    facts = {"folder": "result", "trained_tokens": trained_tokens(job_id), "steps": STEPS}
    data = {**facts, "weights_of_step": STEPS, "metrics": {}}
    tell(folder, "result", "result", data)
    return 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main(Path(sys.argv[1])))
