"""A sweep finds the best settings; its model goes live by the deployment's rule."""

import json
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from servers import Server

MODEL = "tiny-phi3"
COLOURS = ("red", "green", "blue")


def rows(count: int) -> bytes:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"ticket {i} is about {COLOURS[i % 3]}"},
                    {"role": "assistant", "content": COLOURS[i % 3]},
                ]
            }
        )
        + "\n"
        for i in range(count)
    ).encode()


def settled(http: httpx.Client, path: str, *statuses: str) -> dict[str, Any]:
    end = time.monotonic() + 240
    found: dict[str, Any] = {}
    while time.monotonic() < end:
        found = http.get(path).json()
        if found["status"] not in statuses:
            return found
        time.sleep(0.1)
    raise TimeoutError(json.dumps(found))


@pytest.fixture(scope="module")
def sweep(server: Server) -> dict[str, Any]:
    client = server.openai()
    file = client.files.create(file=("rows.jsonl", rows(48)), purpose="fine-tune")
    with server.http() as http:
        body = {
            "model": MODEL,
            "training_file": file.id,
            "hyperparameters": {"validation_split": 0.25, "batch_size": 6, "n_epochs": 2},
            "grid": {"learning_rate_multiplier": [0.01, 10]},
            "early_stopping": False,
        }
        made = http.post("/finery/v1/sweeps", json=body).json()
        assert len(made["runs"]) == 2, made
        return settled(http, f"/finery/v1/sweeps/{made['id']}", "running")


def test_a_sweep_marks_the_lowest_validation_loss(server: Server, sweep: dict[str, Any]) -> None:
    assert sweep["status"] == "completed"
    slow, fast = sweep["runs"]
    assert [len(run["losses"]) for run in sweep["runs"]] == [2, 2]
    assert (slow["best"], fast["best"]) == (False, True)
    assert fast["best_loss"] < slow["best_loss"]
    assert sweep["best_model"] == fast["fine_tuned_model"]
    options = ["--base-url", server.url, "--api-key", server.key]
    done = subprocess.run(
        [sys.executable, "-m", "finery.cli", "sweeps", "show", sweep["id"], *options],
        capture_output=True,
        text=True,
        check=True,
    )
    first = done.stdout.splitlines()[1]
    assert first.startswith("*")
    assert fast["job_id"] in first


def test_the_best_checkpoint_is_marked(server: Server, sweep: dict[str, Any]) -> None:
    with server.http() as http:
        found = http.get(f"/v1/fine_tuning/jobs/{sweep['best_job']}/checkpoints").json()["data"]
    losses = {one["fine_tuned_model_checkpoint"]: one["metrics"]["full_valid_loss"] for one in found}
    [best] = [one["fine_tuned_model_checkpoint"] for one in found if one["best"]]
    assert losses[best] == min(losses.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": {}}, "0 sets"),
        ({"grid": {"magic": [1]}}, "magic"),
        ({"grid": {"n_epochs": [1, 51]}}, "sets[1].n_epochs"),
        ({"hyperparameters": {}}, "validation loss"),
        ({"grid": {"seed": [1]}}, "seed"),
        ({"grid": {"lora_rank": list(range(1, 40))}}, "39 sets"),
        ({"method": "reinforcement"}, "valid_reward_mean"),
    ],
)
def test_a_sweep_that_cant_be_submits_nothing(server: Server, change: dict[str, Any], said: str) -> None:
    client = server.openai()
    file = client.files.create(file=("rows.jsonl", rows(20)), purpose="fine-tune")
    before = len(list(client.fine_tuning.jobs.list()))
    body = {
        "model": MODEL,
        "training_file": file.id,
        "hyperparameters": {"validation_split": 0.2},
        "grid": {"n_epochs": [1, 2]},
    }
    with server.http() as http:
        answer = http.post("/finery/v1/sweeps", json=body | change)
    assert answer.status_code == 400, answer.text
    assert said in json.dumps(answer.json()["error"])
    assert len(list(client.fine_tuning.jobs.list())) == before


def test_a_model_changes_by_promotion_alone_where_there_is_a_rule(server: Server, sweep: dict[str, Any]) -> None:
    plain = server.openai(_strict_response_validation=False)
    data = plain.files.create(file=("held_out.jsonl", rows(30)), purpose="evals").id
    best = sweep["best_model"]
    with server.http() as http:
        http.post("/finery/v1/deployments", json={"name": "colours", "model": MODEL})
        settled(http, "/finery/v1/deployments/colours", "Creating")
        path = "/finery/v1/deployments/colours"
        assert http.get(f"{path}/promotion_rule").status_code == 404
        rule = {"data": data, "metric": "perplexity", "threshold": 0, "forgetting": False}
        assert http.put(f"{path}/promotion_rule", json=rule | {"threshold": "low"}).status_code == 400
        assert http.put(f"{path}/promotion_rule", json=rule).json()["metric"] == "perplexity"
        past = http.patch(path, json={"model": best})
        assert (past.status_code, past.json()["error"]["code"]) == (409, "promotion_required")

        made = http.post(f"{path}/promotions", json={"model": best}).json()
        assert http.post(f"{path}/promotions", json={"model": best}).status_code in (400, 409)
        found = settled(http, f"{path}/promotions/{made['id']}", "evaluating")
        assert found["status"] == "promoted", found
        assert found["reason"].startswith("Better")
        assert [one["status"] for one in http.get(f"{path}/promotions").json()["data"]] == ["promoted"]
        http.delete(path)
