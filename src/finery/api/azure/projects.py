"""/api/projects/{project}: a Foundry project's deployments and connections, as `azure-ai-projects` asks for them.

Its datasets are in `project_datasets`; fine-tuning, files, chat and responses are OpenAI's, at `openai/v1` below it.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from finery.api.access import OWN_PROJECT, AsksModels, KnownCaller, ReadsDeployments, ReadsProjects, secret_of
from finery.api.azure import arm, versions
from finery.api.azure.arm import Wire
from finery.api.azure.inference import publisher_of
from finery.api.context import Plane
from finery.control import deployments, models, tenancy
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.deployments import Deployment
from finery.core.errors import NotFound

PROJECT = "/api/projects/{project}"


def require_own(caller: KnownCaller, project: str) -> None:
    """Refuse another project than the caller's.

    Raises:
        NotFound: it isn't the caller's.
    """
    if project not in (caller.project.name, OWN_PROJECT):
        raise NotFound(
            f"There is no project '{project}' that you could see. Your key is for the project '{caller.project.name}'.",
            param="project",
        )


router = APIRouter(prefix=PROJECT, tags=["azure"], dependencies=[Depends(versions.check), Depends(require_own)])


@router.get("/deployments")
def list_deployments(
    plane: Plane,
    caller: ReadsDeployments,
    model_name: Annotated[str | None, Query(alias="modelName")] = None,
    publisher: Annotated[str | None, Query(alias="modelPublisher")] = None,
) -> Wire:
    """The project's deployments that answer."""
    found = [_deployment(plane, record) for record in deployments.list_all(plane, caller)]
    return arm.paged(
        one for one in found if model_name in (None, one["modelName"]) and publisher in (None, one["modelPublisher"])
    )


@router.get("/deployments/{name}")
def retrieve_deployment(plane: Plane, caller: ReadsDeployments, name: str) -> Wire:
    """One deployment."""
    return _deployment(plane, deployments.get(plane, caller, name))


@router.get("/connections")
def list_connections(
    plane: Plane,
    caller: ReadsProjects,
    request: Request,
    kind: Annotated[str | None, Query(alias="connectionType")] = None,
    default: Annotated[bool | None, Query(alias="defaultConnection")] = None,
) -> Wire:
    """What the project's programs are connected with: this server's models and storage, and its hub's connections."""
    found = _connections(plane, caller, request)
    return arm.paged(one for one in found if kind in (None, one["type"]) and default in (None, one["isDefault"]))


@router.get("/connections/{name}")
def retrieve_connection(plane: Plane, caller: ReadsProjects, request: Request, name: str) -> Wire:
    """One connection, without its key."""
    return _connection(plane, caller, request, name)


@router.post("/connections/{name}/getConnectionWithCredentials")
def retrieve_connection_with_key(plane: Plane, caller: AsksModels, request: Request, name: str) -> Wire:
    """One connection with its key, which is the one that was sent."""
    found = _connection(plane, caller, request, name)
    if found["credentials"]["type"] == "ApiKey":
        found["credentials"] = {"type": "ApiKey", "key": secret_of(request)}
    return found


def _connection(plane: ControlPlane, caller: Caller, request: Request, name: str) -> Wire:
    for found in _connections(plane, caller, request):
        if found["name"] == name:
            return found
    raise NotFound(f"The project has no connection '{name}'.", param="name")


def _connections(plane: ControlPlane, caller: Caller, request: Request) -> list[dict[str, Any]]:
    base = str(request.base_url)
    # Of the hub's connections no secret is known: whoever uses them brings their own.
    return [
        _as_connection(caller, "finery", "AzureOpenAI", base, {}, credentials="ApiKey", default=True),
        _as_connection(
            caller, "workspaceblobstore", "AzureStorageAccount", f"{base}blobs/", {}, credentials="SAS", default=True
        ),
        *(
            _as_connection(caller, one.name, one.category, one.target, one.metadata, credentials="None", default=False)
            for one in tenancy.list_connections(plane, caller, caller.project.hub_id)
        ),
    ]


def _as_connection(
    caller: Caller, name: str, kind: str, target: str, metadata: dict[str, Any], *, credentials: str, default: bool
) -> Wire:
    return {
        "name": name,
        "id": f"{PROJECT.format(project=caller.project.name)}/connections/{name}",
        "type": kind,
        "target": target,
        "isDefault": default,
        "credentials": {"type": credentials},
        "metadata": metadata,
    }


def _deployment(plane: ControlPlane, record: Deployment) -> Wire:
    sku = record.sku
    base = models.find_base(plane, record.base_model)
    return {
        "type": "ModelDeployment",
        "name": record.name,
        "modelName": record.model,
        "modelVersion": "1",
        "modelPublisher": publisher_of(base) if base else "finery",
        "capabilities": {"chat_completion": "true"},
        "sku": {"name": sku["name"], "capacity": sku["capacity"], "family": "", "size": "", "tier": ""},
    }
