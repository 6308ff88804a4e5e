"""The whole path with an S3 store, a worker that knows only an address and a key, and a network that goes bad.

The control plane alone knows the bucket: the worker's environment has none of it, nor anything of the server's home.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from finery.storage.blobs import BlobStore
from object_stores import Line, Store, clean_environment
from servers import SPARING, Server, deploy, wait_for

ROWS = "".join(
    f'{{"messages": [{{"role": "user", "content": "It is red {n}"}}, {{"role": "assistant", "content": "red"}}]}}\n'
    for n in range(24)
).encode()
KEY = "a key that both know"


class Host:
    """Another machine: a home, base models and an environment of its own."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        shutil.copytree(models, folder / "models")
        self._worker: subprocess.Popen[bytes] | None = None

    def work_for(self, url: str) -> None:
        """Start its worker."""
        kept = {name: value for name, value in clean_environment().items() if not name.startswith("FINERY_")}
        environment = kept | SPARING | {"FINERY_WORKER_KEY": KEY, "FINERY_MODELS": str(self.folder / "models")}
        with (self.folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "finery.cli", "worker", "--base-url", url]
            self._worker = subprocess.Popen(
                [*command, "--home", str(self.folder / "home")],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End its worker."""
        if self._worker is not None:
            os.killpg(self._worker.pid, signal.SIGTERM)
            self._worker.wait(30)


class Service:
    """A control plane on a bucket, behind a line to it, and the host that works for it."""

    def __init__(self, folder: Path, models: Path, store: Store) -> None:
        self.url = store.place()
        self.line = Line(store.port)
        self.host = Host(folder / "host", models)
        self._near = store.environment()
        self.server = Server(
            folder / "server" / "home",
            models,
            options=["--no-worker"],
            FINERY_BLOB_URL=self.url,
            FINERY_BLOB_SECONDS="3",
            FINERY_WORKER_KEY=KEY,
            **store.environment(self.line.port),
        )

    def blobs(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, bytes]:
        """All there is in the bucket, looked at past the line; each of them is what its name says."""
        for name, value in self._near.items():
            monkeypatch.setenv(name, value)
        store = BlobStore(folder / "look", self.url, 60)
        found = {sha256: b"".join(store.stream(sha256)) for sha256 in store.list_all()}
        assert all(hashlib.sha256(content).hexdigest() == sha256 for sha256, content in found.items())
        return found


@pytest.fixture(scope="module")
def service(s3: Store, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("on_s3")
    for name in ("server", "host"):
        (folder / name).mkdir()
    made = Service(folder, tiny_folder, s3)
    made.server.start()
    made.host.work_for(made.server.url)
    yield made
    made.host.stop()
    made.server.stop()
    made.line.close()


def submit(client: openai.OpenAI, file_id: str, epochs: int = 2) -> Any:
    return client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file_id, seed=1, hyperparameters={"n_epochs": epochs, "batch_size": 4}
    )


def test_from_upload_to_chat_and_back_to_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.server.openai()
    file = client.files.create(file=("red.jsonl", ROWS), purpose="fine-tune")
    assert service.blobs(monkeypatch, tmp_path)[hashlib.sha256(ROWS).hexdigest()] == ROWS
    assert client.files.content(file.id).read() == ROWS

    job = wait_for(submit(client, file.id), client, "succeeded", "failed")
    assert job.status == "succeeded", job.error
    model = job.fine_tuned_model
    with service.server.http() as http:
        assert deploy(http, "red", model)["status"] == "Succeeded"
    answer = client.chat.completions.create(
        model="red", messages=[{"role": "user", "content": "It is red"}], temperature=0, max_tokens=4
    )
    assert answer.choices[0].message.content is not None

    # The worker has nothing of the server's, the server's home no blob.
    assert not list((service.server.home / "blobs").rglob("*/*"))
    assert not (service.host.folder / "home" / "worker.key").exists()
    assert "finery-" not in (service.host.folder / "worker.log").read_text()

    with service.server.http() as http:
        http.delete("/finery/v1/deployments/red").raise_for_status()
    client.files.delete(file.id)
    assert hashlib.sha256(ROWS).hexdigest() not in service.blobs(monkeypatch, tmp_path)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def refusal(call: Any) -> None:
    """503 with what to do and when to come back, within what one waits for an answer."""
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        call()
    assert (caught.value.status_code, caught.value.code) == (503, "store_unavailable"), caught.value
    assert caught.value.response.headers["retry-after"] == "2"
    assert "doesn't answer" in caught.value.message
    assert time.monotonic() - began < 60


def test_a_network_that_goes_bad_under_a_job(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = service.server.openai()
    content = ROWS + json.dumps(json.loads(ROWS.splitlines()[0])).encode()
    file = client.files.create(file=("red.jsonl", content), purpose="fine-tune")
    job = wait_for(submit(client, file.id, epochs=4), client, "running", "succeeded")
    before = service.blobs(monkeypatch, tmp_path)

    for fault in ("refused", "mute", "cut"):
        service.line.cut_after = 30
        service.line.set(fault)
        refusal(lambda: client.files.content(file.id))
        refusal(lambda: client.files.create(file=("new.jsonl", ROWS + b"\n"), purpose="fine-tune"))
        # What needs no bytes goes on.
        assert [found.id for found in client.files.list()].count(file.id) == 1
        assert client.fine_tuning.jobs.retrieve(job.id).status in ("running", "succeeded")
    service.line.set("open")

    ended = wait_for(client.fine_tuning.jobs.retrieve(job.id), client, "succeeded", "failed")
    assert ended.status == "succeeded", ended.error
    assert client.files.content(file.id).read() == content
    after = service.blobs(monkeypatch, tmp_path)
    assert before.keys() <= after.keys(), "nothing was lost"
    again = client.files.create(file=("new.jsonl", ROWS + b"\n"), purpose="fine-tune")
    assert client.files.content(again.id).read() == ROWS + b"\n"
