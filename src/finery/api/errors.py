"""The only mapping from Finery's errors to HTTP: one envelope on every route, OpenAI's, unless a dialect owns the path.

`{"error": {"message", "type", "param", "code"}}`. Nothing of a library's exception reaches a client: an unforeseen
error is logged with the request's id and answered with that id alone.
"""

import errno
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from finery.core import errors
from finery.core.errors import FineryError

log = logging.getLogger(__name__)

STATUSES: dict[type[FineryError], tuple[int, str]] = {
    errors.UnknownModel: (404, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "invalid_request_error"),
    errors.Forbidden: (403, "invalid_request_error"),
    errors.NotFound: (404, "invalid_request_error"),
    errors.Conflict: (409, "invalid_request_error"),
    errors.TooLarge: (413, "invalid_request_error"),
    errors.OverBudget: (429, "insufficient_quota"),
    errors.OverQuota: (429, "insufficient_quota"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.ContentFiltered: (400, "invalid_request_error"),
    errors.StorageFull: (507, "server_error"),
    errors.CorruptArtifact: (500, "server_error"),
    errors.NotOffered: (501, "server_error"),
    errors.Unavailable: (503, "server_error"),
    FineryError: (500, "server_error"),
}
"""HTTP status and OpenAI's error type; the nearest class in the tree counts."""

_NO_RETRY = {"x-should-retry": "false"}
"""The OpenAI SDK retries 409 and 5xx unless told not to."""

_HOPELESS = (
    errors.Conflict,
    errors.OverBudget,
    errors.OverQuota,
    errors.StorageFull,
    errors.CorruptArtifact,
    errors.NotOffered,
)

_CODES_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class Error(BaseModel):
    """What went wrong; OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: Error


_SCHEMAS = "#/components/schemas/"


def documented(envelope: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Answers that any route may give, in one envelope. 500 isn't among them: one is a fault of ours.

    They name the schema and are no models to FastAPI, which would build each anew for each route: a second at start.
    """
    schema = {"$ref": f"{_SCHEMAS}{envelope.__name__}"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}}
        for status in sorted({status for status, _ in STATUSES.values()} - {500})
    }


DOCUMENTED = documented(ErrorEnvelope)


def document(app: FastAPI, *envelopes: type[BaseModel]) -> None:
    """Put the envelopes' schemas into the OpenAPI document, and leave out what no client ever gets: FastAPI's 422."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for operations in document["paths"].values():
                for operation in operations.values():
                    answers = operation["responses"]
                    answers.pop("422", None)
                    operation["responses"] = {str(status): DOCUMENTED[status] for status in DOCUMENTED} | answers
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
            for envelope in envelopes:
                schema = envelope.model_json_schema(ref_template=_SCHEMAS + "{model}")
                document["components"]["schemas"] |= {**schema.pop("$defs", {}), envelope.__name__: schema}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What went wrong with a request, before any API's words for it."""

    status: int
    type: str
    """OpenAI's error type."""
    code: str | None
    """Finery's code, which is OpenAI's where OpenAI has one."""
    message: str
    param: str | None = None
    filtered: dict[str, Any] | None = None
    """What a content filter found, where it is one that refused."""

    @property
    def inner(self) -> dict[str, Any] | None:
        """Azure's `innererror` of a filtered prompt, which clients look for on every surface."""
        if self.filtered is None:
            return None
        return {"code": "ResponsibleAIPolicyViolation", "content_filter_result": self.filtered}


Dialect = Callable[[str, Fault], tuple[int, dict[str, Any]]]
"""Status and body of a fault at a path, in another API's words."""


def install(app: FastAPI, dialect_of: Callable[[str], Dialect | None] = lambda _: None) -> None:
    """Answer every error of the application in the envelope, or as the dialect of its path says it."""
    app.state.dialect_of = dialect_of
    app.add_exception_handler(FineryError, _finery_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _os_error)
    app.add_exception_handler(Exception, _unforeseen)


def envelope(message: str, *, error_type: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def status_of(error: FineryError) -> tuple[int, str]:
    """HTTP status and OpenAI's type of an error."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def body_of(error: FineryError) -> dict[str, Any]:
    """An error as OpenAI's object; also what stands in a stream that breaks off."""
    return _openai(_fault(error))


def invalid_body(first: Any) -> dict[str, Any]:
    """A body or parameter of the wrong shape, by the first thing pydantic found."""
    return _openai(_invalid(first))


def _openai(fault: Fault) -> dict[str, Any]:
    body = envelope(fault.message, error_type=fault.type, code=fault.code, param=fault.param)
    if fault.inner:
        body["error"] |= {"status": fault.status, "innererror": fault.inner}
    return body


def _fault(error: FineryError) -> Fault:
    status, kind = status_of(error)
    filtered = error.results if isinstance(error, errors.ContentFiltered) else None
    return Fault(status=status, type=kind, code=error.code, message=error.message, param=error.param, filtered=filtered)


def _respond(request: Request, fault: Fault, headers: Any = None) -> JSONResponse:
    dialect: Dialect | None = request.app.state.dialect_of(request.url.path)
    status, body = dialect(request.url.path, fault) if dialect else (fault.status, _openai(fault))
    return JSONResponse(body, status_code=status, headers=headers)


async def _finery_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FineryError)
    return _respond(request, _fault(error), _headers(error))


def _headers(error: FineryError) -> dict[str, str]:
    if isinstance(error, _HOPELESS):
        return _NO_RETRY
    if isinstance(error, errors.RateLimited):
        wait = error.retry_after_seconds
        return {"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(1000 * wait))}
    if isinstance(error, errors.Unavailable):
        return {"retry-after": "2"}
    return {}


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _respond(request, _invalid(error.errors()[0]))


def _invalid(first: Any) -> Fault:
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(path) or None
    text = f"{param}: {first['msg']}." if param else f"The request can't be read: {first['msg']}."
    return Fault(status=400, type="invalid_request_error", code="invalid_type", message=text, param=param)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    text = str(error.detail)
    if error.status_code in (404, 405):
        text = f"There is no {request.method} {request.url.path} here. The routes are listed at /openapi.json."
    code = _CODES_BY_STATUS.get(error.status_code)
    fault = Fault(status=error.status_code, type="invalid_request_error", code=code, message=text)
    return _respond(request, fault, error.headers)


async def _os_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = errors.StorageFull("The disk that holds Finery's data is full. Free some space and try again.")
        return await _finery_error(request, full)
    return await _unforeseen(request, error)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "unknown")
    log.error("request %s: %s %s", request_id, request.method, request.url.path, exc_info=error)
    text = f"Something went wrong on the server. Its log tells more under the request id {request_id}."
    return _respond(request, Fault(status=500, type="server_error", code="internal_error", message=text))
