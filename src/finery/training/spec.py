"""What a trainer is told and how it answers: `spec.json` in, `events.jsonl` out. No torch here, no HTTP, no database.

The control plane makes a `RunSpec` from a job, the worker writes it to `<run folder>/spec.json` and starts
`python -m finery.training.run <run folder>`. The trainer answers with one JSON object a line in `events.jsonl`
(`Event`), with folders under `checkpoints/` and, at the end, with `result/`.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SPEC_FILE = "spec.json"
EVENTS_FILE = "events.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
RESULT_FOLDER = "result"
TRAINER_MANIFEST_FILE = "trainer_manifest.json"
"""In a checkpoint that a trainer can go on from: all of its files."""

EXIT_STOPPED = 75
"""The trainer's exit status after SIGTERM: a checkpoint of the last step is on disk, starting it again goes on."""

EXIT_RANK_LOST = 76
"""The trainer's exit status when another rank is gone: starting all of them again goes on from the checkpoint."""

EXIT_STORAGE_FULL = 73
"""The trainer's exit status when its disk is full: with space, starting it again goes on from its checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSpec:
    """Low-rank adapters, in PEFT's words."""

    rank: int = 16
    """Columns of A, rows of B; 1 to 512."""
    alpha: float = 32.0
    """Scale numerator: the update is (alpha / rank) B A x, or alpha / sqrt(rank) when rank-stabilised."""
    dropout: float = 0.0
    """Share of inputs to A dropped while training, 0 to 1."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of linear layers (the last part, such as q_proj), or the one word all-linear."""
    rank_stabilised: bool = False
    """rsLoRA: scale by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732)."""
    dora: bool = False
    """DoRA: learn magnitude apart from direction (Liu et al. 2024, arXiv 2402.09353)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSpec:
    """The optimizer and its schedule; every number is final, nothing is "auto"."""

    name: Literal["adamw", "adam", "sgd", "adafactor", "lion", "adamw_8bit"] = "adamw"
    learning_rate: float = 1e-3
    """Peak learning rate, after the multiplier."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.05
    """Share of all steps in which the rate climbs from zero."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global L2 norm; 0 turns clipping off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpec:
    """What is minimised."""

    name: Literal["cross_entropy", "label_smoothing", "focal", "dpo", "ipo", "hinge", "grpo"] = "cross_entropy"
    smoothing: float = 0.0
    """Label smoothing, 0 to 1 (only label_smoothing)."""
    gamma: float = 2.0
    """Focusing exponent (only focal; Lin et al. 2017, arXiv 1708.02002)."""
    beta: float = 0.1
    """Strength of the tie to the reference model (dpo, ipo, hinge)."""
    class_weights: tuple[float, ...] | None = None
    """One weight a label, for classification heads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinforcementSpec:
    """How answers are drawn and graded (only the objective reinforcement)."""

    grader: dict[str, Any]
    """A grader of OpenAI's API that needs no model; see `evaluation.computed`."""
    group_size: int = 8
    """Answers to each prompt of a step; an answer counts by how much it is better than the others."""
    max_completion_tokens: int = 256
    """An answer is cut there, and graded as it is."""
    kl_weight: float = 0.04
    """Strength of the tie to the base model; 0 is none."""
    clip: float = 0.2
    """How far the probability of a token may move in a step before its gradient ends."""
    eval_samples: int = 1
    """Answers to each prompt of the validation set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One training run, complete: two runs of one spec on one machine give the same bytes."""

    job_id: str
    base_model: str
    """Name of the base model in the catalog; written into the adapter's config."""
    model_folder: str
    """Folder of the base model: config.json, *.safetensors, tokenizer.json, chat_template.jinja."""
    training_file: str
    """JSONL file of training examples."""
    validation_file: str | None = None
    """JSONL file of validation examples."""
    method: Literal["lora", "qlora", "full"] = "lora"
    objective: Literal["supervised", "preference", "reinforcement"] = "supervised"
    task: Literal["chat", "completion", "classification", "multi_label", "regression"] = "chat"
    labels: tuple[str, ...] = ()
    """The labels of a classification head, in the order of its outputs."""
    start_from: str | None = None
    """Folder of an adapter (or full weights) to go on from; its manifest is verified."""
    n_epochs: int = 3
    batch_size: int = 8
    """Examples per optimizer step."""
    tokens_per_pass: int = 4096
    """Most tokens in one packed row; a batch above it is cut into several passes, which changes only memory."""
    max_tokens_per_example: int = 2048
    """Longer examples are refused before the run starts, never cut silently. Of reinforcement: prompt and answer."""
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Dtype of the frozen base and of its products; adapter and optimizer state are always fp32."""
    lora: LoraSpec = field(default_factory=LoraSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    reinforcement: ReinforcementSpec | None = None
    checkpoint_interval_steps: int = 25
    """A resumable checkpoint at least so often; one more closes every epoch."""
    eval_interval_steps: int = 0
    """Validation loss on one batch so often (0: at the end of each epoch only); the full set at each epoch's end."""
    early_stopping_patience: int = 0
    """Stop after so many evaluations without a better full validation loss; 0 is off."""
    threads: int = 0
    """CPU threads of each rank; 0 means all cores, shared. Part of the promise of bit-identical resume."""
    ranks: int = 1
    """Processes that train as one, one a GPU where there are GPUs: on this machine, unless the environment says where.
    They change no number but the last bits, in which the order of sums shows."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "RunSpec":
        """The inverse of `to_json`; an unknown field is a TypeError (versions of worker and server differ)."""
        nested = {
            "lora": LoraSpec(**{**data["lora"], "targets": tuple(data["lora"]["targets"])}),
            "optimizer": OptimizerSpec(**{**data["optimizer"], "betas": tuple(data["optimizer"]["betas"])}),
            "loss": LossSpec(**{**data["loss"], "class_weights": _tuple_or_none(data["loss"]["class_weights"])}),
            "labels": tuple(data.get("labels", ())),
            "reinforcement": ReinforcementSpec(**data["reinforcement"]) if data.get("reinforcement") else None,
        }
        return RunSpec(**{**data, **nested})

    def write(self, run_folder: Path) -> None:
        """Write `spec.json` into the run's folder."""
        (run_folder / SPEC_FILE).write_text(json.dumps(self.to_json(), indent=1), encoding="utf-8")

    @staticmethod
    def read(run_folder: Path) -> "RunSpec":
        """Read `spec.json` from the run's folder."""
        return RunSpec.from_json(json.loads((run_folder / SPEC_FILE).read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of `events.jsonl`.

    `key` names the fact, not the line: `step:12`, `checkpoint:50`, `resumed:50`. A run that was killed and goes on
    tells some facts twice, and the control plane keeps the first of each key, so that nothing is shown twice.
    """

    key: str
    type: Literal["message", "metrics", "checkpoint", "result", "error"]
    message: str
    created_at: float
    """Seconds since 1970."""
    level: Literal["info", "warn", "error"] = "info"
    data: dict[str, Any] = field(default_factory=dict)
    """metrics: step, total_steps, epoch, train_loss, train_accuracy, learning_rate, tokens_per_second and, where
    measured, train_mean_token_accuracy, valid_loss, valid_mean_token_accuracy, full_valid_loss,
    full_valid_mean_token_accuracy (for heads and preferences valid_accuracy, full_valid_accuracy; for reinforcement
    train_reward_mean, valid_reward_mean, completion_tokens_mean, kl_mean, and OpenAI's scores, errors and timing).
    checkpoint: step, folder (relative to the run's), resumable, deployable (at an epoch's end or a stop), metrics.
    result: folder, trained_tokens, steps, weights_of_step, metrics. error: code.
    The message with the key `estimate`: peak_bytes, estimated_seconds."""

    def line(self) -> str:
        """The event as one line of JSON with its newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False) + "\n"

    @staticmethod
    def parse(line: str) -> "Event":
        """The inverse of `line`."""
        return Event(**json.loads(line))


def _tuple_or_none(value: list[float] | None) -> tuple[float, ...] | None:
    return None if value is None else tuple(value)
