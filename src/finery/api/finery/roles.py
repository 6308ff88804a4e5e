"""/finery/v1/roles: the table of roles, principals, and who was given what."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsRoles, WritesRoles
from finery.api.context import Plane
from finery.control import roles, tenancy
from finery.core.access import Principal, PrincipalKind, RoleAssignment, check_role
from finery.core.roles import Role, permissions_of

router = APIRouter(prefix="/finery/v1/roles", tags=["roles"])


class CreatePrincipal(BaseModel):
    """The body of a new principal."""

    model_config = ConfigDict(extra="forbid")
    name: str
    kind: PrincipalKind = PrincipalKind.USER
    subject: str | None = None


class AssignRole(BaseModel):
    """Who is given which role, and where; without hub and project, in the whole subscription."""

    model_config = ConfigDict(extra="forbid")
    principal: str
    role: str
    hub: str | None = None
    project: str | None = None


@router.get("/definitions")
def list_definitions(caller: ReadsRoles) -> dict[str, Any]:
    """Every role and what it may."""
    found = [{"name": role, "object": "role.definition", "permissions": sorted(permissions_of(role))} for role in Role]
    return {"object": "list", "data": found, "has_more": False}


@router.post("/principals")
def create_principal(plane: Plane, caller: WritesRoles, body: CreatePrincipal) -> dict[str, Any]:
    """Make a user or a service principal known."""
    return _principal(roles.create_principal(plane, caller, name=body.name, kind=body.kind, subject=body.subject))


@router.get("/principals")
def list_principals(plane: Plane, caller: ReadsRoles) -> dict[str, Any]:
    """All principals."""
    return {"object": "list", "data": [_principal(one) for one in roles.list_principals(plane)], "has_more": False}


@router.delete("/principals/{name}")
def delete_principal(plane: Plane, caller: WritesRoles, name: str) -> dict[str, Any]:
    """Forget a principal; its keys are revoked."""
    return {"id": roles.delete_principal(plane, caller, name).id, "object": "principal", "deleted": True}


@router.post("/assignments")
def assign(plane: Plane, caller: WritesRoles, body: AssignRole) -> dict[str, Any]:
    """Give a principal a role."""
    scope = tenancy.scope_of(plane, caller, hub=body.hub, project=body.project)
    return _assignment(roles.assign(plane, caller, principal=body.principal, role=check_role(body.role), scope=scope))


@router.get("/assignments")
def list_assignments(plane: Plane, caller: ReadsRoles) -> dict[str, Any]:
    """Who was given what, where the caller may read it."""
    found = [_assignment(one) for one in roles.list_assignments(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.delete("/assignments/{assignment_id}")
def take_back(plane: Plane, caller: WritesRoles, assignment_id: str) -> dict[str, Any]:
    """Take a role back."""
    return {
        "id": roles.take_back(plane, caller, assignment_id).id,
        "object": "role.assignment",
        "deleted": True,
    }


def _principal(principal: Principal) -> dict[str, Any]:
    return {
        "id": principal.id,
        "object": "principal",
        "kind": principal.kind,
        "name": principal.name,
        "subject": principal.subject,
        "issuer": principal.issuer,
        "created_at": principal.created_at,
    }


def _assignment(assignment: RoleAssignment) -> dict[str, Any]:
    return {
        "id": assignment.id,
        "object": "role.assignment",
        "principal_id": assignment.principal_id,
        "role": assignment.role,
        "subscription_id": assignment.scope.subscription_id,
        "hub_id": assignment.scope.hub_id,
        "project_id": assignment.scope.project_id,
        "created_at": assignment.created_at,
    }
