"""What a project filters by: policies with their guards, and protected works. Knows no httpx."""

from collections.abc import Iterator
from urllib.parse import quote

from finery.sdk.wire import Json, Wire

WRITTEN = ("mode", "on_filter_error", "content_filters", "blocklists", "guard", "base_policy")
"""The fields of a policy that are sent back to change it."""


class Policies:
    """Content filter policies."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self) -> Iterator[Json]:
        """The built-in ones, then the project's, oldest first."""
        yield from self._wire.call("GET", "/finery/v1/policies").get("data") or []

    def retrieve(self, name: str) -> Json:
        """One policy."""
        return self._wire.call("GET", _policy(name))

    def put(self, name: str, body: Json) -> Json:
        """Make or replace one."""
        return self._wire.call("PUT", _policy(name), json=body)

    def set_guard(self, name: str, guard: Json | None) -> Json:
        """A policy with this guard or without one, the rest of it as it is; one that isn't there yet is made."""
        there = next((one for one in self.list() if one["name"] == name), None)
        return self.put(name, with_guard(there or {}, guard))

    def delete(self, name: str) -> Json:
        """Delete one that no deployment is under."""
        return self._wire.call("DELETE", _policy(name))


class ProtectedWorks:
    """Texts that completions are not to repeat."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self) -> Iterator[Json]:
        """Every work of the project."""
        yield from self._wire.call("GET", "/finery/v1/protected_works").get("data") or []

    def put(self, name: str, text: str, *, description: str = "") -> Json:
        """Take a work in, or another text under its name."""
        return self._wire.call("PUT", _work(name), json={"text": text, "description": description})

    def delete(self, name: str) -> Json:
        """Forget a work."""
        return self._wire.call("DELETE", _work(name))


def with_guard(policy: Json, guard: Json | None) -> Json:
    """The body that gives a policy a guard, or takes it away with its filters."""
    body = {name: policy[name] for name in WRITTEN if name in policy} | {"guard": guard}
    if guard is None:
        body["content_filters"] = [one for one in body.get("content_filters", ()) if one["name"] != "guard"]
    return body


def _policy(name: str) -> str:
    return f"/finery/v1/policies/{quote(name, safe='')}"


def _work(name: str) -> str:
    return f"/finery/v1/protected_works/{quote(name, safe='')}"
