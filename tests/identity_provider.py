"""An OpenID Connect provider without a network: its keys, its two documents, and tokens with whatever is asked.

It redeems codes as well: `login` is what a browser would do there, `given` what its token endpoint then gives.
"""

import base64
import json
import time
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://login.example/tenant"
AUDIENCE = "finery"

_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


class Provider:
    """One issuer. What it answers may be changed at any time; `asked` are the addresses it was asked for."""

    def __init__(self, url: str = ISSUER) -> None:
        self.url = url
        self.document: dict[str, Any] = {
            "issuer": url,
            "jwks_uri": f"{url}/keys",
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "end_session_endpoint": f"{url}/logout",
        }
        self.codes: dict[str, dict[str, str]] = {}
        self.forms: list[dict[str, str]] = []
        self.given: dict[str, Any] = {}
        """What its token endpoint gives beside an ID token, or in its place."""
        self.keys: dict[str, tuple[str, Any]] = {}
        self.published: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.down: Exception | None = None
        self.add_key("one")

    def add_key(self, kid: str, algorithm: str = "ES256", *, bits: int = 2048, **fields: Any) -> Any:
        """A further key, published at once; fields of its JWK are changed, or left out where they are None."""
        if algorithm == "EdDSA":
            key: Any = ed25519.Ed25519PrivateKey.generate()
        elif algorithm in _CURVES:
            key = ec.generate_private_key(_CURVES[algorithm])
        else:
            key = rsa.generate_private_key(65537, bits)
        self.keys[kid] = algorithm, key
        public = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
        jwk = {**public, "kid": kid, "use": "sig", "alg": algorithm, **fields}
        self.published.append({name: value for name, value in jwk.items() if value is not None})
        return key

    def token(
        self, subject: str = "ada", *, kid: str = "one", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A good token, but for what is changed; a claim that is None is left out."""
        algorithm, key = self.keys[kid]
        return jwt.encode(self.claims(subject, **claims), key, algorithm, headers={"kid": kid, **(headers or {})})

    def claims(self, subject: str = "ada", **changed: Any) -> dict[str, Any]:
        """What a good token says, but for what is changed."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "nbf": now, "exp": now + 600, **changed}
        return {name: value for name, value in claims.items() if value is not None}

    def login(self, address: str, code: str = "a-code") -> dict[str, str]:
        """Somebody follows that address and agrees; what their browser brings back."""
        asked = dict(parse_qsl(urlsplit(address).query))
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.url}

    def transport(self) -> httpx.MockTransport:
        """The way to it."""
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.down is not None:
            raise self.down
        if request.url == f"{self.url}/.well-known/openid-configuration":
            return httpx.Response(200, json=self.document)
        if request.url == f"{self.url}/keys":
            return httpx.Response(200, content=json.dumps({"keys": self.published}))
        if request.url == f"{self.url}/token":
            return self._redeem(dict(parse_qsl(request.content.decode())))
        return httpx.Response(404)

    def _redeem(self, form: dict[str, str]) -> httpx.Response:
        self.forms.append(form)
        if form["grant_type"] == "refresh_token":
            return httpx.Response(200, json={"id_token": self.token(aud="studio"), **self.given})
        asked = self.codes.pop(form.get("code", ""), None)
        digest = base64.urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or asked["code_challenge"] != digest
            or asked["code_challenge_method"] != "S256"
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": "no such code"})
        token = self.token(aud="studio", nonce=asked["nonce"])
        return httpx.Response(200, json={"id_token": token, "refresh_token": "later", **self.given})
