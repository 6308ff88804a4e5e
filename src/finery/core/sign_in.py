"""What it takes to sign somebody in at an identity provider: the way there, what comes back, and who can do it.

Knows no HTTP and no cryptography; `control.sign_in` does it, and the Studio, which asks for it, is a client.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Trip:
    """One way to the provider and back; whoever comes back has to show what was sent along."""

    redirect_uri: str
    """Where the provider sends the browser back to; it must know this address, letter for letter."""
    state: str
    """Comes back in the address: it shows that this browser began."""
    nonce: str
    """Comes back in the token: it shows that the token was made for this trip."""
    verifier: str = field(repr=False)
    """Never leaves the server until the code is redeemed; the provider saw its digest (PKCE)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What somebody who signed in was given. It stays in the server's memory."""

    issuer: str
    subject: str
    bearer: str = field(repr=False)
    """Taken by the API wherever a key is."""
    expires_at: float
    """Seconds since the epoch."""
    refresh_token: str = field(default="", repr=False)
    """Empty: when the bearer has expired, one signs in again."""


class IdentityProvider(Protocol):
    """Where people can sign in. Every method may wait for the network."""

    @property
    def host(self) -> str:
        """Its name for people."""

    @property
    def issuer_url(self) -> str:
        """Its name for programs."""

    @property
    def redirect_uri(self) -> str:
        """Where it is to send browsers back to; empty: to wherever they came from."""

    def address(self, trip: Trip, *, again: bool = False) -> str:
        """Where the browser goes; `again` makes the provider ask who it is, even if it knows.

        Raises:
            Unavailable: the provider doesn't answer.
        """

    def redeem(self, trip: Trip, code: str) -> Tokens:
        """Tokens for the code that the browser brought back.

        Raises:
            Unauthenticated: the provider refuses, or what it gives isn't good.
            Unavailable: the provider doesn't answer.
        """

    def renew(self, tokens: Tokens) -> Tokens:
        """Later ones of the same person.

        Raises:
            Unauthenticated: the provider refuses: the session there has ended.
            Unavailable: the provider doesn't answer.
        """

    def farewell(self) -> str:
        """Where one signs out at the provider; empty where it has no such place, or can't be asked now."""
