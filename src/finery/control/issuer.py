"""The identity provider whose tokens are taken: its keys, fetched and kept. Knows no token and no principal.

Two addresses are asked, both the operator's: the discovery document below the issuer's own, and the `jwks_uri` that it
names. Nothing that a token says is ever an address.

Keys are fetched when they are first needed, when they have grown old, and when a token names one that isn't among them,
which is how a provider changes its keys. Whoever sends nonsense names of keys can't make this server ask more often
than once in `RETRY_SECONDS`, nor bind more than `WAITING` of its threads. While the provider is down, the keys that are
known go on working for `TRUSTED_SECONDS`.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from finery.core.errors import InvalidRequest, Unavailable

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
FRESH_SECONDS = 3600.0
"""After this, keys are fetched again, so that one that the provider gave up stops working."""
TRUSTED_SECONDS = 24 * 3600.0
"""So long keys go on working that couldn't be fetched again."""
RETRY_SECONDS = 10.0
WAITING = 8

_MAX_KEYS = 100
_KINDS = ("RSA", "EC", "OKP")
"""Asymmetric keys: with a symmetric one, whoever can check a token could make one."""

Jwk = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    keys: tuple[Jwk, ...]
    at: float

    def named(self, kid: str | None) -> list[Jwk]:
        return [key for key in self.keys if kid is None or key.get("kid") == kid]


class Issuer:
    """An OpenID Connect provider, by the address that its tokens name in `iss`.

    Raises:
        InvalidRequest: an address that can't be one, or no audience.
    """

    def __init__(
        self,
        url: str,
        audience: str,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _require_safe(url, "FINERY_OIDC_ISSUER")
        self.url = url
        self.audiences = [one.strip() for one in audience.split(",") if one.strip()]
        if not self.audiences:
            raise InvalidRequest(
                "FINERY_OIDC_ISSUER needs FINERY_OIDC_AUDIENCE: what tokens for this server say in `aud`. Without it, "
                "tokens that were made for any other program would open this one."
            )
        self._transport = transport
        self._clock = clock
        self._kept: _Kept | None = None
        self._tried_at: float | None = None
        self._failure = ""
        self._fetching = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING)

    def keys(self, kid: str | None) -> list[Jwk]:
        """The keys of that name; all where a token names none.

        Raises:
            Unavailable: the provider doesn't answer, and what is known doesn't suffice.
        """
        found = self._known(kid)
        if found and self._age() < FRESH_SECONDS:
            return found
        self._refresh(wait=not found)
        if self._age() > TRUSTED_SECONDS:
            self._kept = None
        found = self._known(kid)
        if not found and self._failure:
            raise Unavailable(
                f"The token can't be checked now: the identity provider {self.url} {self._failure} API keys work "
                "meanwhile. Try again.",
                code="issuer_unavailable",
            )
        return found

    def _known(self, kid: str | None) -> list[Jwk]:
        return self._kept.named(kid) if self._kept else []

    def _age(self) -> float:
        return self._clock() - self._kept.at if self._kept else 0.0

    def _just_tried(self) -> bool:
        return self._tried_at is not None and self._clock() - self._tried_at < RETRY_SECONDS

    def _refresh(self, *, wait: bool) -> None:
        """Fetch the keys, unless that was tried just now; without `wait`, not if somebody does it already."""
        if self._just_tried():
            return
        if not self._places.acquire(blocking=False):
            raise Unavailable("The identity provider's keys are being fetched. Try again.", code="issuer_unavailable")
        try:
            if not self._fetching.acquire(blocking=wait):
                return
            try:
                if not self._just_tried():
                    self._fetch()
            finally:
                self._fetching.release()
        finally:
            self._places.release()

    def _fetch(self) -> None:
        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS, transport=self._transport) as client:
                keys = self._ask(client)
        except httpx.HTTPStatusError as error:
            self._failure = f"answers {error.response.status_code} at {error.request.url}."
        except httpx.HTTPError as error:
            self._failure = f"doesn't answer ({type(error).__name__})."
        except ValueError as error:
            self._failure = str(error)
        else:
            self._kept, self._failure = _Kept(keys=keys, at=self._clock()), ""
        self._tried_at = self._clock()
        if self._failure:
            log.warning("the identity provider %s %s", self.url, self._failure)

    def _ask(self, client: httpx.Client) -> tuple[Jwk, ...]:
        found = _object(client.get(f"{self.url.rstrip('/')}/.well-known/openid-configuration"))
        if found.get("issuer") != self.url:
            raise ValueError(
                f"calls itself {str(found.get('issuer'))[:200]!r}: set FINERY_OIDC_ISSUER to exactly that, if it is "
                "the one you mean."
            )
        address = str(found.get("jwks_uri"))
        try:
            _require_safe(address, "its `jwks_uri`")
        except InvalidRequest as error:
            raise ValueError(f"can't be asked for its keys: {error.message}") from None
        keys = _object(client.get(address)).get("keys")
        usable = [key for key in keys if _usable(key)] if isinstance(keys, list) else []
        if not usable:
            raise ValueError("has no key with which tokens could be checked.")
        return tuple(usable[:_MAX_KEYS])


def _object(response: httpx.Response) -> dict[str, Any]:
    response.raise_for_status()
    try:
        value = response.json()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"answers no JSON object at {response.request.url}.")
    return value


def _usable(key: Any) -> bool:
    return isinstance(key, dict) and key.get("kty") in _KINDS and key.get("use", "sig") == "sig"


def _require_safe(url: str, what: str) -> None:
    """Keys that somebody on the way could change would let them in: https, but on this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        host, plain = "", False
    if not host or not plain or parts.scheme not in ("https", "http"):
        raise InvalidRequest(f"{what} is {url!r}; it must look like https://login.example.com/tenant.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidRequest(f"{what} is {url!r}; it must begin with https:// unless it leads to this machine.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
