"""Sign-in, sign-out, project, language, static files, and the guard: nothing else answers a stranger. Plain HTML, no
script.

It does not draw pages; `app` does, behind the guard. It doesn't know keys to be good or bad, nor which projects one may
enter: it asks the API. How one comes in through an identity provider is in `provider`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

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
from finery.core.errors import FineryError, Unavailable
from finery.core.ids import check_name
from finery.core.sign_in import IdentityProvider
from finery.sdk.wire import ApiError
from finery.studio.assets import Assets, needed
from finery.studio.client import SessionEnded, Wire
from finery.studio.policy import Policy
from finery.studio.provider import ProviderDoor, Refused
from finery.studio.sessions import COOKIE, IDLE_SECONDS, Session, Sessions
from finery.studio.words import LANGUAGES, Words, preferred

PREFIX = "/studio"
SIGN_IN = f"{PREFIX}/sign-in"
SIGN_OUT = f"{PREFIX}/sign-out"
CALLBACK = f"{SIGN_IN}/callback"
"""Where the identity provider sends browsers back to."""
PROJECT = f"{PREFIX}/project"
LANGUAGE_COOKIE = "finery-language"
LOOK_COOKIE = "finery-look"

_OPEN = re.compile(
    rf"(?:{SIGN_IN}(?:/provider|/callback)?|{PREFIX}/language)\Z|{PREFIX}/static/|{PREFIX}/_nicegui/\d[\d.]*/"
)
"""What a stranger gets. NiceGUI's own files, below its version, are in every wheel of it; a page whose session has
ended still fetches those of the dialog that says so."""
_ANYWHERE = frozenset({PROJECT, SIGN_OUT})
"""What somebody gets who hasn't chosen a project yet."""
_MAX_FORM_BYTES = 8192
_STATIC = Path(__file__).parent / "static"
_YEAR_SECONDS = 365 * 86400

_templates = Environment(loader=PackageLoader("finery.studio"), autoescape=select_autoescape())


