"""The identity provider whose tokens are taken: its keys and addresses, fetched and kept. Knows no token.

Only the operator's addresses are asked: the discovery document below the issuer's own, and those that it names (its
`jwks_uri`, and where codes of sign-ins are redeemed). Nothing that a token says is ever an address. Answers are read
up to `MAX_BYTES` and for `TIMEOUT_SECONDS`.

Keys are fetched when they are first needed, when they have grown old, and when a token names one that isn't among them,
which is how a provider changes its keys. Whoever sends nonsense names of keys can't make this server ask more often
than once in `RETRY_SECONDS`, nor bind more than `WAITING` of its threads. While the provider is down, the keys that are
known go on working for `TRUSTED_SECONDS`.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
MAX_BYTES = 1 << 20

_MAX_KEYS = 100
_KINDS = ("RSA", "EC", "OKP")
"""Asymmetric keys: with a symmetric one, whoever can check a token could make one."""

Jwk = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    keys: tuple[Jwk, ...]
    document: Mapping[str, Any]
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
            raise self._unavailable("The token can't be checked now", self._failure)
        return found

    def endpoint(self, name: str) -> str:
        """An address that the discovery document names; empty where it names none.

        Raises:
            Unavailable: the provider doesn't answer, or names an address that isn't safe.
        """
        if self._kept is None or self._age() >= FRESH_SECONDS:
            self._refresh(wait=self._kept is None)
        if self._kept is None:
            raise self._unavailable("Nobody can sign in there now", self._failure)
        address = self._kept.document.get(name) or ""
        if address:
            try:
                _require_safe(str(address), f"its `{name}`", query=True)
            except InvalidRequest as error:
                raise self._unavailable("Nobody can sign in there", f"can't be used: {error.message}") from None
        return str(address)

    def listed(self, name: str) -> list[str]:
        """What the discovery document lists under that name; empty where it doesn't, or isn't known yet."""
        found = self._kept.document.get(name) if self._kept else None
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []

    def post(self, name: str, form: Mapping[str, str], auth: tuple[str, str] | None) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of what the endpoint of that name answers to a form.

        Raises:
            Unavailable: the provider doesn't answer, or not with JSON; or too many wait for it already.
        """
        address = self.endpoint(name)
        with self._place(), self._client() as client:
            try:
                return _read(client, "POST", address, data=form, auth=auth)
            except httpx.HTTPError as error:
                raise self._unavailable("Signing in failed", f"doesn't answer ({type(error).__name__}).") from None
            except ValueError as error:
                raise self._unavailable("Signing in failed", str(error)) from None

    def _unavailable(self, what: str, why: str) -> Unavailable:
        return Unavailable(
            f"{what}: the identity provider {self.url} {why} API keys work meanwhile. Try again.",
            code="issuer_unavailable",
        )

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=TIMEOUT_SECONDS, transport=self._transport)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many wait for the identity provider. Try again.", code="issuer_unavailable")
        try:
            yield
        finally:
            self._places.release()

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
        with self._place():
            if not self._fetching.acquire(blocking=wait):
                return
            try:
                if not self._just_tried():
                    self._fetch()
            finally:
                self._fetching.release()

    def _fetch(self) -> None:
        try:
            with self._client() as client:
                self._kept = self._ask(client)
        except httpx.HTTPError as error:
            self._failure = f"doesn't answer ({type(error).__name__})."
        except ValueError as error:
            self._failure = str(error)
        else:
            self._failure = ""
        self._tried_at = self._clock()
        if self._failure:
            log.warning("the identity provider %s %s", self.url, self._failure)

    def _ask(self, client: httpx.Client) -> _Kept:
        found = _get(client, f"{self.url.rstrip('/')}/.well-known/openid-configuration")
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
        keys = _get(client, address).get("keys")
        usable = [key for key in keys if _usable(key)] if isinstance(keys, list) else []
        if not usable:
            raise ValueError("has no key with which tokens could be checked.")
        return _Kept(keys=tuple(usable[:_MAX_KEYS]), document=found, at=self._clock())


def _get(client: httpx.Client, address: str) -> dict[str, Any]:
    status, value = _read(client, "GET", address)
    if status != httpx.codes.OK:
        raise ValueError(f"answers {status} at {address}.")
    return value


def _read(client: httpx.Client, method: str, address: str, **arguments: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of an answer; an empty one where it is no success and has no JSON."""
    end = time.monotonic() + TIMEOUT_SECONDS
    content = b""
    with client.stream(method, address, **arguments) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_BYTES:
                raise ValueError(f"answers with more than {MAX_BYTES} bytes at {address}.")
            if time.monotonic() > end:
                raise ValueError(f"answers too slowly at {address}.")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if not response.is_success:
            return response.status_code, {}
        raise ValueError(f"answers no JSON object at {address}.")
    return response.status_code, value


def _usable(key: Any) -> bool:
    return isinstance(key, dict) and key.get("kty") in _KINDS and key.get("use", "sig") == "sig"


def _require_safe(url: str, what: str, *, query: bool = False) -> None:
    """Keys that somebody on the way could change would let them in: https, but on this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        plain = not ((parts.query and not query) or parts.fragment or parts.username or parts.password)
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
