"""Inference servers that are killed, that sleep, or that serve what was never trained: found, said, survived."""

import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from servers import Server, deploy, until, wait_for

PATH = "/finery/v1/deployments"
HELLO: list[Any] = [{"role": "user", "content": "It is red"}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """Base models of one's own: they are about to be hurt."""
    from finery.modeling import sources

    models = tmp_path_factory.mktemp("own") / "models"
    shutil.copytree(tiny_folder, models)
    sources.import_folder(models, models / "tiny-phi3", "other-phi3")
    return models


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Server]:
    """A server of one's own: it is about to be hurt, too."""
    running = Server(tmp_path_factory.mktemp("hurt") / "home", models, FINERY_PARITY_PROMPTS="4").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


def deploy_anew(http: httpx.Client, name: str, model: str, **options: Any) -> dict[str, Any]:
    """A new deployment in the place of what had the name."""
    http.delete(f"{PATH}/{name}")
    until(lambda: http.get(f"{PATH}/{name}").status_code == 404)
    return deploy(http, name, model, **options)


def inference_server_of(server: Server, model: str) -> int:
    """Process id of a model's llama.cpp server."""
    for pid in server.children("finery.serving.server"):
        folder = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").rpartition("\0")[2]
        config = json.loads((Path(folder) / "server.json").read_text())
        if (Path(config["model_folder"]).name, config["engine"]) == (model, "llamacpp"):
            return pid
    raise LookupError(model)


def test_what_sleeps_wakes_on_a_request(server: Server, http: httpx.Client) -> None:
    assert deploy_anew(http, "sleepy", "other-phi3", idle_seconds=1)["status"] == "Succeeded"
    until(lambda: http.get(f"{PATH}/sleepy").json()["ready_replicas"] == 0)
    with pytest.raises(LookupError):
        inference_server_of(server, "other-phi3")
    assert http.get(f"{PATH}/sleepy").json()["status"] == "Succeeded"
    answer = server.openai().chat.completions.create(model="sleepy", messages=HELLO, max_tokens=2)
    assert answer.usage is not None
    assert http.get(f"{PATH}/sleepy").json()["ready_replicas"] == 1


class Load:
    """Clients that ask one model without a pause, streamed and whole, and what became of every request."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.texts: list[str] = []
        self.errors: list[openai.OpenAIError] = []
        self._client, self._model = client, model
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(stream,)) for stream in (False, True, True)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.texts) > 3)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, stream: bool) -> None:
        request: dict[str, Any] = {"model": self._model, "messages": HELLO, "temperature": 0, "max_tokens": 60}
        while not self._stop.is_set():
            try:
                answer = self._client.chat.completions.create(**request, stream=stream)
                if stream:
                    self.texts.append("".join(part.choices[0].delta.content or "" for part in answer if part.choices))
                else:
                    self.texts.append(answer.choices[0].message.content)
            except openai.OpenAIError as error:
                self.errors.append(error)


def test_a_killed_server_costs_clean_errors_and_nobody_elses(server: Server, http: httpx.Client) -> None:
    assert deploy_anew(http, "hurt", "tiny-phi3")["status"] == "Succeeded"
    assert deploy_anew(http, "safe", "other-phi3")["status"] == "Succeeded"
    client = server.openai()
    with Load(client, "hurt") as hurt, Load(client, "safe") as safe:
        whole = set(hurt.texts)
        assert len(whole) == 1
        for _ in range(2):
            seen, elsewhere = len(hurt.texts), len(safe.texts)
            os.kill(inference_server_of(server, "tiny-phi3"), signal.SIGKILL)
            until(lambda seen=seen: len(hurt.texts) > seen + 3)  # type: ignore[misc]
            until(lambda elsewhere=elsewhere: len(safe.texts) > elsewhere)  # type: ignore[misc]
    assert safe.errors == []
    assert set(safe.texts) == whole
    # Whatever was answered is whole: a broken stream is an error, never a shorter text.
    assert set(hurt.texts) == whole
    for error in hurt.errors:
        assert "try again" in str(error)


@pytest.fixture(scope="module")
def tuned(server: Server) -> str:
    """The name of a tuned model."""
    client = server.openai()
    rows = [{"messages": [*HELLO, {"role": "assistant", "content": "red red"}]} for _ in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = client.files.create(file=("red.jsonl", text.encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3",
        training_file=file.id,
        hyperparameters={"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 20},
        extra_body={"precision": "fp32"},
    )
    return str(wait_for(job, client, "succeeded").fine_tuned_model)


def test_torch_gets_a_certificate_of_its_own(server: Server, http: httpx.Client, tuned: str) -> None:
    """Its weights are packed in 16 bits otherwise than llama.cpp's."""
    made = deploy_anew(http, "side-by-side", tuned, engine="torch")
    assert made["status"] == "Succeeded", made
    assert (made["certificate"]["engine"], made["certificate"]["passed"]) == ("torch", True)
    client = server.openai()
    for name in ("side-by-side", tuned):
        answer = client.chat.completions.create(model=name, messages=HELLO, temperature=0, max_tokens=8)
        assert answer.choices[0].message.content.strip().startswith("red")


