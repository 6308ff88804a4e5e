"""The unmodified `openai` SDK drives the whole path, on a tiny random Phi-3 (fused projections and all)."""

import time
from typing import Any

import openai
import pytest

from servers import Server, upload, wait_for

COLOURS = ["red", "green", "blue", "yellow", "black", "white"]


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": "Name the colour."},
                {"role": "user", "content": f"It is {COLOURS[i % 6]} and number {i}"},
                {"role": "assistant", "content": COLOURS[i % 6]},
            ]
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def finished(client: openai.OpenAI) -> Any:
    """A job that has succeeded."""
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=upload(client, rows(60)),
        validation_file=upload(client, rows(12)),
        suffix="colours",
        seed=7,
        metadata={"team": "support"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 20}},
        },
        extra_body={"lora_rank": 8, "precision": "fp32"},
    )
    assert job.status in ("validating_files", "queued", "running")
    return wait_for(job, client, "succeeded", "failed", "cancelled")


def test_the_job_succeeds_with_numbers_for_auto(finished: Any) -> None:
    assert finished.status == "succeeded", finished.error
    assert finished.fine_tuned_model.startswith("ft:tiny-phi3:default:colours:")
    assert finished.hyperparameters.n_epochs == 10
    assert finished.hyperparameters.batch_size == 4
    assert finished.trained_tokens > 0
    assert finished.lora_rank == 8
    assert finished.metadata == {"team": "support"}
    assert finished.finished_at >= finished.created_at


def test_events_tell_the_story_and_the_loss_falls(client: openai.OpenAI, finished: Any) -> None:
    events = list(client.fine_tuning.jobs.list_events(finished.id, limit=7))
    messages = [event.message for event in reversed(events)]
    assert messages[0] == f"Created fine-tuning job: {finished.id}"
    assert messages[-1] == "The job has successfully completed"
    assert len({event.id for event in events}) == len(events)
    losses = [e.data["train_loss"] for e in reversed(events) if e.type == "metrics" and "train_loss" in e.data]
    assert len(losses) == 150
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_checkpoints_carry_metrics(client: openai.OpenAI, finished: Any) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(finished.id))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [150, 135, 120]
    for checkpoint in checkpoints:
        assert checkpoint.metrics.full_valid_loss is not None
        assert checkpoint.fine_tuned_model_checkpoint.endswith(f":ckpt-step-{checkpoint.step_number}")


def test_the_result_file_has_a_row_a_step(client: openai.OpenAI, finished: Any) -> None:
    text = client.files.content(finished.result_files[0]).text
    header, *lines = text.strip().splitlines()
    assert header.startswith("step,train_loss,train_accuracy")
    assert {"valid_mean_token_accuracy", "full_valid_loss"} <= set(header.split(","))
    assert [line.split(",")[0] for line in lines] == [str(step) for step in range(1, 151)]


def test_the_tuned_model_is_listed_and_answers(client: openai.OpenAI, finished: Any) -> None:
    assert finished.fine_tuned_model in {model.id for model in client.models.list()}
    assert client.models.retrieve(finished.fine_tuned_model).id == finished.fine_tuned_model
    prompt = rows(3)[2]["messages"][:2]
    answer = client.chat.completions.create(
        model=finished.fine_tuned_model, messages=prompt, temperature=0, max_tokens=8
    )
    assert answer.choices[0].message.content == "blue"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_checkpoint_answers_too(client: openai.OpenAI, finished: Any) -> None:
    checkpoint = client.fine_tuning.jobs.checkpoints.list(finished.id).data[0]
    answer = client.chat.completions.create(
        model=checkpoint.fine_tuned_model_checkpoint,
        messages=[{"role": "user", "content": "It is red"}],
        max_tokens=3,
    )
    assert answer.usage.completion_tokens >= 1


def test_deploy_stream_refuse_delete_undeploy_delete(server: Server, client: openai.OpenAI, finished: Any) -> None:
    job = client.fine_tuning.jobs.create(
        model=finished.fine_tuned_model, training_file=upload(client, rows(12)), hyperparameters={"n_epochs": 1}
    )
    job = wait_for(job, client, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    model = job.fine_tuned_model
    with server.http() as http:
        assert http.post("/finery/v1/deployments", json={"name": "colours", "model": model}).json()["status"] == (
            "Creating"
        )
        again = http.post("/finery/v1/deployments", json={"name": "colours", "model": model})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        assert again.headers["x-should-retry"] == "false"
        deployment = _until_ready(http, "colours")
        assert deployment["status"] == "Succeeded", deployment

        prompt = rows(1)[0]["messages"][:2]
        stream = client.chat.completions.create(
            model="colours", messages=prompt, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        plain = client.chat.completions.create(model="colours", messages=prompt, temperature=0)
        assert text == plain.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].usage.prompt_tokens == plain.usage.prompt_tokens
        assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens

        with pytest.raises(openai.ConflictError) as refused:
            client.models.delete(model)
        assert "colours" in refused.value.message
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert http.delete("/finery/v1/deployments/colours").json()["deleted"] is True
        assert client.models.delete(model).deleted
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(model)
        assert http.get("/finery/v1/deployments/colours").status_code == 404


def test_cancel_ends_a_job_at_once(client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=upload(client, rows(60)), hyperparameters={"n_epochs": 50, "batch_size": 1}
    )
    wait_for(job, client, "running")
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


def test_pause_keeps_a_checkpoint_and_resume_ends_the_job(server: Server) -> None:
    client = server.openai(_strict_response_validation=False)  # OpenAI's own types know no paused
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=upload(client, rows(60)), hyperparameters={"n_epochs": 40, "batch_size": 4}
    )
    _wait_for_a_step(client, job.id)
    # In OpenAI's words a job that pauses is still running.
    assert client.fine_tuning.jobs.pause(job.id).status == "running"
    wait_for(job, client, "paused")
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    job = wait_for(job, client, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    steps = [e.data["step"] for e in client.fine_tuning.jobs.list_events(job.id, limit=1000) if e.type == "metrics"]
    assert sorted(set(steps)) == list(range(1, 601))


def test_a_file_can_be_read_again_and_deleted(client: openai.OpenAI) -> None:
    file_id = upload(client, rows(12))
    assert client.files.content(file_id).text.count("\n") == 12
    assert file_id in {file.id for file in client.files.list(purpose="fine-tune")}
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def _until_ready(http: Any, name: str) -> dict[str, Any]:
    for _ in range(600):
        deployment: dict[str, Any] = http.get(f"/finery/v1/deployments/{name}").json()
        if deployment["status"] != "Creating":
            return deployment
        time.sleep(0.1)
    raise TimeoutError(name)


def _wait_for_a_step(client: openai.OpenAI, job_id: str) -> None:
    for _ in range(600):
        if any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job_id)):
            return
        time.sleep(0.05)
    raise TimeoutError(job_id)
