"""Faults from outside: processes are killed and frozen at random while clients submit jobs and keep a history.

The control plane and the workers are Finery's own, as processes of their own; only the trainer is `quick_trainer`,
whose adapter shows whether a step was lost or done twice (`test_trainer_kills` kills real ones). `checker` judges.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from servers import Server

LEASE_SECONDS = 3.0
GRACE_SECONDS = 10.0
ROWS = b"".join(
    b'{"messages": [{"role": "user", "content": "It is red %d"}, {"role": "assistant", "content": "red"}]}\n' % n
    for n in range(12)
)
WORKER_KEY = "the workers' key"


@dataclass
class Operation:
    """What a client asked for, and what it was told."""

    name: str
    cancel: bool
    job_id: str = ""
    outcome: str = "invoked"
    """ok; unknown as long as nobody answered."""
    tries: int = 0


@dataclass
class History:
    """All that clients did."""

    operations: list[Operation] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def count(self, fault: str) -> None:
        """One more of a kind."""
        self.faults[fault] = self.faults.get(fault, 0) + 1


class Workers:
    """Some workers, started again when they end."""

    def __init__(self, server: Server, folder: Path, models: Path, count: int) -> None:
        self._server, self._folder, self._models = server, folder, models
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Start those that are gone."""
        with self._lock:
            for number, process in enumerate(self._processes):
                if process is None or process.poll() is not None:
                    self._processes[number] = self._start(number)

    def alive(self) -> list[int]:
        """Process ids."""
        with self._lock:
            return [process.pid for process in self._processes if process and process.poll() is None]

    def trainers(self) -> list[int]:
        """Their trainers'."""
        parents, found = set(self.alive()), []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if int(path.read_text().rpartition(")")[2].split()[1]) in parents:
                    found.append(int(path.parent.name))
        return found

    def end(self) -> None:
        """End all of them."""
        for process in filter(None, self._processes):
            process.kill()
            process.wait()

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        home = self._folder / f"worker-{number}"
        home.mkdir(exist_ok=True)
        with (home / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("quick_worker.py")),
                    self._server.url,
                    str(home),
                    str(self._models),
                ],
                stdout=log,
                stderr=log,
                env=os.environ | {"FINERY_WORKER_KEY": WORKER_KEY},
            )


class Chaos:
    """A server with workers, clients that keep jobs in flight, and somebody who kills."""

    def __init__(self, server: Server, workers: Workers, dice: random.Random) -> None:
        self.server, self.workers, self.dice = server, workers, dice
        self.history = History()
        self._stop = threading.Event()

    def run(self, *, kills: int, in_flight: int, pause_seconds: float, control_plane_share: float = 0.05) -> float:
        """Kill so often, then wait until every job is over; returns how long that took after the last fault."""
        client = threading.Thread(target=self._submit, args=(in_flight,))
        self._training_file = self._upload()
        client.start()
        try:
            self._kill(kills, pause_seconds, control_plane_share)
        finally:
            self._stop.set()
            client.join()
        return self._wait(in_flight)

    def _kill(self, kills: int, pause_seconds: float, control_plane_share: float) -> None:
        # The first one is told: a short run has a fault of each kind.
        planned = ["control plane", "worker", "trainer", "frozen worker"]
        done = 0
        while done < kills:
            self.workers.keep()
            time.sleep(self.dice.expovariate(1 / pause_seconds))
            kind = (
                planned[done]
                if done < len(planned)
                else "control plane"
                if self.dice.random() < control_plane_share
                else self.dice.choice(["worker", "trainer", "worker", "trainer", "frozen worker"])
            )
            done += self._hurt(kind)

    def _hurt(self, kind: str) -> bool:
        """One fault; False where there was nobody to hurt."""
        if kind == "control plane":
            self.server.kill()
            self.server.start()
        else:
            victims = self.workers.trainers() if kind == "trainer" else self.workers.alive()
            if not victims:
                return False
            victim = self.dice.choice(victims)
            with contextlib.suppress(ProcessLookupError):
                if kind == "frozen worker":
                    os.kill(victim, signal.SIGSTOP)
                    threading.Timer(LEASE_SECONDS * 1.5, _go_on, [victim]).start()
                else:
                    os.kill(victim, signal.SIGKILL)
        self.history.count(kind)
        return True

    def _upload(self) -> str:
        with self.server.http() as http:
            answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("red.jsonl", ROWS)})
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def _submit(self, in_flight: int) -> None:
        """Keep so many jobs in flight; each create has a key and is sent until somebody answers."""
        dice = random.Random(self.dice.random())
        with httpx.Client(timeout=10) as http:
            while not self._stop.is_set():
                if self._unfinished(http) >= in_flight:
                    self._stop.wait(0.3)
                    continue
                operation = Operation(name=f"op-{len(self.history.operations)}", cancel=dice.random() < 0.1)
                self.history.operations.append(operation)
                self._create(http, operation)
                if operation.cancel and operation.outcome == "ok":
                    self._stop.wait(dice.random())
                    self._send(http, "POST", f"/v1/fine_tuning/jobs/{operation.job_id}/cancel")

    def _create(self, http: httpx.Client, operation: Operation) -> None:
        body = {
            "model": "tiny-phi3",
            "training_file": self._training_file,
            "seed": 7,
            "metadata": {"op": operation.name},
        }
        while operation.outcome != "ok":
            operation.tries += 1
            answer = self._send(http, "POST", "/v1/fine_tuning/jobs", body, {"idempotency-key": operation.name})
            if answer is not None and answer.is_success:
                operation.job_id, operation.outcome = answer.json()["id"], "ok"
            elif answer is not None and answer.status_code < 500:
                raise AssertionError(f"{operation.name}: {answer.text}")
            else:
                operation.outcome = "unknown"
                time.sleep(0.2)

    def _unfinished(self, http: httpx.Client) -> int:
        answer = self._send(http, "GET", "/v1/fine_tuning/jobs?limit=100")
        if answer is None or not answer.is_success:
            return 10**6
        over = ("succeeded", "failed", "cancelled")
        return sum(job["status"] not in over for job in answer.json()["data"])

    def _send(
        self, http: httpx.Client, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        try:
            return http.request(
                method,
                self.server.url + path,
                json=body,
                headers={"authorization": f"Bearer {self.server.key}", **(headers or {})},
            )
        except (httpx.HTTPError, OSError, ValueError):
            return None

    def _wait(self, in_flight: int) -> float:
        """Until every job is over; nobody hurts anybody any more."""
        began = time.monotonic()
        # A frozen worker wakes, a lease runs out, then all of them are trained.
        patience = LEASE_SECONDS * 3 + GRACE_SECONDS + in_flight * 15
        with httpx.Client(timeout=30) as http:
            while (left := self._unfinished(http)) > 0:
                self.workers.keep()
                assert time.monotonic() - began < patience, f"{left} jobs are stuck"
                time.sleep(0.3)
        return time.monotonic() - began


def _go_on(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def told(history: History) -> str:
    """The history in a line."""
    tries = sum(operation.tries for operation in history.operations)
    return json.dumps({"jobs": len(history.operations), "creates sent": tries, "faults": history.faults})
