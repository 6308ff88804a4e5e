"""HTTP/1.1 to a server on this machine: one request a connection, answers read as they come.

A full HTTP client costs about as much for each streamed token as a small model takes to decode it beside others; this
reads just what llama.cpp's server and uvicorn send (RFC 9112: Content-Length or chunked) and no more. It knows nothing
of what the content means.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from finery.core.errors import Unavailable

_READ_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """Requests to one server. Closing a stream closes its connection, by which the server knows that nobody listens."""

    server: str
    """What messages call it."""
    key: str
    """Bearer token."""
    socket: str | None = None
    """Path of a Unix socket; else `port` on loopback."""
    port: int = 0

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and content of one answer. Raises Unavailable when the server is gone."""
        async with aclosing(self.stream(method, path, body)) as stream:
            status, _ = await anext(stream)
            parts = [part async for _, part in stream]
        return status, b"".join(parts).decode("utf-8", errors="replace")

    async def stream(self, method: str, path: str, body: Any = None) -> AsyncGenerator[tuple[int, bytes], None]:
        """(status, part) as parts of the content come, the first one empty.

        Raises Unavailable when the server is gone, or ends before its answer does.
        """
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        try:
            reader, writer = await self._connect()
        except OSError as error:
            raise Unavailable(f"{self.server} can't be reached ({error.strerror or type(error).__name__}).") from error
        try:
            writer.write(head.encode() + content)
            status, headers = await _read_head(reader)
            yield status, b""
            async with aclosing(_read_body(reader, headers)) as parts:
                async for part in parts:
                    yield status, part
        except (OSError, EOFError, ValueError) as error:
            raise Unavailable(f"{self.server} ended in the middle of an answer; try again.") from error
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket is not None:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection("127.0.0.1", self.port)


async def lines_of(stream: AsyncGenerator[tuple[int, bytes], None]) -> AsyncGenerator[bytes, None]:
    """Whole lines of a stream's content, without their ends; what is left after the last line end is dropped."""
    rest = b""
    async for _, part in stream:
        if part:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    pairs = (line.partition(":") for line in lines[1:] if line)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncGenerator[bytes, None]:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield await reader.readexactly(int(headers.get("content-length", "0")))
        return
    buffer = b""
    while True:
        end = buffer.find(b"\r\n")
        if end >= 0:
            size = int(buffer[:end].split(b";")[0], 16)
            if size == 0:
                return
            after = end + 2 + size + 2
            if len(buffer) >= after:
                yield buffer[end + 2 : after - 2]
                buffer = buffer[after:]
                continue
        more = await reader.read(_READ_BYTES)
        if not more:
            raise EOFError
        buffer += more
