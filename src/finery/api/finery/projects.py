"""/finery/v1/projects."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from finery.api.access import ListsProjects, ReadsProjects, WritesProjects
from finery.api.context import Plane
from finery.control import tenancy
from finery.core.access import Caller, Project

router = APIRouter(prefix="/finery/v1/projects", tags=["projects"])


class CreateProject(BaseModel):
    """The body of a new project; without a hub it goes into the caller's own."""

    model_config = ConfigDict(extra="forbid")
    name: str
    hub: str | None = None


@router.post("")
def create(plane: Plane, caller: WritesProjects, body: CreateProject) -> dict[str, Any]:
    """Make a project."""
    return _project(caller, tenancy.create_project(plane, caller, name=body.name, hub=body.hub))


@router.get("")
def list_projects(request: Request, plane: Plane, caller: ListsProjects) -> dict[str, Any]:
    """The projects that the caller can see. A token that could mean several of them has no current one."""
    found = tenancy.list_projects(plane, caller)
    decided = caller.key_id or request.headers.get("openai-project") or len(found) == 1
    shown = [_project(caller, project) | ({} if decided else {"current": False}) for project in found]
    return {"object": "list", "data": shown, "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsProjects, name: str) -> dict[str, Any]:
    """One project."""
    return _project(caller, tenancy.get_project(plane, caller, name))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesProjects, name: str) -> dict[str, Any]:
    """Delete an empty project."""
    return {"id": tenancy.delete_project(plane, caller, name).id, "object": "project", "deleted": True}


def _project(caller: Caller, project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "object": "project",
        "name": project.name,
        "hub_id": project.hub_id,
        "subscription_id": project.subscription_id,
        "current": project.id == caller.project.id,
        "created_at": project.created_at,
    }
