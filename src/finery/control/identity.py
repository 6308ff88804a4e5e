"""Who a bearer token of the identity provider speaks of, once it is shown to be genuine, for us, and in time.

Knows no principal and no role: `access` has them. `issuer` has the keys.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from finery.control.issuer import Issuer, Jwk
from finery.core.errors import Unauthenticated

if TYPE_CHECKING:
    from jwt import PyJWTError

LEEWAY_SECONDS = 30
"""By how much two machines' clocks may differ."""

ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""What a token may be signed with, and the kind of key each needs. None where the checker could be the maker."""

_MAX_TOKEN = 16_384
_MAX_SUBJECT = 255
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
"""ID tokens and access tokens; a provider's other ones (a log-out's) have types of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who a token speaks of, in its issuer's words."""

    issuer: str
    subjects: tuple[str, ...]
    """Names of whoever it was given to, best first: `sub`, then `oid`."""
    applications: tuple[str, ...] = ()
    """Ids of the application that it stands for, where it stands for one and not for a person who uses it."""


def check(issuer: Issuer, token: str) -> Identity:
    """Who a token speaks of.

    Raises:
        Unauthenticated: it isn't the issuer's, isn't for this server, or isn't valid now; says which.
        Unavailable: the issuer's keys can't be had.
    """
    return _identity(issuer, claims_of(issuer, token, issuer.audiences))


def claims_of(issuer: Issuer, token: str, audiences: list[str]) -> dict[str, Any]:
    """What a token says, once it is shown to be the issuer's, for one of those audiences, and in time.

    Raises:
        Unauthenticated: it isn't; says what is wrong.
        Unavailable: the issuer's keys can't be had.
    """
    # A fifth of a second of imports, which a server without tokens doesn't pay.
    import jwt

    if len(token) > _MAX_TOKEN:
        raise refused(f"it is longer than {_MAX_TOKEN} characters.")
    try:
        header = jwt.get_unverified_header(token)
        algorithm = _algorithm(header)
        key = _key(issuer, header, algorithm)
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(key, algorithm),
            algorithms=[algorithm],
            audience=audiences,
            issuer=issuer.url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )
    except jwt.PyJWTError as error:
        raise refused(_reason(error, issuer, token, audiences)) from None
    except (ValueError, OverflowError, RecursionError):
        raise refused("it can't be read.") from None
    if "cnf" in claims:
        raise refused("it is bound to a key of its holder, who can't show it here. Ask for one that isn't.")
    return claims


def refused(reason: str) -> Unauthenticated:
    """A token that isn't taken, and why."""
    return Unauthenticated(f"The token was refused: {reason}", code="invalid_token")


def _algorithm(header: dict[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise refused(f"its algorithm is {str(algorithm)[:20]!r}; it must be one of {', '.join(ALGORITHMS)}.")
    kind = str(header.get("typ", "JWT"))
    if kind.lower() not in _TYPES:
        raise refused(f"its type is {kind[:40]!r}; access tokens and ID tokens are taken.")
    return algorithm


def _key(issuer: Issuer, header: dict[str, Any], algorithm: str) -> Jwk:
    """The key that the token names; the only one that fits, where it names none."""
    kid = header.get("kid")
    fitting = [key for key in issuer.keys(kid) if _fits(key, algorithm)]
    if len(fitting) != 1:
        named = "without a name" if kid is None else f"{str(kid)[:80]!r}"
        raise refused(f"the issuer {issuer.url} has no key {named} for {algorithm}.")
    return fitting[0]


def _fits(key: Jwk, algorithm: str) -> bool:
    kind, curve = ALGORITHMS[algorithm]
    return key["kty"] == kind and curve in (None, key.get("crv")) and key.get("alg", algorithm) == algorithm


def _reason(error: "PyJWTError", issuer: Issuer, token: str, audiences: list[str]) -> str:
    import jwt

    reasons: dict[type[PyJWTError], str] = {
        jwt.ExpiredSignatureError: f"it has expired{_when(token, 'exp')}. Get a new one.",
        jwt.ImmatureSignatureError: f"it isn't valid yet{_when(token, 'nbf')}. If it is new, look at the clocks.",
        jwt.InvalidIssuerError: f"it is of another issuer than {issuer.url}.",
        jwt.InvalidAudienceError: f"it is for somebody else; its `aud` must be {' or '.join(audiences)}.",
        jwt.InvalidSignatureError: "its signature is wrong.",
        jwt.InvalidKeyError: "the key of the issuer that it names is too weak, or damaged.",
    }
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it doesn't say its `{error.claim}`."
    return reasons.get(type(error), "it can't be read.")


def _when(token: str, claim: str) -> str:
    """The moment that a claim names, in brackets; nothing where it names none."""
    import jwt

    try:
        seconds = int(jwt.decode(token, options={"verify_signature": False})[claim])
        return f" ({datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    except (jwt.PyJWTError, LookupError, TypeError, ValueError, OverflowError, OSError):
        return ""


def _identity(issuer: Issuer, claims: dict[str, Any]) -> Identity:
    # Which application a person uses is in `azp` too: only a token that says it stands for the application itself may
    # be taken for it, or everybody who signs in through a program would have the program's roles.
    own = ("azp", "appid") if claims.get("idtyp") == "app" else ()
    return Identity(issuer=issuer.url, subjects=_names(claims, ("sub", "oid")), applications=_names(claims, own))


def _names(claims: dict[str, Any], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """What those claims say, each once, and only what could be a principal's subject."""
    said = [claims.get(name) for name in wanted]
    return tuple(
        dict.fromkeys(
            one for one in said if isinstance(one, str) and 0 < len(one) <= _MAX_SUBJECT and one.isprintable()
        )
    )
