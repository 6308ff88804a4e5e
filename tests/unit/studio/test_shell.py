"""The door: who gets in, what is sent along, and whom it turns away. NiceGUI isn't needed for any of it."""

import re
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from finery.studio.client import Wire
from finery.studio.policy import STRICT
from finery.studio.sessions import COOKIE, IDLE_SECONDS, Sessions
from finery.studio.shell import Shell

KEY = "sk-finery-good"


async def _projects(request: Request) -> JSONResponse:
    if request.headers["authorization"] != f"Bearer {KEY}":
        return JSONResponse({"error": {"message": "no"}}, status_code=401)
    return JSONResponse({"object": "list", "data": []})


async def _page(request: Request) -> HTMLResponse:
    return HTMLResponse('<script>1</script><script src="a.js"></script><p>&lt;script&gt;</p>')


@pytest.fixture
def shell() -> Shell:
    """A shell over a real API in miniature, and one page."""
    wire = Wire("http://api")
    api = Starlette(routes=[Route("/finery/v1/projects", _projects)])
    wire._http = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api")

    async def warm() -> None:
        return None

    return Shell(wire, Starlette(routes=[Route("/{path:path}", _page)]), warm)


@pytest.fixture
def browser(shell: Shell) -> Iterator[TestClient]:
    with TestClient(shell.app, base_url="http://studio.test", follow_redirects=False) as client:
        client.headers["accept"] = "text/html"
        yield client


def sign_in(browser: TestClient, key: str = KEY, **fields: str) -> httpx.Response:
    return browser.post("/studio/sign-in", data={"key": key, **fields})


def test_a_stranger_is_sent_to_the_door_and_comes_back_to_where_they_wanted(browser: TestClient) -> None:
    answer = browser.get("/studio/fine-tuning/ftjob-1?after=2")
    assert answer.status_code == 303
    door = answer.headers["location"]
    assert door.startswith("/studio/sign-in?next=")
    following = re.search(r'name="next" value="([^"]+)"', browser.get(door).text)
    assert following
    assert sign_in(browser, next=following[1]).headers["location"] == "/studio/fine-tuning/ftjob-1?after=2"


def test_what_is_no_page_is_refused_without_a_detour(browser: TestClient) -> None:
    assert browser.get("/studio/x", headers={"accept": "*/*"}).status_code == 401


def test_a_stranger_gets_the_frameworks_own_files_and_nothing_of_a_page(browser: TestClient) -> None:
    asked = {"accept": "*/*"}
    assert browser.get("/studio/_nicegui/3.18.0/components/dialog.js", headers=asked).status_code == 200
    for path in ("_nicegui/client/1/upload/2", "_nicegui_ws/socket.io/", "_nicegui/auto/x", "sign-in-or-not"):
        assert browser.get(f"/studio/{path}", headers=asked).status_code == 401, path


def test_the_cookie_is_signed_httponly_and_of_this_site(browser: TestClient) -> None:
    cookie = sign_in(browser).headers["set-cookie"]
    assert KEY not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/studio" in cookie
    assert browser.get("/studio/").status_code == 200
    browser.cookies.set(COOKIE, browser.cookies[COOKIE][:-2] + "xx", path="/studio", domain="studio.test")
    fresh = TestClient(browser.app, base_url="http://studio.test", follow_redirects=False)
    fresh.cookies.set(COOKIE, "forged.cookie.value")
    assert fresh.get("/studio/", headers={"accept": "text/html"}).status_code == 303


@pytest.mark.parametrize("key", ["", "   ", "sk-finery-bad", "schlüssel"])
def test_a_key_that_is_none_says_why(browser: TestClient, key: str) -> None:
    answer = sign_in(browser, key)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "following", ["https://evil.test/", "//evil.test", "/studio/\\evil", "/v1/models", "/studio//x"]
)
def test_the_door_leads_nowhere_else(browser: TestClient, following: str) -> None:
    assert sign_in(browser, next=following).headers["location"] == "/studio/"


def test_signed_out_is_out(browser: TestClient) -> None:
    sign_in(browser)
    browser.post("/studio/sign-out")
    assert browser.get("/studio/").status_code == 303


def test_an_ended_session_says_so(browser: TestClient, shell: Shell) -> None:
    sign_in(browser)
    shell.sessions._sessions.clear()
    assert "Your session has ended" in browser.get(browser.get("/studio/").headers["location"]).text


def test_another_sites_form_is_refused(browser: TestClient) -> None:
    sign_in(browser)
    assert browser.post("/studio/sign-out", headers={"origin": "http://evil.test"}).status_code == 403
    assert browser.get("/studio/").status_code == 200


def test_every_script_has_the_nonce_of_its_page_alone(browser: TestClient) -> None:
    sign_in(browser)
    pages = [browser.get("/studio/") for _ in range(2)]
    nonces = []
    for page in pages:
        policy = page.headers["content-security-policy"]
        nonce = re.search(r"'nonce-([^']+)'", policy)
        assert nonce
        assert page.text.count(f'<script nonce="{nonce[1]}"') == page.text.count("<script") == 2
        assert "unsafe-inline" not in policy.split("style-src")[0]
        nonces.append(nonce[1])
    assert nonces[0] != nonces[1]


def test_the_door_has_no_script_at_all(browser: TestClient) -> None:
    answer = browser.get("/studio/sign-in")
    assert answer.headers["content-security-policy"] == STRICT
    assert "<script" not in answer.text


def test_what_a_link_says_is_only_text_at_the_door(browser: TestClient) -> None:
    answer = browser.get('/studio/sign-in?next=/studio/"><script>alert(1)</script>')
    assert "<script" not in answer.text


def test_the_language_is_kept(browser: TestClient) -> None:
    assert "Masuk" in browser.get("/studio/sign-in", headers={"accept-language": "id"}).text
    browser.post("/studio/language", data={"language": "id", "next": "/studio/"})
    assert "Masuk" in browser.get("/studio/sign-in", headers={"accept-language": "en"}).text


def test_a_session_ends_when_nobody_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("finery.studio.sessions.time.monotonic", lambda: clock[0])
    sessions = Sessions()
    cookie = sessions.open(KEY)
    session = sessions.find(cookie)
    assert session
    session.drafts["page"] = {"name": "half typed"}
    clock[0] = IDLE_SECONDS - 1
    assert sessions.find(cookie) is session
    clock[0] += IDLE_SECONDS + 1
    assert sessions.find(cookie) is None
    again = sessions.find(sessions.open(KEY))
    assert again
    assert again.drafts["page"] == {"name": "half typed"}, "the same key finds what was typed"
    other = sessions.find(sessions.open("sk-finery-other"))
    assert other
    assert other.drafts == {}
