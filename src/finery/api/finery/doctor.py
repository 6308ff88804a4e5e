"""/finery/v1/doctor: is the server's machine fit, and what is missing."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsProjects
from finery.api.context import Plane
from finery.control import doctor

router = APIRouter(prefix="/finery/v1/doctor", tags=["doctor"])


@router.get("")
def look(plane: Plane, caller: ReadsProjects) -> dict[str, Any]:
    """What was looked at, and the way out of what is missing."""
    data = [{"object": "check", **asdict(check)} for check in doctor.look(plane)]
    return {"object": "list", "data": data, "has_more": False}
