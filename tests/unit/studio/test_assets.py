"""The framework's files: compressed once, kept for as long as its version, and nothing beside them."""

import gzip
from importlib import metadata, util

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from finery.studio.assets import Assets, needed

pytestmark = pytest.mark.skipif(util.find_spec("nicegui") is None, reason="the Studio's extra isn't installed")


async def _framework(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"asked: {Request(scope).url.path}")(scope, receive, send)


@pytest.fixture
def browser() -> TestClient:
    return TestClient(Assets(_framework))


@pytest.fixture
def files() -> str:
    return f"/studio/_nicegui/{metadata.version('nicegui')}/static"


def test_what_every_page_begins_with_is_there_and_stays_in_the_browser(browser: TestClient) -> None:
    addresses = needed("/studio")
    assert len(addresses) == 9
    for address, kind in addresses:
        answer = browser.get(address, headers={"accept-encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith({"script": "text/javascript", "style": "text/css"}[kind])
        assert browser.get(address, headers={"accept-encoding": "gzip"}).content == answer.content


def test_files_are_those_of_the_package(browser: TestClient, files: str) -> None:
    with browser.stream("GET", f"{files}/nicegui.js", headers={"accept-encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    spec = util.find_spec("nicegui")
    assert spec is not None
    assert spec.submodule_search_locations
    with open(f"{spec.submodule_search_locations[0]}/static/nicegui.js", "rb") as file:
        assert gzip.decompress(packed) == file.read()


@pytest.mark.parametrize(
    "path",
    [
        "{files}/nothing.js",
        "{files}/../nicegui.py",
        "{files}/%2e%2e/nicegui.py",
        "{files}/lang",
        "/studio/_nicegui/0.0.1/static/nicegui.js",
        "/studio/jobs",
    ],
)
def test_everything_else_is_for_the_framework(browser: TestClient, files: str, path: str) -> None:
    assert browser.get(path.format(files=files)).text.startswith("asked: ")


@pytest.mark.parametrize("headers", [{"accept-encoding": "identity"}, {"range": "bytes=0-9"}])
def test_who_wants_a_part_or_no_compression_is_passed_on(
    browser: TestClient, files: str, headers: dict[str, str]
) -> None:
    assert browser.get(f"{files}/nicegui.js", headers=headers).text.startswith("asked: ")
