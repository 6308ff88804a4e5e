"""Webhooks: who wants to hear of what, and telling them.

What there is to tell is written in the same transaction as what happened, and delivered afterwards, several times if
need be. Signed as OpenAI signs (standardwebhooks.com): `webhook-signature: v1,` and the base64 HMAC-SHA256 of
`{id}.{timestamp}.{body}` under the bytes of the secret behind `whsec_`.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import time
from typing import Any

import httpx

from finery.control import addresses, audit
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import InvalidRequest, NotFound, Unavailable
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

EVENTS = (
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
)
"""What can be heard of."""

PAUSES = (5, 30, 300, 1800, 7200)
"""Seconds before each further try."""

TIMEOUT_SECONDS = 10.0
OLD_SECRET_SECONDS = 24 * 3600


def create(plane: ControlPlane, caller: Caller, *, name: str, url: str, event_types: list[str]) -> tuple[Record, str]:
    """A new endpoint, and the secret that is shown this once.

    Raises:
        InvalidRequest: an address that may not be called, or an unknown event.
    """
    _check(plane, url, event_types)
    secret = _new_secret()
    moment = now()
    endpoint = Record(
        id=new_id("we_"),
        project_id=caller.project.id,
        kind=Kind.WEBHOOK_ENDPOINT,
        status="enabled",
        body={"name": name, "url": url, "event_types": event_types, "secrets": [[secret, None]], "updated_at": moment},
        created_at=moment,
    )
    with plane.database.write() as connection:
        records.insert_record(connection, endpoint)
        audit.record(connection, caller, "webhooks.create", endpoint.id, name=name, events=event_types)
    return endpoint, secret


def get(plane: ControlPlane, caller: Caller, endpoint_id: str) -> Record:
    """An endpoint of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        endpoint = records.get(connection, caller.project.id, Kind.WEBHOOK_ENDPOINT, endpoint_id)
    if endpoint is None:
        raise NotFound(f"There is no webhook endpoint {endpoint_id!r} in this project.")
    return endpoint


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """The project's endpoints."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.WEBHOOK_ENDPOINT, cursor)


def update(plane: ControlPlane, caller: Caller, endpoint_id: str, changes: dict[str, Any]) -> Record:
    """Change name, url or events."""
    endpoint = get(plane, caller, endpoint_id)
    body = {**endpoint.body, **changes}
    if body != endpoint.body:
        _check(plane, body["url"], body["event_types"])
        with plane.database.write() as connection:
            records.change(connection, endpoint, body={**body, "updated_at": now()})
            audit.record(connection, caller, "webhooks.update", endpoint_id, changed=sorted(changes))
    return get(plane, caller, endpoint_id)


def rotate(plane: ControlPlane, caller: Caller, endpoint_id: str, *, keep_old: bool) -> tuple[Record, str]:
    """A new secret; the old one goes on to sign for a day if wanted."""
    endpoint = get(plane, caller, endpoint_id)
    secret = _new_secret()
    old = [[endpoint.body["secrets"][0][0], now() + OLD_SECRET_SECONDS]] if keep_old else []
    with plane.database.write() as connection:
        body = {**endpoint.body, "secrets": [[secret, None], *old], "updated_at": now()}
        records.change(connection, endpoint, body=body)
        audit.record(connection, caller, "webhooks.rotate", endpoint_id)
    return get(plane, caller, endpoint_id), secret


def delete(plane: ControlPlane, caller: Caller, endpoint_id: str) -> None:
    """Forget an endpoint and what was still to be told to it."""
    get(plane, caller, endpoint_id)
    with plane.database.write() as connection:
        records.remove(connection, caller.project.id, Kind.WEBHOOK_ENDPOINT, endpoint_id)
        records.remove_owned(connection, caller.project.id, Kind.WEBHOOK_DELIVERY, endpoint_id)
        audit.record(connection, caller, "webhooks.delete", endpoint_id)


async def test(plane: ControlPlane, caller: Caller, endpoint_id: str, event_type: str) -> int:
    """Send a made-up event now; the status that was answered.

    Raises:
        Unavailable: nobody answers there.
    """
    endpoint = await asyncio.to_thread(get, plane, caller, endpoint_id)
    event = _event(event_type, "test_object")
    try:
        return await _send(plane, endpoint, event)
    except (httpx.HTTPError, OSError) as error:
        raise Unavailable(f"{endpoint.body['url']} can't be reached ({type(error).__name__}).") from error


def tell(connection: Any, project_id: str, event_type: str, object_id: str) -> None:
    """Note, in the caller's transaction, that endpoints are to hear of an event."""
    cursor = Cursor(limit=1000)
    for endpoint in records.list_page(connection, project_id, Kind.WEBHOOK_ENDPOINT, cursor).items:
        if event_type in endpoint.body["event_types"]:
            event = _event(event_type, object_id)
            delivery = Record(
                id=event["id"],
                project_id=project_id,
                kind=Kind.WEBHOOK_DELIVERY,
                owner=endpoint.id,
                status="pending",
                body={"event": event, "tries": 0, "not_before": 0},
                created_at=event["created_at"],
            )
            records.insert_record(connection, delivery)


