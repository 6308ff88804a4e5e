"""Python graders: `def grade(sample, item)` of a stranger, run in a process that can do nothing but compute.

`python_child` closes that process's doors (seccomp, resource limits); here it is started without environment, watched
by the clock, and read with a cap. Linux only: elsewhere such a grader is refused, never run unlocked.
"""

import ast
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.core.errors import InvalidRequest

MAX_SOURCE_BYTES = 256 * 1024
"""As on Azure."""
_MAX_ANSWER_BYTES = 64 * 1024
_CHILD = Path(__file__).with_name("python_child.py")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call of a grader may take."""

    cpu_seconds: int = 10
    wall_seconds: float = 60.0
    memory_bytes: int = 1 << 30


class PythonGraderFailed(Exception):
    """The grader raised, looped, took too much, or returned no number (`runtime`); or it couldn't be run (`server`)."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(details)
        self.kind = kind
        self.details = details


def check(source: str) -> None:
    """Refuse what is no grader.

    Raises:
        InvalidRequest: too long, no Python, or without a function `grade`.
    """
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise InvalidRequest(f"The source has {len(source.encode())} bytes; at most {MAX_SOURCE_BYTES} are run.")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidRequest(f"The source is no Python: {error}.", param="grader.source") from None
    if not any(isinstance(node, ast.FunctionDef) and node.name == "grade" for node in tree.body):
        raise InvalidRequest("The source has no function grade(sample, item).", param="grader.source")


def run(source: str, sample: Any, item: Any, limits: Limits | None = None) -> float:
    """What `grade(sample, item)` returns.

    Raises:
        PythonGraderFailed: it doesn't return a number within its limits.
    """
    if sys.platform != "linux":
        raise PythonGraderFailed("server", "python graders need Linux, whose kernel can lock them in")
    limits = limits or Limits()
    given = {
        "source": source,
        "sample": sample,
        "item": item,
        "limits": {"cpu_seconds": limits.cpu_seconds, "memory_bytes": limits.memory_bytes},
    }
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # One thread each, or a limit on memory would be used up by stacks.
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        cwd="/",
        start_new_session=True,
    )
    try:
        answer = _exchange(process, json.dumps(given).encode(), time.monotonic() + limits.wall_seconds)
    finally:
        process.kill()
        process.wait()
    return _score(answer, process.returncode, limits)


def _exchange(process: "subprocess.Popen[bytes]", given: bytes, deadline: float) -> bytes:
    """Send all, read until the end or the cap; nothing waits beyond the deadline."""
    assert process.stdin is not None
    assert process.stdout is not None
    answer, left = b"", memoryview(given)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as ready, process.stdin, process.stdout:
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stdout, selectors.EVENT_READ)
        while len(answer) <= _MAX_ANSWER_BYTES:
            events = ready.select(max(deadline - time.monotonic(), 0.0))
            if not events:
                raise PythonGraderFailed("runtime", "the grader took too long and was stopped")
            for key, _ in events:
                if key.fileobj is process.stdin:
                    try:
                        left = left[os.write(key.fd, left[: 1 << 16]) :]
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        ready.unregister(process.stdin)
                        process.stdin.close()
                elif part := os.read(key.fd, 1 << 16):
                    answer += part
                else:
                    process.wait(max(deadline - time.monotonic(), 0.1))
                    return answer
    return answer


def _score(answer: bytes, status: int, limits: Limits) -> float:
    try:
        found = json.loads(answer)
        if "score" in found:
            return float(found["score"])
        kind, details = str(found["error"]), str(found["details"])
    except (ValueError, TypeError, KeyError):
        kind, details = "runtime", f"the grader's process ended with status {status} and no answer"
        if -status in (signal.SIGXCPU, signal.SIGKILL):
            details = f"the grader ran for more than {limits.cpu_seconds} s of CPU time and was stopped"
    if details.startswith("MemoryError"):
        details = f"the grader needed more than {limits.memory_bytes >> 20} MB of memory"
    raise PythonGraderFailed(kind, details)
