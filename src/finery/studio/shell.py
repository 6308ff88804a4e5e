"""Sign-in, sign-out, language, static files, and the guard: nothing else answers a stranger. Plain HTML, no script.

It does not draw pages; `app` does, behind the guard. It doesn't know keys to be good or bad: it asks the API.
"""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

import finery
from finery.core.errors import Unavailable
from finery.sdk.wire import ApiError
from finery.studio.client import SessionEnded, Wire
from finery.studio.policy import Policy
from finery.studio.sessions import COOKIE, IDLE_SECONDS, Session, Sessions
from finery.studio.words import LANGUAGES, Words, preferred

PREFIX = "/studio"
SIGN_IN = f"{PREFIX}/sign-in"
LANGUAGE_COOKIE = "finery-language"
LOOK_COOKIE = "finery-look"

_OPEN = re.compile(rf"(?:{SIGN_IN}|{PREFIX}/language)\Z|{PREFIX}/static/|{PREFIX}/_nicegui/\d[\d.]*/")
"""What a stranger gets. NiceGUI's own files, below its version, are in every wheel of it; a page whose session has
ended still fetches those of the dialog that says so."""
_MAX_FORM_BYTES = 8192
_STATIC = Path(__file__).parent / "static"
_YEAR_SECONDS = 365 * 86400

_templates = Environment(loader=PackageLoader("finery.studio"), autoescape=select_autoescape())


class Shell:
    """The Studio without its pages."""

    def __init__(self, wire: Wire, pages: ASGIApp, warm: Callable[[], Awaitable[None]]) -> None:
        """`pages` answers whoever is signed in; `warm` is called when somebody is about to be."""
        self.sessions = Sessions()
        self._wire = wire
        self._warm = warm
        self.app = Starlette(
            routes=[
                Route(SIGN_IN, self._show_sign_in, methods=["GET"]),
                Route(SIGN_IN, self._sign_in, methods=["POST"]),
                Route(f"{PREFIX}/sign-out", self._sign_out, methods=["POST"]),
                Route(f"{PREFIX}/language", _set_language, methods=["POST"]),
                Mount(f"{PREFIX}/static", StaticFiles(directory=_STATIC)),
                Mount("/", pages),
            ],
            middleware=[
                Middleware(GZipMiddleware, minimum_size=1024),
                Middleware(Policy),
                Middleware(Guard, shell=self),
            ],
        )

    async def _show_sign_in(self, request: Request) -> Response:
        await self._warm()
        ended = COOKIE in request.cookies or "ended" in request.query_params
        note = "Your session has ended. Sign in again to go on; what you typed is kept." if ended else ""
        return _sign_in_page(request, note=note, following=_inside(request.query_params.get("next", "")))

    async def _sign_in(self, request: Request) -> Response:
        form = await _form(request)
        following = _inside(form.get("next", ""))
        key = form.get("key", "").strip()
        fault = await self._fault_of(key)
        if fault:
            return _sign_in_page(request, fault=fault, following=following, status=401)
        answer = RedirectResponse(following, status_code=303)
        answer.set_cookie(
            COOKIE,
            self.sessions.open(key),
            path=PREFIX,
            max_age=int(IDLE_SECONDS),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _fault_of(self, key: str) -> str:
        """Why a key can't sign in; empty if it can."""
        if not key:
            return "Enter your key."
        if not (key.isascii() and key.isprintable()):
            return "This holds characters that no key has; was something else pasted?"
        try:
            await self._wire.call(key, "GET", "/v1/models")
        except SessionEnded:
            return "The server doesn't know this key. Check that it was copied whole and has not been revoked."
        except Unavailable as error:
            return error.message
        except ApiError as error:
            # The key is known; what it may do is for the pages to say.
            return "" if error.status == 403 else error.message
        return ""

    async def _sign_out(self, request: Request) -> Response:
        session = session_of(self.sessions, request)
        if session:
            self.sessions.close(session)
        answer = RedirectResponse(SIGN_IN, status_code=303)
        answer.delete_cookie(COOKIE, path=PREFIX)
        return answer


class Guard:
    """Lets through who is signed in, and nothing that another site's page sends."""

    def __init__(self, app: ASGIApp, shell: Shell) -> None:
        self.app = app
        self._shell = shell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the beginning of a socket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        foreign = _is_foreign(connection)
        known = _OPEN.match(scope["path"]) is not None or session_of(self._shell.sessions, connection) is not None
        if known and not foreign:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401})
        elif foreign:
            await PlainTextResponse("Another site sent this request; it was not done.", 403)(scope, receive, send)
        else:
            await _turn_away(connection)(scope, receive, send)


def session_of(sessions: Sessions, connection: HTTPConnection) -> Session | None:
    """The session of whoever sent a request."""
    cookie = connection.cookies.get(COOKIE)
    return sessions.find(cookie) if cookie else None


def language_of(connection: HTTPConnection) -> str:
    """The language to answer in: the one chosen, else the browser's."""
    chosen = connection.cookies.get(LANGUAGE_COOKIE, "")
    return chosen if chosen in LANGUAGES else preferred(connection.headers.get("accept-language", ""))


def look_of(connection: HTTPConnection) -> bool | None:
    """True for dark, False for light, None for what the system says."""
    return {"dark": True, "light": False}.get(connection.cookies.get(LOOK_COOKIE, ""))


async def _set_language(request: Request) -> Response:
    form = await _form(request)
    answer = RedirectResponse(_inside(form.get("next", "")), status_code=303)
    if form.get("language") in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, form["language"], path=PREFIX, max_age=_YEAR_SECONDS, samesite="lax")
    return answer


def _turn_away(connection: HTTPConnection) -> Response:
    wants_page = "text/html" in connection.headers.get("accept", "")
    if not wants_page:
        return PlainTextResponse("Sign in first.", 401)
    path = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    target = str(connection.url.replace(path=SIGN_IN, query="").include_query_params(next=path))
    return RedirectResponse(target.removeprefix(f"{connection.url.scheme}://{connection.url.netloc}"), 303)


def _sign_in_page(
    request: Request, *, following: str, note: str = "", fault: str = "", status: int = 200
) -> HTMLResponse:
    words = Words(language_of(request))
    look = {True: "dark", False: "light", None: "auto"}[look_of(request)]
    html = _templates.get_template("sign_in.html").render(
        t=words,
        languages=LANGUAGES,
        look=look,
        note=words(note) if note else "",
        fault=words(fault) if fault else "",
        following=following,
        version=finery.__version__,
    )
    return HTMLResponse(html, status_code=status, headers={"cache-control": "no-store"})


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; a large one is none of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _inside(path: str) -> str:
    """A path of the Studio, whatever a link said."""
    parts = urlsplit(path)
    foreign = parts.scheme or parts.netloc or "\\" in path or "//" in path
    return path if path.startswith(f"{PREFIX}/") and not foreign else f"{PREFIX}/"


def _is_foreign(connection: HTTPConnection) -> bool:
    """A browser says from which origin a form or socket comes; ours is the host it was sent to."""
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")
