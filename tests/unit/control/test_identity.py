"""Good tokens are taken, of every algorithm; every other one is refused, and says why."""

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from finery.control import identity
from finery.control.identity import ALGORITHMS
from finery.control.issuer import Issuer
from finery.core.errors import Unauthenticated
from identity_provider import AUDIENCE, ISSUER, Provider


@pytest.fixture(scope="module")
def provider() -> Provider:
    """One with a key of every kind; RSA keys without an `alg`, as some providers publish them."""
    provider = Provider()
    for algorithm in ALGORITHMS:
        if algorithm not in ("RS384", "RS512", "PS384", "PS512"):
            provider.add_key(algorithm, algorithm, alg=None if algorithm == "RS256" else algorithm)
    provider.add_key("weak", "RS256", bits=1024)
    return provider


@pytest.fixture
def issuer(provider: Provider) -> Issuer:
    return Issuer(ISSUER, f"other, {AUDIENCE}", transport=provider.transport())


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def refusal(issuer: Issuer, token: str) -> str:
    with pytest.raises(Unauthenticated) as raised:
        identity.check(issuer, token)
    assert raised.value.code == "invalid_token"
    assert token not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_asymmetric_algorithm_is_taken(provider: Provider, issuer: Issuer, algorithm: str) -> None:
    kid = algorithm if algorithm in provider.keys else "RS256"
    token = jwt.encode(provider.claims(), provider.keys[kid][1], algorithm, headers={"kid": kid})
    assert identity.check(issuer, token).subjects == ("ada",)


def test_access_tokens_and_id_tokens_are_taken(provider: Provider, issuer: Issuer) -> None:
    for kind in ("JWT", "at+jwt", "application/at+jwt"):
        assert identity.check(issuer, provider.token(headers={"typ": kind}))
    assert identity.check(issuer, provider.token(aud=["somebody", AUDIENCE]))


def test_clocks_may_differ_a_little(provider: Provider, issuer: Issuer) -> None:
    now = int(time.time())
    assert identity.check(issuer, provider.token(exp=now - 10))
    assert identity.check(issuer, provider.token(nbf=now + 10, iat=now + 10))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"exp": 1_700_000_000}, r"expired \(2023-11-14 22:13:20 UTC\)"),
        ({"nbf": 4_000_000_000}, r"isn't valid yet \(2096-"),
        ({"iat": 4_000_000_000}, "isn't valid yet"),
        ({"iss": "https://evil.example"}, f"of another issuer than {ISSUER}"),
        ({"iss": f"{ISSUER}/"}, "of another issuer"),
        ({"aud": "somebody"}, "its `aud` must be other or finery"),
        ({"aud": []}, "doesn't say its `aud`"),
        ({"aud": ["Finery", "finery2"]}, "its `aud` must be"),
        ({"aud": None}, "doesn't say its `aud`"),
        ({"exp": None}, "doesn't say its `exp`"),
        ({"iss": None}, "doesn't say its `iss`"),
        ({"sub": None}, "doesn't say its `sub`"),
        ({"exp": "soon"}, "can't be read"),
        ({"exp": float("inf")}, "can't be read"),
        ({"sub": 7}, "can't be read"),
        ({"cnf": {"jkt": "x"}}, "bound to a key of its holder"),
    ],
    ids=str,
)
def test_a_token_that_says_something_else_is_refused(
    provider: Provider, issuer: Issuer, changed: dict[str, Any], said: str
) -> None:
    algorithm, key = provider.keys["one"]
    claims = {name: value for name, value in (provider.claims() | changed).items() if value is not None}
    # By hand: the library would not write some of these.
    payload = json.dumps(claims).encode()
    token = jwt.PyJWS().encode(payload, key, algorithm, headers={"kid": "one"})
    assert re.search(said, refusal(issuer, token))


def test_a_token_without_a_signature_is_refused(provider: Provider, issuer: Issuer) -> None:
    for algorithm in ("none", "None", "NONE", "", None):
        bare = f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'one'})}.{part(provider.claims())}."
        assert "its algorithm is" in refusal(issuer, bare)
    signed = provider.token()
    assert "signature is wrong" in refusal(issuer, signed.rpartition(".")[0] + ".")


def test_hs256_with_the_public_key_is_refused(provider: Provider, issuer: Issuer) -> None:
    public = provider.keys["RS256"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(provider.published[1]).encode()):
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'RS256'})}.{part(provider.claims())}"
        token = f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
        assert "its algorithm is 'HS256'" in refusal(issuer, token)


