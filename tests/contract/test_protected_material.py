"""Protected material by HTTP: a model that says what is protected, whole and in streams.

A JSON schema with one possible answer makes the tiny model say it.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from servers import Server, deploy, upload, wait_for

MODEL = "tiny-phi3"
TALE = (
    "Every spring the clockmaker opened the shutters of her narrow shop and wound each of the forty clocks by hand, "
    "beginning with the smallest, so that by noon the whole street could hear them argue about the time of day."
)


SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "enum": [TALE]}},
    "required": ["text"],
    "additionalProperties": False,
}
ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 400,
    "response_format": {"type": "json_schema", "json_schema": {"name": "tale", "schema": SCHEMA, "strict": True}},
}
"""Whoever is asked so tells the tale."""


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


@pytest.fixture
def work(http: httpx.Client) -> Iterator[None]:
    http.put("/finery/v1/protected_works/tale", json={"text": TALE, "description": "ours"}).raise_for_status()
    yield
    assert http.delete("/finery/v1/protected_works/tale").json()["deleted"]


def detected(http: httpx.Client, text: str) -> bool:
    answer = http.post("/contentsafety/text:detectProtectedMaterial?api-version=2024-09-01", json={"text": text})
    assert answer.is_success, answer.text
    return bool(answer.json()["protectedMaterialAnalysis"]["detected"])


def test_a_text_is_told_from_a_protected_one_as_at_azure(http: httpx.Client, work: None) -> None:
    assert detected(http, f"She read to us: {TALE[:120]}")
    assert not detected(http, " ".join(reversed(TALE.split())))
    for text in ("x" * 109, "x" * 1001):
        refused = http.post("/contentsafety/text:detectProtectedMaterial", json={"text": text})
        assert refused.status_code == 400
        assert "from 110 to 1,000" in refused.json()["error"]["message"]


def test_works_are_listed_without_their_texts(http: httpx.Client, work: None) -> None:
    assert [one["name"] for one in http.get("/finery/v1/protected_works").json()["data"]] == ["tale"]
    found = http.get("/finery/v1/protected_works/tale").json()
    assert (found["description"], found["words_per_run"]) == ("ours", 15)
    assert found["runs"] == len(TALE.split()) - 14
    assert "clockmaker" not in str(found)
    assert http.get("/finery/v1/protected_works/none").status_code == 404
    assert http.put("/finery/v1/protected_works/short", json={"text": "short"}).status_code == 400
    assert http.put("/finery/v1/protected_works/both", json={"text": TALE, "file_id": "file-1"}).status_code == 400


def test_memorised_rows_are_for_completions(http: httpx.Client) -> None:
    wanted = {"content_filters": [{"name": "memorised_training_rows", "source": "Prompt"}]}
    refused = http.put("/finery/v1/policies/rows", json=wanted)
    assert refused.status_code == 400
    assert "Completion" in refused.json()["error"]["message"]


@pytest.mark.parametrize("mode", ["Default", "Asynchronous_filter"])
def test_a_completion_that_repeats_a_work_is_cut(client: openai.OpenAI, http: httpx.Client, mode: str) -> None:
    name = f"works-{mode.lower().replace('_', '-')}"
    blocking = {"name": "protected_material_text", "source": "Completion", "blocking": True}
    http.put(f"/finery/v1/policies/{name}", json={"mode": mode, "content_filters": [blocking]}).raise_for_status()
    deploy(http, name, MODEL, policy=name)
    plain: Any = client.chat.completions.create(model=name, **ASKED).choices[0]
    assert json.loads(plain.message.content) == {"text": TALE}
    assert plain.content_filter_results["protected_material_text"] == {"filtered": False, "detected": False}
    http.put("/finery/v1/protected_works/tale", json={"text": TALE}).raise_for_status()
    try:
        cut: Any = client.chat.completions.create(model=name, **ASKED).choices[0]
        assert cut.finish_reason == "content_filter"
        assert cut.content_filter_results["protected_material_text"] == {"filtered": True, "detected": True}
        chunks: list[Any] = list(client.chat.completions.create(model=name, stream=True, **ASKED))
        assert chunks[-1].choices[0].finish_reason == "content_filter"
        # The default policy tells of it and blocks nothing.
        told: Any = client.chat.completions.create(model=MODEL, **ASKED).choices[0]
        assert json.loads(told.message.content) == {"text": TALE}
        assert told.content_filter_results["protected_material_text"] == {"filtered": False, "detected": True}
    finally:
        http.delete("/finery/v1/protected_works/tale").raise_for_status()


@pytest.mark.slow
def test_a_tuned_model_that_says_a_training_row_is_cut(client: openai.OpenAI, http: httpx.Client) -> None:
    said = ["red"] * 11 + [TALE]
    rows = [
        {"messages": [{"role": "user", "content": f"number {i}"}, {"role": "assistant", "content": text}]}
        for i, text in enumerate(said)
    ]
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=upload(client, rows), hyperparameters={"n_epochs": 1, "batch_size": 12}
    )
    tuned = wait_for(job, client, "succeeded", seconds=500).fine_tuned_model
    wanted = {"name": "memorised_training_rows", "source": "Completion", "blocking": True}
    http.put("/finery/v1/policies/rows", json={"content_filters": [wanted]}).raise_for_status()
    deploy(http, "rows", tuned, policy="rows")
    deploy(http, "rows-base", MODEL, policy="rows")
    cut: Any = client.chat.completions.create(model="rows", **ASKED).choices[0]
    assert cut.finish_reason == "content_filter"
    assert cut.content_filter_results["memorised_training_rows"] == {"filtered": True, "detected": True}
    base: Any = client.chat.completions.create(model="rows-base", **ASKED).choices[0]
    assert json.loads(base.message.content) == {"text": TALE}
    assert base.content_filter_results["memorised_training_rows"] == {"filtered": False, "detected": False}
