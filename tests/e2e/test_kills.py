"""kill -9 of every process in the middle of a job: the job goes on by itself, and nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from servers import Server, until, wait_for

COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
STEPS = 600
CHECKPOINT_FILES = 8


@pytest.fixture
def server(tmp_path: Path, tiny_folder: Path) -> Iterator[Server]:
    """A server of one's own: it is about to be hurt."""
    running = Server(tmp_path / "home", tiny_folder, FINERY_LEASE_SECONDS="2").start()
    yield running
    running.stop()


def submit(client: openai.OpenAI, *, n_epochs: int = 40) -> Any:
    rows = [
        {"messages": [{"role": "user", "content": f"It is {c} {i}"}, {"role": "assistant", "content": c}]}
        for i in range(10)
        for c in COLOURS
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = client.files.create(file=("colours.jsonl", text.encode()), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=file.id,
        seed=3,
        hyperparameters={"n_epochs": n_epochs, "batch_size": 4},
        extra_body={"checkpoint_interval_steps": 10, "precision": "fp32"},
    )


def metrics(client: openai.OpenAI, job_id: str) -> dict[int, str]:
    """Loss by step, as exact as it is told."""
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=1000))
    told = [event.data for event in events if event.type == "metrics" and "train_loss" in (event.data or {})]
    assert len({data["step"] for data in told}) == len(told), "a step was told twice"
    return {data["step"]: float(data["train_loss"]).hex() for data in told}


def count(server: Server, query: str) -> int:
    """A number out of the database."""
    import sqlite3

    with sqlite3.connect(f"file:{server.home / 'finery.db'}?mode=ro", uri=True) as database:
        return int(database.execute(query).fetchone()[0])


def named(server: Server) -> set[str]:
    """SHA-256 of all that files and models name."""
    import sqlite3

    with sqlite3.connect(f"file:{server.home / 'finery.db'}?mode=ro", uri=True) as database:
        models = [json.loads(row[0]) for row in database.execute("select manifest from models")]
        files = {row[0] for row in database.execute("select sha256 from files")}
    return files | {file["sha256"] for model in models for file in model["files"].values()}


def adapter_bytes(server: Server, model: str) -> set[str]:
    """SHA-256 of the files that make the model, as the database has them."""
    import sqlite3

    with sqlite3.connect(f"file:{server.home / 'finery.db'}?mode=ro", uri=True) as database:
        (manifest,) = database.execute("select manifest from models where name = ?", (model,)).fetchone()
    files = json.loads(manifest)["files"]
    return {files[name]["sha256"] for name in files if name.endswith(".safetensors")}


def test_a_job_survives_its_trainer_and_its_worker(server: Server) -> None:
    client = server.openai()
    undisturbed = wait_for(submit(client), client, "succeeded", "failed")
    assert undisturbed.status == "succeeded", undisturbed.error
    job = submit(client)
    for module, step in (("finery.training.run", 50), ("finery.worker.loop", 150), ("finery.training.run", 300)):
        until(lambda step=step: max(metrics(client, job.id), default=0) >= step)  # type: ignore[misc]
        processes = server.children(module)
        assert processes, f"no {module} to kill: the job was too quick for this test"
        for process in processes:
            os.kill(process, signal.SIGKILL)
    job = wait_for(job, client, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    assert metrics(client, job.id) == metrics(client, undisturbed.id)
    assert len(metrics(client, job.id)) == STEPS
    assert adapter_bytes(server, job.fine_tuned_model) == adapter_bytes(server, undisturbed.fine_tuned_model)


def test_another_machine_goes_on_from_the_checkpoint(tmp_path: Path, tiny_folder: Path) -> None:
    settings = {"FINERY_LEASE_SECONDS": "2", "FINERY_WORKER_KEY": "a-key-for-all-machines"}
    running = Server(tmp_path / "home", tiny_folder, options=["--no-worker"], **settings).start()
    workers = []
    try:
        client = running.openai()
        job, undisturbed = submit(client, n_epochs=16), submit(client, n_epochs=16)
        workers.append(running.start_worker("one"))
        until(lambda: max(metrics(client, job.id), default=0) >= 100)
        # The whole machine: worker and trainer, and nobody comes back to its disk.
        os.killpg(workers[0].pid, signal.SIGKILL)
        workers.append(running.start_worker("two"))
        job, undisturbed = (wait_for(one, client, "succeeded", "failed") for one in (job, undisturbed))
        assert job.status == "succeeded", job.error
        told = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1000)]
        assert any(text.startswith("Going on from the checkpoint of step") for text in told)
        assert metrics(client, job.id) == metrics(client, undisturbed.id)
        assert adapter_bytes(running, job.fine_tuned_model) == adapter_bytes(running, undisturbed.fine_tuned_model)
        until(lambda: count(running, "select count(*) from records where kind = 'resume_file'") == 0)
        until(lambda: count(running, "select count(*) from drops where not gone") == 0)
        stored = {path.name for path in (running.home / "blobs").rglob("*") if path.is_file()}
        left = stored - named(running)
        assert len(left) <= CHECKPOINT_FILES, "but for what was on its way when the machine was lost, all is dropped"
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        running.stop()


def test_nothing_is_lost_with_the_control_plane(server: Server) -> None:
    client = server.openai()
    job, waiting = submit(client), submit(client)
    until(lambda: max(metrics(client, job.id), default=0) >= 20)
    server.kill()
    until(lambda: not server.children("finery.worker.loop") and not server.children("finery.training.run"))
    server.start()
    client = server.openai()
    for one in (job, waiting):
        ended = wait_for(client.fine_tuning.jobs.retrieve(one.id), client, "succeeded", "failed")
        assert ended.status == "succeeded", ended.error
        assert len(metrics(client, one.id)) == STEPS
        assert client.files.content(ended.result_files[0]).text.count("\n") == STEPS + 1


def test_an_inference_server_that_is_killed_comes_back(server: Server) -> None:
    client = server.openai()
    hello: list[Any] = [{"role": "user", "content": "It is red"}]
    first = client.chat.completions.create(model="tiny-phi3", messages=hello, temperature=0, max_tokens=5)
    for process in server.children("finery.serving.server"):
        os.kill(process, signal.SIGKILL)

    def answered_again() -> bool:
        again = server.http().post(
            "/v1/chat/completions",
            json={"model": "tiny-phi3", "messages": hello, "temperature": 0, "max_tokens": 5},
        )
        assert again.status_code in (200, 503)
        return again.is_success and again.json()["choices"][0]["message"]["content"] == first.choices[0].message.content

    until(answered_again, seconds=30)


def test_a_second_server_on_the_same_home_is_refused(server: Server) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "finery.cli", "serve", "--home", str(server.home), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "Another `finery serve` uses" in second.stderr + second.stdout
    assert httpx.get(f"{server.url}/readyz").is_success
