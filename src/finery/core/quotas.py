"""How much a project may have at once. Knows no counts and no database; money is `costs`, tokens a minute `limits`."""

from collections.abc import Mapping
from enum import StrEnum

from finery.core.errors import InvalidRequest, OverQuota


class Quota(StrEnum):
    """What is counted."""

    RUNNING_JOBS = "running_jobs"
    """Jobs on workers at once; more of them wait."""
    QUEUED_JOBS = "queued_jobs"
    """Jobs that are checked or wait."""
    FILES = "files"
    BYTES = "bytes"
    DEPLOYMENTS = "deployments"


MOST = 10**15

_NOUNS = {
    Quota.RUNNING_JOBS: "running jobs",
    Quota.QUEUED_JOBS: "jobs that wait",
    Quota.FILES: "files",
    Quota.BYTES: "bytes of files",
    Quota.DEPLOYMENTS: "deployments",
}


def require_room(quota: Quota, limits: Mapping[Quota, int], used: int, more: int = 1) -> None:
    """Refuse what would go over a limit; what has no limit is free.

    Raises:
        OverQuota: saying how much there is, how much is used, and who can raise it.
    """
    limit = limits.get(quota)
    if limit is None or used + more <= limit:
        return
    raise OverQuota(
        f"The project may have {limit:,} {_NOUNS[quota]}; it has {used:,}, and this would add {more:,}. Delete "
        f"some, or ask a contributor of the hub to raise the quota {quota} (PUT /finery/v1/quotas/{quota})."
    )


def check_limit(limit: int) -> int:
    """A limit as it may be.

    Raises:
        InvalidRequest: negative, or beyond all reason.
    """
    if not 0 <= limit <= MOST:
        raise InvalidRequest(f"limit is {limit}; it must be from 0 to {MOST}.", param="limit")
    return limit
