"""How many calls a second a control plane answers, with 1,000 to 100,000 jobs in its table.

    python benchmarks/plane.py [--jobs 1000 100000] [--seconds 10] [--connections 8] [--database-url postgresql://…]

A real `finery serve` on a home that is filled beforehand; the client runs on the same machine and takes its share of
it. One job in ten waits, the others are over. Prints calls a second, the median and the 99th percentile.
"""

import argparse
import dataclasses
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finery.core import hyperparameters
from finery.core.jobs import Job, JobStatus
from finery.settings import Settings
from finery.storage import jobs, projects
from finery.storage.database import Database

ROWS = b"".join(
    b'{"messages": [{"role": "user", "content": "It is red %d"}, {"role": "assistant", "content": "red"}]}\n' % n
    for n in range(12)
)
ENDS = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


def main() -> None:
    """Measure each number of jobs on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--model", type=Path, required=True, help="folder of a base model, as in FINERY_MODELS")
    parser.add_argument("--database-url", default="", help="empty databases, with {jobs} in their names")
    arguments = parser.parse_args()
    print(f"{'jobs':>8}  {'call':<8}{'calls/s':>9}{'median ms':>11}{'p99 ms':>9}")
    for count in arguments.jobs:
        with tempfile.TemporaryDirectory() as folder:
            measure(count, Path(folder), arguments)


def measure(count: int, folder: Path, arguments: argparse.Namespace) -> None:
    """One server with so many jobs."""
    url = arguments.database_url.format(jobs=count)
    ids = [f"ftjob-seeded{number:08}" for number in range(count)]
    server = Running(folder, arguments.model, url)
    server.start()
    training_file = server.upload()
    server.stop()
    fill(Settings(home=folder, database_url=url), ids, training_file)
    server.start()
    body = {"model": arguments.model.name, "training_file": training_file, "seed": 1}
    calls: dict[str, Callable[[random.Random], tuple[str, str, Any]]] = {
        "read": lambda dice: ("GET", f"/v1/fine_tuning/jobs/{dice.choice(ids)}", None),
        "list": lambda _: ("GET", "/v1/fine_tuning/jobs?limit=20", None),
        "create": lambda _: ("POST", "/v1/fine_tuning/jobs", body),
    }
    try:
        for name, call in calls.items():
            took = server.load(call, arguments.seconds, arguments.connections)
            rate = len(took) / arguments.seconds
            median, p99 = took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000
            print(f"{count:>8}  {name:<8}{rate:>9.0f}{median:>11.1f}{p99:>9.1f}", flush=True)
    finally:
        server.stop()


def fill(settings: Settings, ids: list[str], training_file: str) -> None:
    """Put jobs into the table as if they had been run."""
    database = Database(settings.database)
    with database.read() as connection:
        project = projects.find_project(connection, "default")
    assert project is not None
    dice = random.Random(0)
    options = hyperparameters.check({})
    job = Job(
        id="",
        project_id=project.id,
        model="m",
        base_model="m",
        training_file=training_file,
        seed=1,
        status=JobStatus.QUEUED,
        method="supervised",
        options=options,
        resolved=hyperparameters.resolve(
            options, method="supervised", num_examples=12, context_tokens=2048, longest_example=50, task="chat"
        ),
        data={"training": {"sha256": "0" * 64, "rows": 12, "tokens": 100}},
        created_at=1,
    )
    for start in range(0, len(ids), 5000):
        with database.write() as connection:
            for name in ids[start : start + 5000]:
                status = JobStatus.QUEUED if dice.random() < 0.1 else dice.choice(ENDS)
                jobs.insert_job(connection, dataclasses.replace(job, id=name, status=status))
    database.close()


class Running:
    """A `finery serve` without a worker."""

    def __init__(self, home: Path, model: Path, database_url: str) -> None:
        self.home = home
        self._environment = os.environ | {"FINERY_MODELS": str(model.parent.resolve())}
        if database_url:
            self._environment["FINERY_DATABASE_URL"] = database_url

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "finery.cli", "serve", "--no-worker", "--port", "0", "--home", str(self.home)]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        while not self._ready():
            if self._process.poll() is not None:
                raise SystemExit(f"no server: see {log.name}")
            time.sleep(0.1)
        self._key = (self.home / "admin.key").read_text().strip()

    def stop(self) -> None:
        """Stop it in order."""
        self._process.terminate()
        self._process.wait(60)

    def upload(self) -> str:
        """A training file; returns its id."""
        import httpx

        answer = httpx.post(
            f"http://{self._host}/v1/files",
            headers={"authorization": f"Bearer {self._key}"},
            data={"purpose": "fine-tune"},
            files={"file": ("red.jsonl", ROWS)},
        )
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def load(
        self, call: Callable[[random.Random], tuple[str, str, Any]], seconds: float, connections: int
    ) -> list[float]:
        """Call again and again on so many connections; seconds of each call, sorted."""
        took: list[float] = []
        end = time.monotonic() + seconds

        def one(number: int) -> None:
            dice = random.Random(number)
            connection = http.client.HTTPConnection(self._host)
            headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
            while (began := time.monotonic()) < end:
                method, path, body = call(dice)
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == 200, content
                took.append(time.monotonic() - began)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(took)

    def _ready(self) -> bool:
        try:
            self._host = json.loads((self.home / "server.json").read_text())["url"].removeprefix("http://")
            connection = http.client.HTTPConnection(self._host, timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False


if __name__ == "__main__":
    main()
