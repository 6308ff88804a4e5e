"""From a job to the spec its trainer gets. Pure but for the base model's folder."""

from pathlib import Path
from typing import Any, Literal

from finery.control import reinforcement
from finery.core.jobs import Job
from finery.modeling.catalog import CATALOG
from finery.training.spec import LoraSpec, LossSpec, OptimizerSpec, ReinforcementSpec, RunSpec

TRAINING_FILE = "training.jsonl"
VALIDATION_FILE = "validation.jsonl"
START_FOLDER = "start_from"

DEFAULT_LEARNING_RATE = 5e-4
"""For base models the catalog has no figure for."""

_FULL_LEARNING_RATE_FACTOR = 0.05
"""All weights move at once: a twentieth of an adapter's rate is the usual choice."""

_REINFORCEMENT_LEARNING_RATE_FACTOR = 0.2
"""A step learns from few answers, and what it unlearns isn't seen: a fifth of the rate."""

_OBJECTIVES: dict[str, Literal["supervised", "preference", "reinforcement"]] = {
    "supervised": "supervised",
    "dpo": "preference",
    "reinforcement": "reinforcement",
}


def run_spec(job: Job, *, models_folder: Path) -> tuple[RunSpec, dict[str, str]]:
    """The spec of a queued job, its paths relative to the run's folder; and what must lie there, path → SHA-256."""
    options = job.resolved
    needed = {TRAINING_FILE: job.data["training"]["sha256"]}
    if job.data.get("validation"):
        needed[VALIDATION_FILE] = job.data["validation"]["sha256"]
    start: dict[str, Any] = job.data.get("start_from") or {}
    needed |= {f"{START_FOLDER}/{path}": file["sha256"] for path, file in start.get("files", {}).items()}
    spec = RunSpec(
        job_id=job.id,
        base_model=job.base_model,
        model_folder=str(models_folder / job.base_model),
        training_file=TRAINING_FILE,
        validation_file=VALIDATION_FILE if VALIDATION_FILE in needed else None,
        method=options["training_method"],
        objective=_OBJECTIVES[job.method],
        task=options["task"],
        labels=tuple(job.data.get("labels", ())),
        start_from=START_FOLDER if start else None,
        n_epochs=options["n_epochs"],
        batch_size=options["batch_size"],
        tokens_per_pass=options["tokens_per_pass"],
        max_tokens_per_example=options["max_tokens_per_example"],
        seed=job.seed,
        precision=options["precision"],
        lora=LoraSpec(
            rank=options["lora_rank"],
            alpha=options["lora_alpha"],
            dropout=options["lora_dropout"],
            targets=tuple(options["lora_targets"]),
            rank_stabilised=options["rank_stabilised"],
            dora=options["dora"],
        ),
        optimizer=OptimizerSpec(
            name=options["optimizer"],
            learning_rate=base_learning_rate(job.base_model, options["training_method"], job.method)
            * options["learning_rate_multiplier"],
            schedule=options["schedule"],
            warmup_ratio=options["warmup_ratio"],
            weight_decay=options["weight_decay"],
            max_grad_norm=options["max_grad_norm"],
        ),
        loss=LossSpec(
            name=options["loss"],
            smoothing=options["label_smoothing"] if options["loss"] == "label_smoothing" else 0.0,
            gamma=options["focal_gamma"],
            beta=options["beta"],
            class_weights=tuple(options["class_weights"]) if options["class_weights"] else None,
        ),
        reinforcement=_reinforcement(options) if job.method == "reinforcement" else None,
        checkpoint_interval_steps=options["checkpoint_interval_steps"],
        eval_interval_steps=options["eval_interval" if job.method == "reinforcement" else "eval_interval_steps"],
        early_stopping_patience=options["early_stopping_patience"],
        # Jobs that were queued before there was such a knob.
        ranks=options.get("ranks", 1),
    )
    return spec, needed


def base_learning_rate(base_model: str, training_method: str, method: str = "supervised") -> float:
    """What `learning_rate_multiplier` multiplies."""
    known = CATALOG.get(base_model)
    rate = known.learning_rate if known else DEFAULT_LEARNING_RATE
    rate *= _REINFORCEMENT_LEARNING_RATE_FACTOR if method == "reinforcement" else 1.0
    return rate * (_FULL_LEARNING_RATE_FACTOR if training_method == "full" else 1.0)


def _reinforcement(options: dict[str, Any]) -> ReinforcementSpec:
    return ReinforcementSpec(
        grader=options["grader"],
        group_size=reinforcement.group_size(options["compute_multiplier"]),
        max_completion_tokens=options["max_completion_tokens"],
        kl_weight=options["kl_weight"],
        eval_samples=options["eval_samples"],
    )
