"""Bad input gets a clear refusal that names the thing, the line and the way out, and leaves nothing behind."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from servers import Server, wait_for

GOOD = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


def upload(client: openai.OpenAI, content: bytes, purpose: str = "fine-tune") -> Any:
    return client.files.create(file=("rows.jsonl", content), purpose=purpose)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD.encode() + b"\n\xff\xfe broken\n", "line 2"),
        (f'{GOOD}\n{GOOD}\n{{"text\n'.encode(), "line 3"),
        (f'{GOOD}\n{{"messages": []}}\n'.encode(), "line 2"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
    ],
    ids=["not UTF-8", "not JSON", "no messages", "gzip"],
)
def test_a_file_that_is_no_chat_jsonl_is_in_error_and_says_where(
    client: openai.OpenAI, server: Server, content: bytes, said: str
) -> None:
    file = upload(client, content)
    assert file.status == "error"
    assert said in file.status_details
    with server.http() as http:
        report = http.get(f"/finery/v1/files/{file.id}/report").json()
    first = report["findings"][0]
    assert first["code"]
    assert first["message"]
    assert first["help"]
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model="tiny-phi3", training_file=file.id)
    assert said in refused.value.message
    assert refused.value.param == "training_file"


CHECK = {"type": "string_check", "name": "c", "input": "{{sample.output_text}}", "reference": "a", "operation": "like"}


def graded(grader: Any, **more: Any) -> dict[str, Any]:
    """A job of reinforcement."""
    return {"method": {"type": "reinforcement", "reinforcement": {"grader": grader, **more}}}


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"model": "gpt-nothing"}, "model", "gpt-nothing"),
        ({"model": "phi-3-mini-4k-instruct"}, "model", "finery models pull phi-3-mini-4k-instruct"),
        ({"training_file": "file-nothing"}, "training_file", "file-nothing"),
        ({"validation_file": "file-nothing"}, "validation_file", "file-nothing"),
        ({"suffix": "../etc"}, "suffix", "../etc"),
        ({"seed": -1}, "seed", "-1"),
        ({"hyperparameters": {"n_epochs": 51}}, "n_epochs", "51"),
        ({"hyperparameters": {"batch_size": "many"}}, "batch_size", "many"),
        ({"extra_body": {"optimizer": "adagrad"}}, "optimizer", "adagrad"),
        ({"extra_body": {"validation_split": 0.9}}, "validation_split", "0.9"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement.grader", "needs a grader"),
        (graded({"type": "nothing", "name": "x"}), "method.reinforcement.grader.type", "nothing"),
        (graded({**CHECK, "operation": "is"}), "method.reinforcement.grader.operation", "like"),
        (graded({**CHECK, "input": "{{word.x}}"}), "method.reinforcement.grader", "item or sample"),
        (
            graded({"type": "score_model", "name": "judge", "model": "m", "input": [{"role": "user", "content": "?"}]}),
            "method.reinforcement.grader.type",
            "python",
        ),
        (
            graded({**CHECK, "type": "text_similarity", "evaluation_metric": "cosine"}),
            "method.reinforcement.grader.evaluation_metric",
            "cosine",
        ),
        (
            graded(
                {
                    "type": "multi",
                    "name": "m",
                    "graders": {
                        "a": {
                            **CHECK,
                            "type": "label_model",
                            "model": "m",
                            "input": [{"role": "user", "content": "?"}],
                            "labels": ["a"],
                            "passing_labels": ["a"],
                        }
                    },
                    "calculate_output": "a",
                }
            ),
            "method.reinforcement.grader.graders.a.type",
            "label_model",
        ),
        (graded(CHECK, response_format={"type": "json_object"}), "method.reinforcement.response_format", "output_json"),
        (graded(CHECK, hyperparameters={"compute_multiplier": 0}), "compute_multiplier", "above"),
        (graded(CHECK, hyperparameters={"eval_samples": 0}), "eval_samples", "from 1"),
        (graded(CHECK, hyperparameters={"reasoning_effort": "most"}), "reasoning_effort", "medium"),
        (graded(CHECK) | {"extra_body": {"lora_dropout": 0.1}}, "lora_dropout", "0.1"),
        (graded(CHECK) | {"extra_body": {"loss": "focal"}}, "loss", "grpo"),
        (graded(CHECK) | {"extra_body": {"task": "regression"}}, "task", "chat"),
        (graded(CHECK) | {"extra_body": {"training_method": "full", "kl_weight": 0.1}}, "kl_weight", "full"),
        ({"extra_body": {"loss": "grpo"}}, "loss", "reinforcement"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_job_that_cant_be_is_refused_by_name(
    client: openai.OpenAI, body: dict[str, Any], param: str, said: str
) -> None:
    file = upload(client, f"{GOOD}\n".encode() * 20)
    before = len(client.fine_tuning.jobs.list().data)
    with pytest.raises(openai.APIStatusError) as refused:
        client.fine_tuning.jobs.create(**{"model": "tiny-phi3", "training_file": file.id, **body})
    assert refused.value.status_code in (400, 404)
    assert refused.value.param == param
    assert said in refused.value.message
    assert len(client.fine_tuning.jobs.list().data) == before


def test_too_few_rows_are_refused(client: openai.OpenAI) -> None:
    file = upload(client, f"{GOOD}\n".encode() * 9)
    with pytest.raises(openai.BadRequestError, match="9 rows; at least 10"):
        client.fine_tuning.jobs.create(model="tiny-phi3", training_file=file.id)


def test_a_row_over_the_context_fails_the_job_by_its_line_before_it_runs(client: openai.OpenAI) -> None:
    long = json.dumps(
        {"messages": [{"role": "user", "content": "red " * 2000}, {"role": "assistant", "content": "blue"}]}
    )
    file = upload(client, f"{GOOD}\n".encode() * 20 + long.encode())
    job = wait_for(
        client.fine_tuning.jobs.create(model="tiny-phi3", training_file=file.id), client, "failed", "succeeded"
    )
    assert job.error.code == "invalid_training_file"
    assert job.error.param == "training_file"
    assert "line 21" in job.error.message
    assert job.trained_tokens is None


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_heads_are_trained_and_say_that_they_cant_chat(client: openai.OpenAI, task: str) -> None:
    field = {
        "classification": lambda i: {"label": ["red", "blue"][i % 2]},
        "multi_label": lambda i: {"labels": ["red", "blue"][: i % 3]},
        "regression": lambda i: {"target": i / 10},
    }[task]
    rows = [json.dumps({"text": f"row {i}", **field(i)}) for i in range(24)]
    file = upload(client, "\n".join(rows).encode())
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file.id, hyperparameters={"n_epochs": 1, "batch_size": 8}
    )
    job = wait_for(job, client, "failed", "succeeded")
    assert job.status == "succeeded", job.error
    assert job.task == task
    with pytest.raises(openai.BadRequestError, match=task):
        client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "row 1"}])


def test_a_file_for_another_purpose_is_refused(client: openai.OpenAI) -> None:
    file = upload(client, b"anything", "user_data")
    with pytest.raises(openai.BadRequestError, match="user_data"):
        client.fine_tuning.jobs.create(model="tiny-phi3", training_file=file.id)


def test_an_empty_file_and_an_unknown_purpose_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="empty"):
        upload(client, b"")
    with pytest.raises(openai.BadRequestError, match="fine-tune"):
        upload(client, b"x", "nonsense")


@pytest.mark.parametrize("key", ["", "sk-finery-wrong", "Bearer"])
def test_no_route_but_the_pinned_ones_answers_without_a_key(server: Server, key: str) -> None:
    from finery.api.access import PUBLIC

    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=server.url, headers=headers) as stranger:
        paths = stranger.get("/openapi.json").json()["paths"]
        assert len(paths) > 20
        for method, path in [(method, path) for path, methods in paths.items() for method in methods]:
            answer = stranger.request(method, path.replace("{", "x").replace("}", "x"))
            if path in PUBLIC:
                assert answer.status_code == 200
                continue
            assert answer.status_code == 401, (method, path, answer.status_code)
            if method != "head":
                # OpenAI's code, Azure's, and that of its resource manager.
                assert answer.json()["error"]["code"] in ("invalid_api_key", "401", "AuthenticationFailed")


def test_public_routes_are_these_and_no_others() -> None:
    from finery.api.access import PUBLIC

    assert {"/healthz", "/readyz", "/openapi.json"} == PUBLIC


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/files", 405),
        ("POST", "/v1/files", 400),
        ("POST", "/v1/fine_tuning/jobs", 400),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/files?limit=-1", 400),
        ("GET", "/v1/fine_tuning/jobs/ftjob-nothing", 404),
        ("GET", "/v1/files/file-nothing/content", 404),
        ("DELETE", "/v1/models/tiny-phi3", 400),
        ("DELETE", "/v1/models/ft:nothing", 404),
        ("GET", "/finery/v1/deployments/nothing", 404),
        ("DELETE", "/finery/v1/keys/key_nothing", 404),
    ],
)
def test_every_refusal_has_one_shape(server: Server, method: str, path: str, status: int) -> None:
    with server.http() as http:
        answer = http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_chat_refusals_name_the_thing(client: openai.OpenAI) -> None:
    hello: list[Any] = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=hello)
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=hello, stream=True)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="tiny-phi3", messages=hello, temperature=3)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny-phi3", messages=[{"role": "user", "content": "red " * 3000}])
    assert refused.value.code == "context_length_exceeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_is_said_keeps_nothing_half_and_heals(small_disk: Path, tiny_folder: Path) -> None:
    server = Server(small_disk / "home", tiny_folder).start()
    try:
        client = server.openai()
        good = upload(client, f"{GOOD}\n".encode() * 20)
        with pytest.raises(openai.InternalServerError) as refused:
            upload(client, f"{GOOD}\n".encode() * 200_000)
        assert refused.value.status_code == 507
        assert refused.value.code == "storage_full"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert [file.id for file in client.files.list()] == [good.id]
        assert client.files.content(good.id).text.count("\n") == 20
        again = upload(client, f"{GOOD}\n".encode() * 100)
        assert again.status == "processed"
    finally:
        server.stop()
