"""The provider's keys are fetched when needed and seldom, kept when it is down, and nowhere else asked for."""

import threading
from typing import Any

import httpx
import pytest

from finery.control import issuer as module
from finery.control.issuer import Issuer
from finery.core.errors import InvalidRequest, Unavailable
from identity_provider import AUDIENCE, Provider


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(provider: Provider, clock: Clock) -> Issuer:
    return Issuer(provider.url, AUDIENCE, transport=provider.transport(), clock=clock)


def test_nothing_is_asked_before_it_is_needed_and_then_once(provider: Provider, issuer: Issuer) -> None:
    assert provider.asked == []
    for _ in range(5):
        assert [key["kid"] for key in issuer.keys("one")] == ["one"]
    assert provider.asked == [f"{provider.url}/.well-known/openid-configuration", f"{provider.url}/keys"]


def test_a_new_key_is_found_and_one_given_up_is_forgotten(provider: Provider, issuer: Issuer, clock: Clock) -> None:
    issuer.keys("one")
    provider.published.clear()
    provider.add_key("two")
    clock.now += module.RETRY_SECONDS
    assert [key["kid"] for key in issuer.keys("two")] == ["two"]
    assert issuer.keys("one") == []


def test_a_key_given_up_is_forgotten_though_nobody_names_another(
    provider: Provider, issuer: Issuer, clock: Clock
) -> None:
    issuer.keys("one")
    provider.published.clear()
    provider.add_key("two")
    clock.now += module.FRESH_SECONDS
    assert issuer.keys("one") == []


def test_a_flood_of_unknown_keys_is_not_passed_on(provider: Provider, issuer: Issuer, clock: Clock) -> None:
    issuer.keys("one")
    for number in range(500):
        assert issuer.keys(f"nonsense-{number}") == []
        clock.now += module.RETRY_SECONDS / 100
    assert len(provider.asked) <= 2 * 6
    assert issuer.keys("one")


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("no"), httpx.ReadTimeout("slow")], ids=lambda failure: type(failure).__name__
)
def test_known_keys_go_on_while_the_issuer_is_down(
    provider: Provider, issuer: Issuer, clock: Clock, failure: Exception
) -> None:
    issuer.keys("one")
    provider.down = failure
    clock.now += module.FRESH_SECONDS
    asked = len(provider.asked)
    for _ in range(50):
        assert issuer.keys("one")
    assert len(provider.asked) == asked + 1
    with pytest.raises(Unavailable, match="can't be checked now"):
        issuer.keys("two")
    clock.now += module.TRUSTED_SECONDS
    with pytest.raises(Unavailable, match="doesn't answer"):
        issuer.keys("one")
    provider.down = None
    clock.now += module.RETRY_SECONDS
    assert issuer.keys("one")


def test_an_issuer_that_was_never_there_is_said_plainly_and_asked_seldom(provider: Provider, issuer: Issuer) -> None:
    provider.down = httpx.ConnectError("no")
    for _ in range(20):
        with pytest.raises(Unavailable, match=r"https://login\.example/tenant doesn't answer \(ConnectError\)"):
            issuer.keys("one")
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"issuer": "https://other.example"}, "calls itself 'https://other.example'"),
        ({"issuer": "https://login.example/tenant/"}, "set FINERY_OIDC_ISSUER to exactly that"),
        ({"jwks_uri": "http://login.example/keys"}, "must begin with https://"),
        ({"jwks_uri": "file:///etc/passwd"}, "must look like"),
        ({"jwks_uri": None}, "must look like"),
        ({"jwks_uri": "https://login.example/nothing"}, "answers 404"),
    ],
)
def test_a_document_that_cant_be_right_is_not_followed(
    provider: Provider, issuer: Issuer, document: dict[str, Any], said: str
) -> None:
    provider.document |= document
    with pytest.raises(Unavailable, match=said):
        issuer.keys("one")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"<html>", b"[" * 100_000, b"\xff", b'{"keys": 5}', b'{"keys": [7, {}]}']
)
def test_garbage_for_keys_is_no_key(provider: Provider, content: bytes) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/keys"):
            return httpx.Response(200, content=content)
        return httpx.Response(200, json=provider.document)

    issuer = Issuer(provider.url, AUDIENCE, transport=httpx.MockTransport(answer))
    with pytest.raises(Unavailable):
        issuer.keys("one")


def test_symmetric_keys_and_keys_for_encryption_are_left_out(provider: Provider, issuer: Issuer) -> None:
    provider.published += [{"kty": "oct", "k": "AAAA", "kid": "one"}, {**provider.published[0], "use": "enc"}]
    assert len(issuer.keys("one")) == 1


def test_an_issuer_that_is_slow_holds_few_threads(provider: Provider) -> None:
    arrived, answered = threading.Event(), threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.set()
        answered.wait(30)
        return httpx.Response(404)

    issuer = Issuer(provider.url, AUDIENCE, transport=httpx.MockTransport(answer))
    told: list[str] = []

    def ask() -> None:
        with pytest.raises(Unavailable) as raised:
            issuer.keys("one")
        told.append(raised.value.message)

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    assert arrived.wait(30)
    for thread in threads:
        if len(told) < 30 - module.WAITING:
            thread.join(0.5)
    assert len(told) == 30 - module.WAITING
    assert all("Too many wait" in text for text in told)
    answered.set()
    for thread in threads:
        thread.join(30)
    assert len(told) == 30


@pytest.mark.parametrize(
    ("url", "audience", "said"),
    [
        ("https://login.example", " , ", "needs FINERY_OIDC_AUDIENCE"),
        ("http://login.example", "a", "must begin with https://"),
        ("ftp://login.example", "a", "must look like"),
        ("login.example", "a", "must look like"),
        ("https://u:p@login.example", "a", "must look like"),
        ("https://login.example/?a=b", "a", "must look like"),
        ("https://[x", "a", "must look like"),
    ],
)
def test_settings_that_cant_be_are_refused_at_the_start(url: str, audience: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Issuer(url, audience)


@pytest.mark.parametrize(
    "url", ["http://localhost:9", "http://127.0.0.1:9/a", "http://[::1]:9", "https://login.example/"]
)
def test_addresses_that_can_be(url: str) -> None:
    assert Issuer(url, "a, b,").audiences == ["a", "b"]
