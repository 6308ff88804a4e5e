"""`events.jsonl`: what a run tells the world, one line a fact. It does not know what the facts mean or who reads.

Every line is flushed as it is written, so that a killed process loses none; `sync` makes them outlive the machine.
"""

import os
import time
from pathlib import Path
from typing import Any, Literal

from finery.training.spans import Spans
from finery.training.spec import EVENTS_FILE, Event


class EventLog:
    """Appends to the event file of one run folder."""

    def __init__(self, run_folder: Path, *, writes: bool = True) -> None:
        """`writes` is false in the ranks that leave the talking to rank 0."""
        self._path = run_folder / EVENTS_FILE
        self._writes = writes
        self.spans = Spans(run_folder, writes=writes)
        """How long parts of the run took."""
        self.attempt = 1
        """How often this run was started, this time included."""
        if writes:
            self.attempt = 1 + self._mend()
            self._file = self._path.open("ab")

    def message(
        self, key: str, text: str, *, level: Literal["info", "warn"] = "info", data: dict[str, Any] | None = None
    ) -> None:
        """Something a person wants to know."""
        self._write(Event(key=key, type="message", message=text, created_at=time.time(), level=level, data=data or {}))

    def metrics(self, text: str, data: dict[str, Any]) -> None:
        """The figures of one step; `data` has `step`."""
        self._write(Event(key=f"step:{data['step']}", type="metrics", message=text, created_at=time.time(), data=data))

    def checkpoint(self, text: str, data: dict[str, Any]) -> None:
        """A checkpoint is on disk; `data` has `step`. Durable when this returns."""
        self._write(
            Event(key=f"checkpoint:{data['step']}", type="checkpoint", message=text, created_at=time.time(), data=data)
        )
        self.sync()

    def result(self, text: str, data: dict[str, Any]) -> None:
        """The run is done, its result is on disk. Durable when this returns."""
        self._write(Event(key="result", type="result", message=text, created_at=time.time(), data=data))
        self.sync()

    def error(self, text: str, *, code: str, help_text: str = "") -> None:
        """The run can't go on. Durable when this returns."""
        data = {"code": code, "help": help_text} if help_text else {"code": code}
        self._write(
            Event(
                key=f"error:{self.attempt}",
                type="error",
                message=text,
                created_at=time.time(),
                level="error",
                data=data,
            )
        )
        self.sync()

    def sync(self) -> None:
        """Put all lines on the disk itself."""
        if self._writes:
            os.fsync(self._file.fileno())

    def _write(self, event: Event) -> None:
        if self._writes:
            self._file.write(event.line().encode())
            self._file.flush()

    def _mend(self) -> int:
        """Cut a line that a kill left half-written; returns how many runs began in this file before."""
        if not self._path.exists():
            return 0
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            with self._path.open("r+b") as file:
                file.truncate(whole)
        return sum(1 for line in content[:whole].splitlines() if b'"started:' in line)
