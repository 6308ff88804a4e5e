"""Who is calling, and the keys by which they are known. What a role may is said in `core.roles`, what a token says in
`identity`.
"""

import hmac
import shlex
from dataclasses import dataclass, replace
from typing import Any

from finery.control import audit, identity
from finery.control.identity import Identity
from finery.control.plane import ControlPlane, now
from finery.core.access import (
    KEY_PREFIX,
    Caller,
    Grant,
    Key,
    Level,
    Principal,
    PrincipalKind,
    Project,
    RoleAssignment,
    digest,
    grant_of,
    hint,
    looks_like_key,
    looks_like_token,
    new_secret,
)
from finery.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated
from finery.core.ids import check_name, new_id
from finery.core.roles import Permission, Role
from finery.storage import access, projects, tenancy

ROTATION_SECONDS = 24 * 3600
"""How long a rotated key goes on working beside its successor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRequest:
    """What a new key shall be."""

    name: str
    role: Role | None = None
    """None: for a principal all it may, otherwise what a developer needs."""
    level: Level | None = None
    """None: a principal's whole reach, otherwise the project."""
    permissions: tuple[Permission, ...] | None = None
    principal: str | None = None
    """Name or id of the principal it speaks for."""
    expires_in: int | None = None
    """Seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the path of a request leads, in Azure's way. A key has a project of its own and must fit to it; a token has
    none, so that the path says which one is meant."""

    project: str | None = None
    hub: str | None = None


NOWHERE = Place()

_LISTED = 10
"""So many projects an error names at most."""


def authenticate(
    plane: ControlPlane, secret: str, project: str | None = None, place: Place = NOWHERE, *, any_project: bool = False
) -> Caller:
    """The caller behind a key or a token; about its own project, or about one that it names and has a role in.

    With `any_project`, a token of somebody with several projects that names none is about the first: for requests that
    ask which there are.

    Raises:
        Unauthenticated: no key, or a mistyped, unknown, revoked or expired one, or a token that isn't good.
        Forbidden: a good token of somebody who has no role here.
        InvalidRequest: a token of somebody with several projects, and none was named.
        NotFound: no such project for this caller.
        Unavailable: a token that can't be checked now.
    """
    if not secret:
        raise Unauthenticated(
            "No API key was sent. Send 'Authorization: Bearer KEY' or 'api-key: KEY'; "
            "the admin key lies in the server's home, in the file admin.key."
        )
    if looks_like_token(secret):
        return _caller_of_token(plane, secret, project or place.project, place.hub, any_project)
    caller = _caller_of_key(plane, secret) if looks_like_key(secret) else None
    if caller is None:
        shown = hint(secret) if secret.startswith(KEY_PREFIX) and len(secret) > 24 else "…"
        raise Unauthenticated(f"The API key {shown} isn't one of this server's, or it was revoked or has expired.")
    return enter(plane, caller, project) if project else caller


def enter(plane: ControlPlane, caller: Caller, project: str) -> Caller:
    """The same caller, about another project.

    Raises:
        NotFound: there is none of that name or id in which the caller has any permission.
    """
    with plane.database.read() as connection:
        found = projects.find_project(connection, project)
    if found is None or not _may_enter(caller, found):
        raise NotFound(
            f"There is no project {project!r} for this key. Leave the header OpenAI-Project (in OpenAI's SDK: "
            "`project`, or OPENAI_PROJECT_ID) out to use the key's own project.",
            code="project_not_found",
        )
    return replace(caller, project=found)


def authenticate_worker(plane: ControlPlane, secret: str) -> None:
    """Let a worker in.

    Raises:
        Unauthenticated: not the workers' secret of this server.
    """
    if not hmac.compare_digest(digest(secret), plane.worker_digest):
        raise Unauthenticated(
            "This isn't the server's worker key; it lies in the server's home, in the file worker.key."
        )


