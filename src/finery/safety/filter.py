"""The door to the classifier's process: starts it when first asked, again when it died, and kills it when it stalls.

A failure is an exception here; what it means (nothing passes, or all passes with a note) is the policy's to say.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from finery.core.policies import Verdict
from finery.safety.process import parse_verdict

START_SECONDS = 60.0
SECONDS_PER_CHARACTER = 1e-4
"""Longer texts may take longer."""


class FilterError(Exception):
    """The classifier gave no verdict: it crashed, took too long, or the text is over its limit."""


class Filter:
    """One classifier's process. Calls wait for each other: it has one core to itself, not more."""

    def __init__(self, seconds: float = 10.0, command: Sequence[str] = ()) -> None:
        self._seconds = seconds
        self._command = [*command] or [sys.executable, "-m", "finery.safety.process"]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="filter")
        self.version = ""
        """Which heads; empty until it was first asked."""

    async def examine(self, texts: Sequence[str], scope: str = "") -> list[Verdict]:
        """As `analyze`, for the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.analyze, texts, scope)

    def analyze(self, texts: Sequence[str], scope: str = "") -> list[Verdict]:
        """A verdict for each text. What was read before in the same scope (a project) is answered sooner.

        Raises:
            FilterError: no verdict, and why.
        """
        if not texts:
            return []
        seconds = self._seconds + SECONDS_PER_CHARACTER * sum(map(len, texts))
        with self._lock:
            process = self._running()
            answer = self._exchange(process, {"texts": list(texts), "scope": scope}, seconds)
        if "error" in answer:
            raise FilterError(answer["error"])
        return [parse_verdict(data) for data in answer["verdicts"]]

    def close(self) -> None:
        """End the process for good; whoever waits for it is told so."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise FilterError("The server is being stopped.")
        if self._process is None or self._process.poll() is not None:
            self._end()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            except OSError as error:
                raise FilterError(f"The classifier can't be started: {error.strerror}.") from error
            self.version = self._exchange(self._process, None, START_SECONDS)["version"]
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], question: Any, seconds: float) -> dict[str, Any]:
        """One line in, one line out. A process that says nothing for too long is killed, which ends the reading."""
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(seconds, process.kill)
        late.daemon = True
        late.start()
        try:
            if question is not None:
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            in_time = late.is_alive()
            late.cancel()
        if not line.endswith(b"\n"):
            self._end()
            raise FilterError("The classifier crashed." if in_time else f"The classifier took over {seconds:g} s.")
        found: dict[str, Any] = json.loads(line)
        return found

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
