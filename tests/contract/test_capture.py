"""Traffic is kept only where asked, masked, for its time; it becomes a dataset that a job takes; and drift is told."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from servers import Server, deploy, wait_for

TRAINING_ROWS = 120
"""Of the session's tuned model."""


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


@pytest.fixture(scope="module")
def deployed(http: httpx.Client, tuned: str) -> Iterator[str]:
    assert deploy(http, "kept", tuned)["status"] == "Succeeded"
    yield "kept"
    http.delete("/finery/v1/deployments/kept")


def ask(client: openai.OpenAI, name: str, text: str, **options: Any) -> Any:
    # The end-of-turn token is made likely: whole answers are what is collected.
    options = {"max_tokens": 40, "logit_bias": {"2": 20}, "temperature": 1.0, **options}
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=name, messages=messages, **options)


def exactly(answer: str) -> dict[str, Any]:
    """A response format that leaves one answer."""
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": [answer]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "one", "strict": True, "schema": schema}}


def captured(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        http.get(f"/finery/v1/deployments/{name}/captured", params={"limit": 100}).raise_for_status().json()["data"]
    )
    return found


def test_nothing_is_kept_until_asked_then_masked_and_trainable(
    client: openai.OpenAI, http: httpx.Client, deployed: str
) -> None:
    path = f"/finery/v1/deployments/{deployed}"
    ask(client, deployed, "before")
    assert captured(http, deployed) == []
    assert http.get(f"{path}/capture").json()["enabled"] is False
    refused = http.post(f"{path}/captured/dataset", json={"dataset": "live"})
    assert refused.status_code == 400

    assert http.put(f"{path}/capture", json={"retention_days": 7}).json()["enabled"] is True
    for i in range(12):
        ask(client, deployed, f"the red ticket, write to smith{i}@smithy.de", stream=i % 2 == 0, logit_bias={})
    for i in range(12):
        ask(client, deployed, f"the red ticket, write to smith{i}@smithy.de", logit_bias={"2": 6})
    kept = captured(http, deployed)
    assert len(kept) >= 12
    assert all("@smithy.de" not in json.dumps(one) for one in kept)
    assert kept[0]["messages"][0]["content"].endswith("write to [EMAIL]")
    assert kept[0]["expires_at"] - kept[0]["created_at"] == 7 * 24 * 3600

    http.delete(f"{path}/capture").raise_for_status()
    ask(client, deployed, "after")
    assert not any("after" in json.dumps(one) for one in captured(http, deployed))


def test_what_was_kept_becomes_a_version_that_a_job_takes(
    client: openai.OpenAI, http: httpx.Client, deployed: str
) -> None:
    path = f"/finery/v1/deployments/{deployed}"
    http.put(f"{path}/capture", json={"redact": False}).raise_for_status()
    # A schema of one answer makes it whole, whatever the little model would rather say.
    for i in range(12):
        only = exactly(f"green {i}")
        ask(client, deployed, f"the ticket about green number {i}", logit_bias={}, response_format=only, max_tokens=300)
    # A prompt nobody can train on costs its own row alone.
    ask(client, deployed, "green \0", logit_bias={}, response_format=exactly("odd"), max_tokens=300)
    # What was answered before it is switched off is kept, at once.
    http.delete(f"{path}/capture").raise_for_status()
    response = http.post(f"{path}/captured/dataset", json={"dataset": "live"})
    assert response.status_code == 200, response.text
    made = response.json()
    assert made["version"] == 1
    assert made["origin"] == "capture"
    assert made["record"]["rows"] >= 10
    assert made["record"]["unreadable"] >= 1
    rows = [json.loads(line) for line in client.files.content(made["file_id"]).text.splitlines()]
    assert len(rows) == made["record"]["rows"]
    assert rows[0]["messages"][-1]["role"] == "assistant"
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file="live:1", hyperparameters={"n_epochs": 1, "batch_size": 32}
    )
    assert wait_for(job, client, "succeeded").training_file == made["file_id"]


def test_drift_is_told_against_the_training_rows(client: openai.OpenAI, http: httpx.Client, deployed: str) -> None:
    path = f"/finery/v1/deployments/{deployed}"
    http.put(f"{path}/capture", json={}).raise_for_status()
    for i in range(55):
        ask(client, deployed, f"reply with the colour only, it is nice and nice and nice {i}", max_tokens=2)
    found = http.get(f"{path}/drift", params={"seconds": 3600}).raise_for_status().json()
    signals = {one["name"]: one for one in found["signals"]}
    assert found["training_rows"] == TRAINING_ROWS
    assert found["captured"] >= 50
    assert set(signals) == {"prompt_length", "answer_length", "refusal_rate", "filter_rate", "prompt_tokens"}
    assert signals["prompt_tokens"]["drifted"] is True
    assert signals["prompt_tokens"]["distance"] > 1.5
    assert signals["refusal_rate"]["live"] == 0
    assert "prompt_tokens" in found["drifted"]


def test_what_was_kept_is_forgotten_with_its_deployment(client: openai.OpenAI, http: httpx.Client) -> None:
    deploy(http, "brief", "tiny-phi3")
    http.put("/finery/v1/deployments/brief/capture", json={}).raise_for_status()
    ask(client, "brief", "remember me", max_tokens=1)
    assert len(captured(http, "brief")) == 1
    http.delete("/finery/v1/deployments/brief/captured").raise_for_status()
    assert captured(http, "brief") == []
    ask(client, "brief", "remember me again", max_tokens=1)
    http.delete("/finery/v1/deployments/brief").raise_for_status()
    end = time.monotonic() + 60
    while http.get("/finery/v1/deployments/brief/captured").status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.1)
    deploy(http, "brief", "tiny-phi3")
    assert captured(http, "brief") == []
    assert http.get("/finery/v1/deployments/brief/capture").json()["enabled"] is False
    http.delete("/finery/v1/deployments/brief").raise_for_status()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "none/capture", {}, 404),
        ("PUT", "kept/capture", {"share": 0}, 400),
        ("PUT", "kept/capture", {"share": 1.5}, 400),
        ("PUT", "kept/capture", {"retention_days": 0}, 400),
        ("PUT", "kept/capture", {"keep": True}, 400),
        ("POST", "kept/captured/dataset", {"dataset": "../x"}, 400),
        ("POST", "kept/captured/dataset", {"dataset": "y", "since": 99999999999}, 400),
        ("GET", "none/drift", None, 404),
        ("GET", "kept/drift?seconds=-1", None, 400),
    ],
)
def test_bad_wishes_are_refused(
    http: httpx.Client, deployed: str, method: str, path: str, body: Any, status: int
) -> None:
    answer = http.request(method, f"/finery/v1/deployments/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