def create_key(plane: ControlPlane, caller: Caller, request: KeyRequest) -> tuple[Key, str]:
    """A further key for the caller's project, and the secret that is shown this once.

    Raises:
        Forbidden: it would be able to do more than the caller.
        InvalidRequest: a name or a life time that can't be.
    """
    check_name(request.name, what="a key")
    if request.expires_in is not None and request.expires_in <= 0:
        raise InvalidRequest(f"expires_in is {request.expires_in}; a key must live for a while.", param="expires_in")
    principal_id = _principal_of(plane, caller, request.principal) if request.principal else None
    role = request.role or (None if principal_id else Role.AI_DEVELOPER)
    level = request.level or (Level.SUBSCRIPTION if principal_id else Level.PROJECT)
    if principal_id is None:
        grant = grant_of(role, caller.project.scope.widened(level), request.permissions)
        caller.require_all_of(grant)
    key = Key(
        id=new_id("key_"),
        project_id=caller.project.id,
        name=request.name,
        hint="",
        role=role,
        level=level,
        permissions=request.permissions,
        principal_id=principal_id,
        created_at=(moment := now()),
        expires_at=None if request.expires_in is None else moment + request.expires_in,
    )
    return _insert(plane, caller, key, "keys.create")


def rotate_key(plane: ControlPlane, caller: Caller, key_id: str, keep_seconds: int) -> tuple[Key, str]:
    """A key's successor, which may do the same; both work for a while.

    Raises:
        NotFound: the project has no such live key.
        Conflict: it was rotated before.
    """
    if not 0 <= keep_seconds <= 30 * ROTATION_SECONDS:
        raise InvalidRequest(f"keep_old_for is {keep_seconds}; it must be from 0 to {30 * ROTATION_SECONDS} seconds.")
    old = _own_key(plane, caller, key_id)
    with plane.database.read() as connection:
        successor = access.find_successor(connection, key_id)
    if successor is not None:
        raise Conflict(
            f"Key {key_id} was rotated into {successor} before: two keys live at once. Rotate {successor}, or revoke "
            f"it first."
        )
    moment = now()
    key = replace(old, id=new_id("key_"), rotated_from=old.id, created_at=moment, hint="")
    return _insert(plane, caller, key, "keys.rotate", end=old.id, end_at=moment + keep_seconds)


def list_keys(plane: ControlPlane, caller: Caller) -> list[Key]:
    """The keys of the caller's project, without their secrets."""
    with plane.database.read() as connection:
        return access.list_keys(connection, caller.project.id)


def revoke_key(plane: ControlPlane, caller: Caller, key_id: str) -> None:
    """Revoke a key; it stops working at once.

    Raises:
        NotFound: the project has no such live key.
        Forbidden: the key may more than the caller.
    """
    _own_key(plane, caller, key_id)
    with plane.database.write() as connection:
        if not access.revoke_key(connection, caller.project.id, key_id, now()):
            raise _no_key(key_id)
        audit.record(connection, caller, "keys.revoke", key_id)


def _insert(
    plane: ControlPlane, caller: Caller, key: Key, action: str, *, end: str | None = None, end_at: int = 0
) -> tuple[Key, str]:
    secret = new_secret()
    key = replace(key, hint=hint(secret))
    with plane.database.write() as connection:
        access.insert_key(connection, key, digest(secret))
        if end:
            access.expire_key(connection, end, end_at)
        audit.record(
            connection,
            caller,
            action,
            key.id,
            name=key.name,
            role=key.role,
            level=key.level,
            permissions=key.permissions,
            principal=key.principal_id,
            expires_at=key.expires_at,
            rotated_from=key.rotated_from,
        )
    return key, secret


def _caller_of_key(plane: ControlPlane, secret: str) -> Caller | None:
    with plane.database.read() as connection:
        found = access.find_key(connection, digest(secret), now())
        if found is None:
            return None
        key, project = found
        bounds: tuple[tuple[Grant, ...], ...] = (
            (grant_of(key.role, project.scope.widened(key.level), key.permissions),),
        )
        if key.principal_id is not None:
            given = access.list_assignments(connection, key.principal_id)
            bounds += (tuple(grant_of(assignment.role, assignment.scope) for assignment in given),)
    return Caller(project=project, key_id=key.id, principal_id=key.principal_id, bounds=bounds)


def _caller_of_token(
    plane: ControlPlane, token: str, project: str | None, hub: str | None, any_project: bool
) -> Caller:
    if plane.issuer is None:
        raise identity.refused(
            "this server takes API keys alone. Its operator can let an identity provider's tokens in with "
            "FINERY_OIDC_ISSUER and FINERY_OIDC_AUDIENCE."
        )
    found = identity.check(plane.issuer, token)
    with plane.database.read() as connection:
        principal = _find(connection, found)
        if principal is None:
            raise _unknown(found)
        given = access.list_assignments(connection, principal.id)
        if not given:
            raise _no_role(principal)
        named = projects.find_project(connection, project) if project else None
        at = [named] if named else [] if project else _reached(connection, given, hub)
    grants = tuple(grant_of(assignment.role, assignment.scope) for assignment in given)
    callers = [Caller(project=one, key_id="", principal_id=principal.id, bounds=(grants,)) for one in at]
    fitting = [caller for caller in callers if _may_enter(caller, caller.project)]
    return _only(fitting[:1] if any_project else fitting, principal, project, hub)


