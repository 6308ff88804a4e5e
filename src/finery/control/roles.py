"""Users and service principals, and the roles they are given."""

from typing import Any

from finery.control import audit, tenancy
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Principal, PrincipalKind, RoleAssignment, Scope, grant_of
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import new_id
from finery.core.roles import Permission, Role
from finery.storage import access

_MAX_SUBJECT = 255


def create_principal(
    plane: ControlPlane, caller: Caller, *, name: str, kind: PrincipalKind, subject: str | None
) -> Principal:
    """Make a user or a service principal known; it may nothing until it is given a role.

    A subject is one of the identity provider that the server trusts now. Should it come to trust another one, whoever
    is called alike there is somebody else.

    Raises:
        Forbidden: the caller can't give roles in the whole subscription.
        Conflict: the name or the subject is taken.
    """
    caller.require(Permission.ROLES_WRITE, tenancy.subscription(plane).scope)
    tenancy.check_name(name, what="a principal")
    if subject is not None and not (0 < len(subject) <= _MAX_SUBJECT and subject.isprintable()):
        raise InvalidRequest(
            f"subject must be 1 to {_MAX_SUBJECT} printable characters: the `sub` of the identity provider's tokens.",
            param="subject",
        )
    issuer = plane.issuer.url if plane.issuer and subject is not None else None
    principal = Principal(
        id=new_id("principal_"), kind=kind, name=name, subject=subject, issuer=issuer, created_at=now()
    )
    with plane.database.write() as connection:
        if access.find_principal(connection, name):
            raise Conflict(f"There is a principal {name!r} already.", param="name")
        if subject is not None and access.find_subject(connection, issuer, subject):
            raise Conflict(f"There is a principal with the subject {subject!r} already.", param="subject")
        access.insert_principal(connection, principal)
        audit.record(
            connection,
            caller,
            "principals.create",
            principal.id,
            shared=True,
            name=name,
            subject=subject,
            issuer=issuer,
        )
    return principal


def list_principals(plane: ControlPlane) -> list[Principal]:
    """All principals, by name."""
    with plane.database.read() as connection:
        return access.list_principals(connection)


def delete_principal(plane: ControlPlane, caller: Caller, name: str) -> Principal:
    """Forget a principal; its roles go with it, and its keys are revoked.

    Raises:
        NotFound: there is none of that name or id.
    """
    caller.require(Permission.ROLES_WRITE, tenancy.subscription(plane).scope)
    with plane.database.write() as connection:
        principal = access.find_principal(connection, name)
        if principal is None:
            raise NotFound(f"There is no principal {name!r}.")
        access.remove_principal(connection, principal.id, now())
        audit.record(connection, caller, "principals.delete", principal.id, shared=True, name=principal.name)
    return principal


def assign(plane: ControlPlane, caller: Caller, *, principal: str, role: Role, scope: Scope) -> RoleAssignment:
    """Give a principal a role at a scope.

    Raises:
        Forbidden: the caller may not give roles there.
        Conflict: it has that role there.
    """
    caller.require(Permission.ROLES_WRITE, scope)
    caller.require_all_of(grant_of(role, scope))
    with plane.database.write() as connection:
        found = access.find_principal(connection, principal)
        if found is None:
            raise InvalidRequest(f"There is no principal {principal!r}.", param="principal")
        for known in access.list_assignments(connection, found.id):
            if (known.role, known.scope) == (role, scope):
                raise Conflict(f"{found.name} is {role} there already: {known.id}.")
        made = RoleAssignment(id=new_id("role_"), principal_id=found.id, role=role, scope=scope, created_at=now())
        access.insert_assignment(connection, made)
        _record(connection, caller, "roles.assign", made)
    return made


def list_assignments(plane: ControlPlane, caller: Caller) -> list[RoleAssignment]:
    """The role assignments at scopes whose roles the caller may read."""
    with plane.database.read() as connection:
        found = access.list_assignments(connection)
    return [assignment for assignment in found if caller.may(Permission.ROLES_READ, assignment.scope)]


def take_back(plane: ControlPlane, caller: Caller, assignment_id: str) -> RoleAssignment:
    """Take a role back, at once.

    Raises:
        NotFound: no such assignment at a scope that the caller sees.
        Forbidden: the caller may not give roles there.
    """
    found = next((a for a in list_assignments(plane, caller) if a.id == assignment_id), None)
    if found is None:
        raise NotFound(f"There is no role assignment {assignment_id!r} that you could see.")
    caller.require(Permission.ROLES_WRITE, found.scope)
    with plane.database.write() as connection:
        access.remove_assignment(connection, assignment_id)
        _record(connection, caller, "roles.take_back", found)
    return found


def _record(connection: Any, caller: Caller, action: str, made: RoleAssignment) -> None:
    scope = made.scope
    audit.record(
        connection,
        caller,
        action,
        made.id,
        shared=scope.project_id != caller.project.id,
        principal=made.principal_id,
        role=made.role,
        hub=scope.hub_id,
        project=scope.project_id,
    )
