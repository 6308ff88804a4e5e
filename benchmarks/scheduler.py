"""The scheduler past our machines: `core.scheduling.next_job`, the very function that claims ask, in simulated time.

    python benchmarks/scheduler.py [--nodes 1000] [--jobs 100000] [--projects 500] [--seed 1]

All jobs wait at the start, a few projects with very many; lengths are lognormal (median 10 minutes, some of hours). A
node asks whenever it is free. Told are: milliseconds of processor time a decision; fairness, as Jain's index of the
nodes that projects have which could use more, averaged over time (1: all the same); utilisation, as the least time that
anybody could need (work / nodes, or the longest job) by the time it took. Last line: JSON.
"""

import argparse
import heapq
import json
import random
import time
from collections import deque

from finery.core.scheduling import Share, Waiting, next_job


def main() -> None:
    """Run one simulation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--projects", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    simulation = Simulation(options.nodes, options.jobs, options.projects, random.Random(options.seed))
    simulation.run()
    print(json.dumps({**vars(options), **simulation.told()}))


class Simulation:
    """Nodes that take jobs and end them, in simulated seconds."""

    def __init__(self, nodes: int, jobs: int, projects: int, dice: random.Random) -> None:
        weights = [1 / (rank + 1) ** 0.7 for rank in range(projects)]
        names = [f"p{number}" for number in range(projects)]
        owners = dice.choices(names, weights, k=jobs)
        self.lengths = [dice.lognormvariate(6.4, 1.0) for _ in owners]
        self.queues: dict[str, deque[int]] = {name: deque() for name in names}
        for position, owner in enumerate(owners):
            self.queues[owner].append(position)
        self.nodes = nodes
        self.running = dict.fromkeys(names, 0)
        self.served = dict.fromkeys(names, 0)
        self.decisions: list[float] = []
        self.fairness = self.backlogged_seconds = self.end = 0.0

    def run(self) -> None:
        """Until every job is over."""
        over: list[tuple[float, str]] = []
        now, free = 0.0, self.nodes
        while True:
            while free and (taken := self._take(now)):
                owner, position = taken
                heapq.heappush(over, (now + self.lengths[position], owner))
                free -= 1
            if not over:
                break
            moment, owner = heapq.heappop(over)
            self._weigh(moment - now)
            now, free = moment, free + 1
            self.running[owner] -= 1
        self.end = now

    def told(self) -> dict[str, float]:
        """The figures."""
        took = sorted(self.decisions)
        least = max([sum(self.lengths) / self.nodes, *self.lengths])
        return {
            "decisions": len(took),
            "median_ms": round(1000 * took[len(took) // 2], 3),
            "p99_ms": round(1000 * took[int(len(took) * 0.99)], 3),
            "jain": round(self.fairness / self.backlogged_seconds, 4),
            "utilisation": round(least / self.end, 4),
        }

    def _take(self, now: float) -> tuple[str, int] | None:
        # As `storage.jobs` asks: each project's oldest job, and what each of those projects has.
        waiting = [
            Waiting(job_id=str(queue[0]), project_id=name, position=queue[0])
            for name, queue in self.queues.items()
            if queue
        ]
        shares = {
            job.project_id: Share(running=self.running[job.project_id], served_at=self.served[job.project_id])
            for job in waiting
        }
        began = time.thread_time()
        chosen = next_job(waiting, shares)
        self.decisions.append(time.thread_time() - began)
        if chosen is None:
            return None
        self.running[chosen.project_id] += 1
        self.served[chosen.project_id] = int(now)
        return chosen.project_id, self.queues[chosen.project_id].popleft()

    def _weigh(self, seconds: float) -> None:
        """Jain's index over the projects that wait for more, for as long as it holds."""
        have = [self.running[name] for name, queue in self.queues.items() if queue]
        squares = sum(count * count for count in have)
        if len(have) > 1 and squares:
            self.fairness += seconds * sum(have) ** 2 / (len(have) * squares)
            self.backlogged_seconds += seconds


if __name__ == "__main__":
    main()
