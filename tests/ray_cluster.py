"""A Ray cluster of a test's own, on this machine: a head that only manages, and nodes with a CPU each."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECONDS = 240
_FEW = ("--object-store-memory", "80000000", "--disable-usage-stats", "--block")


_AGENTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port")
"""A node whose agents have ports of their own doesn't wait for them, which on a crowded machine takes it too long."""


class Node:
    """A raylet with a home for Finery of its own, as if it were another machine."""

    def __init__(self, process: "subprocess.Popen[bytes]", home: Path) -> None:
        self.process, self.home = process, home

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """As a power cut; what it ran has to notice by itself."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def works_on(self, job_id: str) -> bool:
        """Whether a rank of the job is here."""
        return any((self.home / "runs").glob(f"{job_id}*"))


class RayCluster:
    """Started when it is made; `token=""` asks for none."""

    def __init__(self, folder: Path, models: Path, token: str | None = None) -> None:
        self._folder, self._models = folder, models
        # Ray's sockets lie there, and their paths must be short.
        self._temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.token = secrets.token_hex(32) if token is None else token
        self.address = f"127.0.0.1:{_free_port()}"
        self.nodes: list[Node] = []
        port = self.address.partition(":")[2]
        options = ("--head", "--port", port, "--num-cpus", "0", "--include-dashboard=false")
        self._head = self._add("head", *options, "--temp-dir", str(self._temporary))

    @property
    def environment(self) -> dict[str, str]:
        """What everybody needs who belongs to the cluster."""
        if not self.token:
            return {"RAY_AUTH_MODE": "disabled"}
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def have(self, count: int) -> list[Node]:
        """So many living nodes."""
        while len(alive := [node for node in self.nodes if node.alive]) < count:
            self.nodes.append(self._add(f"node-{len(self.nodes)}", "--address", self.address, "--num-cpus", "1"))
        return alive

    def end(self) -> None:
        """Kill all of it."""
        for node in (self._head, *self.nodes):
            if node.alive:
                node.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _add(self, name: str, *options: str) -> Node:
        """One more, started after all others are there: Ray itself gives up where that takes half a minute."""
        home, log = self._folder / name, self._folder / f"{name}.log"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            node = Node(self._start(name, *options, FINERY_HOME=str(home)), home)
            while node.alive:
                if "Ray runtime started" in log.read_text():
                    return node
                time.sleep(0.2)
        raise AssertionError(log.read_text()[-2000:])

    def _start(self, name: str, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        ray = Path(sys.executable).with_name("ray")
        shared = {"FINERY_MODELS": str(self._models)}
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(ray), "start", *options, *_FEW, *(f"--{name}={_free_port()}" for name in _AGENTS)],
                env=os.environ | self.environment | shared | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])
