"""Deployments as their users meet them: changed while they answer, limited, refused, deleted."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from servers import Server, deploy, wait_for

PATH = "/finery/v1/deployments"
HELLO: list[Any] = [{"role": "user", "content": "It is red"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A server that proves what it deploys."""
    options = {"FINERY_PARITY_PROMPTS": "4", "FINERY_CAPACITY_QUOTA": "2000"}
    running = Server(tmp_path_factory.mktemp("proving") / "home", tiny_folder, **options).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture(scope="module")
def job(server: Server) -> Any:
    """A job that has succeeded, with checkpoints."""
    client = server.openai()
    rows = [{"messages": [*HELLO, {"role": "assistant", "content": "red red"}]} for _ in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = client.files.create(file=("red.jsonl", text.encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=file.id,
        suffix="red",
        hyperparameters={"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 20},
        extra_body={"precision": "fp32"},
    )
    return wait_for(job, client, "succeeded")


def settled(http: httpx.Client, name: str) -> dict[str, Any]:
    """The deployment once nothing about it is being proven."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        deployment: dict[str, Any] = http.get(f"{PATH}/{name}").json()
        if deployment["status"] != "Creating" and (deployment["update"] or {}).get("status") != "Creating":
            return deployment
        time.sleep(0.1)
    raise TimeoutError(name)


def change(http: httpx.Client, name: str, **changes: Any) -> dict[str, Any]:
    changed = http.patch(f"{PATH}/{name}", json=changes)
    assert changed.is_success, changed.text
    return settled(http, name)


class Asking:
    """Clients that ask one deployment again and again, until told to stop."""

    def __init__(self, client: openai.OpenAI, name: str) -> None:
        self.answers: list[str] = []
        self.errors: list[Exception] = []
        self._client, self._name = client, name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._client.chat.completions.create(
                    model=self._name, messages=HELLO, temperature=0, max_tokens=6
                )
                self.answers.append(answer.choices[0].message.content or "")
            except openai.OpenAIError as error:
                self.errors.append(error)


def test_another_model_takes_over_without_a_dropped_request(server: Server, http: httpx.Client, job: Any) -> None:
    client = server.openai()
    before = deploy(http, "shop", "tiny-phi3")
    assert before["status"] == "Succeeded", before
    assert before["certificate"] is None
    with Asking(client, "shop") as asking:
        after = change(http, "shop", model=job.fine_tuned_model)
        assert (after["status"], after["model"], after["update"]) == ("Succeeded", job.fine_tuned_model, None)
        seen = len(asking.answers)
        while len(asking.answers) < seen + 6:
            time.sleep(0.01)
        failed = change(http, "shop", model="tiny-phi3", engine="steam")
        assert failed["status"] == "Succeeded"
        assert failed["model"] == job.fine_tuned_model
        assert failed["update"]["status"] == "Failed"
        assert "'steam' is no engine; there are llamacpp" in failed["update"]["status_details"]
        over = change(http, "shop", sku={"capacity": 2001})
        assert over["sku"] == {"name": "Standard", "capacity": 1000}
        assert "beyond the quota: this project may have 2000" in over["update"]["status_details"]
    assert asking.errors == []
    assert asking.answers[-1] == "red red"
    assert asking.answers[0] != "red red"
    certificate = failed["certificate"]
    assert certificate["passed"] is True
    assert certificate["places"] >= 3
    assert certificate["agreement_but_ties"] == 1.0
    assert change(http, "shop", policy="default-asynchronous", sku={"capacity": 7})["update"] is None
    kept = http.get(f"{PATH}/shop").json()
    assert (kept["policy"], kept["sku"]["capacity"], kept["certificate"]) == (
        "default-asynchronous",
        7,
        certificate,
    )


def test_a_checkpoint_is_deployed_by_its_name_or_its_id(server: Server, http: httpx.Client, job: Any) -> None:
    client = server.openai()
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[-1]
    deployment = deploy(http, "early", checkpoint.id)
    assert deployment["status"] == "Succeeded", deployment
    assert deployment["model"] == checkpoint.fine_tuned_model_checkpoint
    assert client.chat.completions.create(model="early", messages=HELLO, max_tokens=2).usage
    with pytest.raises(openai.ConflictError) as refused:
        client.models.delete(job.fine_tuned_model)
    assert "early" in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert http.delete(f"{PATH}/early").json()["deleted"] is True
    assert http.post(PATH, json={"name": "none", "model": "ftckpt_ofAnotherProject"}).status_code == 404


def test_limits_are_told_and_kept(server: Server, http: httpx.Client) -> None:
    client = server.openai()
    assert deploy(http, "small", "tiny-phi3", sku={"capacity": 1})["sku"] == {"name": "Standard", "capacity": 1}
    raw = client.chat.completions.with_raw_response.create(model="small", messages=HELLO, max_tokens=2, n=2)
    assert raw.headers["x-ratelimit-limit-requests"] == "6"
    assert raw.headers["x-ratelimit-limit-tokens"] == "1000"
    assert raw.headers["x-ratelimit-remaining-requests"] == "5"
    assert 900 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 1000
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    for _ in range(5):
        list(client.chat.completions.create(model="small", messages=HELLO, max_tokens=2, stream=True))
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="small", messages=HELLO, max_tokens=2, stream=True)
    assert refused.value.code == "rate_limit_exceeded"
    assert "6 requests a minute" in refused.value.message
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 10
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-requests" not in http.get("/v1/models").headers
    http.delete(f"{PATH}/small")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"sku": {"capacity": 0}}, "sku.capacity"),
        ({"sku": {"name": "Free"}}, "sku.name"),
        ({"sku": 3}, "sku"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 1000}, "replicas"),
        ({"idle_seconds": -1}, "idle_seconds"),
        ({"parity_override": " "}, "parity_override"),
        ({"status": "Succeeded"}, "status"),
    ],
)
def test_what_can_not_be_is_refused_by_its_field(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    refused = http.post(PATH, json={"name": "bad", "model": "tiny-phi3", **body})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert http.get(f"{PATH}/bad").status_code == 404


def test_a_change_of_nothing_known_is_refused(http: httpx.Client) -> None:
    assert http.patch(f"{PATH}/nowhere", json={"replicas": 2}).status_code == 404
    assert deploy(http, "here", "tiny-phi3")["status"] == "Succeeded"
    refused = http.patch(f"{PATH}/here", json={"model": "gpt-nothing"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert http.get(f"{PATH}/here").json()["update"] is None
    assert http.delete(f"{PATH}/here").json()["deleted"] is True


def test_what_fails_its_proof_says_why_and_is_made_anew_by_a_change(server: Server, http: httpx.Client) -> None:
    failed = deploy(http, "mended", "tiny-phi3", engine="steam")
    assert failed["status"] == "Failed"
    assert "steam" in failed["status_details"]
    with pytest.raises(openai.APIStatusError, match="Failed"):
        server.openai().chat.completions.create(model="mended", messages=HELLO, max_tokens=1)
    assert change(http, "mended", engine="llamacpp", replicas=2)["status"] == "Succeeded"
    assert http.get(f"{PATH}/mended").json()["ready_replicas"] == 2
    assert http.delete(f"{PATH}/mended").json()["deleted"] is True
