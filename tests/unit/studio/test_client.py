"""The Studio's client over a real socket that is cut off in the middle of an answer."""

import asyncio
import json

import pytest

from finery.core.errors import Unavailable
from finery.studio.client import Wire

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(text: str) -> bytes:
    """An event of a stream, as a chunk of HTTP."""
    event = f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


async def _cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + chunk("Your ") + chunk("parcel "))
    await writer.drain()
    writer.close()


def test_what_came_before_the_connection_broke_is_kept_and_the_break_is_told() -> None:
    seen: list[str] = []

    async def ask() -> None:
        server = await asyncio.start_server(_cut_off, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(f"http://127.0.0.1:{port}")
        try:
            async for piece in wire.chat("sk-key", {"model": "m", "messages": []}):
                seen.append(piece.text)
        finally:
            await wire.close()
            server.close()

    with pytest.raises(Unavailable, match="broke off"):
        asyncio.run(ask())
    assert seen == ["Your ", "parcel "]
