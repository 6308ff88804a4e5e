"""/finery/v1/policies: content filter policies."""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsSafety, WritesSafety
from finery.api.context import Plane
from finery.control import policies
from finery.core.policies import BlocklistUse, ContentFilter, Guard, Mode, OnFilterError, Policy, Source

router = APIRouter(prefix="/finery/v1/policies", tags=["policies"])


class FilterBody(BaseModel):
    """One filter; its severity threshold is Low, Medium or High."""

    model_config = ConfigDict(extra="forbid")
    name: str
    source: Source
    enabled: bool = True
    blocking: bool = True
    severity_threshold: str | None = None


class BlocklistBody(BaseModel):
    """A blocklist in one direction."""

    model_config = ConfigDict(extra="forbid")
    name: str
    source: Source
    blocking: bool = True


class GuardBody(BaseModel):
    """A guard model: a deployment, or the model of the operator's guard on the network."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    deployment: str | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    timeout_seconds: float = 10.0


class PutPolicy(BaseModel):
    """The body of a policy; left out filters are those of the default policy."""

    model_config = ConfigDict(extra="forbid")
    mode: Mode = Mode.DEFAULT
    on_filter_error: OnFilterError = OnFilterError.BLOCK
    content_filters: list[FilterBody] = Field(default_factory=list)
    blocklists: list[BlocklistBody] = Field(default_factory=list)
    guard: GuardBody | None = None
    base_policy: str | None = None


@router.get("")
def list_policies(plane: Plane, caller: ReadsSafety) -> dict[str, Any]:
    """The built-in policies and the project's."""
    found = [to_json(policy) for policy in policies.list_all(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsSafety, name: str) -> dict[str, Any]:
    """One policy."""
    return to_json(policies.get(plane, caller, name))


@router.put("/{name}")
def put(plane: Plane, caller: WritesSafety, name: str, body: PutPolicy) -> dict[str, Any]:
    """Make or replace a policy."""
    asked = Policy(
        name=name,
        mode=body.mode,
        on_filter_error=body.on_filter_error,
        content_filters=tuple(ContentFilter(**one.model_dump()) for one in body.content_filters),
        blocklists=tuple(BlocklistUse(**one.model_dump()) for one in body.blocklists),
        guard=Guard(**body.guard.model_dump()) if body.guard else None,
        base_policy=body.base_policy,
    )
    return to_json(policies.put(plane, caller, asked))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesSafety, name: str) -> dict[str, Any]:
    """Delete a policy that no deployment is under."""
    policies.delete(plane, caller, name)
    return {"name": name, "object": "policy", "deleted": True}


def to_json(policy: Policy) -> dict[str, Any]:
    """A policy as Finery's object."""
    return {
        "name": policy.name,
        "object": "policy",
        "built_in": policy.built_in,
        "base_policy": policy.base_policy,
        "mode": policy.mode,
        "on_filter_error": policy.on_filter_error,
        "content_filters": [
            {
                "name": one.name,
                "source": one.source,
                "enabled": one.enabled,
                "blocking": one.blocking,
                "severity_threshold": one.severity_threshold,
            }
            for one in policy.content_filters
        ],
        "blocklists": [{"name": use.name, "source": use.source, "blocking": use.blocking} for use in policy.blocklists],
        "guard": dataclasses.asdict(policy.guard) if policy.guard else None,
        "weaker_than_default": policy.weakened,
        "created_at": policy.created_at,
        "updated_at": policy.updated_at,
    }
