"""/finery/v1/deployments/{name}/capture: what of a deployment's traffic is kept, and what becomes of it."""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsData, WritesData, WritesDeployments
from finery.api.context import Plane, paging
from finery.api.openai import wire
from finery.control import capture
from finery.core.capture import CapturePolicy
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/finery/v1/deployments/{name}", tags=["monitoring"])

CapturedCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]


class SetCapture(BaseModel):
    """The body that switches capture on."""

    model_config = ConfigDict(extra="forbid")
    share: float = 1.0
    retention_days: int = 30
    redact: bool = True


class CollectCaptured(BaseModel):
    """The body of a dataset's new version: whole conversations from `since` up to `until`, in seconds since 1970."""

    model_config = ConfigDict(extra="forbid")
    dataset: str
    since: int | None = None
    until: int | None = None


@router.put("/capture")
def switch_on(plane: Plane, caller: WritesDeployments, name: str, body: SetCapture) -> dict[str, Any]:
    """Keep a deployment's conversations from now on."""
    policy = CapturePolicy(share=body.share, retention_days=body.retention_days, redact=body.redact)
    return _policy(name, capture.set_policy(plane, caller, name, policy))


@router.get("/capture")
def retrieve(plane: Plane, caller: ReadsData, name: str) -> dict[str, Any]:
    """Whether conversations are kept, and how."""
    return _policy(name, capture.get_policy(plane, caller, name))


@router.delete("/capture")
def switch_off(plane: Plane, caller: WritesData, name: str) -> dict[str, Any]:
    """Keep no more; what was kept stays for its time."""
    capture.stop(plane, caller, name)
    return _policy(name, None)


@router.get("/captured")
def list_captured(plane: Plane, caller: ReadsData, name: str, cursor: CapturedCursor) -> dict[str, Any]:
    """The kept conversations, newest first."""
    return wire.page(capture.list_page(plane, caller, name, cursor), _captured)


@router.delete("/captured")
def forget(plane: Plane, caller: WritesData, name: str) -> dict[str, Any]:
    """Forget all kept conversations."""
    capture.forget(plane, caller, name)
    return {"name": name, "object": "deployment.captured", "deleted": True}


@router.post("/captured/dataset")
def collect(plane: Plane, caller: WritesData, name: str, body: CollectCaptured) -> dict[str, Any]:
    """Put the kept conversations behind a dataset's last version."""
    version = capture.to_dataset(plane, caller, name, dataset=body.dataset, since=body.since, until=body.until)
    return {
        "name": body.dataset,
        "object": "dataset.version",
        "version": version.version,
        "file_id": version.file_id,
        "origin": version.origin,
        "record": version.record,
        "created_at": version.created_at,
    }


def _policy(name: str, policy: CapturePolicy | None) -> dict[str, Any]:
    facts = dataclasses.asdict(policy) if policy else {}
    return {"name": name, "object": "deployment.capture", "enabled": policy is not None, **facts}


def _captured(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "id": record.id,
        "object": "deployment.captured",
        "messages": body["messages"],
        "answer": body["answer"],
        "finish_reason": record.status,
        "masked": body["masked"],
        "usage": {"prompt_tokens": body["prompt_tokens"], "completion_tokens": body["completion_tokens"]},
        "created_at": record.created_at,
        "expires_at": record.expires_at,
    }