class Shell:
    """The Studio without its pages."""

    def __init__(
        self,
        wire: Wire,
        pages: ASGIApp,
        warm: Callable[[], Awaitable[None]],
        provider: IdentityProvider | None = None,
    ) -> None:
        """`pages` answers whoever is signed in; `warm` is called when somebody is about to be."""
        self.sessions = Sessions()
        self._wire = wire
        self._warm = warm
        self._door = ProviderDoor(provider, path=SIGN_IN, back=CALLBACK) if provider else None
        self.app = Starlette(
            routes=[
                Route(SIGN_IN, self._show_sign_in, methods=["GET"]),
                Route(SIGN_IN, self._sign_in, methods=["POST"]),
                *(self._provider_routes(self._door) if self._door else ()),
                Route(SIGN_OUT, self._sign_out, methods=["POST"]),
                Route(PROJECT, self._show_project, methods=["GET"]),
                Route(PROJECT, self._choose_project, methods=["POST"]),
                Route(f"{PREFIX}/language", _set_language, methods=["POST"]),
                Mount(f"{PREFIX}/static", StaticFiles(directory=_STATIC)),
                Mount("/", Assets(pages)),
            ],
            middleware=[
                Middleware(GZipMiddleware, minimum_size=1024),
                Middleware(Policy),
                Middleware(Guard, shell=self),
            ],
        )

    async def _show_sign_in(self, request: Request) -> Response:
        await self._warm()
        following = _inside(request.query_params.get("next", ""))
        t = Words(language_of(request))
        if self._door and "out" in request.query_params:
            farewell = await asyncio.to_thread(self._door.provider.farewell)
            return self._sign_in_page(
                request, note=t("You are signed out here."), following=following, farewell=farewell
            )
        ended = COOKIE in request.cookies or "ended" in request.query_params
        note = t("Your session has ended. Sign in again to go on; what you typed is kept.") if ended else ""
        return self._sign_in_page(request, note=note, following=following)

    async def _sign_in(self, request: Request) -> Response:
        form = await _form(request)
        following = _inside(form.get("next", ""))
        key = form.get("key", "").strip()
        fault = await self._fault_of(key)
        if fault:
            words = Words(language_of(request))
            return self._sign_in_page(request, fault=words(fault), following=following, status=401)
        return self._let_in(request, self.sessions.open(key), following)

    def _provider_routes(self, door: ProviderDoor) -> Iterator[Route]:
        async def begin(request: Request) -> Response:
            following = _inside(request.query_params.get("next", ""))
            try:
                return await door.begin(request, following)
            except Unavailable as error:
                return self._sign_in_page(request, fault=error.message, following=following, status=503)

        async def end(request: Request) -> Response:
            answer = await self._end(request, door)
            door.forget(answer)
            return answer

        yield Route(f"{SIGN_IN}/provider", begin, methods=["GET"])
        yield Route(CALLBACK, end, methods=["GET"])

    async def _end(self, request: Request, door: ProviderDoor) -> Response:
        """Somebody comes back from the identity provider."""
        await self._warm()
        following = _inside(door.following(request))
        t = Words(language_of(request))
        try:
            tokens = await door.end(request)
            projects = await self._projects(tokens.bearer)
        except Refused as refused:
            fault, status = t(refused.text, **refused.values), refused.status
        except SessionEnded:
            fault, status = t("The server doesn't take what {host} said of you.", host=door.provider.host), 401
        except ApiError as error:
            fault, status = error.message, error.status
        except FineryError as error:
            fault, status = error.message, 503
        else:
            only = projects[0] if len(projects) == 1 else ""
            cookie = self.sessions.open_with(tokens, door.provider, project=only)
            return self._let_in(request, cookie, following)
        return self._sign_in_page(request, fault=fault, following=following, status=status, again=True)

    def _let_in(self, request: Request, cookie: str, following: str) -> Response:
        answer = RedirectResponse(following, status_code=303)
        answer.set_cookie(
            COOKIE,
            cookie,
            path=PREFIX,
            max_age=int(IDLE_SECONDS),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _projects(self, bearer: str) -> list[str]:
        """The projects that somebody may enter, by name."""
        found = await self._wire.call(bearer, "GET", "/finery/v1/projects")
        return [project["name"] for project in found["data"]]

    async def _show_project(self, request: Request) -> Response:
        return await self._project_page(request, following=_inside(request.query_params.get("next", "")))

    async def _choose_project(self, request: Request) -> Response:
        form = await _form(request)
        following, project = _inside(form.get("next", "")), form.get("project", "")
        session = session_of(self.sessions, request)
        if session is None:  # It ended between the guard and here.
            return _ended(following)
        try:
            check_name(project, what="a project")
            await self._wire.call(await session.key(), "GET", "/finery/v1/projects", project=project)
        except SessionEnded:
            return _ended(following)
        except FineryError as error:
            return await self._project_page(request, following=following, fault=error.message)
        self.sessions.enter(session, project)
        return RedirectResponse(following, status_code=303)

    async def _project_page(self, request: Request, *, following: str, fault: str = "") -> Response:
        session = session_of(self.sessions, request)
        if session is None:  # It ended between the guard and here.
            return _ended(following)
        projects: list[str] = []
        try:
            projects = await self._projects(await session.key())
        except SessionEnded:
            return _ended(following)
        except FineryError as error:
            fault = error.message
        status = 400 if fault else 200
        here = f"{PROJECT}?{urlencode({'next': following})}"
        return _page(
            request,
            "project.html",
            status=status,
            projects=projects,
            current=session.project,
            fault=fault,
            following=following,
            here=here,
        )

    def _sign_in_page(self, request: Request, *, status: int = 200, **shown: Any) -> Response:
        host = self._door.provider.host if self._door else ""
        return _page(request, "sign_in.html", status=status, host=host, needed=needed(PREFIX), **shown)

    async def _fault_of(self, key: str) -> str:
        """Why a key can't sign in; empty if it can."""
        if not key:
            return "Enter your key."
        if not (key.isascii() and key.isprintable()):
            return "This holds characters that no key has; was something else pasted?"
        try:
            await self._wire.call(key, "GET", "/finery/v1/projects")
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
        elsewhere = session is not None and session.tokens is not None
        answer = RedirectResponse(f"{SIGN_IN}?out=1" if elsewhere else SIGN_IN, status_code=303)
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
        session = session_of(self._shell.sessions, connection)
        is_open = _OPEN.match(scope["path"]) is not None
        undecided = session is not None and session.undecided and scope["path"] not in _ANYWHERE
        if not foreign and (is_open or (session and not undecided)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401})
        elif foreign:
            await PlainTextResponse("Another site sent this request; it was not done.", 403)(scope, receive, send)
        else:
            await _turn_away(connection, PROJECT if undecided else SIGN_IN)(scope, receive, send)


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


def _ended(following: str) -> Response:
    return RedirectResponse(f"{SIGN_IN}?{urlencode({'ended': 1, 'next': following})}", status_code=303)


def _turn_away(connection: HTTPConnection, to: str) -> Response:
    """To the door that has to be passed first, and from there to where they wanted."""
    wants_page = "text/html" in connection.headers.get("accept", "")
    if not wants_page:
        return PlainTextResponse("Sign in first.", 401)
    path = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    target = str(connection.url.replace(path=to, query="").include_query_params(next=path))
    return RedirectResponse(target.removeprefix(f"{connection.url.scheme}://{connection.url.netloc}"), 303)


def _page(request: Request, template: str, *, status: int, **shown: Any) -> HTMLResponse:
    html = _templates.get_template(template).render(
        t=Words(language_of(request)),
        languages=LANGUAGES,
        look={True: "dark", False: "light", None: "auto"}[look_of(request)],
        version=finery.__version__,
        **shown,
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
