"""One trainer process: started in its own process group, its events read as they come, stopped gently or not.

The trainer gets no key and no address of the control plane: all it knows is its folder.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from finery.core.tracing import Trace
from finery.telemetry import Told
from finery.training.spans import SPANS_FILE, TRACE_VARIABLE
from finery.training.spec import EVENTS_FILE, EXIT_STOPPED, Event

LOG_FILE = "trainer.log"

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_PASSED_PREFIXES = ("OMP_", "MKL_", "CUDA_", "NVIDIA_", "TORCH_", "OPENBLAS_", "HIP_", "ROCR_", "GLOO_", "NCCL_")


class Trainer:
    """A running `python -m finery.training.run FOLDER`."""

    def __init__(self, run_folder: Path, trace: Trace | None = None, environment: dict[str, str] | None = None) -> None:
        """With a trace it measures its parts, for `spans`; the environment is what it gets besides the usual."""
        self._folder = run_folder
        self._log = (run_folder / LOG_FILE).open("ab")
        self._offset = 0
        self._trace = trace
        (run_folder / SPANS_FILE).unlink(missing_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "finery.training.run", str(run_folder)],
            cwd=run_folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment() | (environment or {}) | ({TRACE_VARIABLE: trace.traceparent} if trace else {}),
            start_new_session=True,
        )

    def events(self) -> list[Event]:
        """Events that were written since the last call; a line that is still being written is left for the next."""
        path = self._folder / EVENTS_FILE
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() < self._offset:
                # The trainer went on from a checkpoint and cut off what came behind it.
                self._offset = 0
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [Event.parse(line.decode()) for line in whole.splitlines() if line.strip()]

    def spans(self) -> list[Told]:
        """The parts of it that were measured; to be asked for once, after its end."""
        path = self._folder / SPANS_FILE
        if self._trace is None or not path.exists():
            return []
        whole = path.read_bytes().rpartition(b"\n")[0]
        return [_told(json.loads(line), self._trace) for line in whole.splitlines()]

    def ended(self) -> int | None:
        """The exit status, None while it runs; negative for the signal that killed it."""
        return self._process.poll()

    def stop_at_checkpoint(self) -> None:
        """Ask for a checkpoint and an end."""
        if self.ended() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with whatever it started."""
        if self.ended() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    @property
    def stopped_as_asked(self) -> bool:
        """Whether it ended with a checkpoint because it was asked to."""
        return self.ended() == EXIT_STOPPED

    def last_words(self) -> str:
        """The end of its log, for the operator's eyes."""
        return (self._folder / LOG_FILE).read_bytes()[-2000:].decode(errors="replace")


def _told(line: dict[str, Any], parent: Trace) -> Told:
    own = dataclasses.replace(parent, span_id=line["span_id"])
    return Told(trace=own, parent=parent, name=line["name"], start=line["start"], end=line["end"], facts=line["facts"])


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES)
    }
    # No hub, whatever a library would like to ask it.
    return kept | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
