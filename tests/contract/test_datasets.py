"""Training data beyond upload, over HTTP: seen with a model's eyes, inspected, cleaned, split, kept in versions."""

import json
from typing import Any

import httpx
import openai
import pytest

from servers import Server, wait_for


def line(user: str, assistant: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]})


ROWS = [line(f"is ticket number {i} red or is it blue", ["red", "blue"][i % 2]) for i in range(30)]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def http(server: Server) -> httpx.Client:
    return server.http()


def upload(client: openai.OpenAI, rows: list[str], purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("rows.jsonl", "\n".join(rows).encode()), purpose=purpose).id


def test_a_row_is_shown_as_the_model_is_trained_on_it(client: openai.OpenAI, http: httpx.Client) -> None:
    file_id = upload(client, ROWS)
    view = http.get(f"/finery/v1/files/{file_id}/lines/2", params={"model": "tiny-phi3"}).json()
    trained = "".join(piece["text"] for piece in view["pieces"] if piece["trained"])
    assert trained == "blue<|im_end|>"
    assert "number 1 red" in "".join(piece["text"] for piece in view["pieces"] if not piece["trained"])
    assert http.get(f"/finery/v1/files/{file_id}/lines/99", params={"model": "tiny-phi3"}).status_code == 404


def test_the_token_report_names_what_does_not_fit(client: openai.OpenAI, http: httpx.Client) -> None:
    file_id = upload(client, [*ROWS, line("red " * 200, "blue")])
    fits = http.get(f"/finery/v1/files/{file_id}/token-report", params={"model": "tiny-phi3"}).json()
    assert fits["ok"]
    assert fits["statistics"]["trained_tokens"] > 0
    report = http.get(
        f"/finery/v1/files/{file_id}/token-report", params={"model": "tiny-phi3", "max_tokens": 100}
    ).json()
    assert not report["ok"]
    assert [finding["line"] for finding in report["findings"]] == [31]


def test_quality_finds_repeats_and_leaks(client: openai.OpenAI, http: httpx.Client) -> None:
    training = upload(client, [*ROWS, ROWS[3]])
    validation = upload(client, [ROWS[5], line("a question of another kind altogether", "white")])
    report = http.get(f"/finery/v1/files/{training}/quality", params={"validation_file": validation}).json()
    assert report["statistics"]["duplicates"]["exact"] == 1
    assert report["statistics"]["leakage"]["exact"] == 1


def test_cleaning_makes_a_new_file_that_knows_its_parent(client: openai.OpenAI, http: httpx.Client) -> None:
    parent = upload(client, [*ROWS, ROWS[3], line("write to jane.doe@larkspur-mail.de ", "ok")])
    made = http.post(
        f"/finery/v1/files/{parent}/clean", json={"steps": ["drop_exact_duplicates", "mask_personal_data"]}
    ).json()
    text = client.files.content(made["file"]["id"]).text
    assert "jane.doe" not in text
    assert text.count("\n") == 31
    assert made["record"]["steps"][0]["dropped"] == [31]
    assert made["record"]["steps"][1]["changed"] == [32]
    assert "jane.doe" in client.files.content(parent).text
    origin = http.get(f"/finery/v1/files/{made['file']['id']}/lineage").json()
    assert (origin["origin"], origin["parent_file_id"]) == ("clean", parent)
    refused = http.post(f"/finery/v1/files/{parent}/clean", json={"steps": ["polish"]})
    assert refused.status_code == 400
    assert "drop_exact_duplicates" in refused.json()["error"]["message"]


def test_a_split_is_seeded_and_covers_every_row_once(client: openai.OpenAI, http: httpx.Client) -> None:
    file_id = upload(client, ROWS)
    first, second = (
        http.post(f"/finery/v1/files/{file_id}/split", json={"fraction": 0.2, "seed": 5}).json() for _ in range(2)
    )
    sides = [client.files.content(first[side]["id"]).text.splitlines() for side in ("training", "validation")]
    assert sorted(sides[0] + sides[1]) == sorted(ROWS)
    assert len(sides[1]) == 6
    assert first["record"] == second["record"]


def test_datasets_have_versions_and_tell_their_jobs(client: openai.OpenAI, http: httpx.Client) -> None:
    files = [upload(client, ROWS), upload(client, [*ROWS, line("one more", "white")])]
    for number, file_id in enumerate(files, 1):
        added = http.post("/finery/v1/datasets", json={"name": "tickets", "file_id": file_id})
        assert added.json()["version"] == number
    assert http.post("/finery/v1/datasets", json={"name": "tickets", "file_id": files[0]}).status_code == 409
    dataset = http.get("/finery/v1/datasets/tickets").json()
    assert [version["file_id"] for version in dataset["versions"]] == files[::-1]
    # A job takes a version by its name, the latest where none is named.
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file="tickets:1", hyperparameters={"n_epochs": 1, "batch_size": 30}
    )
    assert job.training_file == files[0]
    assert wait_for(job, client, "succeeded", "failed").status == "succeeded"
    assert client.fine_tuning.jobs.create(model="tiny-phi3", training_file="tickets").training_file == files[1]
    deleted = http.delete("/finery/v1/datasets/tickets").json()
    assert job.id in deleted["note"]
    assert http.get("/finery/v1/datasets/tickets").status_code == 404
    assert client.files.retrieve(files[0]).id == files[0]
