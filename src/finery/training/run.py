"""The trainer process: `python -m finery.training.run RUN_FOLDER`. Knows how a process lives and ends.

It reads `spec.json`, answers in `events.jsonl`, and ends with one of these statuses: 0, the `result` event is the last
line; 75, it was asked to stop (SIGTERM or SIGINT) and goes on from its checkpoint when started again; 73, the disk is
full, and with space it goes on in the same way; 76, another rank is gone, and all of them together go on in the same
way; 1, the last line is an `error` event. It dies with its parent. It opens no connection but to other ranks: the model
is a local folder.
"""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType

from finery.core.errors import FineryError, StorageFull
from finery.libraries import load_transformers
from finery.training.events import EventLog
from finery.training.spec import EXIT_RANK_LOST, EXIT_STOPPED, EXIT_STORAGE_FULL, RunSpec

_PR_SET_PDEATHSIG = 1
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
_SPIN_COUNT = ("GOMP_SPINCOUNT", "1000")
"""Let waiting threads sleep soon: on a machine with other work, libgomp's own wait costs nine tenths of the speed."""


class StopRequest:
    """Remembers that somebody asked this process to stop; the loop looks after every step."""

    def __init__(self) -> None:
        self.made = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def __call__(self) -> bool:
        """Whether it was asked."""
        return self.made

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.made = True


def main(arguments: list[str]) -> int:
    """Run the fine-tune in the folder named first; returns the exit status."""
    die_with_parent()
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault(*_SPIN_COUNT)
    stop = StopRequest()
    folder = Path(arguments[0]).resolve()
    try:
        events = EventLog(folder, writes=os.environ.get("RANK", "0") == "0")
    except OSError as error:
        if is_disk_full(error):
            return EXIT_STORAGE_FULL
        raise
    try:
        spec = RunSpec.read(folder)
        events.message(f"started:{events.attempt}", f"Loading {spec.base_model}…")
        start_other_ranks(spec.ranks, folder)
        # Imported only now: torch takes a second, and the first event shall not wait for it.
        load_transformers()
        from finery.training.estimate import limit_memory
        from finery.training.session import run_session

        limit_memory()
        return 0 if run_session(folder, spec, events, stop) else EXIT_STOPPED
    except FineryError as error:
        if isinstance(error, StorageFull):
            return EXIT_STORAGE_FULL
        if error.code == "rank_lost":
            print(error.message, file=sys.stderr)  # noqa: T201 - for trainer.log
            return EXIT_RANK_LOST
        events.error(error.message, code=error.code)
    except Exception as error:
        if is_disk_full(error):
            return EXIT_STORAGE_FULL
        traceback.print_exc()
        events.error(f"The trainer failed: {type(error).__name__}: {error}", code="internal_error")
    return 1


def is_disk_full(error: Exception) -> bool:
    """Whether there was no space, whichever library says so: safetensors has an error of its own."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def start_other_ranks(count: int, folder: Path) -> None:
    """Start this very program for ranks 1 to `count` - 1; they die with this one. Nothing to do if ranks were set."""
    if count == 1 or "WORLD_SIZE" in os.environ:
        return
    place = Path(tempfile.mkdtemp(prefix="finery-ranks-")) / "rendezvous"
    os.environ.update(WORLD_SIZE=str(count), RANK="0", LOCAL_RANK="0", FINERY_RENDEZVOUS=str(place))
    for number in range(1, count):
        subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", "finery.training.run", str(folder)],
            env=os.environ | {"RANK": str(number), "LOCAL_RANK": str(number)},
        )


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux; elsewhere nothing happens)."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
