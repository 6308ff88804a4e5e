"""Runs on tiny random models of three families."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finery.training.spec import LoraSpec, OptimizerSpec, RunSpec
from tiny_models import own_copy

FAMILIES = ("llama", "phi3", "qwen2")
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family, the folder of a random model with two layers."""
    root = tmp_path_factory.mktemp("models")
    return {family: own_copy(root / family, family, tmp_path_factory) for family in FAMILIES}


@pytest.fixture(scope="session")
def chat_rows() -> list[dict[str, Any]]:
    """Twenty-four conversations of different length."""
    return [
        {
            "messages": [
                {"role": "system", "content": "Name the colour."},
                {"role": "user", "content": f"It is {COLOURS[i % 6]} " + "and nice " * (i % 5)},
                {"role": "assistant", "content": COLOURS[i % 6]},
            ]
        }
        for i in range(24)
    ]


@pytest.fixture
def make_run(
    tmp_path: Path, tiny_models: dict[str, Path], chat_rows: list[dict[str, Any]]
) -> Callable[..., tuple[Path, RunSpec]]:
    """Make a run folder: make_run("llama", rows=..., validation=..., name=..., **fields of the spec)."""

    def make(
        family: str = "llama",
        *,
        rows: list[dict[str, Any]] | None = None,
        validation: list[dict[str, Any]] | None = None,
        name: str = "run",
        **fields: Any,
    ) -> tuple[Path, RunSpec]:
        folder = tmp_path / name
        folder.mkdir()
        spec = RunSpec(
            job_id="ftjob-1",
            base_model=f"tiny-{family}",
            model_folder=str(tiny_models[family]),
            training_file=str(write_rows(folder / "training.jsonl", chat_rows if rows is None else rows)),
            n_epochs=2,
            precision="fp32",
            threads=1,
            tokens_per_pass=128,
            lora=LoraSpec(rank=4, alpha=8),
            optimizer=OptimizerSpec(learning_rate=1e-2),
        )
        if validation is not None:
            fields["validation_file"] = str(write_rows(folder / "validation.jsonl", validation))
        spec = dataclasses.replace(spec, **fields)
        spec.write(folder)
        return folder, spec

    return make


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
