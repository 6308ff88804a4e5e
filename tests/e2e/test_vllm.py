"""From training rows to answers on real vLLM: a tuned model is proven, answers, and survives a kill -9."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, deploy, until, upload, wait_for

HELLO: list[Any] = [{"role": "user", "content": "It is red"}]
SECONDS = 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    if not os.environ.get("FINERY_VLLM_PYTHON"):
        pytest.skip("FINERY_VLLM_PYTHON names no Python with vLLM: make test-vllm")
    # A machine that starts vLLM on two cores has little left for the filter.
    options = {"FINERY_PARITY_PROMPTS": "4", "FINERY_FILTER_SECONDS": "300"}
    running = Server(tmp_path_factory.mktemp("vllm") / "home", tiny_folder, **options).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


def descendants(pid: int) -> list[int]:
    """A process's children, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def vllm_server_of(server: Server) -> int:
    """Process id of the inference server with vLLM; the one that asked harmful things is llama.cpp's."""
    for pid in server.children("finery.serving.server"):
        folder = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").rpartition("\0")[2]
        if json.loads((Path(folder) / "server.json").read_text())["engine"] == "vllm":
            return pid
    raise LookupError("vllm")


def test_a_tuned_model_is_proven_and_answers_on_vllm(server: Server, http: httpx.Client) -> None:
    client = server.openai(timeout=SECONDS)
    rows = [{"messages": [*HELLO, {"role": "assistant", "content": "red red"}]} for _ in range(20)]
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=upload(client, rows),
        hyperparameters={"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 20},
        extra_body={"precision": "fp32"},
    )
    tuned = wait_for(job, client, "succeeded", seconds=SECONDS).fine_tuned_model
    made = deploy(http, "red", tuned, engine="vllm", seconds=SECONDS)
    assert made["status"] == "Succeeded", made
    assert made["certificate"]["passed"] is True
    assert made["certificate"]["engine"] == "vllm"

    def ask() -> str:
        parts = client.chat.completions.create(model="red", messages=HELLO, temperature=0, max_tokens=8, stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    whole = ask()
    assert whole
    inference = vllm_server_of(server)
    cores = descendants(inference)
    assert cores
    os.kill(inference, signal.SIGKILL)
    until(lambda: not any(_runs(pid) for pid in cores), SECONDS)
    assert ask() == whole


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
