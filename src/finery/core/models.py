"""Tuned models and checkpoints, as the control plane remembers them. Knows no weights."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedModel:
    """What a job made: the final model (step None) or a checkpoint on the way."""

    name: str
    """`ft:<base>:<project>:<suffix>:<id>`, a checkpoint with `:ckpt-step-N` behind."""
    project_id: str
    base_model: str
    job_id: str
    step: int | None
    manifest: dict[str, Any]
    """Files of the artifact: path → {sha256, bytes}; each is a blob."""
    created_at: int

    @property
    def blobs(self) -> set[str]:
        """SHA-256 of its files."""
        return blobs_of(self.manifest)


def blobs_of(manifest: dict[str, Any]) -> set[str]:
    """SHA-256 of an artifact's files."""
    return {file["sha256"] for file in manifest["files"].values()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A point of a run that can be deployed or gone on from."""

    id: str
    job_id: str
    step: int
    model_name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    created_at: int
