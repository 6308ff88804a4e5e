"""What a deployment answered is counted once: for Prometheus, by deployment, by project, and beyond a kill -9."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers import Server, deploy


@pytest.fixture(scope="module")
def deployed(server: Server) -> Iterator[str]:
    with server.http() as http:
        deploy(http, "watched", "tiny-phi3")
        yield "watched"
        http.delete("/finery/v1/deployments/watched").raise_for_status()


def ask(client: openai.OpenAI, name: str, tokens: int = 5, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": "the red ticket"}]
    return client.chat.completions.create(model=name, messages=messages, max_tokens=tokens, **options)


def samples(http: httpx.Client, deployment: str) -> dict[tuple[str, ...], float]:
    """Prometheus' own parser reads what the server tells, by name and further labels."""
    text = http.get("/metrics").raise_for_status().text
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k not in ("project", "deployment"))):
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("deployment", deployment) == deployment
    }  # fmt: skip


def test_answers_are_counted_once_and_told_everywhere(server: Server, deployed: str) -> None:
    client = server.openai()
    with server.http() as http:
        before = samples(http, deployed)
        told = [ask(client, deployed), ask(client, deployed, n=2)]
        streamed = list(ask(client, deployed, stream=True, stream_options={"include_usage": True}))
        after = samples(http, deployed)
        metrics = http.get(f"/finery/v1/deployments/{deployed}/metrics").json()
        every = http.get("/finery/v1/metrics").json()["data"]
        usage = [one for one in http.get("/finery/v1/usage").json()["data"] if one["name"] == deployed]

    assert before.get(("finery_requests_total", "outcome=length"), 0) == 0
    ended = {key[1]: value for key, value in after.items() if key[0] == "finery_requests_total"}
    assert sum(ended.values()) == 4
    completion = sum(one.usage.completion_tokens for one in told) + streamed[-1].usage.completion_tokens
    assert after[("finery_completion_tokens_total",)] == completion
    assert after[("finery_time_to_first_token_seconds_count",)] == 4
    assert after[("finery_time_to_first_token_seconds_bucket", "le=+Inf")] == 4
    assert after[("finery_requests_in_progress",)] == 0

    assert metrics["requests"] == 4
    ((requests, tokens),) = [(one["requests"], one["tokens"]) for one in every if one["name"] == deployed]
    assert (requests, tokens) == (4, metrics["tokens"])
    assert metrics["tokens"]["completion"] == completion
    assert 0 < metrics["time_to_first_token"]["p50"] <= metrics["duration"]["p99"]
    assert sum(one["requests"] for one in usage) == 4
    assert sum(one["completion_tokens"] for one in usage) == completion


def test_a_client_that_goes_away_is_counted_as_such(server: Server, deployed: str) -> None:
    with server.http() as http, server.openai() as client:
        stream = ask(client, deployed, tokens=900, stream=True, logit_bias={"2": -100})
        next(iter(stream))
        stream.close()
        end = time.monotonic() + 20
        while not samples(http, deployed).get(("finery_requests_total", "outcome=cancelled")):
            assert time.monotonic() < end, samples(http, deployed)
            time.sleep(0.1)


def test_whoever_has_no_key_sees_nothing_of_it(server: Server, deployed: str) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        for path in (
            "/metrics",
            "/finery/v1/usage",
            "/finery/v1/metrics",
            f"/finery/v1/deployments/{deployed}/metrics",
        ):
            assert stranger.get(path).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/finery/v1/deployments/none/metrics", 404),
        ("/finery/v1/deployments/watched/metrics?seconds=0", 400),
        ("/finery/v1/metrics?seconds=0", 400),
        ("/finery/v1/deployments/watched/metrics?seconds=99999999999999999999", 400),
        ("/finery/v1/usage?bucket_width=7h", 400),
        ("/finery/v1/usage?start_time=10&end_time=5", 400),
        ("/finery/v1/usage?start_time=0&end_time=99999999999&bucket_width=5m", 400),
        ("/finery/v1/usage?start_time=99999999999999999999", 400),
    ],
)
def test_bad_questions_are_refused(server: Server, deployed: str, path: str, status: int) -> None:
    with server.http() as http:
        answer = http.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_usage_survives_a_kill(tmp_path: Path, tiny_folder: Path) -> None:
    server = Server(tmp_path / "home", tiny_folder).start()
    try:
        ask(server.openai(), "tiny-phi3")
        with server.http() as http:
            told = http.get("/finery/v1/usage").json()["data"]
        server.kill()
        server.start()
        with server.http() as http:
            assert http.get("/finery/v1/usage").json()["data"] == told
            assert told[0]["requests"] == 1
    finally:
        server.stop()
