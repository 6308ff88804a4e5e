"""Who is signed in. A browser holds a signed, random name; the key behind it never leaves the server's memory.

Sessions end with the process: a key is never written down here. What somebody was typing (drafts) is kept by key, so
that it is there again after the next sign-in. It doesn't know whether a key is valid: the API does.
"""

import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from itsdangerous import BadSignature, TimestampSigner

COOKIE = "finery-studio"
IDLE_SECONDS = 12 * 3600.0
MAX_SESSIONS = 10_000


@dataclass(kw_only=True, slots=True)
class Session:
    """One browser that is signed in."""

    name: str
    key: str
    seen_at: float
    drafts: dict[str, Any] = field(default_factory=dict)
    """What was typed and not sent yet, by page; shared by all sessions of a key."""


class Sessions:
    """All sessions of this process."""

    def __init__(self) -> None:
        self._signer = TimestampSigner(secrets.token_bytes(32))
        self._sessions: dict[str, Session] = {}
        self._drafts: dict[str, dict[str, Any]] = {}

    def open(self, key: str) -> str:
        """Begin a session; returns the cookie's value."""
        self._forget_idle()
        name = secrets.token_urlsafe(32)
        drafts = self._drafts.setdefault(sha256(key.encode()).hexdigest(), {})
        self._sessions[name] = Session(name=name, key=key, seen_at=time.monotonic(), drafts=drafts)
        return self._signer.sign(name).decode()

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None where it is forged, over, or of an earlier process."""
        try:
            name = self._signer.unsign(cookie, max_age=None).decode()
        except (BadSignature, UnicodeDecodeError):
            return None
        session = self._sessions.get(name)
        if session is None or time.monotonic() - session.seen_at > IDLE_SECONDS:
            self._sessions.pop(name, None)
            return None
        session.seen_at = time.monotonic()
        return session

    def is_open(self, session: Session) -> bool:
        """Whether a session that a page holds is still one."""
        return session.name in self._sessions and time.monotonic() - session.seen_at <= IDLE_SECONDS

    def close(self, session: Session) -> None:
        """Sign out."""
        self._sessions.pop(session.name, None)

    def _forget_idle(self) -> None:
        oldest_first = sorted(self._sessions.values(), key=lambda session: session.seen_at)
        surplus = len(oldest_first) - MAX_SESSIONS + 1
        for place, session in enumerate(oldest_first):
            if place < surplus or not self.is_open(session):
                self._sessions.pop(session.name, None)
