"""Creates sent twice, files that expire, uploads in parts, permissions on checkpoints: by the unmodified SDK."""

import hashlib
import json
import sqlite3
import time
from typing import Any

import openai
import pytest

from servers import Server, wait_for

ROW = json.dumps({"messages": [{"role": "user", "content": "red"}, {"role": "assistant", "content": "blue"}]}) + "\n"
RETRY = {"x-stainless-retry-count": "1"}


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def file_id(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", (ROW * 12).encode()), purpose="fine-tune").id


def make_job(client: openai.OpenAI, file_id: str, headers: dict[str, str], **more: Any) -> str:
    return client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file_id, extra_headers=headers, hyperparameters={"n_epochs": 1}, **more
    ).id


def test_the_sdks_retry_of_a_create_makes_one_job(client: openai.OpenAI, file_id: str) -> None:
    first = make_job(client, file_id, {}, suffix="once")
    assert make_job(client, file_id, RETRY, suffix="once") == first
    assert make_job(client, file_id, RETRY, suffix="other") != first
    assert make_job(client, file_id, {}, suffix="once") != first, "asked for anew, not sent again"


def test_an_idempotency_key_names_one_create(client: openai.OpenAI, file_id: str) -> None:
    key = {"Idempotency-Key": "order-66"}
    first = make_job(client, file_id, key)
    assert make_job(client, file_id, key) == first
    with pytest.raises(openai.ConflictError) as refused:
        make_job(client, file_id, key, suffix="else")
    assert refused.value.code == "idempotency_key_reused"
    assert refused.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.BadRequestError, match="255"):
        make_job(client, file_id, {"Idempotency-Key": "x" * 256})


def test_files_and_deployments_are_made_once_too(client: openai.OpenAI, server: Server) -> None:
    def send(content: bytes, headers: dict[str, str]) -> str:
        return client.files.create(file=("a.txt", content), purpose="user_data", extra_headers=headers).id

    first = send(b"abc", {})
    assert send(b"abc", RETRY) == first
    assert send(b"abd", RETRY) != first
    with server.http() as http:
        body = {"name": "once", "model": "tiny-phi3"}
        made = http.post("/finery/v1/deployments", json=body).json()
        assert http.post("/finery/v1/deployments", json=body, headers=RETRY).json() == made
        assert http.post("/finery/v1/deployments", json=body).status_code == 409
        http.delete("/finery/v1/deployments/once")


def test_jobs_are_found_by_metadata_and_by_having_none(client: openai.OpenAI, file_id: str) -> None:
    tagged = make_job(client, file_id, {}, metadata={"team": "blue", "k": "v"})
    plain = make_job(client, file_id, {})
    found = [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "blue"})]
    assert found == [tagged]
    without = {job.id for job in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})}
    assert plain in without
    assert tagged not in without
    assert len(client.fine_tuning.jobs.list(limit=1).data) == 1
    with pytest.raises(openai.BadRequestError, match="metadata"):
        make_job(client, file_id, {}, metadata={"k": "v" * 513})


def test_a_file_expires_when_its_time_is_over(client: openai.OpenAI, server: Server) -> None:
    file = client.files.create(
        file=("a.txt", b"abc-expiring"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(openai.BadRequestError, match="3600"):
        client.files.create(
            file=("a.txt", b"abc"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 60}
        )
    with sqlite3.connect(server.home / "finery.db", timeout=30) as database:
        database.execute("UPDATE files SET expires_at = 1 WHERE id = ?", (file.id,))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            client.files.retrieve(file.id)
        except openai.NotFoundError:
            return
        time.sleep(0.2)
    raise AssertionError("the file is still there")


def test_a_file_uploaded_in_parts_is_the_file_itself(client: openai.OpenAI) -> None:
    content = (ROW * 40).encode()
    halves = [content[:1000], content[1000:]]
    upload = client.uploads.create(
        bytes=len(content), filename="parts.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    assert upload.status == "pending"
    # In the wrong order on the way: the order of part_ids counts.
    second = client.uploads.parts.create(upload.id, data=halves[1])
    first = client.uploads.parts.create(upload.id, data=halves[0])
    with pytest.raises(openai.BadRequestError) as refused:
        client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5="0" * 32)
    assert refused.value.code == "checksum_mismatch"
    with pytest.raises(openai.BadRequestError, match="were announced"):
        client.uploads.complete(upload.id, part_ids=[first.id])
    with pytest.raises(openai.BadRequestError, match="part_nothing"):
        client.uploads.complete(upload.id, part_ids=["part_nothing"])
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).content == content
    assert client.files.wait_for_processing(done.file.id).status == "processed"
    with pytest.raises(openai.ConflictError):
        client.uploads.parts.create(upload.id, data=b"more")


def test_an_upload_can_be_cancelled_and_sent_by_the_sdks_helper(client: openai.OpenAI, tmp_path: Any) -> None:
    upload = client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="user_data")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_nothing")
    path = tmp_path / "big.txt"
    path.write_bytes(b"x" * 5000)
    done = client.uploads.upload_file_chunked(file=path, mime_type="text/plain", purpose="user_data", part_size=1500)
    assert done.file is not None
    assert client.files.content(done.file.id).content == path.read_bytes()


def test_a_checkpoints_permissions(client: openai.OpenAI, file_id: str) -> None:
    for waiting in client.fine_tuning.jobs.list():
        if waiting.status in ("validating_files", "queued", "running"):  # of the tests before
            client.fine_tuning.jobs.cancel(waiting.id)
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file_id, hyperparameters={"n_epochs": 1, "batch_size": 4}
    )
    job = wait_for(job, client, "succeeded", "failed")
    name = client.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuned_model_checkpoint
    permissions = client.fine_tuning.checkpoints.permissions
    given = permissions.create(name, project_ids=["proj_a", "proj_b"])
    assert [item.project_id for item in given] == ["proj_a", "proj_b"]
    again = permissions.create(name, project_ids=["proj_a"])
    assert [item.id for item in again] == [given.data[0].id]
    assert [item.project_id for item in permissions.list(name, limit=1)] == ["proj_b", "proj_a"]
    assert [item.project_id for item in permissions.list(name, project_id="proj_a")] == ["proj_a"]
    assert permissions.delete(given.data[0].id, fine_tuned_model_checkpoint=name).deleted
    assert [item.project_id for item in permissions.list(name)] == ["proj_b"]
    with pytest.raises(openai.NotFoundError):
        permissions.create("ft:nothing", project_ids=["proj_a"])
