"""/v1/webhook_endpoints."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsWebhooks, WritesWebhooks
from finery.api.context import Plane, paging
from finery.api.openai import wire
from finery.control import webhooks
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1", tags=["webhooks"])

EndpointsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]

Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Events = Annotated[list[str], Field(min_length=1, max_length=64)]


class CreateEndpoint(BaseModel):
    """The body of a new endpoint."""

    model_config = ConfigDict(extra="ignore")
    name: Name
    url: Url
    event_types: Events


class UpdateEndpoint(BaseModel):
    """What may be changed of an endpoint."""

    model_config = ConfigDict(extra="ignore")
    name: Name | None = None
    url: Url | None = None
    event_types: Events | None = None


class RotateSecret(BaseModel):
    """Whether the old secret goes on to sign for a day."""

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(BaseModel):
    """Which event to make up."""

    event_type: str


@router.post("/webhook_endpoints")
def create(plane: Plane, caller: WritesWebhooks, body: CreateEndpoint) -> dict[str, Any]:
    """Make an endpoint; the answer is the only place where its secret is shown."""
    record, secret = webhooks.create(plane, caller, name=body.name, url=body.url, event_types=body.event_types)
    return {**_endpoint(record), "signing_secret": secret}


@router.get("/webhook_endpoints")
def list_endpoints(plane: Plane, caller: ReadsWebhooks, cursor: EndpointsCursor) -> dict[str, Any]:
    """The project's endpoints."""
    return wire.page(webhooks.list_page(plane, caller, cursor), _endpoint)


@router.get("/webhook_endpoints/{endpoint_id}")
def retrieve(plane: Plane, caller: ReadsWebhooks, endpoint_id: str) -> dict[str, Any]:
    """One endpoint."""
    return _endpoint(webhooks.get(plane, caller, endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}")
def update(plane: Plane, caller: WritesWebhooks, endpoint_id: str, body: UpdateEndpoint) -> dict[str, Any]:
    """Change an endpoint."""
    return _endpoint(webhooks.update(plane, caller, endpoint_id, body.model_dump(exclude_none=True)))


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
def rotate(plane: Plane, caller: WritesWebhooks, endpoint_id: str, body: RotateSecret | None = None) -> dict[str, Any]:
    """Give an endpoint a new secret."""
    keep = bool(body and body.keep_old_secret_active_for_24_hours)
    record, secret = webhooks.rotate(plane, caller, endpoint_id, keep_old=keep)
    return {**_endpoint(record), "signing_secret": secret}


@router.post("/webhook_endpoints/{endpoint_id}/test")
async def test(plane: Plane, caller: WritesWebhooks, endpoint_id: str, body: TestEndpoint) -> dict[str, Any]:
    """Send a made-up event."""
    status = await webhooks.test(plane, caller, endpoint_id, body.event_type)
    return {
        "object": "webhook_endpoint.test",
        "event_type": body.event_type,
        "status_code": status,
        "success": 200 <= status < 300,
        "webhook_endpoint_id": endpoint_id,
    }


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete(plane: Plane, caller: WritesWebhooks, endpoint_id: str) -> dict[str, Any]:
    """Forget an endpoint."""
    webhooks.delete(plane, caller, endpoint_id)
    return wire.deleted(endpoint_id, "webhook_endpoint.deleted")


@router.get("/webhook_event_types")
def list_event_types(caller: ReadsWebhooks) -> dict[str, Any]:
    """What can be heard of."""
    return {"object": "list", "data": list(webhooks.EVENTS)}


def _endpoint(record: Record) -> dict[str, Any]:
    secret = record.body["secrets"][0][0]
    return {
        "id": record.id,
        "object": "webhook_endpoint",
        "created_at": record.created_at,
        "updated_at": record.body["updated_at"],
        "name": record.body["name"],
        "url": record.body["url"],
        "event_types": record.body["event_types"],
        "signing_secret_hint": f"{secret[:10]}…",
    }
