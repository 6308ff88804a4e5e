"""The demo's own Finery: the starter model pulled and `finery serve` running, each by the command a person would type.

Everything it keeps lies in `.cache/demo-home`, base models in `.cache/models` (or where FINERY_MODELS says). It knows
nothing of the data and of what is asked of the server.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from openai import OpenAI
from screen import DemoError, console

CACHE = Path(__file__).resolve().parent.parent / ".cache"
HOME = CACHE / "demo-home"
MODELS = Path(os.environ.get("FINERY_MODELS") or CACHE / "models")
LOG = HOME / "serve.log"
FINERY = [sys.executable, "-m", "finery.cli"]
ENVIRONMENT = os.environ | {"FINERY_HOME": str(HOME), "FINERY_MODELS": str(MODELS)}
READY_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running `finery serve`."""

    url: str
    api_key: str

    def openai(self) -> OpenAI:
        """The unmodified OpenAI client, pointed at this server: the only change an existing program needs."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, timeout=300.0)

    def finery(self) -> httpx.Client:
        """A plain HTTP client for Finery's own resources."""
        return httpx.Client(
            base_url=f"{self.url}/finery/v1", headers={"Authorization": f"Bearer {self.api_key}"}, timeout=60.0
        )


def pull(model: str) -> None:
    """Bring a base model onto this machine, unless it is there."""
    if (MODELS / model / "finery.json").exists():
        console.print(f"The base model {model} is here already.")
        return
    console.print(f"[dim]$ finery models pull {model}[/dim]")
    if subprocess.run([*FINERY, "models", "pull", model], env=ENVIRONMENT, check=False).returncode:  # noqa: S603 - ours
        raise DemoError(f"The base model {model} could not be pulled; the reason stands above.")


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Run `finery serve` for as long as the block lasts. Its output goes to `serve.log` in the home."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    HOME.mkdir(parents=True, exist_ok=True)
    # The first start prints the admin key, so the log is for its owner only.
    LOG.touch(mode=0o600)
    console.print(f"[dim]$ finery serve --port {port}    (home {HOME})[/dim]", soft_wrap=True)
    with LOG.open("wb") as output:
        command = [*FINERY, "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - ours
    try:
        began = time.monotonic()
        wait_until_ready(process, url)
        console.print(f"The server is ready at {url} after {time.monotonic() - began:.1f} s.")
        yield Server(url=url, api_key=(HOME / "admin.key").read_text(encoding="utf-8").strip())
    finally:
        stop(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Ask /readyz until it says yes."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise DemoError(f"The server ended at once. The last lines of {LOG}:\n{last}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5.0).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise DemoError(f"The server was not ready within {READY_SECONDS:.0f} s; its log is {LOG}.")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server: politely, then firmly."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
