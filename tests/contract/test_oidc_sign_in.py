"""Signing in to the Studio at a real identity provider, npm's `oidc-provider`, by a browser's own requests.

What is refused, and why, is in `unit/control/test_sign_in` and `unit/studio/test_provider`; a browser is in
`browser/test_sign_in`.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from finery.control.issuer import RETRY_SECONDS
from oidc_provider import HERE, SECRET, Provider, free_port
from servers import Server

pytestmark = HERE

WANTED = "/studio/fine-tuning?show=all"


@pytest.fixture(scope="module", params=["studio", "public"])
def client(request: pytest.FixtureRequest) -> str:
    """A confidential client of the provider, and a public one, which gets no refresh token."""
    return str(request.param)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Provider]:
    back = f"http://127.0.0.1:{port}/studio/sign-in/callback"
    running = Provider(tmp_path_factory.mktemp("provider") / "log", back=back).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trusting(
    client: str, provider: Provider, port: int, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[Server]:
    """A server whose people sign in at the provider: ada has a role in one project, bob in two."""
    settings = {"FINERY_OIDC_ISSUER": provider.url, "FINERY_OIDC_CLIENT_ID": client}
    if client == "studio":
        settings["FINERY_OIDC_CLIENT_SECRET"] = SECRET
    home = tmp_path_factory.mktemp("trusting") / "home"
    running = Server(home, tiny_folder, options=["--port", str(port)], **settings).start()
    with running.http() as http:
        for project in ("alpha", "beta"):
            http.post("/finery/v1/projects", json={"name": project}).raise_for_status()
        for name, projects in (("ada", ["alpha"]), ("bob", ["alpha", "beta"])):
            http.post("/finery/v1/roles/principals", json={"name": name, "subject": name}).raise_for_status()
            for project in projects:
                given = {"principal": name, "role": "Azure AI Developer", "project": project}
                http.post("/finery/v1/roles/assignments", json=given).raise_for_status()
    yield running
    running.stop()


@pytest.fixture
def browser(trusting: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=trusting.url, follow_redirects=True, timeout=60) as made:
        made.headers["accept"] = "text/html"
        yield made


def press(browser: httpx.Client, page: httpx.Response, **typed: str) -> httpx.Response:
    """Fill in the first form of a page and send it."""
    form = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page.text, re.DOTALL)
    assert form, page.text
    fields = dict(re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', form[2]))
    return browser.post(str(page.url.join(form[1])), data=fields | typed)


def through_the_provider(browser: httpx.Client, name: str, following: str = WANTED) -> httpx.Response:
    """From a page that was wanted, by the link at the door, through the provider's own pages, to wherever it ends."""
    door = browser.get(following)
    link = re.search(r'href="(/studio/sign-in/provider\?next=[^"]+)"', door.text)
    assert link, door.text
    page = browser.get(link[1].replace("&amp;", "&"))
    assert 'name="login"' in page.text
    consent = press(browser, page, login=name, password="anything")
    return press(browser, consent)


def test_somebody_signs_in_and_is_where_they_wanted(browser: httpx.Client, trusting: Server) -> None:
    page = through_the_provider(browser, "ada")
    assert (page.status_code, str(page.url)) == (200, trusting.url + WANTED)
    held = " ".join(f"{cookie.value}" for cookie in browser.cookies.jar if cookie.path.startswith("/studio"))
    assert held
    assert "eyJ" not in held + page.text, "no token, in no part of the page"


def test_of_several_projects_one_is_chosen(browser: httpx.Client, trusting: Server) -> None:
    page = through_the_provider(browser, "bob")
    assert page.url.path == "/studio/project"
    assert re.findall(r'name="project" value="(\w+)"', page.text) == ["alpha", "beta"]
    assert press(browser, page, project="beta").url == trusting.url + WANTED
    assert re.search(r'value="beta" aria-current="true"', browser.get("/studio/project").text)


def test_somebody_unknown_is_told_what_an_owner_has_to_type(browser: httpx.Client) -> None:
    page = through_the_provider(browser, "eve")
    assert page.status_code == 403
    assert "finery principals create NAME --subject eve" in page.text
    assert "Sign in as somebody else" in page.text
    assert browser.get("/studio/").url.path == "/studio/sign-in"


def test_whoever_cancels_at_the_provider_is_back_at_the_door(browser: httpx.Client, provider: Provider) -> None:
    page = browser.get("/studio/sign-in/provider")
    abort = re.search(r'href="([^"]+/abort)"', page.text)
    assert abort, page.text
    door = browser.get(str(page.url.join(abort[1])))
    assert door.status_code == 403
    assert "it was cancelled, or not allowed there" in door.text
    assert 'name="key"' in door.text


def test_a_session_is_renewed_or_ends_and_taking_a_role_back_is_at_once(
    browser: httpx.Client, trusting: Server, provider: Provider, client: str
) -> None:
    through_the_provider(browser, "ada")
    before = provider.granted("refresh_token")
    assert "alpha" in browser.get("/studio/project").text
    # What the provider gives lasts 25 seconds, and is renewed from 30 seconds before its end: at every request.
    assert (provider.granted("refresh_token") > before) == (client == "studio")
    with trusting.http() as http:
        given = http.get("/finery/v1/roles/assignments").json()["data"]
        people = {one["id"]: one["name"] for one in http.get("/finery/v1/roles/principals").json()["data"]}
        (role,) = (one for one in given if people[one["principal_id"]] == "ada")
        http.delete(f"/finery/v1/roles/assignments/{role['id']}").raise_for_status()
        assert "ada has no role in any project here" in browser.get("/studio/project").text
        body = {"principal": "ada", "role": "Azure AI Developer", "project": "alpha"}
        http.post("/finery/v1/roles/assignments", json=body).raise_for_status()


def test_a_provider_that_forgot_the_session_ends_it_and_the_page_is_kept(
    browser: httpx.Client, provider: Provider, client: str
) -> None:
    if client == "public":
        pytest.skip("without a refresh token there is nothing to forget")
    through_the_provider(browser, "ada")
    provider.stop()
    assert "alpha" in browser.get("/studio/project").text, "while it is away, the token goes on working"
    provider.start()
    door = browser.get("/studio/project", params={"next": WANTED})
    assert door.url.path == "/studio/sign-in"
    assert "Your session has ended" in door.text
    time.sleep(RETRY_SECONDS)  # It signs with new keys, which are asked for no sooner.
    assert through_the_provider(browser, "ada").url.path == "/studio/fine-tuning"


def test_signing_out_offers_to_sign_out_there_too(browser: httpx.Client) -> None:
    through_the_provider(browser, "ada")
    door = browser.post("/studio/sign-out", data={})
    farewell = re.search(r'href="([^"]+/session/end[^"]+)"', door.text)
    assert farewell, door.text
    assert "Do you want to sign-out" in browser.get(farewell[1].replace("&amp;", "&")).text
