"""Azure Resource Manager: content filter policies of an account, which a deployment names as its `raiPolicyName`."""

import contextlib
import dataclasses
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsSafety, WritesSafety
from finery.api.azure import arm, errors, versions
from finery.api.azure.arm import Account, OfAccount, Wire
from finery.api.context import Plane
from finery.api.finery.policies import GuardBody
from finery.control import policies
from finery.core.errors import NotFound
from finery.core.policies import BlocklistUse, ContentFilter, Guard, Mode, OnFilterError, Policy, Source

router = APIRouter(
    prefix=arm.ACCOUNT + "/raiPolicies",
    tags=["azure"],
    dependencies=[Depends(versions.check)],
    responses=errors.DOCUMENTED,
)

NAMES = {"Selfharm": "self_harm"}
"""Azure's names of filters that aren't ours with other capitals and spaces."""

MODES = {
    "Default": Mode.DEFAULT,
    "Blocking": Mode.DEFAULT,
    "Asynchronous_filter": Mode.ASYNCHRONOUS,
    "Deferred": Mode.ASYNCHRONOUS,
}
"""Azure's modes; two of them are older names of the others."""


class Filter(BaseModel):
    """One filter in one direction."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    source: Source
    enabled: bool = True
    blocking: bool = True
    severity_threshold: Annotated[str | None, Field(alias="severityThreshold")] = None


class Blocklist(BaseModel):
    """A blocklist in one direction."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, Field(alias="blocklistName", min_length=1, max_length=64)]
    source: Source
    blocking: bool = True


class Properties(BaseModel):
    """What a policy looks for."""

    model_config = ConfigDict(extra="ignore")
    mode: Literal["Default", "Blocking", "Asynchronous_filter", "Deferred"] = "Default"
    base_policy: Annotated[str | None, Field(alias="basePolicyName", max_length=64)] = None
    filters: Annotated[list[Filter], Field(alias="contentFilters", max_length=40)] = Field(default_factory=list)
    blocklists: Annotated[list[Blocklist] | None, Field(alias="customBlocklists", max_length=20)] = None
    guard: GuardBody | None = None
    """Finery's own, as the next one: Azure's policies have no guard model. What isn't sent stays as it is."""
    on_filter_error: Annotated[OnFilterError | None, Field(alias="onFilterError")] = None


class PutPolicy(BaseModel):
    """The body of a policy."""

    model_config = ConfigDict(extra="ignore")
    properties: Properties


@router.get("")
def list_policies(plane: Plane, caller: ReadsSafety, account: OfAccount) -> Wire:
    """The built-in policies and the account's."""
    return arm.paged(_policy(account, found) for found in policies.list_all(plane, caller))


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsSafety, account: OfAccount, name: str) -> Wire:
    """One policy."""
    return _policy(account, policies.get(plane, caller, name))


@router.put("/{name}")
def put(plane: Plane, caller: WritesSafety, account: OfAccount, name: str, body: PutPolicy) -> JSONResponse:
    """Make or replace a policy. The guard and what follows where the filter fails stay unless they are sent: Azure's
    clients know neither."""
    there = next((found for found in policies.list_all(plane, caller) if found.name == name), None)
    asked = body.properties
    made = policies.put(
        plane,
        caller,
        Policy(
            name=name,
            mode=MODES[asked.mode],
            content_filters=tuple(
                ContentFilter(
                    name=_own_name(one.name),
                    source=one.source,
                    enabled=one.enabled,
                    blocking=one.blocking,
                    severity_threshold=one.severity_threshold,
                )
                for one in asked.filters
            ),
            blocklists=tuple(
                BlocklistUse(name=one.name, source=one.source, blocking=one.blocking) for one in asked.blocklists or ()
            ),
            guard=_guard(asked, there),
            on_filter_error=asked.on_filter_error or (there.on_filter_error if there else OnFilterError.BLOCK),
            base_policy=asked.base_policy,
        ),
    )
    return JSONResponse(_policy(account, made), status_code=200 if there else 201)


@router.delete("/{name}", status_code=204)
def delete(plane: Plane, caller: WritesSafety, account: OfAccount, name: str) -> None:
    """Delete a policy that no deployment is under, if there is one; Azure's client takes no 200 here."""
    with contextlib.suppress(NotFound):
        policies.delete(plane, caller, name)


def _guard(asked: Properties, there: Policy | None) -> Guard | None:
    if "guard" not in asked.model_fields_set:
        return there.guard if there else None
    return Guard(**asked.guard.model_dump()) if asked.guard else None


def _own_name(name: str) -> str:
    return NAMES.get(name, name.replace(" ", "_").lower())


def _azure_name(name: str) -> str:
    return {own: azure for azure, own in NAMES.items()}.get(name, name.replace("_", " ").title())


def _policy(account: Account, found: Policy) -> Wire:
    filters: list[dict[str, Any]] = [
        {
            "name": _azure_name(one.name),
            "enabled": one.enabled,
            "blocking": one.blocking,
            "severityThreshold": one.severity_threshold,
            "source": one.source.value,
        }
        for one in found.content_filters
    ]
    return {
        "id": f"{account.id}/raiPolicies/{found.name}",
        "name": found.name,
        "type": f"{arm.PROVIDER}/accounts/raiPolicies",
        "systemData": arm.system_data(found.created_at, found.updated_at),
        "properties": {
            "type": "SystemManaged" if found.built_in else "UserManaged",
            "mode": found.mode.value,
            "basePolicyName": found.base_policy,
            "onFilterError": found.on_filter_error.value,
            "contentFilters": filters,
            "customBlocklists": [
                {"blocklistName": one.name, "blocking": one.blocking, "source": one.source.value}
                for one in found.blocklists
            ],
            **({"guard": dataclasses.asdict(found.guard)} if found.guard else {}),
        },
    }
