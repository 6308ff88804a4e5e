"""Responses that nobody waits for: kept as they were asked, answered by the caretaker, found again after a restart.

Knows no words of the answer; whoever wires the application hands over `Ask`.
"""

import asyncio
import logging
from typing import Any

from finery.control import asking, crowd, kept, responses
from finery.control.asking import Ask
from finery.control.plane import ControlPlane, now
from finery.control.responses import CANCELLED, IN_PROGRESS, QUEUED, UNFINISHED
from finery.core.access import Caller
from finery.core.errors import Conflict
from finery.core.records import Kind, Record

log = logging.getLogger(__name__)

_OWN = ("id", "created_at", "background", "store", "previous_response_id")
"""What the answer takes from the response that was promised."""


def begin(
    plane: ControlPlane,
    caller: Caller,
    response: dict[str, Any],
    items: list[dict[str, Any]],
    messages: list[dict[str, Any]],
    asked: dict[str, Any],
) -> dict[str, Any]:
    """Take a response in; `asked` is the body of its request. Returns the response as it stands."""
    response = {**response, "status": QUEUED, "background": True}
    record = responses.as_record(caller, response, items, messages)
    record.body["asked"] = {**asked, "background": False, "store": False}
    kept.insert(plane, record, by=caller)
    return response


def cancel(plane: ControlPlane, caller: Caller, response_id: str) -> Record:
    """Stop a response; what was written of it is dropped.

    Raises:
        NotFound: there is none of that id; Conflict: it is over.
    """
    found = responses.get(plane, caller, response_id)
    if found.status == CANCELLED:
        return found
    if found.status not in UNFINISHED:
        raise Conflict(
            f"The response {response_id} is {found.status}; only one that is being written can be cancelled."
        )
    return _move(plane, found, {**found.body["response"], "status": CANCELLED}, by=caller)


async def run_pending(plane: ControlPlane, ask: Ask) -> None:
    """Answer every response that waits, a few at once."""
    waiting = await asyncio.to_thread(kept.unfinished, plane, Kind.RESPONSE, *UNFINISHED)
    await crowd.work_through(
        waiting, lambda record: _answer(plane, record, ask), at_once=plane.settings.inference_slots
    )


async def _answer(plane: ControlPlane, record: Record, ask: Ask) -> None:
    promised = record.body["response"]
    try:
        record = await asyncio.to_thread(_move, plane, record, {**promised, "status": IN_PROGRESS})
        status, answer = await asking.patiently(
            ask, kept.owner_of(plane, record), "/v1/responses", record.body["asked"]
        )
        if status >= 400:
            answer = _failed(promised, asking.fault(answer))
        answer |= {name: promised[name] for name in _OWN}
        await asyncio.to_thread(_move, plane, record, answer)
    except Conflict:
        pass  # Cancelled or deleted while it was written.
    except Exception:
        log.exception("response %s", record.id)
        await asyncio.to_thread(_move, plane, record, _failed(promised, "The server's log says why."))


def _failed(promised: dict[str, Any], text: str) -> dict[str, Any]:
    return {**promised, "status": "failed", "error": {"code": "server_error", "message": text}}


def _move(plane: ControlPlane, record: Record, response: dict[str, Any], *, by: Caller | None = None) -> Record:
    """Keep how a response stands now; its end is told to webhooks."""
    status = response["status"]
    facts: dict[str, Any] = {"response": response}
    if status not in UNFINISHED:
        facts["messages"] = [*record.body["messages"], *responses.as_messages(response["output"], param="output")]
        facts["finished_at"] = now()
    event = None if status in UNFINISHED else f"response.{status}"
    # Only a cancel may overtake: the answer itself is kept from the state that it began in.
    within = UNFINISHED if status == CANCELLED else ()
    return kept.move(plane, record, status, within=within, event=event, by=by, **facts)
