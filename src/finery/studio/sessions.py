"""Who is signed in. A browser holds a signed, random name; the key or token behind it never leaves the server's memory.

Sessions end with the process: neither is ever written down here. What somebody was typing (drafts) is kept by key, or
by whom a token speaks of, and by project, so that it is there again after the next sign-in. It doesn't know whether a
key is valid: the API does. Tokens are renewed when they are about to expire, if the provider gave what that takes.
"""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from itsdangerous import BadSignature, TimestampSigner

from finery.core.errors import Unauthenticated, Unavailable
from finery.core.sign_in import IdentityProvider, Tokens
from finery.studio.client import SessionEnded

log = logging.getLogger(__name__)

COOKIE = "finery-studio"
IDLE_SECONDS = 12 * 3600.0
MAX_SESSIONS = 10_000
RENEW_SECONDS = 30.0
"""So long before a token expires it is renewed."""


@dataclass(kw_only=True, slots=True)
class Session:
    """One browser that is signed in."""

    name: str
    owner: str
    """Whose drafts it sees: a digest of the key, or of whom the token speaks of."""
    bearer: str = field(repr=False)
    """The key or token."""
    project: str = ""
    """The project that pages are about; empty: the key's own."""
    undecided: bool = False
    """A project has to be chosen first: the token speaks of somebody with several."""
    seen_at: float
    drafts: dict[str, Any] = field(default_factory=dict)
    """What was typed and not sent yet, by page; shared by all sessions of an owner in a project."""
    tokens: Tokens | None = None
    """None: signed in with a key."""
    provider: IdentityProvider | None = None
    over: bool = False
    """The provider ended it."""
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def key(self) -> str:
        """What requests are made with now.

        Raises:
            SessionEnded: the token has expired, or the provider gives no other.
            Unavailable: it has expired, and the provider can't be asked now.
        """
        if self.tokens is None or self.provider is None:
            return self.bearer
        async with self._renewing:
            if self.over:
                raise SessionEnded
            if self.tokens.expires_at - time.time() < RENEW_SECONDS:
                await self._renew(self.tokens, self.provider)
        return self.bearer

    async def _renew(self, tokens: Tokens, provider: IdentityProvider) -> None:
        expired = tokens.expires_at <= time.time()
        if not tokens.refresh_token:
            self.over = expired
        else:
            try:
                self.tokens = await asyncio.to_thread(provider.renew, tokens)
                self.bearer = self.tokens.bearer
            except Unauthenticated as error:
                log.info("a session of the Studio ended: %s", error.message)
                self.over = True
            except Unavailable:
                if expired:
                    raise
        if self.over:
            raise SessionEnded


class Sessions:
    """All sessions of this process."""

    def __init__(self) -> None:
        self._signer = TimestampSigner(secrets.token_bytes(32))
        self._sessions: dict[str, Session] = {}
        self._drafts: dict[tuple[str, str], dict[str, Any]] = {}

    def open(self, key: str) -> str:
        """Begin a session with a key; returns the cookie's value."""
        return self._open(key, _digest("key", key))

    def open_with(self, tokens: Tokens, provider: IdentityProvider, *, project: str) -> str:
        """Begin a session with tokens, in that project; in the one yet to be chosen, where it is empty."""
        owner = _digest("subject", tokens.issuer, tokens.subject)
        return self._open(
            tokens.bearer, owner, project=project, undecided=not project, tokens=tokens, provider=provider
        )

    def enter(self, session: Session, project: str) -> None:
        """From the next page on, another project."""
        session.project, session.undecided = project, False
        session.drafts = self._drafts_of(session.owner, project)

    def _open(self, bearer: str, owner: str, *, project: str = "", **more: Any) -> str:
        self._forget_idle()
        name = secrets.token_urlsafe(32)
        self._sessions[name] = Session(
            name=name,
            owner=owner,
            bearer=bearer,
            project=project,
            seen_at=time.monotonic(),
            drafts=self._drafts_of(owner, project),
            **more,
        )
        return self._signer.sign(name).decode()

    def _drafts_of(self, owner: str, project: str) -> dict[str, Any]:
        return self._drafts.setdefault((owner, project), {})

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None where it is forged, over, or of an earlier process."""
        try:
            name = self._signer.unsign(cookie, max_age=None).decode()
        except (BadSignature, UnicodeDecodeError):
            return None
        session = self._sessions.get(name)
        if session is None or not self.is_open(session):
            self._sessions.pop(name, None)
            return None
        session.seen_at = time.monotonic()
        return session

    def is_open(self, session: Session) -> bool:
        """Whether a session that a page holds is still one."""
        idle = time.monotonic() - session.seen_at
        return session.name in self._sessions and idle <= IDLE_SECONDS and not session.over

    def close(self, session: Session) -> None:
        """Sign out."""
        self._sessions.pop(session.name, None)

    def _forget_idle(self) -> None:
        oldest_first = sorted(self._sessions.values(), key=lambda session: session.seen_at)
        surplus = len(oldest_first) - MAX_SESSIONS + 1
        for place, session in enumerate(oldest_first):
            if place < surplus or not self.is_open(session):
                self._sessions.pop(session.name, None)


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()
