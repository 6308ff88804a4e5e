"""The code flow at the provider: what is sent, what is taken for a sign-in, and all that isn't."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from finery.control.issuer import MAX_BYTES, Issuer
from finery.control.sign_in import SignIn
from finery.core.errors import Unauthenticated, Unavailable
from finery.core.sign_in import Trip
from identity_provider import AUDIENCE, Provider

TRIP = Trip(
    redirect_uri="https://finery.test/studio/sign-in/callback", state="a-state", nonce="a-nonce", verifier="v" * 43
)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def sign_in(provider: Provider) -> SignIn:
    issuer = Issuer(provider.url, f"{AUDIENCE},studio", transport=provider.transport())
    return SignIn(issuer=issuer, client_id="studio")


def code(sign_in: SignIn, provider: Provider) -> str:
    return provider.login(sign_in.address(TRIP))["code"]


def test_the_way_there_says_all_that_has_to_come_back(sign_in: SignIn) -> None:
    address = sign_in.address(TRIP)
    assert address.startswith("https://login.example/tenant/authorize?")
    asked = dict(parse_qsl(urlsplit(address).query))
    assert TRIP.verifier not in address
    assert asked | {"code_challenge": ""} == {
        "response_type": "code",
        "client_id": "studio",
        "redirect_uri": TRIP.redirect_uri,
        "scope": "openid profile",
        "state": "a-state",
        "nonce": "a-nonce",
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    assert "prompt=login" in sign_in.address(TRIP, again=True)


def test_an_address_with_a_query_of_its_own_keeps_it(sign_in: SignIn, provider: Provider) -> None:
    provider.document["authorization_endpoint"] += "?p=policy"
    assert sign_in.address(TRIP).startswith("https://login.example/tenant/authorize?p=policy&response_type=code&")


def test_a_code_gives_tokens_that_show_in_no_log(sign_in: SignIn, provider: Provider) -> None:
    tokens = sign_in.redeem(TRIP, code(sign_in, provider))
    assert (tokens.issuer, tokens.subject, tokens.refresh_token) == (provider.url, "ada", "later")
    assert tokens.bearer not in repr(tokens)
    assert "later" not in repr(tokens)
    assert TRIP.verifier not in repr(TRIP)
    assert provider.forms[-1]["client_id"] == "studio"


@pytest.mark.parametrize(
    "wrong", [{"verifier": "w" * 43}, {"redirect_uri": "https://finery.test/elsewhere"}, {"nonce": "another"}]
)
def test_a_code_of_another_trip_is_refused(sign_in: SignIn, provider: Provider, wrong: dict[str, str]) -> None:
    stolen = code(sign_in, provider)
    with pytest.raises(Unauthenticated, match="nonce" if "nonce" in wrong else "invalid_grant: no such code"):
        sign_in.redeem(replace(TRIP, **wrong), stolen)


def test_a_code_works_once(sign_in: SignIn, provider: Provider) -> None:
    used = code(sign_in, provider)
    sign_in.redeem(TRIP, used)
    with pytest.raises(Unauthenticated, match="refused the sign-in"):
        sign_in.redeem(TRIP, used)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": AUDIENCE}, "for somebody else; its `aud` must be studio"),
        ({"nonce": None}, "`nonce` isn't that"),
        ({"iss": "https://evil.test"}, "another issuer"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"aud": ["studio", "other"], "azp": "other"}, "`azp` is 'other'"),
        ({"cnf": {"jkt": "x"}}, "bound to a key"),
    ],
)
def test_a_token_that_isnt_for_us_is_refused(
    sign_in: SignIn, provider: Provider, claims: dict[str, Any], said: str
) -> None:
    found = code(sign_in, provider)
    provider.given["id_token"] = provider.token(**{"aud": "studio", "nonce": TRIP.nonce, **claims})
    with pytest.raises(Unauthenticated, match=said):
        sign_in.redeem(TRIP, found)


@pytest.mark.parametrize(
    ("token", "said"), [(None, "FINERY_OIDC_SCOPE must hold 'openid'"), ("x.y.z", "can't be read")]
)
def test_no_token_and_garbage_are_refused(sign_in: SignIn, provider: Provider, token: Any, said: str) -> None:
    found = code(sign_in, provider)
    provider.given["id_token"] = token
    with pytest.raises(Unauthenticated, match=said):
        sign_in.redeem(TRIP, found)


def test_a_secret_goes_the_way_that_the_provider_takes(provider: Provider) -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            seen.append((request.headers.get("authorization", ""), request.content.decode()))
            return httpx.Response(401, json={"error": "invalid_client"})
        if request.url.path.endswith("/keys"):
            return httpx.Response(200, json={"keys": provider.published})
        return httpx.Response(200, json=provider.document)

    for methods, basic in ((None, True), (["client_secret_basic"], True), (["client_secret_post"], False)):
        provider.document["token_endpoint_auth_methods_supported"] = methods
        issuer = Issuer(provider.url, AUDIENCE, transport=httpx.MockTransport(answer))
        with pytest.raises(Unauthenticated, match="FINERY_OIDC_CLIENT_SECRET") as refused:
            SignIn(issuer=issuer, client_id="studio", client_secret="s:cret").redeem(TRIP, "c")
        assert "s:cret" not in refused.value.message
        header, body = seen[-1]
        assert (header.startswith("Basic "), "client_secret=s%3Acret" in body) == (basic, not basic)


def test_a_renewal_is_of_the_same_person(sign_in: SignIn, provider: Provider) -> None:
    tokens = sign_in.redeem(TRIP, code(sign_in, provider))
    later = sign_in.renew(tokens)
    assert later.refresh_token == "later", "where no new one is given, the old one stays"
    assert provider.forms[-1]["refresh_token"] == "later"
    provider.given = {"refresh_token": "rotated"}
    assert sign_in.renew(tokens).refresh_token == "rotated"
    provider.given["id_token"] = provider.token("mallory", aud="studio")
    with pytest.raises(Unauthenticated, match="somebody else than before"):
        sign_in.renew(tokens)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (503, b"", "status 503"),
        (200, b"<html>", "no JSON object"),
        (200, b'"' + b"x" * (MAX_BYTES + 1) + b'"', "more than 1048576 bytes"),
    ],
)
def test_a_provider_that_answers_nonsense_is_said_to(
    provider: Provider, status: int, content: bytes, said: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(status, content=content)
        if request.url.path.endswith("/keys"):
            return httpx.Response(200, json={"keys": provider.published})
        return httpx.Response(200, json=provider.document)

    issuer = Issuer(provider.url, AUDIENCE, transport=httpx.MockTransport(answer))
    with pytest.raises(Unavailable, match=said):
        SignIn(issuer=issuer, client_id="studio").redeem(TRIP, "c")


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://login.example/authorize", "must begin with https://"), ("javascript:alert(1)", "must look like")],
)
def test_an_address_that_isnt_safe_is_not_followed(
    sign_in: SignIn, provider: Provider, address: str, said: str
) -> None:
    provider.document["authorization_endpoint"] = address
    with pytest.raises(Unavailable, match=said):
        sign_in.address(TRIP)


def test_a_provider_that_is_away_or_lacks_a_part_is_told_plainly(sign_in: SignIn, provider: Provider) -> None:
    provider.down = httpx.ConnectError("no")
    with pytest.raises(Unavailable, match=r"Nobody can sign in there now.*doesn't answer.*API keys work meanwhile"):
        sign_in.address(TRIP)
    assert sign_in.farewell() == ""
    fresh = Provider()
    del fresh.document["authorization_endpoint"], fresh.document["end_session_endpoint"]
    lacking = replace(sign_in, issuer=Issuer(fresh.url, AUDIENCE, transport=fresh.transport()))
    with pytest.raises(Unavailable, match="names no `authorization_endpoint`"):
        lacking.address(TRIP)
    assert lacking.farewell() == ""


def test_the_way_to_sign_out_holds_no_token(sign_in: SignIn) -> None:
    assert sign_in.farewell() == "https://login.example/tenant/logout?client_id=studio"
