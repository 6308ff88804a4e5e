"""The state of a run on disk, and back to the bit. It does not know losses, schedules or what the events say.

A checkpoint `checkpoints/step-000025/` holds the adapter in PEFT's format (or full weights in Hugging Face's) and
`results.csv` (the rows so far), listed in `manifest.json`: what a deployment takes. Beside it `optimizer.safetensors`
and `trainer_state.json`, which with the former are listed in `trainer_manifest.json`: what the trainer goes on from. It
is published whole or not at all. Random state is no part: a step seeds its own from the run's seed and its number.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from finery.core.errors import Conflict, CorruptArtifact, InvalidRequest
from finery.modeling import manifests
from finery.training.model import TrainableModel
from finery.training.optimizers import Optimizer
from finery.training.results import RESULTS_FILE, ResultRow, from_csv, to_csv
from finery.training.spec import CHECKPOINTS_FOLDER, RESULT_FOLDER, TRAINER_MANIFEST_FILE, RunSpec

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "trainer_state.json"
_BASE_FILES = ("*.json", "*.jinja")
_NOT_BASE_FILES = ("finery.json", "*.index.json", manifests.MANIFEST_FILE)
_KEPT_RESUMABLE = 2


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is; all that the loop carries from step to step besides weights and optimizer."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    cursor: int = 0
    """Steps of the running epoch done."""
    trained_tokens: int = 0
    best_measure: float | None = None
    """Of the whole validation set, at the end of an epoch: the lowest loss; of reinforcement the highest reward."""
    best_step: int = 0
    """The step of `best_measure`."""
    evaluations_without_better: int = 0
    threads: int = 0
    """CPU threads of the first attempt; every later one takes the same, since they decide the order of sums."""
    stopped_early: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A checkpoint that verifies."""

    folder: Path
    progress: Progress
    rows: list[ResultRow]
    torch_version: str
    """Of the attempt that wrote it; only the same one promises the same bits."""

    def restore(self, model: TrainableModel, optimizer: Optimizer) -> None:
        """Put weights and optimizer back to where they were."""
        model.load_state(read_weights(self.folder))
        optimizer.load_state(load_file(self.folder / OPTIMIZER_FILE))


