"""/finery/v1/audit: who changed what."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query

from finery.api.access import ReadsAudit
from finery.api.context import Plane
from finery.control import audit
from finery.core.audit import AuditEntry

router = APIRouter(prefix="/finery/v1/audit", tags=["audit"])


@router.get("")
def list_entries(
    plane: Plane,
    caller: ReadsAudit,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Entries, newest first; `before` is the number of the last one seen."""
    found = audit.list_entries(plane, caller, before=before, limit=limit + 1)
    data = [_entry(entry, stored) for entry, stored in found[:limit]]
    return {"object": "list", "data": data, "has_more": len(found) > limit}


@router.get("/verify")
def verify(plane: Plane, caller: ReadsAudit) -> dict[str, Any]:
    """Whether every entry is what was written, and the last one's hash."""
    found = audit.verify(plane)
    return {
        "object": "audit.verification",
        "valid": found.broken_at is None,
        "entries": found.entries,
        "head": found.head,
        "broken_at": found.broken_at,
    }


def _entry(entry: AuditEntry, stored: str) -> dict[str, Any]:
    return {
        "number": entry.number,
        "object": "audit.entry",
        "created_at": entry.created_at,
        "key_id": entry.key_id,
        "principal_id": entry.principal_id,
        "project_id": entry.project_id,
        "action": entry.action,
        "target": entry.target,
        "details": json.loads(entry.details),
        "previous": entry.previous,
        "hash": stored,
    }
