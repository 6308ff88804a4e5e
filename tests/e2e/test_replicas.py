"""Two control planes on one PostgreSQL, made one service by settings alone; one of them is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import postgres
from servers import Server, deploy, wait_for

ROWS = "".join(
    f'{{"messages": [{{"role": "user", "content": "It is red {n}"}}, {{"role": "assistant", "content": "red"}}]}}\n'
    for n in range(12)
)


@pytest.fixture
def pair(cluster: postgres.Cluster, tmp_path: Path, tiny_folder: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers that share database, blobs and worker key; the second one has no worker."""
    shared = {
        "FINERY_DATABASE_URL": cluster.url(),
        "FINERY_BLOB_URL": f"file://{tmp_path}/blobs",
        "FINERY_WORKER_KEY": "a key that both know",
        "FINERY_LEASE_SECONDS": "2",
    }
    servers = []
    for name, options in (("first", []), ("second", ["--no-worker"])):
        (tmp_path / name).mkdir()
        server = Server(tmp_path / name / "home", tiny_folder, options=options, **shared)
        servers.append(server.start())
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


def submit(client: Any) -> Any:
    file = client.files.create(file=("red.jsonl", ROWS.encode()), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file.id, seed=1, hyperparameters={"n_epochs": 2, "batch_size": 4}
    )


def looks_after_all(server: Server) -> bool:
    return "looks after what is pending" in (server.home.parent / "serve.log").read_text()


@pytest.mark.slow
def test_two_control_planes_are_one_service(pair: tuple[Server, Server]) -> None:
    first, second = pair
    assert not (second.home / "admin.key").exists(), "one database, one first key"
    (second.home / "admin.key").write_text(first.key)
    one, two = first.openai(), second.openai()

    # Taken in by one, trained by the other's worker, seen in both.
    job = wait_for(submit(two), one, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    assert two.fine_tuning.jobs.retrieve(job.id).fine_tuned_model == job.fine_tuned_model
    with second.http() as http:
        assert deploy(http, "red", job.fine_tuned_model)["status"] == "Succeeded"
    told = {
        client.chat.completions.create(
            model="red", messages=[{"role": "user", "content": "It is red"}], temperature=0, max_tokens=4
        )
        .choices[0]
        .message.content
        for client in (one, two)
    }
    assert len(told) == 1, "the same model answers the same in both"

    # The first one is gone, its worker with it; the second takes up the care, a worker of its own the job.
    assert (looks_after_all(first), looks_after_all(second)) == (True, False)
    waiting = submit(two)
    first.kill()
    wait_for(waiting, two, "queued", "running", seconds=60)
    assert looks_after_all(second)
    worker = second.start_worker()
    try:
        assert wait_for(two.fine_tuning.jobs.retrieve(waiting.id), two, "succeeded").status == "succeeded"
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(30)
