"""Ray decides where runs work: a job is claimed, waits until a cluster has room for all of its ranks, and works there.

Ray has places, processes and the news that one is gone; leases, fencing and checkpoints stay with the control plane, so
that a lost node costs what a lost worker costs. Ray is imported only here, and only a cluster that refuses strangers
is used: whoever reaches an open one runs programs on it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finery.core.errors import Fenced, FineryError, InvalidRequest, Unavailable
from finery.worker.client import WorkerClient
from finery.worker.place import Order, Outcome, Place
from finery.worker.runs import MAX_CRASHES

log = logging.getLogger(__name__)

OLDEST = (2, 54)
"""Of Ray: before, the token was not asked for everywhere."""

TURN_SECONDS = 0.5
LEAVE_SECONDS = 10.0
"""How long further ranks may take to end once rank 0 has."""
STOP_SECONDS = 120.0
"""How long runs may take to reach a checkpoint when the launcher is stopped."""

_STRANGER = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
except AuthenticationError:
    sys.exit(3)
"""
"""Asks a cluster something without its token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What each rank of a run takes of a node."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.0
    """0: Ray doesn't count it."""

    def bundle(self) -> dict[str, float]:
        """In Ray's words."""
        needs = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_gb * 2**30}
        return {name: amount for name, amount in needs.items() if amount}


@dataclass(slots=True, kw_only=True)
class Placed:
    """A job that was claimed: waiting for its places, arriving in them, or at work."""

    claim: dict[str, Any]
    group: Any
    """The placement group: room for all ranks or for none."""
    ready: Any
    places: list[Any] = field(default_factory=list)
    arrivals: list[Any] = field(default_factory=list)
    works: list[Any] = field(default_factory=list)
    ended_at: float = 0.0
    """When rank 0 had ended."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        return str(self.claim["job_id"])

    @property
    def ranks(self) -> int:
        """How many processes train as one."""
        return int(self.claim["spec"].get("ranks", 1))


def work(*, address: str, needs: Needs, base_url: str, secret: str, home: Path) -> None:
    """Claim jobs for a control plane and place them in a Ray cluster, until SIGTERM or SIGINT.

    Raises:
        InvalidRequest: there is no token, or the cluster doesn't ask for one.
        Unavailable: Ray isn't installed or too old, or there is no cluster at the address.
    """
    require_token()
    ray = _connect(address)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    launcher = Launcher(
        ray, WorkerClient(base_url, secret), needs, base_url, secret, f"ray:{socket.gethostname()}:{home}"
    )
    log.info("jobs of %s are placed in the Ray cluster at %s", base_url, ray.get_runtime_context().gcs_address)
    try:
        while not stop.wait(TURN_SECONDS):
            try:
                launcher.turn()
            except FineryError as error:
                log.error("%s", error.message)
        launcher.leave()
    finally:
        ray.shutdown()


def require_token() -> None:
    """Have Ray show a token, and refuse to start without one.

    Raises:
        InvalidRequest: saying how to make one.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode != "token":
        raise InvalidRequest(
            f"RAY_AUTH_MODE is {mode!r}; Finery works only with Ray clusters that ask for a token. Start all of Ray's "
            "nodes, and this worker, with RAY_AUTH_MODE=token."
        )
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not os.environ.get("RAY_AUTH_TOKEN") and not path.is_file():
        raise InvalidRequest(
            f"There is no token for the Ray cluster: neither RAY_AUTH_TOKEN nor {path}. Take that of the cluster's "
            "nodes, or make one for all of them: ray get-auth-token --generate."
        )


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise Unavailable("Ray isn't installed: pip install 'finery[ray]'.") from None
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        raise Unavailable(f"Ray {ray.__version__} is too old; Finery needs {'.'.join(map(str, OLDEST))} or newer.")
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="finery")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Unavailable(
            f"No Ray cluster answers at {address}: {reason} Run this where `ray start` has made a node of it."
        ) from None
    found = ray.get_runtime_context().gcs_address
    if not _refuses_strangers(found):
        ray.shutdown()
        raise InvalidRequest(
            f"The Ray cluster at {found} lets in anybody who reaches it. Stop it, and start all of its nodes with "
            "RAY_AUTH_MODE=token and one token (ray get-auth-token --generate)."
        )
    return ray


def _refuses_strangers(address: str) -> bool:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    asked = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", _STRANGER, address],
        env=environment | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        check=False,
    )
    return asked.returncode == 3


