"""Where projects live: subscription → hub → project; the operator's locations; providers to be registered before use.

Knows no storage. `Project` itself stands in `access`, beside those who call.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from finery.core.access import Scope

DEFAULT_SUBSCRIPTION = "default"
DEFAULT_HUB = "default"
DEFAULT_PROJECT = "default"
DEFAULT_RESOURCE_GROUP = "default"
DEFAULT_LOCATION = "local"


class Provider(StrEnum):
    """What a subscription registers before its projects can use it, as Azure's resource providers are."""

    COMPUTE = "Finery.Compute"
    """Workers that train."""
    INFERENCE = "Finery.Inference"
    """Servers that answer."""
    STORAGE = "Finery.Storage"
    """Files and artifacts."""
    GUARD = "Finery.Guard"
    """Content filters and safety gates."""


class RegistrationState(StrEnum):
    """Azure's words."""

    REGISTERED = "Registered"
    NOT_REGISTERED = "NotRegistered"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What all hubs belong to, and where providers are registered."""

    id: str
    name: str
    created_at: int

    @property
    def scope(self) -> Scope:
        """All of it."""
        return Scope(subscription_id=self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A pool of the operator's machines; workers say at which one they are."""

    name: str
    display_name: str
    models: tuple[str, ...] | None = None
    """Base models that can be tuned there; None: every one."""
    created_at: int

    def offers(self, base_model: str) -> bool:
        """Whether a base model can be tuned there."""
        return self.models is None or base_model in self.models


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """Projects that share a location, connections and people."""

    id: str
    subscription_id: str
    name: str
    resource_group: str
    location: str
    created_at: int

    @property
    def scope(self) -> Scope:
        """The hub with its projects."""
        return Scope(subscription_id=self.subscription_id, hub_id=self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConnection:
    """A service that a hub's projects know by name. It holds no secret: whoever uses it brings their own."""

    hub_id: str
    name: str
    category: str
    """Azure's words: AIServices, AzureOpenAI, CognitiveSearch, AzureBlob …"""
    target: str
    """Its URL."""
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: int
