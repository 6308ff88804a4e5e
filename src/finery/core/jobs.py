"""A fine-tuning job: its states, the one table of legal transitions, and what it remembers. Knows no database."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from finery.core.errors import Conflict


class JobStatus(StrEnum):
    """Where a job is; OpenAI's words, with Azure's `pausing` and `paused`."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Nothing can follow."""
        return not TRANSITIONS[self]

    @property
    def leased(self) -> bool:
        """A worker holds it."""
        return self in {JobStatus.RUNNING, JobStatus.PAUSING}


_S = JobStatus

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    # Created; its rows are being rendered with the base's template.
    _S.VALIDATING_FILES: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLED}),
    # Waits for a worker.
    _S.QUEUED: frozenset({_S.RUNNING, _S.PAUSED, _S.CANCELLED}),
    # A worker holds the lease; to QUEUED when the worker gives it back or is gone.
    _S.RUNNING: frozenset({_S.QUEUED, _S.PAUSING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    # The worker was asked to stop at a checkpoint.
    _S.PAUSING: frozenset({_S.PAUSED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    # A checkpoint is kept; nobody works on it.
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A fine-tuning job as the control plane remembers it; times are seconds since 1970."""

    id: str
    project_id: str
    model: str
    """What the caller asked to tune: a base model, or a tuned one to go on from."""
    base_model: str
    """The base model below it."""
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int
    status: JobStatus
    method: str
    """OpenAI's method type: supervised, dpo or reinforcement."""
    options: dict[str, Any]
    """Every knob of `core.hyperparameters`, as asked for ("auto" where left open); of reinforcement also `grader` and
    `response_format`."""
    resolved: dict[str, Any] = field(default_factory=dict)
    """The same knobs as numbers, once the data was counted."""
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    """Blobs and row numbers of the training and validation rows as the trainer gets them."""
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    fine_tuned_model: str | None = None
    result_files: tuple[str, ...] = ()
    trained_tokens: int | None = None
    error: dict[str, Any] | None = None
    worker_id: str | None = None
    lease_epoch: int = 0
    """Rises with every claim; a write with an older one is refused."""
    lease_until: float = 0.0


def require_transition(job_id: str, current: JobStatus, target: JobStatus) -> None:
    """Refuse a step that the table doesn't have.

    Raises:
        Conflict: naming the job, its state and the states from which the step is possible.
    """
    if target in TRANSITIONS[current]:
        return
    sources = ", ".join(sorted(s for s in JobStatus if target in TRANSITIONS[s]))
    raise Conflict(
        f"Job {job_id} is {current}; it can become {target} only from: {sources}.",
        code="invalid_job_state",
    )
