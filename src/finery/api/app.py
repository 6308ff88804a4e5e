"""The application: its routes. Every route needs a permission but those in `access.PUBLIC`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request

import finery
from finery.api import access, errors, metrics
from finery.api.azure import errors as azure_errors
from finery.api.azure import routes as azure
from finery.api.content_safety import analysis, blocklists
from finery.api.finery import (
    audit,
    captures,
    costs,
    datasets,
    deployments,
    doctor,
    estimates,
    evaluations,
    exports,
    head_reports,
    hubs,
    keys,
    locations,
    monitoring,
    policies,
    projects,
    promotions,
    protected_works,
    providers,
    quotas,
    roles,
    safety_evaluations,
    subscriptions,
    sweeps,
)
from finery.api.finery import files as finery_files
from finery.api.finery import models as finery_models
from finery.api.hangup import HangUp
from finery.api.openai import (
    batches,
    chat,
    completions,
    conversations,
    embeddings,
    evals,
    files,
    graders,
    jobs,
    models,
    moderations,
    permissions,
    responses,
    tokens,
    uploads,
    webhooks,
)
from finery.api.request_ids import RequestId
from finery.api.worker import runs
from finery.control import capture, caretaker
from finery.control import metrics as traffic
from finery.control.plane import ControlPlane

NOUNS = (
    files,
    uploads,
    jobs,
    permissions,
    models,
    chat,
    completions,
    embeddings,
    moderations,
    responses,
    conversations,
    batches,
    webhooks,
    evals,
    graders,
)
"""OpenAI's API, by its nouns."""

OWN_NOUNS = (
    deployments,
    finery_models,
    estimates,
    finery_files,
    datasets,
    exports,
    monitoring,
    captures,
    evaluations,
    head_reports,
    promotions,
    sweeps,
    subscriptions,
    locations,
    providers,
    hubs,
    projects,
    roles,
    keys,
    audit,
    costs,
    quotas,
    doctor,
    policies,
    protected_works,
    safety_evaluations,
)
"""What OpenAI has no word for."""

public = APIRouter(tags=["server"])


@public.get("/healthz")
def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@public.get("/readyz")
def readyz(request: Request) -> dict[str, str]:
    """The database answers."""
    plane: ControlPlane = request.app.state.plane
    with plane.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    return {"status": "ready", "version": finery.__version__}


def build(plane: ControlPlane, *, lifespan: Callable[[FastAPI], Any] | None = None) -> FastAPI:
    """The application over a control plane."""
    app = FastAPI(
        title="Finery",
        version=finery.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan or _lifespan,
        # OpenAI's paths have no twins with a slash behind.
        redirect_slashes=False,
    )
    app.state.plane = plane
    dialects = azure.routers(noun.router for noun in NOUNS)
    for router in (
        public,
        metrics.router,
        *(noun.router for noun in NOUNS),
        tokens.router,
        *dialects,
        *(noun.router for noun in OWN_NOUNS),
        analysis.router,
        blocklists.router,
        runs.router,
    ):
        # As they are: including a router would build each of its routes once more, which takes seconds at start.
        app.router.routes.extend(router.routes)
    app.include_router(tokens.router, prefix="/v1")
    if open_doors := access.undecided(app):
        raise RuntimeError(f"These routes need no permission and aren't public: {', '.join(open_doors)}")
    errors.install(app, azure_errors.dialect_of)
    errors.document(app, errors.ErrorEnvelope, azure_errors.ResourceErrorEnvelope)
    app.add_middleware(HangUp)
    app.add_middleware(RequestId)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    plane: ControlPlane = app.state.plane
    care = asyncio.create_task(caretaker.run(plane, partial(batches.answer_line, plane)))
    try:
        yield
    finally:
        care.cancel()
        await plane.inference.close()
        await asyncio.to_thread(traffic.save, plane)
        await asyncio.to_thread(capture.save, plane)
        plane.filter.close()
