"""A client that goes away ends the work on its answer, also before the first byte. Knows no route but by its end."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANSWERS = ("/completions", "/responses", "/embeddings")
"""How the paths of answers end; other work is short, and finished once begun."""


class HangUp:
    """Cancels the application's work on an answer when nobody is left to read it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(ANSWERS):
            await self.app(scope, receive, send)
            return
        # Bounded, so that a body is read no faster than the application takes it.
        messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=4)
        whole = False

        async def listen() -> None:
            message: Message = {"type": ""}
            while message["type"] != "http.disconnect":
                message = await receive()
                await messages.put(message)

        async def tell(message: Any) -> None:
            nonlocal whole
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def answer() -> None:
            await self.app(scope, messages.get, tell)

        work = asyncio.create_task(answer())
        listening = asyncio.create_task(listen())
        try:
            await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
            if whole or work.done():
                await work
        finally:
            for task in (work, listening):
                task.cancel()
            await asyncio.gather(work, listening, return_exceptions=True)
