"""Who is calling: projects and keys. Knows no HTTP and no storage."""

import hashlib
import secrets
import zlib
from dataclasses import dataclass

KEY_PREFIX = "sk-finery-"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """What owns files, jobs, models and deployments; two projects never see each other."""

    id: str
    name: str
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """An API key; the secret itself isn't kept, only its digest."""

    id: str
    project_id: str
    name: str
    hint: str
    """First and last characters, by which people tell keys apart."""
    created_at: int
    revoked_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whoever a request comes from, once the key was looked up."""

    project: Project
    key_id: str


def new_secret() -> str:
    """A fresh key: typed prefix, 190 random bits, and a checksum by which a mistyped key is told from a foreign one."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(33))
    return f"{KEY_PREFIX}{body}{_checksum(body)}"


def looks_like_key(secret: str) -> bool:
    """Whether prefix and checksum are right; says nothing about whether the key is known."""
    body, checksum = secret[len(KEY_PREFIX) : -6], secret[-6:]
    return secret.startswith(KEY_PREFIX) and checksum == _checksum(body)


def digest(secret: str) -> str:
    """What is stored of a key. Plain SHA-256 is enough for 190 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hint(secret: str) -> str:
    """What people may see of a key."""
    return f"{secret[: len(KEY_PREFIX) + 4]}…{secret[-4:]}"


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"[:6]
