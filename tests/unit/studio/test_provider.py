"""Signing in at an identity provider: who gets in, into which project, and what everybody else is told."""

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from finery.control import identity
from finery.control.issuer import Issuer
from finery.control.sign_in import SignIn
from finery.core.errors import Unauthenticated
from finery.studio.client import SessionEnded, Wire
from finery.studio.policy import STRICT
from finery.studio.provider import TRIP_COOKIE, TRIP_SECONDS
from finery.studio.sessions import COOKIE, Session
from finery.studio.shell import CALLBACK, Shell
from identity_provider import AUDIENCE, Provider

WANTED = "/studio/fine-tuning/ftjob-1?after=2"


class Place:
    """A Studio with a provider, over an API that knows what a token may enter."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.issuer = Issuer(self.provider.url, f"{AUDIENCE},studio", transport=self.provider.transport())
        self.enterable = {"ada": ["alpha"], "bob": ["alpha", "beta"]}
        self.asked: list[tuple[str, str]] = []
        wire = Wire("http://api")
        api = Starlette(routes=[Route("/finery/v1/projects", self._projects)])
        wire._http = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api")

        async def warm() -> None:
            return None

        async def page(request: Request) -> HTMLResponse:
            return HTMLResponse("a page")

        pages = Starlette(routes=[Route("/{path:path}", page)])
        self.shell = Shell(wire, pages, warm, SignIn(issuer=self.issuer, client_id="studio"))
        self.browser = TestClient(self.shell.app, base_url="http://studio.test", follow_redirects=False)
        self.browser.headers["accept"] = "text/html"

    async def _projects(self, request: Request) -> JSONResponse:
        try:
            who = identity.check(self.issuer, request.headers["authorization"].removeprefix("Bearer ")).subjects[0]
        except Unauthenticated as error:
            return JSONResponse({"error": {"message": error.message}}, 401)
        named = request.headers.get("openai-project", "")
        self.asked.append((who, named))
        found = self.enterable.get(who)
        if found is None:
            return JSONResponse({"error": {"message": f"nobody here is known by {who}"}}, 403)
        if named and named not in found:
            return JSONResponse({"error": {"message": f"no project {named}"}}, 404)
        return JSONResponse({"data": [{"name": name} for name in found]})

    def begin(self, following: str = WANTED) -> str:
        """The address that the browser is sent to."""
        answer = self.browser.get("/studio/sign-in/provider", params={"next": following})
        assert answer.status_code == 303
        return answer.headers["location"]

    def back(self, **brought: str) -> httpx.Response:
        return self.browser.get(CALLBACK, params=brought)

    def sign_in(self, subject: str = "ada") -> httpx.Response:
        brought = self.provider.login(self.begin())
        nonce = self.provider.codes["a-code"]["nonce"]
        self.provider.given["id_token"] = self.provider.token(subject, aud="studio", nonce=nonce)
        return self.back(**brought)

    @property
    def session(self) -> Session:
        session = self.shell.sessions.find(self.browser.cookies[COOKIE])
        assert session is not None
        return session


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    with made.browser:
        yield made


def test_the_door_offers_it_by_name_and_keeps_what_was_wanted(place: Place) -> None:
    door = place.browser.get(place.browser.get(WANTED).headers["location"])
    assert "Sign in with login.example" in door.text
    assert door.headers["content-security-policy"] == STRICT
    link = re.search(r'href="(/studio/sign-in/provider\?next=[^"]+)"', door.text)
    assert link
    there = place.browser.get(link[1].replace("&amp;", "&")).headers["location"]
    brought = place.provider.login(there)
    assert place.provider.codes["a-code"]["redirect_uri"] == "http://studio.test/studio/sign-in/callback"
    answer = place.back(**brought)
    assert (answer.status_code, answer.headers["location"]) == (303, WANTED)
    assert place.browser.get("/studio/").text == "a page"


def test_the_browser_never_holds_a_token(place: Place) -> None:
    answer = place.sign_in()
    held = f"{answer.headers} {answer.text} {dict(place.browser.cookies)}"
    token = place.session.bearer
    assert token.count(".") == 2
    assert not any(part in held for part in (*token.split("."), "later"))
    for cookie in answer.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie or "Max-Age=0" in cookie
    assert TRIP_COOKIE not in place.browser.cookies


def test_another_browser_cant_end_what_this_one_began(place: Place) -> None:
    brought = place.provider.login(place.begin())
    victim = TestClient(place.shell.app, base_url="http://studio.test", follow_redirects=False)
    answer = victim.get(CALLBACK, params=brought, headers={"accept": "text/html"})
    assert answer.status_code == 400
    assert "not begun in this browser" in answer.text
    assert COOKIE not in victim.cookies
    assert place.provider.forms == [], "the code isn't redeemed"
    assert "Sign in with login.example" in answer.text


@pytest.mark.parametrize(
    ("changed", "said", "status"),
    [
        ({"state": "wrong"}, "not begun in this browser", 400),
        ({"state": ""}, "not begun in this browser", 400),
        ({"iss": "https://evil.test"}, "another identity provider", 400),
        ({"code": ""}, "no code", 400),
        ({"error": "access_denied"}, "let nobody in: it was cancelled", 403),
        ({"error": "server_error", "error_description": "<b>down</b>"}, "server_error: &lt;b&gt;down", 400),
        ({"code": "stolen"}, "invalid_grant: no such code", 401),
    ],
)
def test_what_comes_back_wrong_lets_nobody_in_and_says_why(
    place: Place, changed: dict[str, str], said: str, status: int
) -> None:
    answer = place.back(**{**place.provider.login(place.begin()), **changed})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert COOKIE not in place.browser.cookies
    assert 'name="key"' in answer.text, "there is another way in"
    assert "again=1" in answer.text


def test_a_sign_in_that_took_too_long_is_begun_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    brought = place.provider.login(place.begin())
    monkeypatch.setattr("finery.studio.provider.TRIP_SECONDS", -1)
    assert "more than ten minutes ago" in place.back(**brought).text
    assert TRIP_SECONDS == 600


def test_somebody_without_a_role_is_told_so_and_can_be_somebody_else(place: Place) -> None:
    answer = place.sign_in("eve")
    assert answer.status_code == 403
    assert "nobody here is known by eve" in answer.text
    assert COOKIE not in place.browser.cookies
    again = place.browser.get("/studio/sign-in/provider?again=1&next=/studio/").headers["location"]
    assert "prompt=login" in again


def test_a_provider_that_is_away_leaves_the_key(place: Place) -> None:
    place.provider.down = httpx.ConnectError("no")
    answer = place.browser.get("/studio/sign-in/provider")
    assert answer.status_code == 503
    assert "API keys work meanwhile" in answer.text
    assert 'name="key"' in answer.text


def test_the_only_project_is_entered_and_several_are_chosen_from(place: Place) -> None:
    place.sign_in("ada")
    assert place.session.project == "alpha"
    answer = place.sign_in("bob")
    door = place.browser.get(answer.headers["location"])
    assert door.headers["location"].startswith("/studio/project?next=")
    page = place.browser.get(door.headers["location"])
    assert re.findall(r'name="project" value="(\w+)"', page.text) == ["alpha", "beta"]
    following = re.search(r'name="next" value="([^"]+)"', page.text)
    assert following
    chosen = place.browser.post("/studio/project", data={"project": "beta", "next": following[1]})
    assert chosen.headers["location"] == WANTED
    assert place.session.project == "beta"
    assert place.browser.get(WANTED).text == "a page"


@pytest.mark.parametrize("project", ["gamma", "", "a\r\nx-evil: 1", "é"])
def test_a_project_that_isnt_theirs_is_not_entered(place: Place, project: str) -> None:
    place.sign_in("bob")
    answer = place.browser.post("/studio/project", data={"project": project})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert place.session.undecided


def test_drafts_belong_to_a_person_in_a_project(place: Place) -> None:
    place.sign_in("bob")
    place.browser.post("/studio/project", data={"project": "alpha"})
    place.session.drafts["page"] = "half typed"
    place.browser.post("/studio/project", data={"project": "beta"})
    assert place.session.drafts == {}
    place.sign_in("bob")
    place.browser.post("/studio/project", data={"project": "alpha"})
    assert place.session.drafts == {"page": "half typed"}


def test_tokens_are_renewed_before_they_expire_once_for_all_who_ask(place: Place) -> None:
    place.sign_in()
    session = place.session
    before = session.bearer
    assert asyncio.run(session.key()) == before
    place.provider.given = {}
    _expire(session, 10)

    async def many() -> set[str]:
        return set(await asyncio.gather(*(session.key() for _ in range(5))))

    after = asyncio.run(many())
    assert len(after) == 1
    assert before not in after
    assert [form["grant_type"] for form in place.provider.forms].count("refresh_token") == 1


def test_a_session_that_the_provider_ended_is_over(place: Place) -> None:
    place.sign_in()
    session = place.session
    _expire(session, 10)
    place.provider.given = {"id_token": None}
    with pytest.raises(SessionEnded):
        asyncio.run(session.key())
    assert not place.shell.sessions.is_open(session)
    door = place.browser.get(WANTED).headers["location"]
    assert "Your session has ended" in place.browser.get(door).text


def test_a_provider_that_is_away_ends_no_session(place: Place) -> None:
    place.sign_in()
    session = place.session
    place.provider.down = httpx.ConnectError("no")
    _expire(session, 10)
    assert asyncio.run(session.key()) == session.bearer
    _expire(session, -10)
    with pytest.raises(Exception, match="doesn't answer"):
        asyncio.run(session.key())
    place.provider.down, place.provider.given = None, {}
    assert asyncio.run(session.key())


def test_without_a_refresh_token_a_session_ends_with_its_token(place: Place) -> None:
    place.provider.given["refresh_token"] = None
    place.sign_in()
    session = place.session
    _expire(session, 10)
    assert asyncio.run(session.key()) == session.bearer
    _expire(session, -10)
    with pytest.raises(SessionEnded):
        asyncio.run(session.key())


def test_signed_out_is_out_and_the_provider_is_offered(place: Place) -> None:
    place.sign_in()
    answer = place.browser.post("/studio/sign-out")
    door = place.browser.get(answer.headers["location"])
    assert "You are signed out here." in door.text
    assert 'href="https://login.example/tenant/logout?client_id=studio"' in door.text
    assert place.browser.get("/studio/").status_code == 303


def _expire(session: Session, seconds: float) -> None:
    assert session.tokens is not None
    session.tokens = replace(session.tokens, expires_at=time.time() + seconds)
