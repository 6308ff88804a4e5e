"""Models change under a deployment's name while clients stream from it: no answer is dropped, cut or mixed.

A worse one is refused, and one that fails in its first hour makes way by itself. Minutes long: `pytest -m slow`.
"""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from os import kill
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from servers import Server, deploy, until, upload, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

MODEL = "tiny-phi3"
COLOURS = ("red", "green", "blue")
PATH = "/finery/v1/deployments"
RATE = 1
"""The good run's learning rate multiplier; the harmful one's is a hundred times that."""


def question(number: int) -> list[Any]:
    return [{"role": "user", "content": f"ticket {number} is about {COLOURS[number % 3]}"}]


def row(number: int, answer: str) -> dict[str, Any]:
    return {"messages": [*question(number), {"role": "assistant", "content": answer}]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """Names of tuned models."""

    stubborn: str
    """Says red, whatever is asked: right in a third of all rows."""
    good: str
    harmful: str
    """Trained as the good one, at a hundred times its learning rate."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A server of our own, for its files are spoilt."""
    running = Server(tmp_path_factory.mktemp("promotions") / "home", tiny_folder).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def http(own: Server) -> Iterator[httpx.Client]:
    with own.http() as client:
        yield client


@pytest.fixture(scope="module")
def models(own: Server) -> Models:
    def tune(rows: list[dict[str, Any]], multiplier: float) -> Any:
        return client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=upload(client, rows),
            seed=0,
            hyperparameters={"n_epochs": 15, "batch_size": 4, "learning_rate_multiplier": multiplier},
            extra_body={"precision": "fp32", "checkpoint_interval_steps": 10_000},
        )

    client = own.openai()
    right = [row(n, COLOURS[n % 3]) for n in range(60)]
    jobs = [tune([row(n, "red") for n in range(60)], RATE), tune(right, RATE), tune(right, 100 * RATE)]
    done = [wait_for(job, client, "succeeded", "failed", seconds=1200) for job in jobs]
    assert [job.status for job in done] == ["succeeded"] * 3, [job.error for job in done]
    stubborn, good, harmful = (str(job.fine_tuned_model) for job in done)
    return Models(stubborn=stubborn, good=good, harmful=harmful)


@dataclass(slots=True)
class Streaming:
    """Clients that stream one answer after the other, and what they got."""

    client: openai.OpenAI
    name: str
    got: list[tuple[float, int, str]] = field(default_factory=list)
    """When it was asked for, the question's number, the whole answer."""
    faults: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask_on(self, first: int) -> None:
        for number in itertools.count(first, 3):
            if self.stop.is_set():
                return
            began = time.monotonic()
            try:
                text, finish = stream(self.client, self.name, number % 30)
            except openai.OpenAIError as error:
                self.faults.append(str(error))
                continue
            self.got.append((began, number % 30, text))
            if finish is None:
                self.faults.append(f"cut: {text!r}")

    def since(self, moment: float) -> list[tuple[int, str]]:
        return [(number, text) for began, number, text in self.got if began > moment]


def stream(client: openai.OpenAI, name: str, number: int) -> tuple[str, str | None]:
    text, finish = "", None
    asked: dict[str, Any] = {"model": name, "messages": question(number), "temperature": 0, "max_tokens": 6}
    for chunk in client.chat.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish


