"""Finery's own worker, with `quick_trainer` in place of the trainer: claims, leases, uploads and all else are real.

Run as `python quick_worker.py BASE_URL HOME MODELS`, the key in FINERY_WORKER_KEY.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finery import worker  # noqa: F401
from finery.worker import loop, trainer

QUICK = Path(__file__).with_name("quick_trainer.py")


def start(command: list[str], **options: Any) -> Any:
    """The real trainer's process, with another program in it."""
    assert command[1:3] == ["-m", "finery.training.run"]
    return subprocess.Popen([command[0], str(QUICK), command[3]], **options)


if __name__ == "__main__":
    trainer.subprocess = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]
    base_url, home, models = sys.argv[1:]
    loop.work(
        base_url=base_url,
        secret=os.environ["FINERY_WORKER_KEY"],
        home=Path(home),
        models_folder=Path(models),
        shares_checkpoints=True,
    )
