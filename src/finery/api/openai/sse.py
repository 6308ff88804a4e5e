"""Server-sent events as every client was seen to read them.

`data: ` with a space, bare line feeds, no comments. `event:` lines only where OpenAI sends them (responses): one client
of chat streams stumbles over them.
"""

import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.responses import StreamingResponse

from finery.api import errors
from finery.core.errors import FineryError

DONE = "data: [DONE]\n\n"


def event(data: dict[str, Any], *, name: str = "") -> str:
    """One event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def respond(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """A stream whose first event has come: what is wrong with the request is an error with a status, not a stream."""
    first = await anext(events)
    return StreamingResponse(
        _chain(first, events), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def _chain(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    try:
        async for piece in rest:
            yield piece
    except FineryError as error:
        yield event(errors.body_of(error))
