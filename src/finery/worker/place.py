"""A rank's place on a node of a Ray cluster: the process in which it works. `cluster` makes actors of it.

Rank 0 is a worker like any other, for one job: it holds the lease, tells, uploads. Further ranks get the same files
and checkpoint, and only train along. Where base models and run folders are is the node's matter: FINERY_HOME and
FINERY_MODELS of its own environment.
"""

import socket
import threading
from dataclasses import dataclass
from typing import Any

from finery import telemetry
from finery.core.errors import FineryError
from finery.settings import Settings
from finery.worker.client import WorkerClient
from finery.worker.runs import Gang, Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a place is told."""

    claim: dict[str, Any]
    base_url: str
    secret: str
    rank: int
    ranks: int
    meeting: tuple[str, int]
    """Address and port at which rank 0 waits for the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a place ended."""

    crashed: bool = False
    """The trainer died; all else was told to the control plane."""
    reason: str = ""


class Place:
    """One rank of one run. `stop` may be called while `work` goes on."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def meeting(self) -> tuple[str, int]:
        """Where the other ranks find this one: its address, and a port that is free now."""
        import ray

        with socket.socket() as found:
            found.bind(("", 0))
            return str(ray.util.get_node_ip_address()), int(found.getsockname()[1])

    def work(self, order: Order) -> Outcome:
        """Train until the job is over, given back, or no longer ours."""
        settings = Settings.from_environment()
        telemetry.start("worker", log_format=settings.log_format)
        client = WorkerClient(order.base_url, order.secret)
        run = Run(
            client,
            order.claim,
            settings.home / "runs",
            settings.models_folder,
            self._stop,
            shares_checkpoints=True,
            gang=Gang(rank=order.rank, ranks=order.ranks, meeting=order.meeting) if order.ranks > 1 else None,
        )
        try:
            if order.rank:
                run.follow()
            else:
                run.execute()
        except FineryError as error:
            return Outcome(crashed=run.crashed, reason=error.message)
        finally:
            client.close()
        return Outcome(crashed=run.crashed)

    def stop(self) -> None:
        """Stop at a checkpoint, and give the job back."""
        self._stop.set()
