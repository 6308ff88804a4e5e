"""/finery/v1/quotas: how much the caller's project may have at once."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StrictInt

from finery.api.access import ReadsQuotas, WritesQuotas
from finery.api.context import Plane
from finery.control import quotas
from finery.core.quotas import Quota

router = APIRouter(prefix="/finery/v1/quotas", tags=["quotas"])


class SetQuota(BaseModel):
    """A limit, or null for none."""

    model_config = ConfigDict(extra="forbid")
    limit: StrictInt | None


@router.get("")
def list_quotas(plane: Plane, caller: ReadsQuotas) -> dict[str, Any]:
    """Every quota of the project, with how much is used."""
    data = [
        {"name": quota, "object": "quota", "limit": limit, "used": used}
        for quota, limit, used in quotas.list_all(plane, caller)
    ]
    return {"object": "list", "data": data, "has_more": False}


@router.put("/{quota}")
def set_quota(plane: Plane, caller: WritesQuotas, quota: Quota, body: SetQuota) -> dict[str, Any]:
    """Give the project a limit."""
    quotas.put(plane, caller, quota, body.limit)
    return {"name": quota, "object": "quota", "limit": body.limit}
