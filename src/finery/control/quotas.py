"""How much a project may have at once: looked at in the transaction that adds to it, so nobody slips past together."""

from typing import Any

from finery.control import audit
from finery.control.plane import ControlPlane
from finery.core.access import Caller, Level
from finery.core.quotas import Quota, check_limit, require_room
from finery.core.roles import Permission
from finery.storage import quotas


def list_all(plane: ControlPlane, caller: Caller) -> list[tuple[Quota, int | None, int]]:
    """Every quota of the caller's project: its limit, None where it has none, and how much is used."""
    with plane.database.read() as connection:
        limits = quotas.limits(connection, caller.project.id)
        return [(quota, limits.get(quota), quotas.used(connection, caller.project.id, quota)) for quota in Quota]


def put(plane: ControlPlane, caller: Caller, quota: Quota, limit: int | None) -> None:
    """Give the caller's project a limit, None for none; what it has beyond stays.

    Raises:
        Forbidden: the caller may not, in the whole hub: a project doesn't set its own limits.
    """
    caller.require(Permission.QUOTAS_WRITE, caller.project.scope.widened(Level.HUB))
    with plane.database.write() as connection:
        if limit is None:
            quotas.remove_limit(connection, caller.project.id, quota)
        else:
            quotas.set_limit(connection, caller.project.id, quota, check_limit(limit))
        audit.record(connection, caller, "quotas.set", quota, limit=limit)


def take(connection: Any, project_id: str, **amounts: int) -> None:
    """Refuse to add what a project has no room for, in the transaction that adds it.

    Raises:
        OverQuota: naming the quota.
    """
    limits = quotas.limits(connection, project_id, lock=True)
    for name, more in amounts.items():
        quota = Quota(name)
        if quota in limits:
            require_room(quota, limits, quotas.used(connection, project_id, quota), more)
