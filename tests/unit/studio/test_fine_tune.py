"""What the wizard asks for is what the API gets."""

import json

import pytest

pytest.importorskip("nicegui")

from finery.core import hyperparameters
from finery.studio.pages.fine_tune import ADVANCED, from_job, job_body, read_grader

DRAFT = {
    "model": "m",
    "training_file": "file-1",
    "suffix": " support ",
    "task": "chat",
    "validation": "split",
    "split": 10,
}


def test_what_was_left_open_is_not_sent() -> None:
    assert job_body({**DRAFT, "n_epochs": None, "optimizer": "", "lora_alpha": "auto"}) == {
        "model": "m",
        "training_file": "file-1",
        "suffix": "support",
        "seed": None,
        "validation_split": 0.1,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
        "task": "chat",
    }


def test_every_setting_finds_its_place() -> None:
    knobs = {"n_epochs": 3.0, "learning_rate_multiplier": 2.0, "batch_size_multiplier": 2.0, "lora_rank": 8.0}
    body = job_body({**DRAFT, **knobs, "seed": 7.0, "validation": "file", "validation_file": "file-2"})
    assert body["method"]["supervised"]["hyperparameters"] == {"n_epochs": 3, "learning_rate_multiplier": 2.0}
    assert isinstance(body["method"]["supervised"]["hyperparameters"]["n_epochs"], int)
    assert (body["batch_size_multiplier"], body["lora_rank"], body["seed"]) == (2.0, 8, 7)
    assert body["validation_file"] == "file-2"
    assert "validation_split" not in body


def test_preferences_are_a_method() -> None:
    body = job_body({**DRAFT, "task": "preferences"})
    assert body["method"] == {"type": "dpo", "dpo": {"hyperparameters": {}}}
    assert "task" not in body


def test_reinforcement_brings_its_grader_there_and_back() -> None:
    grader = {"type": "string_check", "name": "same", "input": "a", "reference": "b", "operation": "eq"}
    draft = {**DRAFT, "task": "reinforcement", "grader": json.dumps(grader)}
    body = job_body(draft)
    assert body["method"] == {"type": "reinforcement", "reinforcement": {"hyperparameters": {}, "grader": grader}}
    assert "task" not in body
    assert read_grader({"grader": "{no"}) is read_grader({}) is None
    job = {
        "model": "m",
        "training_file": "file-1",
        "user_provided_suffix": "support",
        "task": "chat",
        "validation_file": None,
        "validation_split": 0.1,
        "method": body["method"],
        "hyperparameters": {"n_epochs": "auto", "learning_rate_multiplier": "auto"},
    }
    assert job_body(from_job(job)) == body


def test_advanced_settings_are_settings() -> None:
    assert set(ADVANCED) <= set(hyperparameters.KNOBS)