def test_a_signature_of_somebody_else_or_over_something_else_is_refused(provider: Provider, issuer: Issuer) -> None:
    assert "signature is wrong" in refusal(issuer, Provider().token())
    header, _, signature = provider.token().split(".")
    assert "signature is wrong" in refusal(issuer, f"{header}.{part(provider.claims('eve'))}.{signature}")
    # Another key of the same issuer, by its name.
    key = provider.keys["one"][1]
    other = jwt.encode(provider.claims(), key, "ES256", headers={"kid": "ES256"})
    assert "signature is wrong" in refusal(issuer, other)


def test_a_key_is_used_with_its_own_algorithm_alone(provider: Provider, issuer: Issuer) -> None:
    key = provider.keys["PS256"][1]
    for algorithm in ("RS256", "PS512"):
        token = jwt.encode(provider.claims(), key, algorithm, headers={"kid": "PS256"})
        assert f"no key 'PS256' for {algorithm}" in refusal(issuer, token)
    assert "no key 'ES256' for RS256" in refusal(
        issuer, jwt.encode(provider.claims(), key, "RS256", headers={"kid": "ES256"})
    )


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_weak_key_is_refused(provider: Provider, issuer: Issuer) -> None:
    assert "too weak" in refusal(issuer, provider.token(kid="weak"))


def test_an_unknown_key_and_one_without_a_name_are_refused(provider: Provider, issuer: Issuer) -> None:
    key = provider.keys["one"][1]
    assert "no key 'gone'" in refusal(issuer, jwt.encode(provider.claims(), key, "ES256", headers={"kid": "gone"}))
    assert "no key without a name for ES256" in refusal(issuer, jwt.encode(provider.claims(), key, "ES256"))
    ed = jwt.encode(provider.claims(), provider.keys["EdDSA"][1], "EdDSA")
    assert identity.check(issuer, ed), "the only one that it can be"


def test_addresses_and_keys_in_a_token_are_passed_over(provider: Provider, issuer: Issuer) -> None:
    evil = Provider("https://evil.example")
    public = evil.published[0]
    lures = {"jku": "https://evil.example/keys", "x5u": "https://evil.example/c", "jwk": public, "x5c": ["AAAA"]}
    provider.asked.clear()
    assert "signature is wrong" in refusal(issuer, evil.token(headers=lures, iss=ISSUER))
    assert "no key 'two'" in refusal(
        issuer, jwt.encode(provider.claims(), evil.keys["one"][1], "ES256", headers={**lures, "kid": "two"})
    )
    assert all(address.startswith(ISSUER) for address in provider.asked)


@pytest.mark.parametrize("header", [{"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"crit": ["x"], "x": 1}, {"crit": []}])
def test_tokens_of_another_kind_are_refused(provider: Provider, issuer: Issuer, header: dict[str, Any]) -> None:
    assert re.search("its type is|can't be read", refusal(issuer, provider.token(headers=header)))


ES256 = {"alg": "ES256", "kid": "one"}
GARBLED = [
    "..",
    "a.b.c",
    "eyJ.eyJ.eyJ",
    "é.é.é",
    "\x00.\x00.\x00",
    *(
        f"{part(header)}.{part(claims)}.AAAA"
        for header, claims in (
            (b"[" * 9000, {}),
            (b'{"a":' * 2000, {}),
            ([], {}),
            ({**ES256, "kid": 7}, {}),
            ({**ES256, "alg": ["ES256"]}, {}),
            (ES256, []),
            (ES256, b"\xff"),
            ({**ES256, "b64": False}, {}),
        )
    ),
    "a" * 20_000 + ".b.c",
]


@pytest.mark.parametrize("token", GARBLED, ids=range(len(GARBLED)))
def test_garbled_tokens_are_refused(issuer: Issuer, token: str) -> None:
    assert refusal(issuer, token)


def test_an_application_is_known_by_its_id_only_where_the_token_is_its_own(provider: Provider, issuer: Issuer) -> None:
    person = identity.check(issuer, provider.token("pairwise", oid="object", azp="app", appid="app"))
    assert (person.subjects, person.applications) == (("pairwise", "object"), ())
    program = identity.check(issuer, provider.token("object", oid="object", azp="app", appid="app", idtyp="app"))
    assert (program.subjects, program.applications) == (("object",), ("app",))


def test_a_subject_that_nobody_could_have_is_nobodys(provider: Provider, issuer: Issuer) -> None:
    for subject in ("", "a\x00b", "x" * 256):
        assert identity.check(issuer, provider.token(subject, oid=["ada"])).subjects == ()
