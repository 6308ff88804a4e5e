"""Which requests are the Studio's, and when its heavy part is loaded: with the first visit, so that a server that
nobody looks at starts and stays as light as before. Everything else goes to the API untouched. It draws nothing."""

import asyncio
import importlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finery.core.sign_in import IdentityProvider
from finery.studio.client import Wire
from finery.studio.shell import PREFIX, Shell


class Studio:
    """An application that answers `/` and `/studio`, and hands the rest on to the API."""

    def __init__(
        self,
        api: ASGIApp,
        base_url: str,
        *,
        authority: Path | None = None,
        provider: IdentityProvider | None = None,
    ) -> None:
        """`base_url` is where the API answers over HTTP: the Studio is a client like any other, and trusts what other
        clients have to trust, the certificate `authority`. At `provider` people can sign in instead of with a key."""
        self._api = api
        self._wire = Wire(base_url, authority=authority)
        self._shell = Shell(self._wire, self._pages, self._warm, provider)
        self._stack = AsyncExitStack()
        self._loading: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        path = scope.get("path", "")
        if scope["type"] == "lifespan":
            await self._api(scope, receive, self._closing_before(send))
        elif path == PREFIX or path.startswith(f"{PREFIX}/"):
            await self._shell.app(scope, receive, send)
        elif path == "/" and scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            await RedirectResponse(f"{PREFIX}/")(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _pages(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            app = await self._load()
        except ImportError as error:
            text = f"The Studio needs {error.name}, which isn't installed: pip install 'finery[studio]'."
            await PlainTextResponse(text, 501)(scope, receive, send)
            return
        if scope["path"] == PREFIX:
            await RedirectResponse(f"{PREFIX}/")(scope, receive, send)
            return
        await app(scope, receive, send)

    async def _warm(self) -> None:
        """Begin to load; nobody waits for it yet."""
        self._begin()

    async def _load(self) -> ASGIApp:
        return await asyncio.shield(self._begin())

    def _begin(self) -> "asyncio.Task[ASGIApp]":
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = asyncio.create_task(self._build())
            self._loading.add_done_callback(lambda task: task.exception())
        return self._loading

    async def _build(self) -> ASGIApp:
        module: Any = await asyncio.to_thread(importlib.import_module, "finery.studio.app")
        app: ASGIApp = await module.start(self._wire, self._shell.sessions, self._stack)
        return app

    def _closing_before(self, send: Send) -> Send:
        async def send_on(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._stack.aclose()
                await self._wire.close()
            await send(message)

        return send_on
