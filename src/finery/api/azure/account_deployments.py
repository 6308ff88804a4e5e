"""Azure Resource Manager: deployments of an account. Making one is asked after until it has `Succeeded` or `Failed`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsDeployments, WritesDeployments
from finery.api.azure import arm, errors, versions
from finery.api.azure.accounts import CAPACITY, SKUS
from finery.api.azure.arm import Account, OfAccount, Wire
from finery.api.context import Plane
from finery.api.finery.deployments import Sku
from finery.control import deployments
from finery.core.deployments import Deployment, DeploymentStatus
from finery.core.errors import NotFound

router = APIRouter(
    prefix=arm.ACCOUNT + "/deployments",
    tags=["azure"],
    dependencies=[Depends(versions.check)],
    responses=errors.DOCUMENTED,
)


class DeployedModel(BaseModel):
    """Which model; Finery's have one format and one version."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, Field(min_length=1, max_length=255)]


class Properties(BaseModel):
    """What a deployment is to be."""

    model_config = ConfigDict(extra="ignore")
    model: DeployedModel
    policy: Annotated[str | None, Field(alias="raiPolicyName", max_length=64)] = None


class ArmSku(Sku):
    """As Finery's; ARM's further fields (tier, size, family) say nothing here."""

    model_config = ConfigDict(extra="ignore")


class PutDeployment(BaseModel):
    """The body of a deployment."""

    model_config = ConfigDict(extra="ignore")
    sku: ArmSku | None = None
    properties: Properties


class PatchDeployment(BaseModel):
    """What may be changed of a deployment by itself."""

    model_config = ConfigDict(extra="ignore")
    sku: ArmSku


@router.get("")
def list_deployments(plane: Plane, caller: ReadsDeployments, account: OfAccount) -> Wire:
    """The account's deployments."""
    return arm.paged(_deployment(account, found) for found in deployments.list_all(plane, caller))


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsDeployments, account: OfAccount, name: str) -> JSONResponse:
    """One deployment."""
    return arm.accepted(_deployment(account, deployments.get(plane, caller, name)))


@router.put("/{name}")
def put(plane: Plane, caller: WritesDeployments, account: OfAccount, name: str, body: PutDeployment) -> JSONResponse:
    """Make a deployment, or make it another."""
    sku = body.sku.model_dump() if body.sku else None
    found, made = deployments.put(
        plane, caller, name=name, model=body.properties.model.name, sku=sku, policy=body.properties.policy
    )
    return arm.accepted(_deployment(account, found), 201 if made else 200)


@router.patch("/{name}")
def patch(
    plane: Plane, caller: WritesDeployments, account: OfAccount, name: str, body: PatchDeployment
) -> JSONResponse:
    """Change a deployment's kind or capacity."""
    old = deployments.get(plane, caller, name)
    found, _ = deployments.put(plane, caller, name=name, model=old.model, sku=body.sku.model_dump(), policy=old.policy)
    return arm.accepted(_deployment(account, found))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesDeployments, account: OfAccount, name: str) -> Response:
    """Delete a deployment, at once; 204 where there is none."""
    try:
        deployments.delete(plane, caller, name)
    except NotFound:
        return Response(status_code=204)
    return Response(status_code=200)


@router.get("/{name}/skus")
def list_skus(plane: Plane, caller: ReadsDeployments, account: OfAccount, name: str) -> Wire:
    """What a deployment could be changed to."""
    deployments.get(plane, caller, name)
    kind = f"{arm.PROVIDER}/accounts/deployments"
    return arm.paged({"resourceType": kind, "sku": {"name": sku}, "capacity": CAPACITY} for sku in SKUS)


def _deployment(account: Account, record: Deployment) -> Wire:
    resource: dict[str, Any] = {
        "id": f"{account.id}/deployments/{record.name}",
        "name": record.name,
        "type": f"{arm.PROVIDER}/accounts/deployments",
        "sku": record.sku,
        "etag": f'"{record.updated_at}"',
        "systemData": arm.system_data(record.created_at, record.updated_at),
        "properties": {
            "provisioningState": record.provisioning_state.value,
            "model": {"format": "OpenAI", "name": record.model, "version": "1"},
            "raiPolicyName": record.policy,
            "capabilities": {"chatCompletion": "true", "completion": "true", "embeddings": "true"},
            "currentCapacity": record.sku["capacity"],
        },
    }
    if record.provisioning_state == DeploymentStatus.FAILED:
        reason = record.provisioning_details or "The deployment failed."
        resource["error"] = {"code": "DeploymentFailed", "message": reason}
    return resource
