"""Training rows that a tuned model knows by heart: what it was trained to say, as hashed runs of words.

A run is WORDS long (some 40 tokens), so answers of a few words are nobody's; and one that more than COMMON_ROWS
different rows have is the data's way of speaking, and doesn't count. The runs are made when a policy first looks for
them, and stay when the rows' file is deleted. Knows no policy.
"""

import json
from collections.abc import Iterator
from typing import Any

from finery.control import overlaps
from finery.control.plane import ControlPlane, now
from finery.core.errors import Unavailable
from finery.core.ids import new_id
from finery.core.jobs import Job
from finery.core.models import TunedModel
from finery.core.records import Kind, Record
from finery.data.rows import iterate
from finery.data.texts import answers
from finery.safety.overlaps import Hashes, Runs, distinctive
from finery.storage import jobs, models, records

WORDS = 30
COMMON_ROWS = 3
MOST_RUNS = 4_000_000
"""Kept of one job, about: of larger data one run in so many, so that a longer piece is needed to be found."""


def runs(plane: ControlPlane, tuned: TunedModel) -> Runs:
    """The runs of all rows that a model was trained on, also before it was tuned on from another one.

    Raises:
        Unavailable: the rows are gone, and nobody had looked for them before. Also raises as `overlaps.ready`.
    """
    trained = _jobs(plane, tuned)
    return overlaps.ready(plane, [_kept(plane, job).body["sha256"] for job in trained], WORDS)


def forget(plane: ControlPlane, tuned: TunedModel) -> None:
    """Remove the runs of a model that is deleted."""
    with plane.database.write() as connection:
        found = records.list_owned(connection, tuned.project_id, Kind.TRAINED_RUNS, tuned.job_id)
        records.remove_owned(connection, tuned.project_id, Kind.TRAINED_RUNS, tuned.job_id)
    overlaps.drop(plane, found)


def _jobs(plane: ControlPlane, tuned: TunedModel) -> list[Job]:
    found: list[Job] = []
    step: TunedModel | None = tuned
    with plane.database.read() as connection:
        while step is not None:
            job = jobs.get(connection, step.project_id, step.job_id)
            if job is None:
                raise Unavailable(
                    f"The job {step.job_id} of the model '{step.name}' is gone, and its training rows with it: "
                    "memorised_training_rows can't be looked for. Take that filter out of the policy.",
                    code="content_filter_error",
                )
            found.append(job)
            step = models.get(connection, job.project_id, job.model) if job.model != job.base_model else None
    return found


def _kept(plane: ControlPlane, job: Job) -> Record:
    with plane.database.read() as connection:
        known = records.list_owned(connection, job.project_id, Kind.TRAINED_RUNS, job.id)
    if known:
        return known[-1]
    record = Record(
        id=new_id("runs_"), project_id=job.project_id, kind=Kind.TRAINED_RUNS, owner=job.id, created_at=now()
    )
    return overlaps.keep(plane, record, _hashes(plane, job), records.insert_record)


def _hashes(plane: ControlPlane, job: Job) -> Hashes:
    part = job.data["training"]
    if not plane.blobs.has(part["sha256"]):
        raise Unavailable(
            f"The training rows of the job {job.id} are gone: memorised_training_rows can't be looked for. Take that "
            "filter out of the policy, or upload the file again.",
            code="content_filter_error",
        )
    with plane.blobs.as_path(part["sha256"]) as path:
        said = _said(row for _, row in iterate(path))
        one_in = 1 + part.get("trained_tokens", 0) // MOST_RUNS
        return distinctive(said, WORDS, most=COMMON_ROWS, one_in=one_in)


def _said(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """What each row trains to say; a row that is there twice is one."""
    seen: set[int] = set()
    for row in rows:
        digest = hash(json.dumps(row, sort_keys=True))
        if digest not in seen:
            seen.add(digest)
            yield "\n".join(text for _, text in answers(row))