class Launcher:
    """Claims jobs one after the other, each once the one before has its place."""

    def __init__(self, ray: Any, client: WorkerClient, needs: Needs, base_url: str, secret: str, name: str) -> None:
        self._ray, self._client, self._needs = ray, client, needs
        self._base_url, self._secret, self._name = base_url, secret, name
        self._waiting: Placed | None = None
        self._running: list[Placed] = []
        self._losses: dict[str, tuple[int, int]] = {}
        """Job → the step it would go on from, and how often it was lost there."""

    def turn(self) -> None:
        """Look after everything once."""
        self._running = [placed for placed in self._running if not self._ended(placed)]
        self._waiting = self._waiting or self._claim()
        if self._waiting is not None:
            self._waiting = self._advance(self._waiting)

    def leave(self) -> None:
        """Have runs stop at a checkpoint and give their jobs back."""
        if self._waiting is not None:
            self._give_up(self._waiting)
        for placed in self._running:
            placed.places[0].stop.remote()
        end = time.monotonic() + STOP_SECONDS
        while self._running and time.monotonic() < end:
            self._running = [placed for placed in self._running if not self._ended(placed)]
            time.sleep(TURN_SECONDS)

    def _claim(self) -> Placed | None:
        # A name of its own each time: one that asks again has lost what it held, and several are at work here.
        claim = self._client.claim(f"{self._name}:{uuid.uuid4().hex[:8]}"[-120:])
        if claim is None:
            return None
        job_id, ranks = claim["job_id"], int(claim["spec"].get("ranks", 1))
        step, times = self._losses.get(job_id, (-1, 0))
        if times >= MAX_CRASHES and step == _step(claim):
            del self._losses[job_id]
            self._tell(
                claim,
                "failed",
                code="trainer_crashed",
                message=f"The job was lost {times} times in the Ray cluster without reaching a new checkpoint; the "
                "launcher's log says how. Too little memory on its nodes is the usual reason.",
            )
            return None
        bundle = self._needs.bundle()
        log.info("job %s, lease %d: %d × %s", job_id, claim["epoch"], ranks, bundle)
        group = self._ray.util.placement_group([bundle] * ranks, strategy="PACK")
        return Placed(claim=claim, group=group, ready=group.ready())

    def _advance(self, placed: Placed) -> Placed | None:
        """Keep the lease of a job that isn't at work yet, and bring it to work; None once it is, or is given up."""
        try:
            if self._client.tell(placed.job_id, "heartbeat", epoch=placed.claim["epoch"])["action"] == "pause":
                self._give_up(placed)
                return None
            if not placed.places:
                if not self._done([placed.ready]):
                    return placed
                self._occupy(placed)
            if len(self._done(placed.arrivals)) < placed.ranks:
                return placed
            self._begin(placed)
        except Fenced:
            self._free(placed)
            return None
        except self._ray.exceptions.RayError as error:
            self._lose(placed, error)
            return None
        self._running.append(placed)
        return None

    def _occupy(self, placed: Placed) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor = self._ray.remote(Place)
        for rank in range(placed.ranks):
            here = PlacementGroupSchedulingStrategy(placed.group, placement_group_bundle_index=rank)
            placed.places.append(
                actor.options(
                    num_cpus=self._needs.cpus,
                    num_gpus=self._needs.gpus,
                    memory=self._needs.memory_gb * 2**30 or None,
                    max_restarts=0,
                    max_concurrency=2,
                    scheduling_strategy=here,
                ).remote()
            )
        placed.arrivals = [place.meeting.remote() for place in placed.places]

    def _begin(self, placed: Placed) -> None:
        meetings = self._ray.get(placed.arrivals)
        log.info("job %s works at %s", placed.job_id, ", ".join(address for address, _ in meetings))
        for rank, place in enumerate(placed.places):
            order = Order(
                claim=placed.claim,
                base_url=self._base_url,
                secret=self._secret,
                rank=rank,
                ranks=placed.ranks,
                meeting=meetings[0],
            )
            placed.works.append(place.work.remote(order))

    def _ended(self, placed: Placed) -> bool:
        """Whether a run is over, one way or the other; its places are free then."""
        try:
            outcomes: dict[Any, Outcome] = {one: self._ray.get(one) for one in self._done(placed.works)}
        except self._ray.exceptions.RayError as error:
            self._lose(placed, error)
            return True
        if placed.works[0] not in outcomes:
            return False
        placed.ended_at = placed.ended_at or time.monotonic()
        if len(outcomes) < placed.ranks and time.monotonic() < placed.ended_at + LEAVE_SECONDS:
            return False
        first = outcomes[placed.works[0]]
        log.info("job %s has left its place%s", placed.job_id, f": {first.reason}" if first.reason else "")
        if first.crashed:
            self._count(placed)
        else:
            self._losses.pop(placed.job_id, None)
        self._free(placed)
        return True

    def _lose(self, placed: Placed, error: Exception) -> None:
        """A place is gone: the others are of no use, and the job goes on elsewhere."""
        log.warning("job %s lost its place: %s", placed.job_id, str(error).strip().splitlines()[0])
        self._count(placed)
        self._give_up(placed)

    def _count(self, placed: Placed) -> None:
        step, times = self._losses.get(placed.job_id, (-1, 0))
        now = _step(placed.claim)
        self._losses[placed.job_id] = (now, times + 1 if step == now else 1)

    def _give_up(self, placed: Placed) -> None:
        self._free(placed)
        try:
            self._tell(placed.claim, "give-back")
        except Fenced:
            log.info("job %s is no longer ours", placed.job_id)

    def _free(self, placed: Placed) -> None:
        for place in placed.places:
            self._ray.kill(place)
        self._ray.util.remove_placement_group(placed.group)

    def _tell(self, claim: dict[str, Any], what: str, **body: Any) -> None:
        self._client.tell(claim["job_id"], what, epoch=claim["epoch"], **body)

    def _done(self, references: list[Any]) -> list[Any]:
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return list(done)


def _step(claim: dict[str, Any]) -> int:
    """Where a claimed job goes on."""
    return int(claim["resume_point"]["step"]) if claim["resume_point"] else 0
