"""Jobs in a real Ray cluster of two nodes: placed, ganged, cancelled, and gone on with when a node is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_cluster import RayCluster
from servers import Server, until, upload, wait_for

pytest.importorskip("ray", reason="Ray is installed apart: make test-ray")
pytestmark = pytest.mark.timeout(1500)

COLOURS = ["red", "green", "blue", "yellow"]
ROWS = [
    {"messages": [{"role": "user", "content": f"It is {c} {i}"}, {"role": "assistant", "content": c}]}
    for i in range(10)
    for c in COLOURS
]
STEPS = 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[RayCluster]:
    running = RayCluster(tmp_path_factory.mktemp("ray"), tiny_folder)
    yield running
    running.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, cluster: RayCluster) -> Iterator[Server]:
    """A control plane whose only worker is the launcher."""
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder / "home", tiny_folder, options=["--no-worker"], FINERY_LEASE_SECONDS="20").start()
    cluster.have(2)
    launcher = launch(running, cluster, folder / "launcher")
    yield running
    assert launcher.poll() is None, (folder / "launcher.log").read_text()[-3000:]
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(60)
    running.stop()


def launch(server: Server, cluster: RayCluster, home: Path, **environment: str) -> "subprocess.Popen[bytes]":
    with home.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "finery.cli", "worker", "--ray", cluster.address),
                *("--base-url", server.url, "--home", str(home)),
            ],
            stdout=log,
            stderr=log,
            env=os.environ
            | cluster.environment
            | {"FINERY_WORKER_KEY": (server.home / "worker.key").read_text().strip()}
            | environment,
        )


def submit(client: Any, **extra: Any) -> Any:
    return client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=upload(client, ROWS),
        seed=3,
        hyperparameters={"n_epochs": STEPS // 10, "batch_size": 4},
        extra_body={"checkpoint_interval_steps": 10, "precision": "fp32", **extra},
    )


def told(client: Any, job_id: str) -> list[Any]:
    return list(client.fine_tuning.jobs.list_events(job_id, limit=1000))


def losses(client: Any, job_id: str) -> dict[int, str]:
    data = [event.data for event in told(client, job_id) if event.type == "metrics"]
    steps = [one["step"] for one in data if "train_loss" in one]
    assert sorted(steps) == list(range(1, STEPS + 1)), "a step was lost, or told twice"
    return {one["step"]: float(one["train_loss"]).hex() for one in data if "train_loss" in one}


def has_come_to(client: Any, job_id: str, step: int) -> bool:
    return any((event.data or {}).get("step", 0) >= step for event in told(client, job_id) if event.type == "metrics")


def test_a_job_whose_node_is_killed_goes_on_at_the_other_to_the_bit(server: Server, cluster: RayCluster) -> None:
    client = server.openai()
    undisturbed = wait_for(submit(client), client, "succeeded", seconds=600)
    cluster.have(2)
    job = wait_for(submit(client), client, "running", seconds=300)
    until(lambda: has_come_to(client, job.id, 30), 300)
    (victim,) = (node for node in cluster.nodes if node.alive and node.works_on(job.id))
    victim.kill()
    job = wait_for(job, client, "succeeded", seconds=600)
    assert losses(client, job.id) == losses(client, undisturbed.id)
    messages = [event.message for event in told(client, job.id)]
    assert any(message.startswith("Going on from the checkpoint of step") for message in messages), messages


def test_two_ranks_on_two_nodes_survive_one(server: Server, cluster: RayCluster) -> None:
    client = server.openai()
    cluster.have(2)
    job = wait_for(submit(client, ranks=2), client, "running", seconds=300)
    until(lambda: has_come_to(client, job.id, 30), 300)
    at_work = [node for node in cluster.nodes if node.alive and node.works_on(job.id)]
    assert len(at_work) == 2
    at_work[1].kill()
    cluster.have(2)
    job = wait_for(job, client, "succeeded", seconds=600)
    losses(client, job.id)
    assert [event.message for event in told(client, job.id)].count("2 processes train as one") >= 1


def test_a_cancelled_job_leaves_its_place(server: Server, cluster: RayCluster) -> None:
    client = server.openai()
    cluster.have(2)
    job = wait_for(submit(client, ranks=2), client, "running", seconds=300)
    until(lambda: has_come_to(client, job.id, 1), 300)
    client.fine_tuning.jobs.cancel(job.id)
    wait_for(submit(client, ranks=2), client, "succeeded", seconds=600)


def test_an_open_cluster_is_not_used(tmp_path: Path, server: Server, tiny_folder: Path) -> None:
    opened = RayCluster(tmp_path, tiny_folder, token="")
    try:
        opened.have(1)
        home = tmp_path / "launcher"
        for environment, reason in (
            ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is 'disabled'"),
            ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x" * 32}, "lets in anybody"),
        ):
            assert launch(server, opened, home, **environment).wait(240) == 1
            assert reason in " ".join(home.with_suffix(".log").read_text().split())
    finally:
        opened.end()
