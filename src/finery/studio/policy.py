"""The content security policy, and the nonce it asks of every script (docs/decisions/ has the why of each line).

NiceGUI writes its scripts into the page and compiles templates in the browser: so scripts need a nonce that is new with
every page, and `unsafe-eval`. It knows no pages; whoever can write text into one can't know its nonce.
"""

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""For pages without any script."""

_PAGES = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; frame-src 'none'; object-src 'none'"
)

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)
"""Sent with everything."""

_SCRIPT_TAG = re.compile(rb"<script\b(?![^>]*\bnonce=)")


class Policy:
    """Sends the policy with everything below it; a page is held back until every script in it has the nonce."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Answer(send).send)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""
        self._nonce = secrets.token_urlsafe(16)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS]
            if not _is_page(message):
                message["headers"].append((b"content-security-policy", STRICT.encode()))
                await self._send(message)
                return
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        body = _SCRIPT_TAG.sub(f'<script nonce="{self._nonce}"'.encode(), self._body)
        kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        policy = _PAGES.format(nonce=self._nonce) if b"<script" in body else STRICT
        own = [(b"content-length", str(len(body)).encode()), (b"content-security-policy", policy.encode())]
        await self._send({**start, "headers": kept + own})
        await self._send({"type": "http.response.body", "body": body})


def _is_page(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    return bool(headers.get(b"content-type", b"").startswith(b"text/html"))
