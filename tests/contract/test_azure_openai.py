"""The unmodified `openai.AzureOpenAI` goes the whole way, and hears Azure's words when something is wrong."""

import json
from typing import Any

import openai
import pytest

from servers import Server, deploy, wait_for

VERSION = "2024-10-21"
ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"red {i}"}, {"role": "assistant", "content": "blue"}]}) + "\n"
    for i in range(12)
)
QUESTION: Any = [{"role": "user", "content": "red 1"}]


def azure(server: Server, **options: Any) -> openai.AzureOpenAI:
    options = {"api_key": server.key, "_strict_response_validation": True, "max_retries": 0, **options}
    return openai.AzureOpenAI(azure_endpoint=server.url, api_version=VERSION, **options)


@pytest.fixture(scope="module")
def client(server: Server) -> openai.AzureOpenAI:
    return azure(server)


@pytest.fixture(scope="module")
def model(client: openai.AzureOpenAI) -> str:
    """A model tuned through Azure's paths."""
    file = client.files.create(file=("rows.jsonl", ROWS.encode()), purpose="fine-tune")
    client.files.wait_for_processing(file.id)
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file.id, suffix="azure", hyperparameters={"n_epochs": 1}
    )
    job = wait_for(job, client, "succeeded", "failed", "cancelled")
    assert job.status == "succeeded", job.error
    assert client.fine_tuning.jobs.list_events(job.id).data
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuning_job_id == job.id
    assert job.id in {found.id for found in client.fine_tuning.jobs.list()}
    return str(job.fine_tuned_model)


@pytest.fixture(scope="module")
def deployment(server: Server, model: str) -> str:
    name = "azure-colours"
    with server.http() as http:
        found = deploy(http, name, model)
    assert found["status"] == "Succeeded", found
    return name


def test_a_deployment_answers_plain_streamed_and_from_its_own_address(
    server: Server, client: openai.AzureOpenAI, deployment: str
) -> None:
    plain = client.chat.completions.create(model=deployment, messages=QUESTION, temperature=0, max_tokens=4)
    stream = client.chat.completions.create(
        model=deployment, messages=QUESTION, temperature=0, max_tokens=4, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == plain.choices[0].message.content
    assert plain.model == deployment
    # The deployment in the client's own address: what the call says of a model is passed over.
    bound = azure(server, azure_deployment=deployment)
    same = bound.chat.completions.create(model="gpt-4o", messages=QUESTION, temperature=0, max_tokens=4)
    assert same.choices[0].message.content == text


def test_completions_embeddings_and_responses(client: openai.AzureOpenAI, deployment: str) -> None:
    assert client.completions.create(model=deployment, prompt="red", max_tokens=2).object == "text_completion"
    assert len(client.embeddings.create(model=deployment, input=["red", "blue"], encoding_format="float").data) == 2
    assert client.responses.create(model=deployment, input="red", max_output_tokens=2).object == "response"


def test_the_undated_path_is_a_plain_openai_client(server: Server, deployment: str) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/openai/v1/", api_key=server.key, _strict_response_validation=True)
    assert client.chat.completions.create(model=deployment, messages=QUESTION, max_tokens=2).choices
    assert any(model.id == "tiny-phi3" for model in client.models.list())


def test_a_deployed_model_is_not_deleted_and_an_undeployed_one_is(
    server: Server, client: openai.AzureOpenAI, model: str
) -> None:
    with server.http() as http:
        http.post("/finery/v1/deployments", json={"name": "azure-short", "model": model}).raise_for_status()
        with pytest.raises(openai.ConflictError) as refused:
            client.models.delete(model)
        assert refused.value.code == "conflict"
        assert "azure-short" in refused.value.message
        http.delete("/finery/v1/deployments/azure-short").raise_for_status()
    file = client.files.create(file=("rows.jsonl", ROWS.encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=model, training_file=file.id, hyperparameters={"n_epochs": 1})
    further = wait_for(job, client, "succeeded", "failed", "cancelled").fine_tuned_model
    assert client.models.delete(further).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(further)


def test_made_things_are_201_with_their_place_and_azures_fields(server: Server, model: str) -> None:
    query = {"api-version": VERSION}
    with server.http() as http:
        made = http.post(
            "/openai/files",
            params=query,
            data={"purpose": "fine-tune"},
            files={"file": ("rows.jsonl", ROWS)},
            headers={"authorization": "", "api-key": server.key},
        )
        assert made.status_code == 201
        assert http.get(made.headers["location"], params=query).json()["id"] == made.json()["id"]
        body = {"model": "tiny-phi3", "training_file": made.json()["id"], "suffix": "place"}
        job = http.post("/openai/fine_tuning/jobs", params=query, json=body)
        assert job.status_code == 201
        assert job.json()["suffix"] == "place"
        assert http.get(job.headers["location"], params=query).status_code == 200
        assert http.post(f"{job.headers['location']}/events", params=query).json()["data"]
        # Whether it has ended already is nobody's concern here.
        assert http.post(f"{job.headers['location']}/cancel", params=query).status_code in (200, 409)
        tuned = http.get(f"/openai/models/{model}", params=query).json()
        assert (tuned["model"], tuned["status"]) == ("tiny-phi3", "succeeded")
        assert tuned["fine_tune"].startswith("ftjob-")
        # The same routes under /v1 keep OpenAI's ways.
        again = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", ROWS)})
        assert again.status_code == 200
        assert "fine_tune" not in http.get(f"/v1/models/{model}").json()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/openai/deployments/nothing/chat/completions", {"messages": QUESTION}, 404, "DeploymentNotFound"),
        ("POST", "/openai/v1/chat/completions", {"messages": QUESTION, "model": "no"}, 404, "DeploymentNotFound"),
        ("POST", "/openai/deployments/tiny-phi3/chat/completions", {}, 400, "invalidPayload"),
        (
            "POST",
            "/openai/deployments/tiny-phi3/chat/completions",
            {"messages": QUESTION, "n": 999},
            400,
            "invalidPayload",
        ),
        ("POST", "/openai/fine_tuning/jobs", {"model": "no", "training_file": "file-no"}, 400, "invalidPayload"),
        ("GET", "/openai/fine_tuning/jobs/ftjob-no", None, 404, "notFound"),
        ("GET", "/openai/models/no", None, 404, "notFound"),
        ("GET", "/openai/nothing", None, 404, "notFound"),
    ],
)
def test_errors_have_azures_words(server: Server, method: str, path: str, body: Any, status: int, code: str) -> None:
    with server.http() as http:
        answer = http.request(method, path, params={"api-version": VERSION}, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("version", ["", "yesterday", "2024-10-21'--", "../2024-10-21"])
def test_what_is_no_version_is_refused(server: Server, version: str) -> None:
    with server.http() as http:
        answer = http.get("/openai/files", params={"api-version": version})
    assert answer.status_code == 400
    assert answer.json()["error"]["target"] == "api-version"


def test_a_wrong_key_is_azures_401(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        azure(server, api_key="nobody").models.list()
    assert refused.value.code == "401"