@contextmanager
def streaming(own: Server, name: str) -> Iterator[Streaming]:
    clients = Streaming(own.openai(), name)
    threads = [threading.Thread(target=clients.ask_on, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join()


def promote(own: Server, name: str, model: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "finery.cli", "deployments", "promote", name, "--model", model]
    options = ["--base-url", own.url, "--api-key", own.key]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def set_rule(own: Server, http: httpx.Client, name: str, **limits: Any) -> None:
    plain = own.openai(_strict_response_validation=False)  # its type of a file knows no evals
    text = "".join(json.dumps(row(n, COLOURS[n % 3])) + "\n" for n in range(100, 160))
    data = plain.files.create(file=("held_out.jsonl", text.encode()), purpose="evals").id
    rule = {"data": data, "metric": "accuracy", "forgetting": False, **limits}
    http.put(f"{PATH}/{name}/promotion_rule", json=rule).raise_for_status()


def rolled_back(http: httpx.Client, name: str, model: str) -> None:
    """Wait until an earlier model answers again."""
    try:
        until(lambda: newest(http, name)["status"] == "rolled_back", seconds=600)
    except AssertionError:
        raise AssertionError(newest(http, name), http.get(f"{PATH}/{name}/metrics").json()) from None
    until(lambda: http.get(f"{PATH}/{name}").json()["model"] == model, seconds=900)


def answers_of(own: Server, model: str) -> dict[int, str]:
    client = own.openai()
    return {number: stream(client, model, number)[0] for number in range(30)}


def newest(http: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{PATH}/{name}/promotions").json()["data"][0]
    return found


def test_a_better_model_takes_over_under_load_and_a_harmful_one_is_refused(
    own: Server, http: httpx.Client, models: Models
) -> None:
    before, after = answers_of(own, models.stubborn), answers_of(own, models.good)
    assert set(before.values()) == {"red"}
    assert after == {number: COLOURS[number % 3] for number in range(30)}
    assert deploy(http, "front", models.stubborn)["status"] == "Succeeded"
    set_rule(own, http, "front")
    with streaming(own, "front") as clients:
        until(lambda: len(clients.got) > 5)
        asked = time.monotonic()
        done = promote(own, "front", models.good)
        answered = time.monotonic()
        assert done.returncode == 0, done.stderr
        assert "front answers with" in done.stdout
        assert "Better" in done.stdout
        until(lambda: len(clients.since(answered)) > 5)
        swapped = time.monotonic()
        refused = promote(own, "front", models.harmful)
        assert refused.returncode == 1
        said = " ".join(refused.stderr.split())
        assert "Refused" in said
        assert "Worse" in said
        seen = len(clients.got)
        until(lambda: len(clients.got) > seen + 5)
    assert clients.faults == []
    # Every answer is wholly one model's; none of the old one's is asked for behind the promotion.
    assert all(text in (before[number], after[number]) for _, number, text in clients.got)
    assert all(text == before[number] for began, number, text in clients.got if began < asked)
    assert all(text == after[number] for number, text in clients.since(answered))
    assert len(clients.since(swapped)) > 5
    assert http.get(f"{PATH}/front").json()["model"] == models.good
    report = http.get(f"/finery/v1/evaluations/{newest(http, 'front')['evaluation_id']}/report").json()
    assert report["verdict"] == "worse"
    # Its numbers may be none at all, and yet it answers: wrongly.
    assert report["models"][-1]["errors"] == 0
    told = {"streamed": len(clients.got), "during_promotions": len(clients.since(asked)), "verdict": report["sentence"]}
    print(json.dumps(told))


def test_a_model_that_is_filtered_too_often_makes_way(own: Server, http: httpx.Client, models: Models) -> None:
    http.patch("/contentsafety/text/blocklists/greens", json={"description": "a colour"}).raise_for_status()
    items = {"blocklistItems": [{"text": "green"}]}
    http.post("/contentsafety/text/blocklists/greens:addOrUpdateBlocklistItems", json=items).raise_for_status()
    policy = {"blocklists": [{"name": "greens", "source": "Completion"}]}
    http.put("/finery/v1/policies/no-green", json=policy).raise_for_status()
    assert deploy(http, "shown", models.stubborn, policy="no-green")["status"] == "Succeeded"
    set_rule(own, http, "shown", max_filter_rate=0.1, min_requests=6)
    assert promote(own, "shown", models.good).returncode == 0
    with streaming(own, "shown") as clients:
        rolled_back(http, "shown", models.stubborn)
    assert clients.faults == []
    reason = newest(http, "shown")["reason"]
    assert reason.startswith(f"Rolled back to {models.stubborn}: the filter rate was ")
    assert "at most 10.0% is allowed" in reason


def test_a_model_whose_requests_fail_makes_way(own: Server, http: httpx.Client, models: Models) -> None:
    assert deploy(http, "firm", models.stubborn)["status"] == "Succeeded"
    set_rule(own, http, "firm", max_error_rate=0.2, min_requests=6)
    assert promote(own, "firm", models.good).returncode == 0
    spoil(own, models.good)
    with streaming(own, "firm") as clients:
        rolled_back(http, "firm", models.stubborn)
        back = time.monotonic()
        until(lambda: len(clients.since(back)) > 5)
    assert clients.faults
    assert {text for _, text in clients.since(back)} == {"red"}
    assert "the error rate was " in newest(http, "firm")["reason"]


def spoil(own: Server, model: str) -> None:
    """A disk goes bad under an adapter, and the inference server that had it in memory dies."""
    weights = own.home / "adapters" / sha256(model.encode()).hexdigest()[:32] / "adapter_model.safetensors"
    weights.write_bytes(b"gone bad" * (weights.stat().st_size // 8))
    for process in own.children("finery.serving.server"):
        kill(process, signal.SIGKILL)