async def deliver_pending(plane: ControlPlane) -> None:
    """Tell what is to be told; what fails is tried again later, five times."""
    due = await asyncio.to_thread(_due, plane)
    await asyncio.gather(*(_deliver(plane, delivery) for delivery in due[:32]))


def _due(plane: ControlPlane) -> list[Record]:
    with plane.database.read() as connection:
        pending = records.list_in(connection, Kind.WEBHOOK_DELIVERY, "pending")
    return [delivery for delivery in pending if delivery.body["not_before"] <= time.time()]


def signature(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """One signature of a delivery."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def _deliver(plane: ControlPlane, delivery: Record) -> None:
    with plane.database.read() as connection:
        endpoint = records.get(connection, delivery.project_id, Kind.WEBHOOK_ENDPOINT, delivery.owner)
    if endpoint is None:
        return
    try:
        said = f"status {(status := await _send(plane, endpoint, delivery.body['event']))}"
        done = 200 <= status < 300
    except (httpx.HTTPError, OSError, InvalidRequest) as error:
        said, done = type(error).__name__, False
    tries = delivery.body["tries"] + 1
    if done:
        changes: dict[str, Any] = {"status": "delivered"}
    elif tries > len(PAUSES):
        log.warning("webhook %s to %s was given up: %s", delivery.id, endpoint.id, said)
        changes = {"status": "failed"}
    else:
        changes = {"body": {**delivery.body, "tries": tries, "not_before": time.time() + PAUSES[tries - 1]}}

    def keep() -> None:
        with plane.database.write() as connection:
            records.change(connection, delivery, **changes)
            if "status" in changes:
                records.remove(connection, delivery.project_id, Kind.WEBHOOK_DELIVERY, delivery.id)

    await asyncio.to_thread(keep)


async def _send(plane: ControlPlane, endpoint: Record, event: dict[str, Any]) -> int:
    private = bool(plane.settings.private_webhooks)
    address = await asyncio.to_thread(addresses.allowed, endpoint.body["url"], private=private)
    body = json.dumps(event, separators=(",", ":")).encode()
    timestamp = str(now())
    live = [secret for secret, until in endpoint.body["secrets"] if until is None or until > now()]
    headers = {
        "content-type": "application/json",
        "user-agent": "Finery-Webhooks/1.0",
        "webhook-id": event["id"],
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signature(secret, event["id"], timestamp, body) for secret in live),
    }
    answer = await addresses.post(address, body, headers, seconds=TIMEOUT_SECONDS)
    return answer.status_code


def _check(plane: ControlPlane, url: str, event_types: list[str]) -> None:
    unknown = [name for name in event_types if name not in EVENTS]
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]!r} is no event of this server; there are {', '.join(EVENTS)}.", param="event_types"
        )
    # A host that can't be found today may be there tomorrow: its address is looked at again before each delivery.
    with contextlib.suppress(OSError):
        addresses.allowed(url, private=bool(plane.settings.private_webhooks))


def _event(event_type: str, object_id: str) -> dict[str, Any]:
    return {
        "id": new_id("evt_"),
        "object": "event",
        "created_at": now(),
        "type": event_type,
        "data": {"id": object_id},
    }


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
