"""Azure Machine Learning: workspaces, the models that jobs registered, and endpoints that serve them."""

import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import AsksModels, ReadsModels, WritesDeployments, secret_of
from finery.api.azure import arm, errors, ml, versions
from finery.api.azure.arm import Wire
from finery.api.azure.ml import OfWorkspace, Workspace
from finery.api.context import Plane
from finery.control import deployments, named_jobs
from finery.control.named_jobs import RegisteredModel
from finery.core.access import Caller
from finery.core.deployments import Deployment, DeploymentStatus
from finery.core.errors import NotFound

router = APIRouter(
    prefix=ml.WORKSPACES,
    tags=["azure"],
    dependencies=[Depends(versions.check)],
    responses=errors.DOCUMENTED,
)

ENDPOINT_STATES = {
    DeploymentStatus.CREATING: "Creating",
    DeploymentStatus.SUCCEEDED: "Online",
    DeploymentStatus.FAILED: "CreationFailed",
    DeploymentStatus.DELETING: "Deleting",
}


class ModelSettings(BaseModel):
    """Which model an endpoint serves."""

    model_config = ConfigDict(extra="ignore")
    model_id: Annotated[str, Field(alias="modelId", min_length=1, max_length=2048)]


class EndpointProperties(BaseModel):
    """What an endpoint is to be."""

    model_config = ConfigDict(extra="ignore")
    settings: Annotated[ModelSettings, Field(alias="modelSettings")]


class PutEndpoint(BaseModel):
    """The body of an endpoint."""

    model_config = ConfigDict(extra="ignore")
    properties: EndpointProperties


@router.get("")
def list_workspaces(plane: Plane, caller: ReadsModels, subscription: str, group: str) -> Wire:
    """The caller's workspace, if it lies in the resource group."""
    own = ml.own_workspace(plane, caller, subscription)
    found = [own] if own.hub.resource_group.lower() == group.lower() else []
    return arm.paged(_workspace(caller, workspace) for workspace in found)


@router.get("/{workspace}")
def retrieve(caller: ReadsModels, workspace: OfWorkspace) -> Wire:
    """One workspace."""
    return _workspace(caller, workspace)


@router.get("/{workspace}/models")
def list_models(plane: Plane, caller: ReadsModels, workspace: OfWorkspace) -> Wire:
    """The models that jobs registered, by name."""
    latest = {model.name: model for model in named_jobs.list_models(plane, caller)}
    return arm.paged(
        {
            "id": f"{workspace.id}/models/{name}",
            "name": name,
            "type": f"{ml.PROVIDER}/workspaces/models",
            "properties": {"latestVersion": str(model.version), "nextVersion": str(model.version + 1)},
        }
        for name, model in latest.items()
    )


@router.get("/{workspace}/models/{name}")
def retrieve_model(plane: Plane, caller: ReadsModels, workspace: OfWorkspace, name: str) -> Wire:
    """What versions a model has."""
    newest = named_jobs.get_model(plane, caller, name)
    properties = {"latestVersion": str(newest.version), "nextVersion": str(newest.version + 1)}
    return {"id": f"{workspace.id}/models/{name}", "name": name, "properties": properties}


@router.get("/{workspace}/models/{name}/versions")
def list_model_versions(plane: Plane, caller: ReadsModels, workspace: OfWorkspace, name: str) -> Wire:
    """A model's versions, newest first."""
    found = named_jobs.list_models(plane, caller, name)
    return arm.paged(_model(workspace, model) for model in reversed(found))


@router.get("/{workspace}/models/{name}/versions/{version}")
def retrieve_model_version(plane: Plane, caller: ReadsModels, workspace: OfWorkspace, name: str, version: int) -> Wire:
    """One version of a model."""
    return _model(workspace, named_jobs.get_model(plane, caller, name, version))


