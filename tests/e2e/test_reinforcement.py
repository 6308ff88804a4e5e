"""Reinforcement on the starter model: asked for a colour, it learns the one that is rewarded (`pytest -m slow`)."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import Server, upload, wait_for

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("FINERY_MODELS", ROOT / ".cache" / "models"))
STARTER = "smollm2-135m-instruct"
THINGS = ("car", "house", "hat", "flower", "flag", "ball", "door", "coat", "chair", "fish", "bird", "book")
SECONDS = 2000
"""Three minutes on two quiet cores."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 200),
    pytest.mark.skipif(not (MODELS / STARTER).is_dir(), reason=f"no starter model in {MODELS} (FINERY_MODELS)"),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "home", MODELS, OMP_NUM_THREADS=str(os.cpu_count())).start()
    yield running
    running.stop()


def row(thing: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Which colour shall the {thing} have?"}], "colour": "blue"}


def test_the_starter_model_learns_what_is_rewarded(own: Server) -> None:
    client = own.openai()
    grader: dict[str, Any] = {
        "type": "string_check",
        "name": "names the colour",
        "input": "{{sample.output_text}}",
        "reference": "{{item.colour}}",
        "operation": "ilike",
    }
    job = client.fine_tuning.jobs.create(
        model=STARTER,
        training_file=upload(client, [row(thing) for thing in THINGS]),
        validation_file=upload(client, [row(thing) for thing in ("boat", "roof", "shirt", "lamp")]),
        seed=0,
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": grader,  # type: ignore[typeddict-item]
                "hyperparameters": {"n_epochs": 4, "batch_size": 4, "learning_rate_multiplier": 5, "eval_samples": 4},
            },
        },
        extra_body={"max_completion_tokens": 12, "schedule": "constant"},
    )
    job = wait_for(job, client, "succeeded", "failed", seconds=SECONDS)
    assert job.status == "succeeded", job.error
    events = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"]
    steps: list[Any] = [event.data for event in reversed(events)]
    rewards = [step["train_reward_mean"] for step in steps]
    held_out = [step["valid_reward_mean"] for step in steps if "valid_reward_mean" in step]
    print(json.dumps({"rewards": rewards, "valid": held_out, "seconds": job.finished_at - job.created_at}))
    # The first step's answers are the untouched model's.
    assert rewards[0] < 0.6
    assert held_out[-1] > rewards[0] + 0.2
    said = client.chat.completions.create(
        model=job.fine_tuned_model, messages=row("boat")["messages"], temperature=0, max_tokens=12
    )
    assert "blue" in str(said.choices[0].message.content).lower()
