"""Jobs' figures in a real MLflow server, and what happens without one."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from clients import python_with
from servers import Server, wait_for

START_SECONDS = 600
"""MLflow needs half a minute of a quiet machine."""
WANTED: list[Any] = [{"type": "wandb", "wandb": {"project": "colours", "name": "first", "tags": ["small"]}}]


def submit(client: openai.OpenAI, **more: Any) -> Any:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = client.files.create(file=("a.jsonl", (json.dumps(row) + "\n").encode() * 12), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file.id, hyperparameters={"n_epochs": 2, "batch_size": 4}, **more
    )


def test_without_a_tracker_a_warning_says_so_and_the_job_runs(server: Server) -> None:
    client = server.openai()
    job = wait_for(submit(client, integrations=WANTED), client, "succeeded", "failed")
    assert job.status == "succeeded"
    assert job.integrations[0].wandb.project == "colours"
    warnings = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=100) if e.level == "warn"]
    assert any("FINERY_MLFLOW_URL" in text for text in warnings)


@pytest.mark.parametrize("odd", [{"type": "comet"}, {"type": "wandb"}, {"type": "wandb", "wandb": {"project": ""}}])
def test_an_integration_that_is_none_is_refused(server: Server, odd: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="integration"):
        submit(server.openai(), integrations=[odd])


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server."""
    program = os.environ.get("FINERY_TEST_MLFLOW") or str(Path(python_with("mlflow")).with_name("mlflow"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--artifacts-destination", str(tmp_path)]
    with (tmp_path / "mlflow.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(url):
            log = (tmp_path / "mlflow.log").read_text()[-2000:]
            assert process.poll() is None, log
            assert time.monotonic() < end, log
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_mlflow_has_every_step_and_the_end(mlflow: str, tmp_path: Path, tiny_folder: Path) -> None:
    server = Server(tmp_path / "home", tiny_folder, FINERY_MLFLOW_URL=mlflow).start()
    try:
        client = server.openai()
        job = wait_for(submit(client, integrations=WANTED), client, "succeeded", "failed")
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
        told = {e.data["step"]: e.data["train_loss"] for e in events if e.type == "metrics"}
        api = httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow", trust_env=False)
        (run,) = finished(api)
        assert run["info"]["run_name"] == "first"
        assert run["info"]["status"] == "FINISHED"
        assert {"key": "finery.job", "value": job.id} in run["data"]["tags"]
        assert {"key": "n_epochs", "value": "2"} in run["data"]["params"]
        query = {"run_id": run["info"]["run_id"], "metric_key": "train_loss"}
        history = api.get("/metrics/get-history", params=query).json()["metrics"]
        assert {int(point.get("step", 0)): point["value"] for point in history} == pytest.approx(told)
        assert len(history) == len(told) == 6
    finally:
        server.stop()


def finished(api: httpx.Client) -> list[dict[str, Any]]:
    """The experiment's runs, once one has ended."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = api.get("/experiments/get-by-name", params={"experiment_name": "colours"})
        if found.is_success:
            ids = [found.json()["experiment"]["experiment_id"]]
            runs: list[dict[str, Any]] = api.post("/runs/search", json={"experiment_ids": ids}).json().get("runs", [])
            if any(run["info"]["status"] != "RUNNING" for run in runs):
                return runs
        time.sleep(0.2)
    raise TimeoutError("MLflow has no ended run")