class Checkpoints:
    """The checkpoints and the result of one run folder."""

    def __init__(self, run_folder: Path, spec: RunSpec) -> None:
        self._spec = spec
        self._spec_hash = spec_hash(spec)
        self._folder = run_folder / CHECKPOINTS_FOLDER
        self._result = run_folder / RESULT_FOLDER

    def folder(self, step: int) -> Path:
        """Where the checkpoint of `step` lies, or would."""
        return self._folder / f"step-{step:06d}"

    def save(
        self, model: TrainableModel, optimizer: Optimizer, progress: Progress, rows: list[ResultRow], *, epoch_end: bool
    ) -> Path:
        """Publish a checkpoint of this moment, then drop what is no longer needed of older ones."""
        final = self.folder(progress.step)
        with manifests.fill(final) as folder:
            write_weights(folder, model, self._spec)
            (folder / RESULTS_FILE).write_text(to_csv(rows), encoding="utf-8")
            manifests.write_manifest(folder, **self._facts(progress))
            _save_tensors(optimizer.state(), folder / OPTIMIZER_FILE)
            state = {"spec": self._spec_hash, "torch": torch.__version__, "progress": dataclasses.asdict(progress)}
            (folder / STATE_FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")
            manifests.write_manifest(folder, name=TRAINER_MANIFEST_FILE, epoch_end=epoch_end)
        self._prune()
        return final

    def newest(self, on_corrupt: Callable[[Path, str], None]) -> Saved | None:
        """The newest checkpoint that verifies; tells `on_corrupt` of those that don't, and removes half-written ones.

        Raises Conflict if it was made by another spec, or with other data.
        """
        for leftover in [*self._folder.glob(".step-*"), *self._result.parent.glob(f".{RESULT_FOLDER}.*")]:
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in sorted(self._folder.glob("step-*"), reverse=True):
            if not (folder / TRAINER_MANIFEST_FILE).exists():
                continue
            try:
                manifests.verify(folder, name=TRAINER_MANIFEST_FILE)
            except CorruptArtifact as error:
                on_corrupt(folder, error.message)
                continue
            return self._read(folder)
        return None

    def newest_step(self) -> int:
        """The step of the newest checkpoint there is; 0 without any."""
        return max((int(folder.name.removeprefix("step-")) for folder in self._folder.glob("step-*")), default=0)

    def write_result(self, model: TrainableModel, progress: Progress, rows: list[ResultRow], *, step: int) -> Path:
        """Publish `result/`: the model's weights, which are those of `step`, and results.csv."""
        with manifests.fill(self._result) as folder:
            write_weights(folder, model, self._spec)
            (folder / RESULTS_FILE).write_text(to_csv(rows), encoding="utf-8")
            manifests.write_manifest(folder, **self._facts(progress), weights_of_step=step)
        return self._result

    def _facts(self, progress: Progress) -> dict[str, Any]:
        spec = self._spec
        return {
            "base_model": spec.base_model,
            "method": spec.method,
            "objective": spec.objective,
            "task": spec.task,
            "labels": list(spec.labels),
            "step": progress.step,
            "epoch": progress.epoch,
        }

    def _read(self, folder: Path) -> Saved:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        if state["spec"] != self._spec_hash:
            raise Conflict(
                f"{folder} was made by another job spec or with other data; start this job in an empty run folder, "
                "or name that checkpoint as start_from.",
                code="checkpoint_of_another_spec",
            )
        rows = from_csv((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        return Saved(folder=folder, progress=Progress(**state["progress"]), rows=rows, torch_version=state["torch"])

    def _prune(self) -> None:
        """Of all but the newest checkpoints keep only epoch ends, and of those only what a deployment needs."""
        resumable = [folder for folder in self._folder.glob("step-*") if (folder / TRAINER_MANIFEST_FILE).exists()]
        for folder in sorted(resumable, reverse=True)[_KEPT_RESUMABLE:]:
            try:
                epoch_end = manifests.read_manifest(folder, name=TRAINER_MANIFEST_FILE).facts["epoch_end"]
            except CorruptArtifact:
                epoch_end = False
            if epoch_end:
                for name in (TRAINER_MANIFEST_FILE, OPTIMIZER_FILE, STATE_FILE):
                    (folder / name).unlink()
            else:
                shutil.rmtree(folder, ignore_errors=True)


def spec_hash(spec: RunSpec) -> str:
    """SHA-256 of what decides a run's bytes: its spec without paths and names of files, and the data themselves."""
    facts = spec.to_json()
    for name in ("job_id", "model_folder", "training_file", "validation_file", "start_from"):
        del facts[name]
    if facts["reinforcement"] is None:
        del facts["reinforcement"]  # Runs that began before there was such a field go on.
    facts["training_data"] = manifests.sha256_of(Path(spec.training_file))
    if spec.validation_file:
        facts["validation_data"] = manifests.sha256_of(Path(spec.validation_file))
    if spec.start_from:
        facts["start_weights"] = manifests.sha256_of(_weights_path(Path(spec.start_from)))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_weights(folder: Path, model: TrainableModel, spec: RunSpec) -> None:
    """Write what is trained into `folder`: a PEFT adapter, or for full weights a complete model folder."""
    tensors = model.state()
    if spec.method != "full":
        _save_tensors(tensors, folder / ADAPTER_FILE)
        config = json.dumps(model.adapter_config(), indent=2, sort_keys=True)
        (folder / ADAPTER_CONFIG_FILE).write_text(config, encoding="utf-8")
        return
    _save_tensors(tensors, folder / WEIGHTS_FILE)
    base = Path(spec.model_folder)
    for path in sorted(path for pattern in _BASE_FILES for path in base.glob(pattern)):
        if not any(path.match(pattern) for pattern in _NOT_BASE_FILES):
            shutil.copyfile(path, folder / path.name)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The inverse of `write_weights`."""
    return load_file(_weights_path(folder))


def start_from(model: TrainableModel, spec: RunSpec) -> None:
    """Load the weights that `spec.start_from` holds into a fresh model; a head it doesn't know stays as it is.

    Raises InvalidRequest if the adapter there is of another shape, CorruptArtifact if its manifest doesn't hold.
    """
    if not spec.start_from:
        return
    folder = Path(spec.start_from)
    if (folder / manifests.MANIFEST_FILE).exists():
        manifests.verify(folder)
    if spec.method != "full":
        rank = json.loads((folder / ADAPTER_CONFIG_FILE).read_text(encoding="utf-8"))["r"]
        if rank != spec.lora.rank:
            raise InvalidRequest(
                f"The model to go on from has LoRA rank {rank}, this job asks for {spec.lora.rank}; ask for {rank}.",
                code="rank_mismatch",
                param="lora.rank",
            )
    weights = read_weights(folder)
    own = {name: tensor for name, tensor in model.state().items() if "score" in name.split(".")}
    model.load_state({**own, **weights})


def _weights_path(folder: Path) -> Path:
    adapter = folder / ADAPTER_FILE
    return adapter if adapter.exists() else folder / WEIGHTS_FILE


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes files that only their owner can read
