"""What of a deployment's traffic is kept, where its owner asked for it. Knows no storage and no request."""

from dataclasses import dataclass
from typing import Any

from finery.core.errors import InvalidRequest

MAX_RETENTION_DAYS = 365


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturePolicy:
    """How much of a deployment's traffic is kept, for how long, and in what form. Without one nothing is kept."""

    share: float = 1.0
    """Of all conversations, above 0 to 1; drawn at random."""
    retention_days: int = 30
    redact: bool = True
    """Personal data and secrets are masked before anything is written."""

    def check(self) -> "CapturePolicy":
        """Refuse what can't be.

        Raises:
            InvalidRequest: a share or a time outside its range, naming it.
        """
        if not 0 < self.share <= 1:
            raise InvalidRequest(f"share is {self.share}; it must be above 0, and 1 at most.", param="share")
        if not 1 <= self.retention_days <= MAX_RETENTION_DAYS:
            raise InvalidRequest(
                f"retention_days is {self.retention_days}; it must be from 1 to {MAX_RETENTION_DAYS}.",
                param="retention_days",
            )
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Captured:
    """One conversation and its answer, as they were."""

    project_id: str
    name: str
    messages: list[dict[str, Any]]
    answer: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    at: int
