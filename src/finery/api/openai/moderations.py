"""/v1/moderations. There is no classifier yet, and an answer made up would be worse than none."""

from typing import Any

from fastapi import APIRouter

from finery.api.access import AsksModels
from finery.core.errors import NotOffered

router = APIRouter(prefix="/moderations", tags=["moderations"])


@router.post("")
def create(caller: AsksModels) -> dict[str, Any]:
    """Say that there is no classifier."""
    raise NotOffered("This server has no moderation model yet, so it can't say what a text is. Leave the check out.")
