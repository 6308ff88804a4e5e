"""OpenAI's nouns as Azure offers them: under /openai/v1, below a Foundry project, and under /openai with an
`api-version`.

The handlers are OpenAI's own; a table says where Azure answers with another status or takes another method.
"""

import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from finery.api.azure import versions
from finery.api.azure.annotations import annotate
from finery.api.azure.projects import PROJECT, require_own

CREATED = {("POST", "/files"), ("POST", "/fine_tuning/jobs")}
"""Where Azure answers 201 with a Location."""

_ALSO_POST = {"/fine_tuning/jobs/{job_id}/events", "/fine_tuning/jobs/{job_id}/checkpoints"}
"""Lists that pages of Azure's documentation ask for with POST."""

_ANNOTATED = ("/models", "/fine_tuning/jobs")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class AnnotatedRoute(APIRoute):
    """A route whose answer gets Azure's fields and, if it is a 201, the place of what was made."""

    def get_route_handler(self) -> Handler:
        """The handler, with its answer worked over."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            response = await handle(request)
            if response.headers.get("content-type") != "application/json":
                return response
            body = annotate(json.loads(bytes(response.body)))
            headers = {key: value for key, value in response.headers.items() if key != "content-length"}
            if response.status_code == 201:
                headers["location"] = f"{request.url.path}/{body['id']}"
            return JSONResponse(body, status_code=response.status_code, headers=headers)

        return answer


def routers(nouns: Iterable[APIRouter]) -> list[APIRouter]:
    """The surfaces over OpenAI's nouns; the undated ones first, because one's path begins like the dated one's."""
    undated = APIRouter(prefix="/openai/v1", tags=["azure"])
    project = APIRouter(prefix=f"{PROJECT}/openai/v1", tags=["azure"], dependencies=[Depends(require_own)])
    dated = APIRouter(prefix="/openai", tags=["azure"], dependencies=[Depends(versions.check)])
    for noun in nouns:
        for route in noun.routes:
            assert isinstance(route, APIRoute)
            for surface in (undated, project, dated):
                _copy(route, surface)
    return [undated, project, dated]


def _copy(route: APIRoute, surface: APIRouter) -> None:
    path = route.path.removeprefix("/v1")
    methods = {*(route.methods or ()), *({"POST"} if path in _ALSO_POST else ())}
    for method in sorted(methods):
        created = (method, path) in CREATED
        surface.add_api_route(
            path,
            route.endpoint,
            methods=[method],
            status_code=201 if created else route.status_code,
            response_model=route.response_model,
            summary=route.summary,
            dependencies=route.dependencies,
            # The OpenAPI document tells of each once, under /v1.
            include_in_schema=False,
            route_class_override=AnnotatedRoute if created or path.startswith(_ANNOTATED) else None,
        )
