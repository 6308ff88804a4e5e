"""Finery's HTTP API for pages: JSON in, JSON out, errors as `ApiError`. Knows no pages and keeps no key.

Every call names the key or token it is made with; nothing else opens a way into the server.
"""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

from finery.core.errors import Unavailable
from finery.sdk.wire import ApiError, Json, api_error

_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class SessionEnded(Exception):
    """The person isn't signed in any more: signed out elsewhere, idle for too long, or the key was revoked or
    the token has expired."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatChunk:
    """A piece of a streamed answer; what it says nothing of is empty."""

    text: str = ""
    finish_reason: str = ""
    usage: Json | None = None
    filters: Json | None = None
    """Azure's annotations of the content filter, by category."""


class Wire:
    """One server's API, for all sessions."""

    def __init__(self, base_url: str, *, authority: Path | None = None) -> None:
        """`authority` is a certificate to trust, where the server has one of its own."""
        self.base_url = base_url
        trusted = ssl.create_default_context(cafile=authority) if authority else True
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT, trust_env=False, verify=trusted)

    async def call(self, key: str, method: str, path: str, *, project: str = "", **arguments: Any) -> Json:
        """One request, about the key's own project unless one is named; its JSON object.

        Raises:
            ApiError: the server refused; the text is its own.
            SessionEnded: it doesn't know the key (any more).
            Unavailable: it doesn't answer.
        """
        try:
            response = await self._http.request(method, path, headers=_headers(key, project), **arguments)
        except httpx.TransportError as error:
            raise _broken(error) from error
        _require_success(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            return {}
        answer: Json = response.json()
        return answer

    async def chat(self, key: str, body: Json, *, project: str = "") -> AsyncIterator[ChatChunk]:
        """An answer, piece by piece, with what it took at the end.

        Raises:
            ApiError: refused at once, or broken off by an error of the server.
            Unavailable: the connection broke.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        headers = _headers(key, project)
        try:
            async with self._http.stream("POST", "/v1/chat/completions", headers=headers, json=asked) as response:
                if not response.is_success:
                    await response.aread()
                _require_success(response)
                async for line in response.aiter_lines():
                    payload = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if payload and payload != "[DONE]":
                        yield _chunk(json.loads(payload))
        except httpx.TransportError as error:
            raise _broken(error) from error

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """The API as one person may use it."""

    wire: Wire
    key: Callable[[], Awaitable[str]]
    """The key or token as it is now: tokens are renewed.

    Raises:
        SessionEnded: it can't be renewed any more.
        Unavailable: it can't be renewed now.
    """
    project: str = ""
    """Empty: the key's own."""

    async def get(self, path: str, **params: Any) -> Json:
        """GET; parameters that are None are left out."""
        kept = {name: value for name, value in params.items() if value is not None}
        return await self._call("GET", path, params=kept)

    async def find(self, path: str, **params: Any) -> Json | None:
        """GET; None where there is no such thing, or nothing this person may see."""
        try:
            return await self.get(path, **params)
        except ApiError as error:
            if error.status in (403, 404, 501):
                return None
            raise

    async def post(self, path: str, body: Json | None = None) -> Json:
        """POST; fields that are None are left out."""
        kept = {name: value for name, value in (body or {}).items() if value is not None}
        return await self._call("POST", path, json=kept)

    async def patch(self, path: str, body: Json) -> Json:
        """PATCH."""
        return await self._call("PATCH", path, json=body)

    async def put(self, path: str, body: Json) -> Json:
        """PUT."""
        return await self._call("PUT", path, json=body)

    async def delete(self, path: str) -> Json:
        """DELETE."""
        return await self._call("DELETE", path)

    async def upload(self, filename: str, content: bytes | IO[bytes], purpose: str = "fine-tune") -> Json:
        """Upload a file; answered once it is stored, and, if it is small, checked."""
        files = {"file": (filename, content, "application/octet-stream")}
        return await self._call("POST", "/v1/files", data={"purpose": purpose}, files=files)

    async def pages(self, path: str, *, limit: int, **params: Any) -> list[Json]:
        """The items of a cursor-paged list, at most `limit`, in the server's order."""
        items: list[Json] = []
        while len(items) < limit:
            after = items[-1]["id"] if items else None
            page = await self.get(path, limit=min(100, limit - len(items)), after=after, **params)
            items += page.get("data") or []
            if not page.get("data") or not page.get("has_more"):
                break
        return items

    async def chat(self, body: Json) -> AsyncIterator[ChatChunk]:
        """A streamed answer."""
        async for chunk in self.wire.chat(await self.key(), body, project=self.project):
            yield chunk

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        return await self.wire.call(await self.key(), method, path, project=self.project, **arguments)


def part(identifier: str) -> str:
    """An identifier as one part of a path."""
    return quote(identifier, safe=":")


def _headers(key: str, project: str) -> dict[str, str]:
    about = {"openai-project": project} if project else {}
    return {"authorization": f"Bearer {key}", "user-agent": "finery-studio", **about}


def _require_success(response: httpx.Response) -> None:
    if response.is_success:
        return
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise SessionEnded
    try:
        inner = response.json()["error"]
        error = api_error(response.status_code, inner)
    except (ValueError, KeyError, TypeError):
        error = ApiError(response.status_code, None, f"The server answered with status {response.status_code}.")
    raise error


def _chunk(chunk: Json) -> ChatChunk:
    if chunk.get("error"):
        raise api_error(500, chunk["error"])
    choice: Json = next(iter(chunk.get("choices") or []), {})
    prompt: Json = next(iter(chunk.get("prompt_filter_results") or []), {})
    return ChatChunk(
        text=(choice.get("delta") or {}).get("content") or "",
        finish_reason=choice.get("finish_reason") or "",
        usage=chunk.get("usage"),
        filters=choice.get("content_filter_results") or prompt.get("content_filter_results"),
    )


def _broken(error: httpx.TransportError) -> Unavailable:
    if isinstance(error, httpx.TimeoutException):
        return Unavailable("The server took too long to answer; try again.", code="timeout")
    return Unavailable("The connection to the server broke off; try again.", code="unreachable")
