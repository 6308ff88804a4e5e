"""One permission a route, named by the type of its `caller`: `caller: WritesFiles`. Decides nothing.

A route without one isn't built (`undecided`): what nobody thought of is closed.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts

from finery.api.context import plane_of
from finery.control import access
from finery.core.access import Caller
from finery.core.roles import Permission

PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Routes without a key; a test pins them."""

OWN_PROJECT = "_project"
"""Azure's name for the only project of a hub."""

WORKERS = "workers"
"""What a route needs that only workers may call."""


class Require:
    """A dependency that lets a caller through who has a permission in the project the request is about.

    Raises:
        Unauthenticated: no valid key or token.
        Forbidden: the permission is missing.
    """

    def __init__(self, permission: Permission, *, somewhere: bool = False, any_project: bool = False) -> None:
        self.permission = permission
        self.any_project = any_project
        """A token of somebody with several projects needn't name one."""
        self.somewhere = somewhere
        """At any scope: the route itself looks at the scope that its path names."""

    def __call__(self, request: Request) -> Caller:
        """The caller of one request."""
        caller = caller_of(request, any_project=self.any_project)
        if not (self.somewhere and caller.may_somewhere(self.permission)):
            caller.require(self.permission)
        return caller


class RequireWorker:
    """A dependency that lets only workers through.

    Raises:
        Unauthenticated: not the workers' key.
    """

    permission = WORKERS

    def __call__(self, request: Request) -> None:
        """One request."""
        access.authenticate_worker(plane_of(request), secret_of(request))


class BySignature:
    """Says that a route looks at a signature of its own in place of a key."""

    permission = "signature"

    def __call__(self) -> None:
        """Nothing: the route does it."""


def known_caller(request: Request) -> Caller:
    """Whoever is calling, for dependencies of routes that name their permission themselves.

    Raises:
        Unauthenticated: no valid key or token.
    """
    return caller_of(request)


def caller_of(request: Request, *, any_project: bool = False) -> Caller:
    """Whoever is calling, and about which project.

    Raises:
        Unauthenticated: no valid key or token.
    """
    named = request.headers.get("openai-project")
    return access.authenticate(plane_of(request), secret_of(request), named, place_of(request), any_project=any_project)


def place_of(request: Request) -> access.Place:
    """Where Azure's paths lead: a Foundry project, a workspace (a project too), or an account, which is a hub."""
    named = request.path_params
    project = named.get("project") or named.get("workspace")
    return access.Place(project=None if project == OWN_PROJECT else project, hub=named.get("account"))


def secret_of(request: Request) -> str:
    """The key or token a client sent: OpenAI's bearer token, or one of Azure's headers."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("api-key") or request.headers.get("ocp-apim-subscription-key", "")


def decisions(app: FastAPI) -> Iterator[tuple[str, str, str | None]]:
    """Method, path and needed permission of every route; None where nothing was decided."""
    for route in iter_route_contexts(app.routes):
        permission = next(_permissions(getattr(route, "dependant", None)), None)
        for method in sorted(getattr(route, "methods", None) or {"*"}):
            yield method, str(route.path), permission


def undecided(app: FastAPI) -> list[str]:
    """Routes that are neither public nor need a permission."""
    return [f"{method} {path}" for method, path, permission in decisions(app) if not permission and path not in PUBLIC]


def _permissions(dependant: Any) -> Iterator[str]:
    for dependency in getattr(dependant, "dependencies", ()):
        if isinstance(dependency.call, (Require, RequireWorker, BySignature)):
            yield dependency.call.permission
        yield from _permissions(dependency)


_P = Permission

KnownCaller = Annotated[Caller, Depends(known_caller)]
ReadsFiles = Annotated[Caller, Depends(Require(_P.FILES_READ))]
ReadsData = Annotated[Caller, Depends(Require(_P.DATA_READ))]
WritesData = Annotated[Caller, Depends(Require(_P.DATA_WRITE))]
ReadsJobs = Annotated[Caller, Depends(Require(_P.JOBS_READ))]
WritesJobs = Annotated[Caller, Depends(Require(_P.JOBS_WRITE))]
ReadsModels = Annotated[Caller, Depends(Require(_P.MODELS_READ))]
WritesModels = Annotated[Caller, Depends(Require(_P.MODELS_WRITE))]
SharesModels = Annotated[Caller, Depends(Require(_P.MODELS_SHARE))]
ReadsDeployments = Annotated[Caller, Depends(Require(_P.DEPLOYMENTS_READ))]
WritesDeployments = Annotated[Caller, Depends(Require(_P.DEPLOYMENTS_WRITE))]
AsksModels = Annotated[Caller, Depends(Require(_P.INFERENCE))]
ReadsEvaluations = Annotated[Caller, Depends(Require(_P.EVALUATIONS_READ))]
WritesEvaluations = Annotated[Caller, Depends(Require(_P.EVALUATIONS_WRITE))]
ReadsMonitoring = Annotated[Caller, Depends(Require(_P.MONITORING_READ))]
ReadsSafety = Annotated[Caller, Depends(Require(_P.SAFETY_READ))]
WritesSafety = Annotated[Caller, Depends(Require(_P.SAFETY_WRITE))]
ReadsWebhooks = Annotated[Caller, Depends(Require(_P.WEBHOOKS_READ))]
WritesWebhooks = Annotated[Caller, Depends(Require(_P.WEBHOOKS_WRITE))]
ReadsKeys = Annotated[Caller, Depends(Require(_P.KEYS_READ))]
WritesKeys = Annotated[Caller, Depends(Require(_P.KEYS_WRITE))]
ReadsAudit = Annotated[Caller, Depends(Require(_P.AUDIT_READ))]
ReadsCosts = Annotated[Caller, Depends(Require(_P.COSTS_READ))]
WritesCosts = Annotated[Caller, Depends(Require(_P.COSTS_WRITE))]
ReadsPrices = Annotated[Caller, Depends(Require(_P.COSTS_READ, somewhere=True))]
WritesPrices = Annotated[Caller, Depends(Require(_P.COSTS_WRITE, somewhere=True))]
ReadsQuotas = Annotated[Caller, Depends(Require(_P.QUOTAS_READ))]
WritesQuotas = Annotated[Caller, Depends(Require(_P.QUOTAS_WRITE))]
ReadsProjects = Annotated[Caller, Depends(Require(_P.PROJECTS_READ, somewhere=True))]
ListsProjects = Annotated[Caller, Depends(Require(_P.PROJECTS_READ, somewhere=True, any_project=True))]
WritesProjects = Annotated[Caller, Depends(Require(_P.PROJECTS_WRITE, somewhere=True))]
ReadsRoles = Annotated[Caller, Depends(Require(_P.ROLES_READ, somewhere=True))]
WritesRoles = Annotated[Caller, Depends(Require(_P.ROLES_WRITE, somewhere=True))]
