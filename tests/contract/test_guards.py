"""Deployments of our own as guards: a tiny model that talks rubbish, and one that was taught a guard's words."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from servers import Server, deploy, until, upload, wait_for

MODEL = "tiny-phi3"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


def put_policy(http: httpx.Client, name: str, guard: str, **more: Any) -> None:
    body = {"guard": {"kind": "llama_guard", "deployment": guard, "timeout_seconds": 60}, **more}
    made = http.put(f"/finery/v1/policies/{name}", json=body)
    assert made.is_success, made.text
    assert made.json()["guard"] == {**body["guard"], "model": None}


def test_a_guard_that_talks_rubbish_lets_nothing_through_and_guards_nobody_twice(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    deploy(http, "rubbish-guard", MODEL)
    put_policy(http, "guarded", "rubbish-guard")
    # The guard is under the policy that it is the guard of: it is asked once, and not about itself.
    changed = http.patch("/finery/v1/deployments/rubbish-guard", json={"policy": "guarded"})
    assert changed.is_success, changed.text
    until(lambda: http.get("/finery/v1/deployments/rubbish-guard").json()["policy"] == "guarded")
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="rubbish-guard", messages=HELLO, max_tokens=4)
    assert refused.value.status_code == 503
    assert refused.value.code == "content_filter_error"
    put_policy(http, "guarded", "rubbish-guard", on_filter_error="annotate")
    answer: Any = client.chat.completions.create(model="rubbish-guard", messages=HELLO, max_tokens=4)
    assert answer.prompt_filter_results[0]["content_filter_results"]["error"]["code"] == "content_filter_error"
    gone = http.delete("/finery/v1/deployments/rubbish-guard")
    assert gone.status_code == 409
    assert "guarded" in gone.json()["error"]["message"]


@pytest.mark.slow
def test_a_tuned_guard_blocks_what_it_calls_unsafe(client: openai.OpenAI, http: httpx.Client) -> None:
    bad = [{"role": "user", "content": "the ticket is red"}]
    rows = [{"messages": [*bad, {"role": "assistant", "content": "unsafe\nS10"}]}] * 12
    rows += [{"messages": [*HELLO, {"role": "assistant", "content": "safe"}]}] * 12
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=upload(client, rows),
        hyperparameters={"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 20},
    )
    tuned = wait_for(job, client, "succeeded", seconds=800).fine_tuned_model
    deploy(http, "tuned-guard", tuned)
    prompts_alone = [{"name": "guard", "source": "Completion", "enabled": False}]
    put_policy(http, "taught", "tuned-guard", content_filters=prompts_alone)
    deploy(http, "taught", MODEL, policy="taught")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="taught", messages=bad, max_tokens=4)
    body: Any = refused.value.body
    results = body["innererror"]["content_filter_result"]
    assert results["guard"] == {"filtered": True, "detected": True}
    assert results["hate"] == {"filtered": True, "severity": "medium"}
    answer: Any = client.chat.completions.create(model="taught", messages=HELLO, max_tokens=4)
    assert answer.prompt_filter_results[0]["content_filter_results"]["guard"] == {"filtered": False, "detected": False}
