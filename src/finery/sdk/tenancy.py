"""The nouns around the work: projects, providers, roles, costs. Knows no httpx."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from finery.sdk.wire import Json, Wire


class Projects:
    """Projects, each in a hub."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, name: str, *, hub: str | None = None) -> Json:
        """A new project, in the key's own hub unless another is named."""
        return self._wire.call("POST", "/finery/v1/projects", json={"name": name, "hub": hub})

    def list(self) -> Iterator[Json]:
        """Every project that the key can see."""
        yield from self._wire.call("GET", "/finery/v1/projects").get("data") or []

    def delete(self, name: str) -> Json:
        """Delete an empty project."""
        return self._wire.call("DELETE", f"/finery/v1/projects/{quote(name, safe='')}")


class Providers:
    """What the subscription has registered."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self) -> Iterator[Json]:
        """Every provider, with its registration state."""
        yield from self._wire.call("GET", "/finery/v1/providers").get("data") or []

    def register(self, namespace: str) -> Json:
        """Register a provider."""
        return self._wire.call("POST", f"/finery/v1/providers/{quote(namespace, safe='')}/register")

    def unregister(self, namespace: str) -> Json:
        """Take a registration back."""
        return self._wire.call("POST", f"/finery/v1/providers/{quote(namespace, safe='')}/unregister")


class Roles:
    """Who is known, and who was given which role."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create_principal(self, name: str, *, kind: str = "User", subject: str | None = None) -> Json:
        """Make a `User` or a `ServicePrincipal` known, by its subject in the identity provider's tokens."""
        body = {"name": name, "kind": kind, "subject": subject}
        return self._wire.call("POST", "/finery/v1/roles/principals", json=body)

    def principals(self) -> Iterator[Json]:
        """Every user and service principal."""
        yield from self._wire.call("GET", "/finery/v1/roles/principals").get("data") or []

    def delete_principal(self, name: str) -> Json:
        """Forget one, with its roles and keys."""
        return self._wire.call("DELETE", f"/finery/v1/roles/principals/{quote(name, safe='')}")

    def assign(self, principal: str, role: str, *, project: str | None = None, hub: str | None = None) -> Json:
        """Give a role in a project, in a hub, or else in the whole subscription."""
        body = {"principal": principal, "role": role, "project": project, "hub": hub}
        return self._wire.call("POST", "/finery/v1/roles/assignments", json=body)

    def list(self) -> Iterator[Json]:
        """Every role that was given where the caller may see it."""
        yield from self._wire.call("GET", "/finery/v1/roles/assignments").get("data") or []

    def remove(self, assignment_id: str) -> Json:
        """Take a role back."""
        return self._wire.call("DELETE", f"/finery/v1/roles/assignments/{quote(assignment_id, safe='')}")


class Costs:
    """What was spent, what would be, and how much may be."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def report(self, **asked: str | None) -> Json:
        """What was spent: `data`, `total`, `currency`. Asked: since, until (YYYY-MM-DD), group_by."""
        given = {name: value for name, value in asked.items() if value is not None}
        return self._wire.call("GET", "/finery/v1/costs", params=given)

    def csv(self, **asked: str | None) -> bytes:
        """The same as CSV."""
        given = {name: value for name, value in asked.items() if value is not None}
        with self._wire.stream("GET", "/finery/v1/costs", params={**given, "format": "csv"}) as response:
            return b"".join(response.iter_bytes())

    def estimate(self, model: str, training_file: str, hyperparameters: dict[str, Any]) -> Json:
        """What a job would cost."""
        body = {"model": model, "training_file": training_file, "hyperparameters": hyperparameters}
        return self._wire.call("POST", "/finery/v1/costs/estimate", json=body)

    def budget(self) -> Json:
        """The project's budget."""
        return self._wire.call("GET", "/finery/v1/budget")

    def set_budget(self, limit: float, *, period: str, warn_at: float) -> Json:
        """Give the project a budget."""
        body = {"limit": limit, "period": period, "warn_at": warn_at}
        return self._wire.call("PUT", "/finery/v1/budget", json=body)

    def prices(self) -> Iterator[Json]:
        """The price table."""
        yield from self._wire.call("GET", "/finery/v1/prices").get("data") or []

    def set_price(self, model: str, **amounts: float) -> Json:
        """Price a base model: training, input, output per million tokens, hosting per hour."""
        return self._wire.call("PUT", f"/finery/v1/prices/{quote(model, safe='*')}", json=amounts)
