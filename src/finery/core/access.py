"""Who is calling: scopes, grants, callers, keys. Knows no HTTP and no storage; `roles` has the table."""

import hashlib
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from finery.core.errors import Forbidden, InvalidRequest
from finery.core.roles import HOLDERS, Permission, Role, permissions_of

KEY_PREFIX = "sk-finery-"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"


class Level(StrEnum):
    """How far a grant reaches."""

    PROJECT = "project"
    HUB = "hub"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """A subscription, a hub of it, or a project of that; what is granted at one holds for all below it."""

    subscription_id: str
    hub_id: str | None = None
    project_id: str | None = None

    def covers(self, other: "Scope") -> bool:
        """Whether `other` is this scope or lies below it."""
        return (
            self.subscription_id == other.subscription_id
            and self.hub_id in (None, other.hub_id)
            and self.project_id in (None, other.project_id)
        )

    def widened(self, level: Level) -> "Scope":
        """This scope's project, hub or subscription."""
        return Scope(
            subscription_id=self.subscription_id,
            hub_id=None if level == Level.SUBSCRIPTION else self.hub_id,
            project_id=self.project_id if level == Level.PROJECT else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """What owns files, jobs, models and deployments; two projects never see each other."""

    id: str
    name: str
    hub_id: str = ""
    subscription_id: str = ""
    created_at: int

    @property
    def scope(self) -> Scope:
        """Where it lies."""
        return Scope(subscription_id=self.subscription_id, hub_id=self.hub_id, project_id=self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Permissions at a scope; `role` says where they come from."""

    role: Role | None
    """None: a key without a role of its own, which may what its principal may."""
    permissions: frozenset[Permission]
    scope: Scope

    def allows(self, permission: Permission, scope: Scope) -> bool:
        """Whether it reaches so far."""
        return permission in self.permissions and self.scope.covers(scope)


def grant_of(role: Role | None, scope: Scope, narrowed_to: Iterable[Permission] | None = None) -> Grant:
    """What a role gives at a scope, perhaps only some of it."""
    permissions = permissions_of(role) if role else frozenset(Permission)
    if narrowed_to is not None:
        permissions &= frozenset(narrowed_to)
    return Grant(role=role, permissions=permissions, scope=scope)


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """An API key; the secret itself isn't kept, only its digest."""

    id: str
    project_id: str
    name: str
    hint: str
    """First and last characters, by which people tell keys apart."""
    role: Role | None
    """None: all that its principal may."""
    level: Level
    """Its role holds for its project, that project's hub, or the subscription."""
    permissions: tuple[Permission, ...] | None = None
    """All it may use of its role; None: the whole role."""
    principal_id: str | None = None
    """Who it speaks for: it may do no more than them."""
    rotated_from: str | None = None
    created_at: int
    expires_at: int | None = None
    """It stops working then."""
    revoked_at: int | None = None


class PrincipalKind(StrEnum):
    """Who can hold roles."""

    USER = "User"
    SERVICE_PRINCIPAL = "ServicePrincipal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A person or a program that holds roles."""

    id: str
    kind: PrincipalKind
    name: str
    subject: str | None = None
    """Who it is for the identity provider: the `sub` of its tokens, or their `oid`."""
    issuer: str | None = None
    """Whose subject that is; None: of whichever provider the server trusts."""
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleAssignment:
    """A role given to a principal at a scope."""

    id: str
    principal_id: str
    role: Role
    scope: Scope
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whoever a request comes from, and the project it is about."""

    project: Project
    key_id: str
    """Empty for whoever came with a token, and for the server itself."""
    principal_id: str | None = None
    bounds: tuple[tuple[Grant, ...], ...] = ()
    """Every bound must allow a thing: the key's own grant, and the grants of the principal it speaks for.
    Without any bound, nothing is allowed."""

    @property
    def id(self) -> str:
        """By what it is known: its key, or the principal of its token."""
        return self.key_id or self.principal_id or ""

    def may(self, permission: Permission, scope: Scope | None = None) -> bool:
        """Whether the caller has a permission at a scope; default: its project."""
        at = scope or self.project.scope
        return bool(self.bounds) and all(any(g.allows(permission, at) for g in bound) for bound in self.bounds)

    def may_somewhere(self, permission: Permission) -> bool:
        """Whether the caller has a permission at any scope at all."""
        scopes = [grant.scope for bound in self.bounds for grant in bound]
        return any(self.may(permission, scope) for scope in scopes)

    def require(self, permission: Permission, scope: Scope | None = None) -> None:
        """Refuse what the caller may not.

        Raises:
            Forbidden: naming the permission, the caller's roles, and the roles that have it.
        """
        if self.may(permission, scope):
            return
        held = sorted({g.role for bound in self.bounds for g in bound if g.role and g.scope.covers(self.project.scope)})
        raise Forbidden(
            f"This needs the permission {permission}. Your roles for the project '{self.project.name}': "
            f"{', '.join(held) or 'none'}. Roles that have it: {', '.join(sorted(HOLDERS[permission]))}.",
        )

    def require_all_of(self, grant: Grant) -> None:
        """Refuse to hand on more than the caller has.

        Raises:
            Forbidden: naming what is missing.
        """
        missing = sorted(p for p in grant.permissions if not self.may(p, grant.scope))
        if missing:
            raise Forbidden(
                f"You can't give what you don't have: {grant.role or 'this grant'} includes {', '.join(missing)}, "
                "which you lack at that scope.",
                param="role",
            )


def check_role(name: str) -> Role:
    """The role of that name.

    Raises:
        InvalidRequest: there is none; lists those there are.
    """
    try:
        return Role(name)
    except ValueError:
        roles = ", ".join(f"'{role}'" for role in Role)
        raise InvalidRequest(f"{name!r} is not a role; there are {roles}.", param="role") from None


def new_secret() -> str:
    """A fresh key: typed prefix, 190 random bits, and a checksum by which a mistyped key is told from a foreign one."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(33))
    return f"{KEY_PREFIX}{body}{_checksum(body)}"


def looks_like_key(secret: str) -> bool:
    """Whether prefix and checksum are right; says nothing about whether the key is known."""
    body, checksum = secret[len(KEY_PREFIX) : -6], secret[-6:]
    return secret.startswith(KEY_PREFIX) and checksum == _checksum(body)


def looks_like_token(secret: str) -> bool:
    """Whether it has the three parts of an identity provider's signed token; says nothing about what is in them."""
    return not secret.startswith(KEY_PREFIX) and secret.count(".") == 2


def digest(secret: str) -> str:
    """What is stored of a key. Plain SHA-256 is enough for 190 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hint(secret: str) -> str:
    """What people may see of a key."""
    return f"{secret[: len(KEY_PREFIX) + 4]}…{secret[-4:]}"


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"[:6]
