"""What handlers are given: the control plane, paging parameters, how a create was sent; the caller is `access`'s."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field, StringConstraints

from finery.control.plane import ControlPlane
from finery.control.replays import Attempt
from finery.storage.pages import Cursor


def plane_of(request: Request) -> ControlPlane:
    """The control plane this application was built for."""
    plane: ControlPlane = request.app.state.plane
    return plane


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
Sent = Annotated[Attempt, Depends(attempt_of)]
WantedMetadata = Annotated[dict[str, str] | None, Depends(metadata_of)]

Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
"""OpenAI's `metadata`: 16 pairs of 64 and 512 characters."""


class UpdateMetadata(BaseModel):
    """The body that gives something kept other metadata."""

    metadata: Metadata | None


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
