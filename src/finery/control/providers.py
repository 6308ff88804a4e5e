"""Providers: compute, inference, storage, guard. A subscription registers each before its projects can use it."""

from dataclasses import dataclass
from importlib.util import find_spec

from finery.control import audit
from finery.control import tenancy as tenants
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, NotFound
from finery.core.roles import Permission
from finery.core.tenancy import Provider, RegistrationState
from finery.storage import tenancy

_PARTS: dict[Provider, tuple[str, ...]] = {
    Provider.COMPUTE: ("torch", "transformers"),
    Provider.INFERENCE: ("xllamacpp",),
    Provider.STORAGE: ("obstore",),
    Provider.GUARD: (),
}
"""Packages that each needs on the machine that does its work; looked for, never loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """How a subscription stands with a provider."""

    provider: Provider
    state: RegistrationState
    registered_at: int | None
    missing: tuple[str, ...]
    """Packages that this machine lacks; other machines may have them."""


def list_all(plane: ControlPlane) -> list[Registration]:
    """Every provider there is."""
    with plane.database.read() as connection:
        known = tenancy.registered(connection, tenants.subscription(plane).id)
    return [_registration(provider, known.get(provider)) for provider in Provider]


def get(plane: ControlPlane, namespace: str) -> Registration:
    """One provider.

    Raises:
        NotFound: there is none of that name; lists those there are.
    """
    return next(found for found in list_all(plane) if found.provider == _provider(namespace))


def register(plane: ControlPlane, caller: Caller, namespace: str) -> Registration:
    """Register a provider for the subscription."""
    provider = _provider(namespace)
    subscription = tenants.subscription(plane)
    caller.require(Permission.PROJECTS_WRITE, subscription.scope)
    with plane.database.write() as connection:
        tenancy.register(connection, subscription.id, provider, now())
        audit.record(connection, caller, "providers.register", provider, shared=True)
    return get(plane, namespace)


def unregister(plane: ControlPlane, caller: Caller, namespace: str) -> Registration:
    """Take a registration back; what runs goes on, nothing new begins."""
    provider = _provider(namespace)
    subscription = tenants.subscription(plane)
    caller.require(Permission.PROJECTS_WRITE, subscription.scope)
    with plane.database.write() as connection:
        tenancy.unregister(connection, subscription.id, provider)
        audit.record(connection, caller, "providers.unregister", provider, shared=True)
    return get(plane, namespace)


def require(plane: ControlPlane, caller: Caller, *needed: Provider) -> None:
    """Refuse what needs a provider that isn't registered.

    Raises:
        Conflict: Azure's MissingSubscriptionRegistration, with the way to register it.
    """
    with plane.database.read() as connection:
        known = tenancy.registered(connection, caller.project.subscription_id)
    for provider in needed:
        if provider not in known:
            raise Conflict(
                f"The subscription is not registered to use {provider}. An owner or contributor registers it: "
                f"finery providers register {provider} (POST /finery/v1/providers/{provider}/register).",
                code="MissingSubscriptionRegistration",
            )


def _registration(provider: Provider, registered_at: int | None) -> Registration:
    state = RegistrationState.NOT_REGISTERED if registered_at is None else RegistrationState.REGISTERED
    missing = tuple(part for part in _PARTS[provider] if find_spec(part) is None)
    return Registration(provider=provider, state=state, registered_at=registered_at, missing=missing)


def _provider(namespace: str) -> Provider:
    found = next((provider for provider in Provider if provider.lower() == namespace.lower()), None)
    if found is None:
        raise NotFound(f"There is no provider {namespace!r}; there are {', '.join(Provider)}.")
    return found
