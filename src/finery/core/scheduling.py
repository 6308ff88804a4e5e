"""Whose job is next: fair between projects, in order within one. Pure: the same rows, the same answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A job that waits; `position` orders the jobs of all projects by when they were queued."""

    job_id: str
    project_id: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What a project has of the workers now."""

    running: int = 0
    most: int | None = None
    """How many of its jobs may run at once; None: as many as there are workers."""
    served_at: int = 0
    """When a job of it began last."""


def next_job(waiting: Sequence[Waiting], shares: Mapping[str, Share]) -> Waiting | None:
    """The oldest job of the project that has the fewest running, of those the one that was served longest ago.

    A project that queues a thousand jobs so waits behind one that queues its first; with room for all, nobody waits.
    """
    heads: dict[str, Waiting] = {}
    for job in sorted(waiting, key=lambda job: job.position):
        heads.setdefault(job.project_id, job)
    free = [job for job in heads.values() if _has_room(shares.get(job.project_id, Share()))]
    return min(free, key=lambda job: (*_served(shares.get(job.project_id, Share())), job.position), default=None)


def _has_room(share: Share) -> bool:
    return share.most is None or share.running < share.most


def _served(share: Share) -> tuple[int, int]:
    return share.running, share.served_at