def _find(connection: Any, found: Identity) -> Principal | None:
    """Whom a token speaks of; a service principal may be known by its application's id as well."""
    for subject in found.subjects:
        if principal := access.find_subject(connection, found.issuer, subject):
            return principal
    for application in found.applications:
        principal = access.find_subject(connection, found.issuer, application)
        if principal and principal.kind == PrincipalKind.SERVICE_PRINCIPAL:
            return principal
    return None


def _reached(connection: Any, given: list[RoleAssignment], hub: str | None) -> list[Project]:
    """The projects to which roles were given, those of one hub where the request names it."""
    hubs = {assignment.scope.hub_id for assignment in given}
    found = projects.list_projects(connection, hubs.pop() if len(hubs) == 1 else None)
    if hub is None:
        return found
    named = tenancy.find_hub(connection, hub)
    return [project for project in found if named and project.hub_id == named.id]


def _only(callers: list[Caller], principal: Principal, project: str | None, hub: str | None) -> Caller:
    """The one caller that a token can mean."""
    if len(callers) == 1:
        return callers[0]
    if callers:
        names = [caller.project.name for caller in callers]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise InvalidRequest(
            f"Which project is this for? {principal.name} has roles in {', '.join(names[:_LISTED])}{more}. Name one "
            "in the header OpenAI-Project (OpenAI's SDK: `project` or OPENAI_PROJECT_ID; `finery`: FINERY_PROJECT).",
            code="project_required",
        )
    if project:
        raise NotFound(f"There is no project {project!r} for {principal.name}.", code="project_not_found")
    if hub:
        raise NotFound(f"There is no account {hub!r} for {principal.name}.", code="hub_not_found")
    raise _no_role(principal)


def _no_role(principal: Principal) -> Forbidden:
    return Forbidden(
        f"{principal.name} has no role in any project here. An owner gives one: "
        f"finery roles assign {principal.name} 'Azure AI Developer' --project PROJECT",
        code="no_role",
    )


def _unknown(found: Identity) -> Forbidden:
    subject = found.subjects[0] if found.subjects else ""
    others = [one for one in (*found.subjects[1:], *found.applications) if one != subject]
    also = f" (or {', '.join(others)})" if others else ""
    kind = " --service-principal" if found.applications else ""
    return Forbidden(
        f"The token is good, but nobody here is known by its subject {subject!r}{also} of {found.issuer}. An owner "
        f"makes them known and gives them a role: finery principals create NAME --subject {shlex.quote(subject)}{kind}"
        ", then finery roles assign NAME 'Azure AI Developer' --project PROJECT",
        code="unknown_subject",
    )


def _may_enter(caller: Caller, project: Project) -> bool:
    return any(caller.may(permission, project.scope) for permission in Permission)


def _own_key(plane: ControlPlane, caller: Caller, key_id: str) -> Key:
    """A live key of the caller's project that the caller could have made."""
    with plane.database.read() as connection:
        key = access.get_key(connection, caller.project.id, key_id)
    if key is None or key.revoked_at is not None:
        raise _no_key(key_id)
    if key.principal_id is None:
        caller.require_all_of(grant_of(key.role, caller.project.scope.widened(key.level), key.permissions))
    elif key.principal_id != caller.principal_id:
        caller.require(Permission.ROLES_WRITE, caller.project.scope.widened(Level.SUBSCRIPTION))
    return key


def _principal_of(plane: ControlPlane, caller: Caller, name: str) -> str:
    """Who a key shall speak for: the caller itself, or, for whoever gives roles, anybody."""
    with plane.database.read() as connection:
        principal = access.find_principal(connection, name)
    if principal is None or principal.id != caller.principal_id:
        caller.require(Permission.ROLES_WRITE, caller.project.scope.widened(Level.SUBSCRIPTION))
    if principal is None:
        raise InvalidRequest(f"There is no principal {name!r}.", param="principal")
    return principal.id


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no live key {key_id!r} in this project.")
