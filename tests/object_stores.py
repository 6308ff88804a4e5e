"""Object stores of a test's own: moto's S3, Azure's emulator azurite, and a line to them that can be cut and slowed.

Both are other people's programs in folders of their own (`make stores`); a test without them is skipped.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

START_SECONDS = 120

_STORES = Path(__file__).parent.parent / ".cache" / "stores"
_MOTO = _STORES / "moto" / "bin" / "python"
_AZURITE = _STORES / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's only account; both stand in Azure's documentation."""

_CLEARED = ("AWS_", "AZURE_STORAGE", "AZURITE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def missing(kind: str) -> str:
    """Why there can be no store of that kind here; empty where there can."""
    if kind == "s3" and not _MOTO.exists():
        return "moto isn't installed: make stores"
    if kind == "az" and not (_AZURITE.exists() and shutil.which("node")):
        return "azurite isn't installed: make stores (it needs Node)"
    return ""


def clean_environment() -> dict[str, str]:
    """The environment without what would lead to somebody's real buckets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_CLEARED)}


class Store:
    """One service, started and stopped by the test; it forgets all when it is removed."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix=f"finery-{kind}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def start(self) -> "Store":
        """Start it and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self._folder, env=clean_environment()
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/", timeout=5)
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return self
        raise RuntimeError(f"no {self.kind}: {(self._folder / 'log').read_text()[-2000:]}")

    def place(self) -> str:
        """The URL of a new bucket or container, with a prefix."""
        self._count += 1
        name = f"finery-{self._count}"
        if self.kind == "s3":
            httpx.put(f"http://127.0.0.1:{self.port}/{name}", timeout=60).raise_for_status()
            return f"s3://{name}/a/prefix"
        from azure.storage.blob import BlobServiceClient

        address = f"http://127.0.0.1:{self.port}/{AZURE_ACCOUNT}"
        BlobServiceClient(address, credential=AZURE_KEY).create_container(name)
        return f"az://{name}/a/prefix"

    def environment(self, port: int = 0) -> dict[str, str]:
        """What leads to it, on its own port or on that of a line to it."""
        address = f"http://127.0.0.1:{port or self.port}"
        if self.kind == "s3":
            return {
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": "finery",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "eu-west-1",
            }
        return {
            "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};"
            f"AccountKey={AZURE_KEY};BlobEndpoint={address}/{AZURE_ACCOUNT};"
        }

    def freeze(self) -> None:
        """Leave it silent, its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it speak again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and forget all it held."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self) -> list[str]:
        if self.kind == "s3":
            return [str(_MOTO), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self._folder / "data")]
        return ["node", str(_AZURITE), *options, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]


class Line:
    """A TCP proxy in front of a store. `mode` says what becomes of what passes:

    open: passes; refused: no connection comes through; mute: the store's answers are held back;
    cut: answers end in their middle, after `cut_after` bytes; slow: answers come a few bytes at a time.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = "open"
        self.cut_after = 1000
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        """Change the mode; connections that are open are broken, as where a network goes away."""
        self.mode = mode
        self._break()

    def close(self) -> None:
        """Hang up."""
        self._listener.close()
        self._break()

    def _break(self) -> None:
        for end in self._open:
            _hang_up(end)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.mode == "refused":
                _hang_up(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _hang_up(near)
                continue
            self._open += [near, far]
            threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
            threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        _hang_up(source)
        _hang_up(target)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if self.mode == "mute":
                    continue
                if self.mode == "cut" and passed + len(data) > self.cut_after:
                    target.sendall(data[: self.cut_after - passed])
                    break
                for at in range(0, len(data), step := 64 if self.mode == "slow" else len(data)):
                    target.sendall(data[at : at + step])
                    if self.mode == "slow":
                        time.sleep(0.01)
                passed += len(data)
        _hang_up(source)
        _hang_up(target)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
