"""Requests in, JSON or errors out: the one place that knows httpx and the error envelope."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import httpx

from finery.core.errors import FineryError, Unavailable
from finery.sdk.connection import Connection

Json = dict[str, Any]

_PAGE_ITEMS = 100
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class ApiError(FineryError):
    """The server refused a request; the text is the server's own message."""

    def __init__(self, status: int, code: str | None, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param)
        self.status = status


class Wire:
    """One server's HTTP connections."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        about = {"OpenAI-Project": connection.project} if connection.project else {}
        self.http = httpx.Client(
            base_url=connection.base_url,
            headers={"Authorization": f"Bearer {connection.api_key}", "User-Agent": "finery-cli", **about},
            timeout=_TIMEOUT,
            # A proxy from the environment has no way back to this machine, and would be handed the key.
            trust_env=not connection.loopback,
            verify=ssl.create_default_context(cafile=str(connection.ca)) if connection.ca else True,
        )

    def call(self, method: str, path: str, **arguments: Any) -> Json:
        """One request, its JSON object (an empty one where the answer has no body)."""
        try:
            response = self.http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        value = {} if response.status_code == httpx.codes.NO_CONTENT else _json(response)
        if response.is_success and isinstance(value, dict):
            return value
        raise self._refused(response, value)

    @contextlib.contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """A successful response whose body is still to be read."""
        try:
            with self.http.stream(method, path, **arguments) as response:
                if not response.is_success:
                    response.read()
                    raise self._refused(response, _json(response))
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def pages(self, path: str, limit: int | None = None, **filters: str | None) -> Iterator[Json]:
        """The items of a cursor-paged list, in the server's order, at most `limit`."""
        kept = {name: value for name, value in filters.items() if value is not None}
        left, after = limit, None
        while left is None or left > 0:
            size = _PAGE_ITEMS if left is None else min(left, _PAGE_ITEMS)
            cursor: dict[str, str] = {} if after is None else {"after": after}
            page = self.call("GET", path, params={"limit": size, **kept, **cursor})
            items = page.get("data") or []
            yield from items[:size]
            if not items or not page.get("has_more"):
                return
            after = items[-1]["id"]
            left = None if left is None else left - len(items)

    def _refused(self, response: httpx.Response, value: Any) -> ApiError:
        inner = value.get("error") if isinstance(value, dict) else None
        if isinstance(inner, dict) and inner.get("message"):
            return api_error(response.status_code, inner)
        return ApiError(
            response.status_code,
            "not_finery",
            f"{response.url} answered with status {response.status_code} and not in Finery's words: "
            f"is there a Finery server at {self.connection.base_url}?",
        )

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        url = self.connection.base_url
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            way_out = (
                "start it with `finery serve`" if self.connection.loopback else "check the address and the network"
            )
            return Unavailable(f"No server answers at {url}: {way_out}.", code="unreachable")
        if isinstance(error, httpx.TimeoutException):
            return Unavailable(f"The server at {url} took too long to answer; try again.", code="timeout")
        return Unavailable(f"The connection to {url} broke off; try again.", code="unreachable")


def api_error(status: int, inner: Json) -> ApiError:
    """The error that an error envelope tells of."""
    return ApiError(status, inner.get("code"), str(inner["message"]), param=inner.get("param"))


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
