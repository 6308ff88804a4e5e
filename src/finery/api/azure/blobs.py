"""/blobs/{container}/{blob}: as much of Azure Blob Storage as `azure-storage-blob` needs to upload and read.

The address is signed (`se`, `sig`), which stands for a key; `control.containers` looks whether it holds.
"""

import re
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from typing import IO, Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from finery.api.access import BySignature
from finery.api.context import Plane
from finery.control import containers
from finery.control.containers import Signature
from finery.core.errors import InvalidRequest, TooLarge
from finery.core.files import MAX_FILE_BYTES, File
from finery.core.records import Record

router = APIRouter(prefix="/blobs/{container}", tags=["azure"], dependencies=[Depends(BySignature())])

_IN_MEMORY_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")
_BLOCK = re.compile(rb"<(?:Latest|Uncommitted|Committed)>([^<>]{1,256})</")


def container_of(
    plane: Plane,
    container: str,
    se: Annotated[str, Query(max_length=40)] = "",
    sig: Annotated[str, Query(max_length=128)] = "",
) -> Record:
    """The container of a signed address.

    Raises:
        Unauthenticated: there is no signature.
        Forbidden: it doesn't hold.
    """
    return containers.check(plane, container, Signature(se=se, sig=sig))


Signed = Annotated[Record, Depends(container_of)]


@router.put("/{blob:path}")
async def put(
    plane: Plane, request: Request, container: Signed, blob: str, *, comp: str = "", blockid: str = ""
) -> Response:
    """Store a blob, one of its blocks, or make it of its blocks."""
    replace = request.headers.get("if-none-match") != "*"
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as body:
        await _receive(request, body)
        match comp:
            case "":
                file = await run_in_threadpool(
                    containers.put_blob, plane, container, blob, _chunks(body), replace=replace
                )
            case "block":
                await run_in_threadpool(containers.put_block, plane, container, blob, blockid, _chunks(body))
                return Response(status_code=201)
            case "blocklist":
                wanted = [name.decode() for name in _BLOCK.findall(body.read(_IN_MEMORY_BYTES))]
                file = await run_in_threadpool(containers.put_blocks, plane, container, blob, wanted, replace=replace)
            case _:
                raise InvalidRequest(f"comp is {comp!r}; here it can be block or blocklist.", param="comp")
    return Response(status_code=201, headers=_headers(file))


@router.get("/{blob:path}")
def get(plane: Plane, request: Request, container: Signed, blob: str) -> StreamingResponse:
    """A blob's bytes, or the range of them that the client asks for."""
    file = containers.read_blob(plane, container, blob)
    headers = {**_headers(file), "x-content-type-options": "nosniff"}
    wanted = request.headers.get("x-ms-range") or request.headers.get("range")
    first, last = _range(wanted, file.bytes)
    if wanted:
        headers["content-range"] = f"bytes {first}-{last}/{file.bytes}"
    headers["content-length"] = str(last - first + 1)
    chunks = plane.blobs.stream(file.sha256, first, last + 1)
    status = 206 if wanted else 200
    return StreamingResponse(chunks, status_code=status, media_type="application/octet-stream", headers=headers)


@router.head("/{blob:path}")
def head(plane: Plane, container: Signed, blob: str) -> Response:
    """What a blob is."""
    file = containers.read_blob(plane, container, blob)
    return Response(headers={**_headers(file), "content-length": str(file.bytes)})


async def _receive(request: Request, body: IO[bytes]) -> None:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise TooLarge(f"A blob may have {MAX_FILE_BYTES // 1024**2} MB. Split it.")
        await run_in_threadpool(body.write, chunk)
    body.seek(0)


def _chunks(body: IO[bytes]) -> Iterator[bytes]:
    while chunk := body.read(_IN_MEMORY_BYTES):
        yield chunk


def _range(wanted: str | None, size: int) -> tuple[int, int]:
    """The first and the last byte that are asked for.

    Raises:
        InvalidRequest: no range of this blob.
    """
    if not wanted:
        return 0, size - 1
    match = _RANGE.fullmatch(wanted)
    first = int(match[1]) if match else size
    last = min(size - 1, int(match[2])) if match and match[2] else size - 1
    if not first <= last:
        raise InvalidRequest(f"The range {wanted!r} isn't in this blob of {size} bytes.", code="InvalidRange")
    return first, last


def _headers(file: File) -> dict[str, str]:
    return {
        "etag": f'"{file.sha256[:32]}"',
        "last-modified": formatdate(file.created_at, usegmt=True),
        "x-ms-version": "2025-05-05",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-request-server-encrypted": "false",
    }
