"""Claim after claim, until told to stop. Run as a process of its own: `python -m finery.worker.loop`.

It is told by its environment: FINERY_BASE_URL, FINERY_WORKER_KEY, FINERY_HOME, FINERY_MODELS, FINERY_PARENT_PID,
FINERY_SHARES_CHECKPOINTS.
"""

import logging
import os
import signal
import socket
import threading
from pathlib import Path

from finery import telemetry
from finery.core.errors import FineryError
from finery.serving.lifeline import die_with_parent
from finery.worker.client import WorkerClient
from finery.worker.runs import Run

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5


def work(*, base_url: str, secret: str, home: Path, models_folder: Path, shares_checkpoints: bool) -> None:
    """Work for a control plane until SIGTERM or SIGINT; a run under way is stopped at a checkpoint and given back.

    With `shares_checkpoints` the control plane gets every checkpoint, so that another worker can go on from it.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    client = WorkerClient(base_url, secret)
    # One worker a home: the name tells a restarted one that what it held before is its own to take up again.
    # Its end tells homes apart where it is longer than a database's column.
    name = f"{socket.gethostname()}:{home}"[-120:]
    log.info("worker %s works for %s", name, base_url)
    while not stop.is_set():
        try:
            claim = client.claim(name)
            if claim is None:
                stop.wait(IDLE_SECONDS)
                continue
            log.info("job %s, lease %d", claim["job_id"], claim["epoch"])
            Run(client, claim, home / "runs", models_folder, stop, shares_checkpoints=shares_checkpoints).execute()
        except FineryError as error:
            log.error("%s", error.message)
            stop.wait(IDLE_SECONDS * 4)
    client.close()


def main() -> None:
    """Work as the environment says, for as long as the parent lives."""
    die_with_parent(int(os.environ["FINERY_PARENT_PID"]))
    telemetry.start("worker", log_format=os.environ.get("FINERY_LOG_FORMAT", "") or "text")
    work(
        base_url=os.environ["FINERY_BASE_URL"],
        secret=os.environ["FINERY_WORKER_KEY"],
        home=Path(os.environ["FINERY_HOME"]),
        models_folder=Path(os.environ["FINERY_MODELS"]),
        shares_checkpoints=bool(os.environ.get("FINERY_SHARES_CHECKPOINTS")),
    )


if __name__ == "__main__":
    main()
