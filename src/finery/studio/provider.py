"""The other way in: to the identity provider and back, by the browser's own steps. Shows no page and opens no session.

Between the two steps nothing is kept here: a signed cookie holds a random seed, from which only this process can make
what has to come back (state, nonce) and what must not be known (PKCE's verifier). So strangers can begin as often as
they like, and what one browser began no other can end.
"""

import asyncio
import hmac
import secrets
from hashlib import sha256

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from finery.core.errors import Unauthenticated
from finery.core.sign_in import IdentityProvider, Tokens, Trip
from finery.studio.snippets import origin

TRIP_COOKIE = "finery-sign-in"
TRIP_SECONDS = 600
"""How long somebody may take at the provider."""

_MAX_FOLLOWING = 1500
_MAX_SAID = 200


class Refused(Exception):
    """The sign-in can't be ended; a text for people, with what is filled into it."""

    def __init__(self, text: str, status: int = 400, **values: str) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.values = values


class ProviderDoor:
    """Sign-ins at one provider, from this process."""

    def __init__(self, provider: IdentityProvider, *, path: str, back: str) -> None:
        """`back` is the address that the provider sends browsers to, `path` that below which the cookie is sent."""
        self.provider = provider
        self._path = path
        self._back = back
        self._key = secrets.token_bytes(32)
        self._signer = URLSafeTimedSerializer(self._key, salt="trip")

    async def begin(self, request: Request, following: str) -> Response:
        """Send the browser to the provider.

        Raises:
            Unavailable: the provider doesn't answer.
        """
        seed = secrets.token_urlsafe(24)
        again = "again" in request.query_params
        trip = self._trip(seed, request)
        answer = RedirectResponse(await asyncio.to_thread(self.provider.address, trip, again=again), 303)
        answer.set_cookie(
            TRIP_COOKIE,
            self._signer.dumps([seed, following if len(following) <= _MAX_FOLLOWING else ""]),
            path=self._path,
            max_age=TRIP_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def end(self, request: Request) -> Tokens:
        """What the provider gives for the code that the browser brought back.

        Raises:
            Refused: it wasn't begun here, or the provider or the person said no.
            Unavailable: the provider doesn't answer.
        """
        seed = self._remembered(request)[0]
        trip = self._trip(seed, request)
        said = request.query_params
        if not seed or not hmac.compare_digest(said.get("state", "").encode(), trip.state.encode()):
            raise Refused(
                "This sign-in was not begun in this browser, or more than ten minutes ago. Begin it here again."
            )
        if said.get("iss", self.provider.issuer_url) != self.provider.issuer_url:
            raise Refused("This answer is of another identity provider than {host}.", host=self.provider.host)
        if "error" in said or not said.get("code"):
            raise self._refusal(said.get("error", "no code"), said.get("error_description", ""))
        try:
            return await asyncio.to_thread(self.provider.redeem, trip, said["code"])
        except Unauthenticated as error:
            raise Refused("The sign-in did not succeed: {reason}", 401, reason=error.message) from None

    def following(self, request: Request) -> str:
        """The page that was wanted when the sign-in began; empty where that isn't known."""
        return self._remembered(request)[1]

    def forget(self, answer: Response) -> None:
        """A sign-in has ended, well or not."""
        answer.delete_cookie(TRIP_COOKIE, path=self._path)

    def _remembered(self, request: Request) -> tuple[str, str]:
        try:
            seed, following = self._signer.loads(request.cookies.get(TRIP_COOKIE, ""), max_age=TRIP_SECONDS)
        except BadSignature:
            return "", ""
        return str(seed), str(following)

    def _trip(self, seed: str, request: Request) -> Trip:
        return Trip(
            redirect_uri=self.provider.redirect_uri or origin(request) + self._back,
            state=self._made("state", seed),
            nonce=self._made("nonce", seed),
            verifier=self._made("verifier", seed),
        )

    def _made(self, what: str, seed: str) -> str:
        return hmac.new(self._key, f"{what} {seed}".encode(), sha256).hexdigest()

    def _refusal(self, error: str, description: str) -> Refused:
        host = self.provider.host
        if error == "access_denied":
            return Refused("{host} let nobody in: it was cancelled, or not allowed there.", 403, host=host)
        said = f"{error}: {description}" if description else error
        return Refused("{host} answered: {said}", 400, host=host, said=said[:_MAX_SAID])
