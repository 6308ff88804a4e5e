"""Signing in at a real identity provider, in a browser: there, back, the project, the end of a session, and out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Person
from browser.walk import button
from finery.control.issuer import RETRY_SECONDS
from oidc_provider import HERE, SECRET, Provider, free_port
from servers import Server

pytestmark = [
    *HERE,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]


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
    provider: Provider, port: int, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[Server]:
    """A server whose people sign in at the provider; ada has roles in two projects."""
    settings = {
        "FINERY_OIDC_ISSUER": provider.url,
        "FINERY_OIDC_CLIENT_ID": "studio",
        "FINERY_OIDC_CLIENT_SECRET": SECRET,
    }
    home = tmp_path_factory.mktemp("trusting") / "home"
    running = Server(home, tiny_folder, options=["--port", str(port)], **settings).start()
    with running.http() as http:
        http.post("/finery/v1/roles/principals", json={"name": "ada", "subject": "ada"}).raise_for_status()
        for project in ("alpha", "beta"):
            http.post("/finery/v1/projects", json={"name": project}).raise_for_status()
            given = {"principal": "ada", "role": "Owner", "project": project}
            http.post("/finery/v1/roles/assignments", json=given).raise_for_status()
    yield running
    running.stop()


def at_the_provider(page: Any, name: str) -> None:
    """Its two pages: who one is, and whether Finery may know."""
    page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("anything")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_the_way_there_and_back(chromium: Any, trusting: Server, provider: Provider) -> None:
    person = Person(chromium, trusting)
    page = person.page
    page.goto(f"{trusting.url}/studio/fine-tune?model=tiny-phi3")
    page.get_by_role("link", name="Sign in with 127.0.0.1").wait_for()
    person.shoot("sign-in-provider")
    at_the_provider(page, "ada")
    page.get_by_role("heading", name="Choose a project").wait_for()
    person.shoot("choose-project")
    button(page, "beta").click()
    page.get_by_label("Name of the fine-tuned model").fill("half-typed")
    page.wait_for_timeout(500)
    page.locator(".where").get_by_text("beta").wait_for()
    person.shoot("in-project")
    assert "eyJ" not in page.content() + str(person.context.cookies()) + page.evaluate("JSON.stringify(localStorage)")

    provider.stop()
    provider.start()  # It has forgotten everybody and has new keys, which are asked for every ten seconds at most.
    page.wait_for_timeout(RETRY_SECONDS * 1000)
    button(page, "Next").click()
    page.get_by_text("Your session has ended").wait_for()
    page.locator(".q-dialog").get_by_role("button", name="Sign in").click()
    page.get_by_text("Sign in again to go on").wait_for()
    at_the_provider(page, "ada")
    button(page, "beta").click()
    assert "model=tiny-phi3" in page.url
    page.get_by_label("Name of the fine-tuned model").wait_for()
    assert page.get_by_label("Name of the fine-tuned model").input_value() == "half-typed"

    person.open("/projects")
    button(page, "Open the project alpha").wait_for()
    person.shoot("projects")
    button(page, "Open the project alpha").click()
    page.locator(".where").get_by_text("alpha").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign out at 127.0.0.1").wait_for()
    person.shoot("signed-out")
    assert [complaint for complaint in person.complaints if "Content Security Policy" in complaint] == []
    person.context.close()