def test_what_is_planted_is_refused_with_the_numbers(
    server: Server, http: httpx.Client, models: Path, tuned: str, tmp_path: Path
) -> None:
    from finery.modeling import gguf_write
    from finery.modeling.adapters import read_adapter, write_adapter
    from finery.modeling.architectures import read_config

    made = deploy_anew(http, "tuned", tuned)
    assert made["status"] == "Succeeded", made
    assert made["certificate"]["passed"] is True
    assert made["certificate"]["first_divergence"] is None

    base = models / "tiny-phi3"
    folder = server.home / "adapters" / hashlib.sha256(tuned.encode()).hexdigest()[:32]
    config, tensors = read_adapter(folder, read_config(base))
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    write_adapter(swapped, config, {name: np.ascontiguousarray(-3 * tensor) for name, tensor in tensors.items()})
    right = (folder / "adapter.gguf").read_bytes()
    gguf_write.write_adapter(base, swapped, tmp_path / "swapped.gguf")
    (folder / "adapter.gguf").write_bytes((tmp_path / "swapped.gguf").read_bytes())
    os.kill(inference_server_of(server, "tiny-phi3"), signal.SIGKILL)
    refused = deploy_anew(http, "tuned", tuned)
    assert refused["status"] == "Failed"
    assert "does not answer as the trainer's model does" in refused["status_details"]
    assert refused["certificate"]["passed"] is False
    assert refused["certificate"]["first_divergence"] is not None

    accepted = http.patch(f"{PATH}/tuned", json={"parity_override": "a planted one"})
    assert accepted.json()["status"] == "Creating"
    until(lambda: http.get(f"{PATH}/tuned").json()["status"] != "Creating")
    overridden = http.get(f"{PATH}/tuned").json()
    assert (overridden["status"], overridden["certificate"]["passed"]) == ("Succeeded", False)
    assert overridden["parity_override"]["reason"] == "a planted one"
    assert overridden["parity_override"]["by"]
    (folder / "adapter.gguf").write_bytes(right)

    shutil.copy(swapped / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    refused = deploy_anew(http, "tuned", tuned)
    assert refused["status"] == "Failed"
    assert "adapter_model.safetensors" in refused["status_details"]
    assert "not what was trained" in refused["status_details"]


def test_another_template_under_the_same_name_is_refused(
    server: Server, http: httpx.Client, models: Path, tuned: str
) -> None:
    from finery.modeling import sources

    base = models / "tiny-phi3"
    shutil.rmtree(server.home / "adapters", ignore_errors=True)
    template = base / "chat_template.jinja"
    right = template.read_text()
    try:
        template.write_text(right.replace("<|im_end|>\n", "<|im_end|> ", 1))
        refused = deploy_anew(http, "tuned", tuned)
        assert refused["status"] == "Failed"
        assert "chat_template.jinja" in refused["status_details"]
        sources.import_folder(base.parent, base, "tiny-phi3")
        refused = deploy_anew(http, "tuned", tuned)
        assert "not the one that" in refused["status_details"]
    finally:
        template.write_text(right)
        sources.import_folder(base.parent, base, "tiny-phi3")
    mended = deploy_anew(http, "tuned", tuned)
    assert mended["status"] == "Succeeded", mended["status_details"]
