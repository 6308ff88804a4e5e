"""Azure Resource Manager: accounts, what can be deployed in them, and what is used of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request

from finery.api.access import AsksModels, ReadsModels, secret_of
from finery.api.azure import arm, errors, versions
from finery.api.azure.arm import Account, OfAccount, Wire
from finery.api.azure.inference import publisher_of
from finery.api.context import Plane
from finery.control import deployments, locations, models, tenancy
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.deployments import MAX_CAPACITY

router = APIRouter(tags=["azure"], dependencies=[Depends(versions.check)], responses=errors.DOCUMENTED)

AnySubscription = Annotated[str, Path(max_length=128)]
"""Clients name one; the answer is that of the key's own."""
LocationName = Annotated[str, Path(max_length=64)]

SKUS = ("Standard", "GlobalStandard", "DeveloperTier")
"""Azure's kinds of deployment for tuned models; on one's own machines they are the same."""

CAPACITY = {"minimum": 1, "maximum": MAX_CAPACITY, "step": 1, "default": 1}

_CAPABILITIES = {"fineTune": "true", "inference": "true", "completion": "true", "chatCompletion": "true"}


@router.get(arm.SUBSCRIPTION + "/accounts")
def list_accounts(plane: Plane, caller: ReadsModels, request: Request, subscription: str) -> Wire:
    """The account of the caller's project."""
    return arm.paged([_account(request, plane, caller, arm.own_account(plane, caller, subscription))])


@router.get(arm.GROUP + "/accounts")
def list_accounts_of_group(plane: Plane, caller: ReadsModels, request: Request, subscription: str, group: str) -> Wire:
    """The account of the caller's project, if it lies in the resource group."""
    own = arm.own_account(plane, caller, subscription)
    found = [own] if own.hub.resource_group.lower() == group.lower() else []
    return arm.paged(_account(request, plane, caller, account) for account in found)


@router.get(arm.ACCOUNT)
def retrieve(plane: Plane, caller: ReadsModels, request: Request, account: OfAccount) -> Wire:
    """One account."""
    return _account(request, plane, caller, account)


@router.post(arm.ACCOUNT + "/listKeys")
def list_keys(caller: AsksModels, request: Request, account: OfAccount) -> dict[str, str]:
    """The key that was sent: of others only the digest is known."""
    return {"key1": secret_of(request)}


@router.get(arm.ACCOUNT + "/models")
def list_models(plane: Plane, caller: ReadsModels, account: OfAccount) -> Wire:
    """What can be deployed: base models of this machine, and the tuned ones."""
    return arm.paged(_bases(plane) + _tuned(plane, caller))


@router.get(arm.ACCOUNT + "/skus")
def list_skus(caller: ReadsModels, account: OfAccount) -> Wire:
    """The kinds of account there are."""
    return arm.paged([{"resourceType": f"{arm.PROVIDER}/accounts", "sku": {"name": "S0"}}])


@router.get(arm.ACCOUNT + "/usages")
def list_usages(plane: Plane, caller: ReadsModels, account: OfAccount) -> Wire:
    """What the account uses."""
    return arm.paged(_usages(plane, caller))


@router.get(arm.SUBSCRIPTION + "/skus")
def list_resource_skus(plane: Plane, caller: ReadsModels, subscription: AnySubscription) -> Wire:
    """The kinds of account there are, and where."""
    sku = {"resourceType": "accounts", "name": "S0", "tier": "Standard", "kind": "AIServices"}
    places = [location.name for location in locations.list_all(plane)]
    return arm.paged([{**sku, "locations": places, "restrictions": []}])


@router.get(arm.SUBSCRIPTION + "/locations/{location}/models")
def list_models_of_location(
    plane: Plane, caller: ReadsModels, subscription: AnySubscription, location: LocationName
) -> Wire:
    """Base models that a location offers."""
    place = locations.get(plane, location)
    return arm.paged(
        {"kind": "OpenAI", "skuName": "S0", "model": model} for model in _bases(plane) if place.offers(model["name"])
    )


@router.get(arm.SUBSCRIPTION + "/locations/{location}/usages")
def list_usages_of_location(
    plane: Plane, caller: ReadsModels, subscription: AnySubscription, location: LocationName
) -> Wire:
    """What the caller's project uses in a location: nothing where its hub isn't."""
    here = arm.own_account(plane, caller, subscription).hub.location == locations.get(plane, location).name
    return arm.paged(_usages(plane, caller) if here else [])


def _account(request: Request, plane: ControlPlane, caller: Caller, account: Account) -> Wire:
    base = str(request.base_url)
    hub = account.hub
    inside = [project.name for project in tenancy.list_projects(plane, caller) if project.hub_id == hub.id]
    return {
        "id": account.id,
        "name": hub.name,
        "type": f"{arm.PROVIDER}/accounts",
        "kind": "AIServices",
        "location": hub.location,
        "sku": {"name": "S0"},
        "systemData": arm.system_data(hub.created_at, hub.created_at),
        "properties": {
            "provisioningState": "Succeeded",
            "endpoint": base,
            "endpoints": {
                "OpenAI Language Model Instance API": base,
                "Azure AI Model Inference API": base,
                "AI Foundry API": base,
            },
            "dateCreated": arm.moment(hub.created_at),
            "publicNetworkAccess": "Enabled",
            "disableLocalAuth": False,
            "defaultProject": caller.project.name,
            "associatedProjects": inside or [caller.project.name],
        },
    }


def _bases(plane: ControlPlane) -> list[Wire]:
    return [
        {
            **_model(base.id),
            "publisher": publisher_of(base),
            "finetuneCapabilities": {"supervised": "true", "dpo": "true"},
        }
        for base in models.list_bases(plane)
    ]


def _tuned(plane: ControlPlane, caller: Caller) -> list[Wire]:
    return [
        {**_model(tuned.name), "baseModel": {"format": "OpenAI", "name": tuned.base_model, "version": "1"}}
        for tuned in models.list_tuned(plane, caller)
    ]


def _model(name: str) -> dict[str, Any]:
    return {
        "format": "OpenAI",
        "name": name,
        "version": "1",
        "isDefaultVersion": True,
        "capabilities": _CAPABILITIES,
        "lifecycleStatus": "GenerallyAvailable",
        "maxCapacity": MAX_CAPACITY,
        "skus": [{"name": sku, "usageName": f"OpenAI.{sku}", "capacity": CAPACITY} for sku in SKUS],
    }


def _usages(plane: ControlPlane, caller: Caller) -> list[Wire]:
    """Capacity of the deployments, by their kind. There is no limit, so none is named."""
    used = dict.fromkeys(SKUS, 0)
    for deployment in deployments.list_all(plane, caller):
        name = deployment.sku["name"]
        used[name] = used.get(name, 0) + deployment.sku["capacity"]
    return [
        {
            "unit": "Count",
            "name": {"value": f"OpenAI.{sku}", "localizedValue": f"Capacity of {sku} deployments"},
            "currentValue": capacity,
        }
        for sku, capacity in used.items()
    ]
