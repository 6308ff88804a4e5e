"""Start, watch and stop one inference server process. No policy: when to do which is the control plane's decision."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from finery.core.errors import Unavailable
from finery.serving.config import FAILED_FILE, LOG_FILE, PID_FILE, READY_FILE, ServerConfig, write_json
from finery.serving.protocol import TOKEN_VARIABLE, raise_error
from finery.serving.remote import InferenceClient

_POLL_SECONDS = 0.02
_TERM_SECONDS = 8.0


class InferenceProcess:
    """One server process; its folder holds configuration, log and state. The process ends when this one does."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, token: str) -> None:
        self.folder = folder
        self._process = process
        self._token = token

    @staticmethod
    def start(folder: Path, config: ServerConfig, python: str = "") -> "InferenceProcess":
        """Write the configuration and start the server; a server left over in this folder is killed first.

        Raises Unavailable where another `python` than this one is asked for and can't be started.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _kill_stale(folder)
        for name in (READY_FILE, FAILED_FILE):
            (folder / name).unlink(missing_ok=True)
        config.write(folder)
        token = secrets.token_urlsafe(32)
        with (folder / LOG_FILE).open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603 - our own module
                    [python or sys.executable, "-m", "finery.serving.server", str(folder)],
                    stdin=subprocess.PIPE,  # the lifeline: closed by the kernel when this process ends
                    stdout=log,
                    stderr=log,
                    env=os.environ | {TOKEN_VARIABLE: token},
                    start_new_session=True,  # a Ctrl-C in the terminal is for the control plane, which stops us
                )
            except OSError as error:
                raise Unavailable(f"No inference server starts with {python or sys.executable}: {error}.") from error
        write_json(folder / PID_FILE, {"pid": process.pid, "started": _started(process.pid)})
        return InferenceProcess(process, folder, token)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        """Memory of the server and its children, pages of mapped weights included; 0 once it has ended."""
        return sum(_resident(pid) for pid in (self.pid, *_children(self.pid)))

    async def wait_ready(self, timeout_seconds: float = 600.0) -> InferenceClient:
        """A client of the server, once it can serve; the caller closes it.

        Raises the error that kept the server from starting, or Unavailable when it ended or took too long.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            alive = self.alive  # read first: a server that failed has written its error before it ended
            ready = _read(self.folder / READY_FILE)
            if ready is not None:
                return InferenceClient(int(ready["port"]), self._token)
            if not alive:
                failed = _read(self.folder / FAILED_FILE)
                if failed is not None:
                    raise_error(failed)
                raise Unavailable(
                    f"The inference server ended with status {self._process.returncode}: {self.log_tail()}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"The inference server wasn't ready after {timeout_seconds:g} s: {self.log_tail()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """Ask it to end, and kill it where it doesn't within 8 seconds."""
        if self.alive:
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TERM_SECONDS):
                while self.alive:
                    await asyncio.sleep(_POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it now; its children follow by themselves."""
        if self.alive:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        (self.folder / PID_FILE).unlink(missing_ok=True)

    def log_tail(self, characters: int = 2000) -> str:
        """The end of its log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")[-characters:].strip()
        return ""


def _kill_stale(folder: Path) -> None:
    left = _read(folder / PID_FILE)
    if left is not None and left["started"] is not None and left["started"] == _started(left["pid"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(left["pid"], signal.SIGKILL)


def _started(pid: int) -> int | None:
    """When a process began, in ticks since boot: with its id, what tells it from a later process of that id."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []
