"""People sent to the identity provider and back: OpenID Connect's authorization code flow, with PKCE.

It asks for an ID token and hands that on as the bearer of the person's requests: such a token says who they are, is
made for this server's client and for nobody else, and is checked by the same code as any other (`identity`). The access
token, which may be meant for any program, is dropped. It keeps nothing and knows no browser.
"""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from finery.control import identity
from finery.control.issuer import Issuer
from finery.core.errors import Unauthenticated, Unavailable
from finery.core.sign_in import Tokens, Trip

_MAX_REASON = 200
_MAX_REFRESH_TOKEN = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """This server as a client of the provider."""

    issuer: Issuer
    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty: a public client, which PKCE alone protects."""
    scope: str = "openid profile"
    """`profile` brings Entra ID's `oid`; nothing else of it is looked at."""
    redirect_uri: str = ""
    """Empty: below whatever address the browser knows us by."""

    @property
    def host(self) -> str:
        """The provider's name for people."""
        return urlsplit(self.issuer.url).netloc

    @property
    def issuer_url(self) -> str:
        """The provider's name for programs."""
        return self.issuer.url

    def address(self, trip: Trip, *, again: bool = False) -> str:
        """Where the browser goes; `again` makes the provider ask who it is, even if it knows.

        Raises:
            Unavailable: the provider doesn't answer, or offers no such thing.
        """
        fields = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": trip.redirect_uri,
            "scope": self.scope,
            "state": trip.state,
            "nonce": trip.nonce,
            "code_challenge": _challenge(trip.verifier),
            "code_challenge_method": "S256",
        }
        return _with(self._endpoint("authorization_endpoint"), fields | ({"prompt": "login"} if again else {}))

    def redeem(self, trip: Trip, code: str) -> Tokens:
        """Tokens for the code that the browser brought back.

        Raises:
            Unauthenticated: the provider refuses, or its token isn't good or not of this trip.
            Unavailable: the provider doesn't answer.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": trip.redirect_uri,
            "code_verifier": trip.verifier,
        }
        given = self._ask(form)
        claims = self._claims(given)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), trip.nonce.encode()):
            raise identity.refused("its `nonce` isn't that of this sign-in. Sign in again.")
        return self._tokens(given, claims)

    def renew(self, tokens: Tokens) -> Tokens:
        """Later ones of the same person.

        Raises:
            Unauthenticated: the provider refuses, gives no ID token, or one of somebody else.
            Unavailable: the provider doesn't answer.
        """
        given = self._ask({"grant_type": "refresh_token", "refresh_token": tokens.refresh_token})
        claims = self._claims(given)
        if claims["sub"] != tokens.subject:
            raise identity.refused("it is of somebody else than before.")
        return self._tokens(given, claims, before=tokens.refresh_token)

    def farewell(self) -> str:
        """Where one signs out at the provider; empty where it has no such place, or can't be asked now."""
        # No `id_token_hint`: it would put into the address a token that the API takes.
        try:
            address = self.issuer.endpoint("end_session_endpoint")
        except Unavailable:
            return ""
        return _with(address, {"client_id": self.client_id}) if address else ""

    def _endpoint(self, name: str) -> str:
        address = self.issuer.endpoint(name)
        if not address:
            raise Unavailable(
                f"Nobody can sign in at {self.issuer.url}: its discovery document names no `{name}`.",
                code="issuer_unavailable",
            )
        return address

    def _ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        """What the token endpoint gives."""
        self._endpoint("token_endpoint")
        basic = self.client_secret and "client_secret_basic" in self._methods()
        auth = (quote(self.client_id, safe=""), quote(self.client_secret, safe="")) if basic else None
        said = {"client_id": self.client_id} | ({"client_secret": self.client_secret} if self.client_secret else {})
        status, given = self.issuer.post("token_endpoint", dict(form) if basic else {**form, **said}, auth)
        if status == 200:
            return given
        if status >= 500 or status == 429:
            raise Unavailable(f"{self.host} answered with status {status}. Try again.", code="issuer_unavailable")
        error = str(given.get("error", f"status {status}"))
        help_text = (
            " It doesn't know this server: look at FINERY_OIDC_CLIENT_ID and FINERY_OIDC_CLIENT_SECRET."
            if error in ("invalid_client", "unauthorized_client")
            else " Sign in again."
        )
        raise Unauthenticated(
            f"{self.host} refused the sign-in: {_brief(error, given.get('error_description'))}.{help_text}",
            code="sign_in_refused",
        )

    def _methods(self) -> list[str]:
        """How the provider lets clients prove themselves; where it doesn't say, as the standard has it."""
        named = self.issuer.listed("token_endpoint_auth_methods_supported")
        return named or ["client_secret_basic"]

    def _claims(self, given: Mapping[str, Any]) -> dict[str, Any]:
        token = given.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated(
                f"{self.host} gave no ID token. FINERY_OIDC_SCOPE must hold 'openid'; it is {self.scope!r}.",
                code="sign_in_refused",
            )
        claims = identity.claims_of(self.issuer, token, [self.client_id])
        if claims.get("azp", self.client_id) != self.client_id:
            raise identity.refused(f"its `azp` is {str(claims['azp'])[:80]!r}; it must be {self.client_id}.")
        return claims

    def _tokens(self, given: Mapping[str, Any], claims: Mapping[str, Any], *, before: str = "") -> Tokens:
        later = given.get("refresh_token")
        usable = isinstance(later, str) and 0 < len(later) <= _MAX_REFRESH_TOKEN
        return Tokens(
            issuer=self.issuer.url,
            subject=str(claims["sub"]),
            bearer=str(given["id_token"]),
            expires_at=float(claims["exp"]),
            refresh_token=str(later) if usable else before,
        )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _with(address: str, fields: Mapping[str, str]) -> str:
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(fields)}"


def _brief(error: str, description: Any) -> str:
    text = f"{error}: {description}" if isinstance(description, str) and description else error
    return "".join(letter for letter in text if letter.isprintable())[:_MAX_REASON].rstrip(". ")