@router.get("/{workspace}/serverlessEndpoints")
def list_endpoints(plane: Plane, caller: ReadsModels, request: Request, workspace: OfWorkspace) -> Wire:
    """The workspace's endpoints: all its deployments."""
    return arm.paged(_endpoint(request, workspace, found) for found in deployments.list_all(plane, caller))


@router.get("/{workspace}/serverlessEndpoints/{name}")
def retrieve_endpoint(
    plane: Plane, caller: ReadsModels, request: Request, workspace: OfWorkspace, name: str
) -> JSONResponse:
    """One endpoint."""
    return arm.accepted(_endpoint(request, workspace, deployments.get(plane, caller, name)))


@router.put("/{workspace}/serverlessEndpoints/{name}")
def put_endpoint(
    plane: Plane, caller: WritesDeployments, request: Request, workspace: OfWorkspace, name: str, body: PutEndpoint
) -> JSONResponse:
    """Serve a model under a name."""
    model = ml.model_in(plane, caller, body.properties.settings.model_id)
    found, made = deployments.put(plane, caller, name=name, model=model, sku=None, policy=None)
    return arm.accepted(_endpoint(request, workspace, found), 201 if made else 200)


@router.delete("/{workspace}/serverlessEndpoints/{name}")
def delete_endpoint(plane: Plane, caller: WritesDeployments, workspace: OfWorkspace, name: str) -> Response:
    """Stop serving, at once; it's the same where nothing was served."""
    with contextlib.suppress(NotFound):
        deployments.delete(plane, caller, name)
    return Response(status_code=204)


@router.post("/{workspace}/serverlessEndpoints/{name}/listKeys")
def list_endpoint_keys(
    plane: Plane, caller: AsksModels, request: Request, workspace: OfWorkspace, name: str
) -> dict[str, str]:
    """The key that was sent: of others only the digest is known."""
    deployments.get(plane, caller, name)
    return {"primaryKey": secret_of(request), "secondaryKey": secret_of(request)}


def _workspace(caller: Caller, workspace: Workspace) -> Wire:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "type": f"{ml.PROVIDER}/workspaces",
        "kind": "Project",
        "location": workspace.hub.location,
        "systemData": arm.system_data(caller.project.created_at, caller.project.created_at),
        "properties": {
            "friendlyName": workspace.name,
            "provisioningState": "Succeeded",
            "workspaceId": caller.project.id,
            "hubResourceId": workspace.hub_id,
            "publicNetworkAccess": "Enabled",
        },
    }


def _model(workspace: Workspace, model: RegisteredModel) -> Wire:
    job = model.job
    properties: dict[str, Any] = {
        "modelType": "custom_model",
        "flavors": {},
        "modelUri": f"azureml://finery/{job.fine_tuned_model}",
        "jobName": job.id,
        "isArchived": False,
        "tags": {},
        "properties": {"finery.fine_tuned_model": job.fine_tuned_model, "baseModelId": job.base_model},
        "provisioningState": "Succeeded",
    }
    return {
        "id": f"{workspace.id}/models/{model.name}/versions/{model.version}",
        "name": str(model.version),
        "type": f"{ml.PROVIDER}/workspaces/models/versions",
        "systemData": arm.system_data(job.created_at, job.finished_at or job.created_at),
        "properties": properties,
    }


def _endpoint(request: Request, workspace: Workspace, record: Deployment) -> Wire:
    return {
        "id": f"{workspace.id}/serverlessEndpoints/{record.name}",
        "name": record.name,
        "type": f"{ml.PROVIDER}/workspaces/serverlessEndpoints",
        "location": workspace.hub.location,
        "sku": {"name": "Consumption"},
        "systemData": arm.system_data(record.created_at, record.updated_at),
        "properties": {
            "authMode": "Key",
            "modelSettings": {"modelId": record.model},
            "inferenceEndpoint": {"uri": f"{request.base_url}openai/deployments/{record.name}"},
            "endpointState": ENDPOINT_STATES[record.status],
            "provisioningState": record.provisioning_state.value,
        },
    }
