"""A deployment: a name under which a model answers; what it may be asked to be. Knows no process and no database."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

from finery.core.errors import InvalidRequest

SkuName = Literal["Standard", "GlobalStandard", "DataZoneStandard", "DeveloperTier"]
SKU_NAMES = get_args(SkuName)
"""Azure's names for deployments paid by the token; on one's own machines they all mean the same."""

DEFAULT_CAPACITY = 1000
"""A million tokens a minute: more than a small machine writes, so that nobody meets a limit he didn't set."""

MAX_CAPACITY = 1_000_000
MAX_REPLICAS = 16
MAX_IDLE_SECONDS = 30 * 24 * 3600


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
    sku: dict[str, Any] = field(default_factory=lambda: check_sku(None))
    """name; capacity, in thousand tokens a minute."""
    policy: str | None = None
    """Name of the content filter policy; None is the default one."""
    engine: str = "llamacpp"
    replicas: int = 1
    """Inference servers that share its requests."""
    idle_seconds: int | None = None
    """After so long without a request its memory is given back, until the next one; None: never."""
    revision: str = ""
    """Fresh with everything that is to be proven: a proof of something older changes nothing."""
    update: dict[str, Any] | None = None
    """What it is to become: `changes`, `status` (Creating, or Failed and not tried again), `status_details`."""
    certificate: dict[str, Any] | None = None
    """Whether it answers as the trainer's model does (`serving.parity.Certificate`); None for a base model."""
    parity_override: dict[str, Any] | None = None
    """Who (`by`) let it answer without a passed certificate, when (`at`) and why (`reason`)."""
    created_at: int
    updated_at: int

    @property
    def capacity(self) -> int:
        """Thousand tokens a minute."""
        return int(self.sku["capacity"])

    @property
    def updating(self) -> bool:
        """An update waits for its proof."""
        return self.update is not None and self.update["status"] == DeploymentStatus.CREATING

    @property
    def provisioning_state(self) -> DeploymentStatus:
        """Azure's one state: that of the last thing asked for, whether or not something else goes on answering."""
        return DeploymentStatus(self.update["status"]) if self.update else self.status

    @property
    def provisioning_details(self) -> str | None:
        """Why the last thing asked for failed."""
        return self.update["status_details"] if self.update else self.status_details

    @property
    def wanted(self) -> "Deployment":
        """The deployment as it is once its update has been proven."""
        return dataclasses.replace(self, update=None, **(self.update["changes"] if self.update else {}))


CHANGEABLE = ("model", "base_model", "sku", "policy", "engine", "replicas", "idle_seconds", "parity_override")
"""Fields that an update may change."""


def check_sku(given: Mapping[str, Any] | None, current: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A whole sku: what was given, over the current one, over the default one.

    Raises:
        InvalidRequest: an unknown field or name, or a capacity that is no whole number of thousands.
    """
    sku = {"name": SKU_NAMES[0], "capacity": DEFAULT_CAPACITY} | dict(current or {})
    sku |= {key: value for key, value in (given or {}).items() if value is not None}
    unknown = sorted(set(sku) - {"name", "capacity"})
    if unknown:
        raise InvalidRequest(f"A sku has a name and a capacity; {unknown[0]!r} is neither.", param="sku")
    if sku["name"] not in SKU_NAMES:
        raise InvalidRequest(f"There is no sku {sku['name']!r}; there are {', '.join(SKU_NAMES)}.", param="sku.name")
    check_count(sku["capacity"], most=MAX_CAPACITY, what="The capacity (thousand tokens/min)", param="sku.capacity")
    return sku


def check_count(given: Any, *, most: int, what: str, param: str) -> int:
    """A whole number from 1 to `most`.

    Raises:
        InvalidRequest: anything else.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        raise InvalidRequest(f"{what} is {given!r}; it must be a whole number from 1 to {most}.", param=param)
    return given
