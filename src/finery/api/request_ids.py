"""Gives every request an id, a place in a trace, and a line in the log. Knows no route but by its path."""

import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finery import telemetry
from finery.api.limits import headers
from finery.control.admission import TICKET, Ticket
from finery.core import tracing
from finery.core.tracing import Trace

log = logging.getLogger(telemetry.REQUESTS)

_WORKERS = "/worker/"
_UNTOLD = ("/healthz", "/readyz", "/metrics", "/studio", "/worker/v1/claim")
"""Whoever asks every second, and pictures."""


class RequestId:
    """Sends the id back with the time the request took and what is left of its limits, as OpenAI does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(16)}"
        scope.setdefault("state", {})["request_id"] = request_id
        ticket = Ticket()
        TICKET.set(ticket)
        began = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                took = str(round(1000 * (time.monotonic() - began))).encode()
                own = [(b"x-request-id", request_id.encode()), (b"openai-processing-ms", took)]
                limits = headers(ticket.standing) if ticket.standing else []
                message["headers"] = [*message["headers"], *own, *limits]
            await send(message)

        asked_by = _asked_by(scope)
        if not _is_told(scope["path"], asked_by):
            with tracing.within(asked_by, request_id=request_id):
                await self.app(scope, receive, send_with_id)
            return
        facts = {"http.request.method": scope["method"], "url.path": scope["path"], "finery.request_id": request_id}
        with (
            tracing.within(asked_by or Trace.begin(), request_id=request_id),
            telemetry.span(scope["method"], parent=asked_by, kind="server", facts=facts) as doing,
        ):
            await self.app(scope, receive, send_with_id)
            route = getattr(scope.get("route"), "path", "")
            doing.name = f"{scope['method']} {route}".strip()
            doing.facts |= {"http.response.status_code": status, **({"http.route": route} if route else {})}
            doing.failed = f"status {status}" if status >= 500 else ""
            _write_line(scope, status, time.monotonic() - began)


def _asked_by(scope: Scope) -> Trace | None:
    """What the caller says it is a part of."""
    for name, value in scope["headers"]:
        if name == tracing.HEADER.encode():
            return Trace.parse(value.decode("latin-1"))
    return None


def _is_told(path: str, asked_by: Trace | None) -> bool:
    """Workers say which of their calls belong to a trace; a beat a second doesn't."""
    if path.startswith(_WORKERS):
        return asked_by is not None
    return not path.startswith(_UNTOLD)


def _write_line(scope: Scope, status: int, seconds: float) -> None:
    facts: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
    }
    log.info("%s %s %d", scope["method"], scope["path"], status, extra={"facts": facts})
