"""Roles × permissions, as one table; deny by default. The roles bear Azure's names and mean what they mean there.

Knows nobody who holds a role, and no route: a route names the one permission it needs.
"""

from enum import StrEnum


class Role(StrEnum):
    """What somebody may be at a scope."""

    OWNER = "Owner"
    CONTRIBUTOR = "Contributor"
    READER = "Reader"
    AI_DEVELOPER = "Azure AI Developer"
    OPENAI_USER = "Cognitive Services OpenAI User"
    OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"
    AUDITOR = "Auditor"


class Permission(StrEnum):
    """What a route may need."""

    FILES_READ = "files.read"
    """Lists, sizes, reports without rows."""
    DATA_READ = "data.read"
    """What people put in: rows, bytes, kept answers."""
    DATA_WRITE = "data.write"
    JOBS_READ = "jobs.read"
    JOBS_WRITE = "jobs.write"
    MODELS_READ = "models.read"
    MODELS_WRITE = "models.write"
    MODELS_SHARE = "models.share"
    """Let another project use a checkpoint."""
    DEPLOYMENTS_READ = "deployments.read"
    DEPLOYMENTS_WRITE = "deployments.write"
    INFERENCE = "inference"
    """Ask models: chat, completions, embeddings, responses, batches, tokens."""
    EVALUATIONS_READ = "evaluations.read"
    EVALUATIONS_WRITE = "evaluations.write"
    MONITORING_READ = "monitoring.read"
    SAFETY_READ = "safety.read"
    SAFETY_WRITE = "safety.write"
    """Content filter policies, and overriding a gate."""
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_WRITE = "webhooks.write"
    """Sends facts of the project elsewhere."""
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    PROJECTS_READ = "projects.read"
    PROJECTS_WRITE = "projects.write"
    """Projects, hubs, connections, locations, providers."""
    ROLES_READ = "roles.read"
    ROLES_WRITE = "roles.write"
    COSTS_READ = "costs.read"
    COSTS_WRITE = "costs.write"
    """Prices and budgets."""
    QUOTAS_READ = "quotas.read"
    QUOTAS_WRITE = "quotas.write"
    AUDIT_READ = "audit.read"


_P = Permission
_C, _R, _D = Role.CONTRIBUTOR, Role.READER, Role.AI_DEVELOPER
_U, _OC, _A = Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR, Role.AUDITOR

HOLDERS: dict[Permission, frozenset[Role]] = {
    permission: frozenset({Role.OWNER, *roles})
    for permission, roles in {
        _P.FILES_READ: (_C, _R, _D, _U, _OC, _A),
        _P.DATA_READ: (_C, _D, _U, _OC),
        _P.DATA_WRITE: (_C, _D, _OC),
        _P.JOBS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.JOBS_WRITE: (_C, _D, _OC),
        _P.MODELS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.MODELS_WRITE: (_C, _D, _OC),
        _P.MODELS_SHARE: (_C,),
        _P.DEPLOYMENTS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.DEPLOYMENTS_WRITE: (_C, _D, _OC),
        _P.INFERENCE: (_C, _D, _U, _OC),
        _P.EVALUATIONS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.EVALUATIONS_WRITE: (_C, _D, _OC),
        _P.MONITORING_READ: (_C, _R, _D, _A),
        _P.SAFETY_READ: (_C, _R, _D, _OC, _A),
        _P.SAFETY_WRITE: (_C,),
        _P.WEBHOOKS_READ: (_C, _R, _D, _A),
        _P.WEBHOOKS_WRITE: (_C, _D),
        _P.KEYS_READ: (_C, _A),
        _P.KEYS_WRITE: (_C,),
        _P.PROJECTS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.PROJECTS_WRITE: (_C,),
        _P.ROLES_READ: (_C, _R, _A),
        _P.ROLES_WRITE: (),
        _P.COSTS_READ: (_C, _R, _D, _A),
        _P.COSTS_WRITE: (_C,),
        _P.QUOTAS_READ: (_C, _R, _D, _U, _OC, _A),
        _P.QUOTAS_WRITE: (_C,),
        _P.AUDIT_READ: (_A,),
    }.items()
}
"""Permission → the roles that have it; the owner has all."""


def permissions_of(role: Role) -> frozenset[Permission]:
    """What a role may do."""
    return frozenset(permission for permission, roles in HOLDERS.items() if role in roles)
