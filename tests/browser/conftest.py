"""A headless Chromium, and a server with the Studio. Skipped, with the reason, where either is missing."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import Server

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SHOTS = Path(os.environ.get("FINERY_SHOTS", "build/screenshots"))
SECONDS = 60


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: make test-browser installs Debian's")
    pytest.importorskip("nicegui", reason="the Studio's extra isn't installed: pip install 'finery[studio]'")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright isn't here: make test-browser installs it"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Person:
    """Somebody in front of the Studio: a browser of their own, whose complaints are kept."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        self.server = server
        self.patience = SECONDS
        """How long a job may take, in seconds."""
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **{"locale": "en-US", **options})
        self.context.set_default_timeout(SECONDS * 1000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def sign_in(self, key: str | None = None) -> Any:
        """Through the door, to the home page."""
        self.page.goto(f"{self.server.url}/")
        self.page.fill("#key", key or self.server.key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_selector("#content h1")
        return self.page

    def open(self, path: str) -> Any:
        """A page by its address behind /studio."""
        self.page.goto(f"{self.server.url}/studio{path}")
        self.page.wait_for_selector("#content h1, #content h2")
        return self.page

    def shoot(self, name: str) -> None:
        """Keep a picture."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., Person]]:
    """Makes persons; their browsers are closed at the end."""
    persons: list[Person] = []

    def make(**options: Any) -> Person:
        persons.append(Person(chromium, server, **options))
        return persons[-1]

    yield make
    for person in persons:
        person.context.close()


@pytest.fixture
def person(visit: Callable[..., Person]) -> Person:
    """Somebody who is signed in, with English words."""
    someone = visit()
    someone.sign_in()
    return someone
