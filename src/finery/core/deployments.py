"""A deployment: a name under which a model answers. Knows no process and no database."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class DeploymentStatus(StrEnum):
    """Azure's provisioning states: Creating → Succeeded | Failed → Deleting."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """A model made ready to answer under a name of the project's choice."""

    name: str
    project_id: str
    model: str
    """A base model, a tuned model or a checkpoint."""
    base_model: str
    status: DeploymentStatus
    status_details: str | None = None
    sku: dict[str, Any] = field(default_factory=lambda: {"name": "Standard", "capacity": 1})
    policy: str | None = None
    """Name of the content filter policy; None is the default one."""
    created_at: int
    updated_at: int
