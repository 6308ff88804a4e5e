"""What handlers are given: the control plane, the caller, paging parameters. Decides nothing."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import Field, StringConstraints

from finery.control import access
from finery.control.plane import ControlPlane
from finery.control.replays import Attempt
from finery.core.access import Caller
from finery.storage.pages import Cursor


def plane_of(request: Request) -> ControlPlane:
    """The control plane this application was built for."""
    plane: ControlPlane = request.app.state.plane
    return plane


def secret_of(request: Request) -> str:
    """The key a client sent: OpenAI's bearer token, or Azure's `api-key`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("api-key", "")


def caller_of(request: Request) -> Caller:
    """Whoever is calling.

    Raises:
        Unauthenticated: no valid key.
    """
    return access.authenticate(plane_of(request), secret_of(request))


def worker_of(request: Request) -> None:
    """Let only workers through.

    Raises:
        Unauthenticated: not the workers' key.
    """
    access.authenticate_worker(plane_of(request), secret_of(request))


def attempt_of(request: Request) -> Attempt:
    """How a create was sent: under which key, and whether the SDK sends it again."""
    retries = request.headers.get("x-stainless-retry-count", "0")
    return Attempt(
        route=f"{request.method} {request.url.path}",
        key=request.headers.get("idempotency-key", ""),
        retry=retries.isascii() and retries.isdigit() and int(retries[:9]) > 0,
    )


_METADATA_FILTER = re.compile(r"metadata\[(?P<key>[^\]]*)\]")


def metadata_of(request: Request) -> dict[str, str] | None:
    """What `metadata[key]=value` asks for; None for `metadata=null`, which asks for things without metadata."""
    if request.query_params.get("metadata") == "null":
        return None
    return {
        match["key"]: value
        for name, value in request.query_params.items()
        if (match := _METADATA_FILTER.fullmatch(name))
    }


Plane = Annotated[ControlPlane, Depends(plane_of)]
AsCaller = Annotated[Caller, Depends(caller_of)]
Sent = Annotated[Attempt, Depends(attempt_of)]
WantedMetadata = Annotated[dict[str, str] | None, Depends(metadata_of)]

Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
"""OpenAI's `metadata`: 16 pairs of 64 and 512 characters."""


Order = Literal["asc", "desc"]


def paging(default: int, most: int, order: Order = "desc") -> Callable[..., Cursor]:
    """A dependency that reads `after`, `limit` and `order`."""

    def read(
        after: str | None = None,
        limit: Annotated[int, Query(ge=0, le=most)] = default,
        order: Order = order,
    ) -> Cursor:
        # OpenAI's own test-suite asks for 0 and expects a page.
        return Cursor(after=after, limit=limit or default, order=order)

    return read
