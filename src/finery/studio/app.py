"""NiceGUI joined to the shell: one page function for every address below /studio. It draws nothing itself."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as framework
from nicegui import ui
from nicegui.language import Language
from nicegui.translations import translations
from starlette.types import ASGIApp

from finery.studio import frame
from finery.studio.client import Api, Wire
from finery.studio.sessions import Sessions
from finery.studio.shell import PREFIX, language_of, look_of, session_of
from finery.studio.visit import Visit
from finery.studio.words import Words

QUASAR_LANGUAGES: dict[str, Language] = {"en": "en-US", "id": "id"}
"""Our languages as Quasar calls them."""

_RECONNECT_SECONDS = 30.0
"""How long a page that lost its connection is kept, with all that was typed into it."""


_PATIENCE_SECONDS = 0.6
"""So long a page is held back until its content is in it; what takes longer follows over the socket."""

_RESPONSE_SECONDS = 120.0


async def start(wire: Wire, sessions: Sessions, stack: AsyncExitStack) -> ASGIApp:
    """The pages as an application; what it needs to be closed is left in `stack`."""
    framework.config.quasar_config["brand"] = frame.BRAND
    for language, name in QUASAR_LANGUAGES.items():
        translations[name] = _own_words(Words(language))
    host = FastAPI(openapi_url=None)

    def page() -> Awaitable[None]:
        # NiceGUI gives up a page that took 3 s, which a crowded machine needs now and then; ours is never late: what
        # isn't there after `_PATIENCE_SECONDS` follows.
        ui.context.client.page.response_timeout = _RESPONSE_SECONDS
        return _hold(_draw(wire, sessions))

    ui.run_with(
        host,
        root=page,
        mount_path=PREFIX,
        title="Finery",
        favicon=Path(__file__).parent / "static" / "mark.svg",
        # Our own style sheet is all the style there is; Tailwind would be compiled in the browser, on every page.
        tailwind=False,
        reconnect_timeout=_RECONNECT_SECONDS,
        binding_refresh_interval=None,
        gzip_middleware_factory=None,
        show_welcome_message=False,
    )
    await stack.enter_async_context(host.router.lifespan_context(host))
    return host


async def _hold(drawn: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(drawn.wait(), _PATIENCE_SECONDS)


def _own_words(t: Words) -> dict[str, str]:
    """What the framework itself says, over every page, in a language of ours."""
    return {
        "connection_lost": t("Connection lost."),
        "trying_to_reconnect": t("Trying to reconnect…"),
        "message_too_long": t("Too much at once"),
        "message_too_long_body": t("This was too large to send. Shorten it."),
    }


def _draw(wire: Wire, sessions: Sessions) -> asyncio.Event:
    """Begin to draw; the event is set when everything stands there."""
    request = ui.context.client.request
    session = session_of(sessions, request)
    words = Words(language_of(request))
    if session is None:  # It ended between the guard and here.
        ui.navigate.to("/sign-in")
        drawn = asyncio.Event()
        drawn.set()
        return drawn
    ui.context.client.page.language = QUASAR_LANGUAGES[words.language]
    visit = Visit(
        # The project stays that of this page: what is pressed on it must not happen elsewhere.
        api=Api(wire=wire, key=session.key, project=session.project),
        words=words,
        sessions=sessions,
        session=session,
        drafts=session.drafts,
        client=ui.context.client,
    )
    return frame.draw(visit, look=look_of(request))
