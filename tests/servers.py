"""A real `finery serve` in a process of its own, for tests that are clients."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai

SPARING = {"OMP_NUM_THREADS": "1", "FINERY_PARITY_PROMPTS": "0"}
"""What servers of tests go without: a certificate costs a process with torch, so tests of certificates ask for it."""

START_SECONDS = 180


class Server:
    """One control plane with its worker and inference servers, on a home and a folder of base models."""

    def __init__(
        self, home: Path, models: Path, *, tls: bool = False, options: Sequence[str] = (), **environment: str
    ) -> None:
        self.home = home
        self._options = [*options, *(["--tls-self-signed"] if tls else [])]
        self._environment = os.environ | SPARING | {"FINERY_MODELS": str(models)} | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start it and wait until it answers."""
        with (self.home.parent / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "finery.cli", "serve", "--home", str(self.home), "--port", "0", *self._options],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            if self._answers():
                return self
            time.sleep(0.05)
        raise RuntimeError(f"no server: {(self.home.parent / 'serve.log').read_text()[-3000:]}")

    def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)

    def kill(self) -> None:
        """kill -9 of the control plane alone; what it started has to notice by itself."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def start_worker(self, name: str = "worker") -> "subprocess.Popen[bytes]":
        """A worker for it, as on another machine; it leads its own process group."""
        home = self.home.parent / name
        with (self.home.parent / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "finery.cli", "worker", "--base-url", self.url, "--home", str(home)],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Its address, as it wrote it down."""
        return str(json.loads((self.home / "server.json").read_text())["url"])

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.home / "admin.key").read_text().strip()

    @property
    def trust(self) -> ssl.SSLContext | bool:
        """What a client has to trust: the server's own authority, or the usual ones."""
        ca = self.home / "tls" / "ca.pem"
        return ssl.create_default_context(cafile=str(ca)) if ca.exists() else True

    def openai(self, **options: Any) -> openai.OpenAI:
        """The unmodified SDK, checking every answer against its own types."""
        options = {"api_key": self.key, "_strict_response_validation": True, "max_retries": 0, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def http(self) -> httpx.Client:
        """For what the SDK has no word for."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=self.trust)

    def children(self, module: str) -> list[int]:
        """Process ids of the running `python -m <module>` that belong to this home."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                environment = (folder / "environ").read_bytes().decode(errors="replace")
            except (OSError, ValueError):
                continue
            if module in command and (str(self.home) in command or str(self.home) in environment):
                found.append(int(folder.name))
        return found

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", verify=self.trust).is_success
        except (OSError, ValueError, httpx.HTTPError):
            return False


def until(condition: Callable[[], Any], seconds: float = 240) -> None:
    """Wait for what must come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def upload(client: openai.OpenAI, rows: Iterable[Any]) -> str:
    """The id of a file of training rows that passed its checks."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    file = client.files.wait_for_processing(file.id, poll_interval=0.1)
    assert file.status == "processed", file.status_details
    return file.id


def deploy(http: httpx.Client, name: str, model: str, *, seconds: float = 300, **options: Any) -> dict[str, Any]:
    """A new deployment, once it is known whether it can answer."""
    made = http.post("/finery/v1/deployments", json={"name": name, "model": model, **options})
    assert made.is_success, made.text
    found: dict[str, Any] = made.json()
    assert found["status"] == "Creating"
    end = time.monotonic() + seconds
    while found["status"] == "Creating":
        assert time.monotonic() < end, found
        time.sleep(0.1)
        found = http.get(f"/finery/v1/deployments/{name}").json()
    return found


def wait_for(job: Any, client: openai.OpenAI, *statuses: str, seconds: float = 180) -> Any:
    """Poll a job until it is in one of the states."""
    end = time.monotonic() + seconds
    while job.status not in statuses:
        if time.monotonic() > end or job.status in ("succeeded", "failed", "cancelled"):
            events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
            raise TimeoutError(f"{job.id} is {job.status}; {events}")
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    return job
