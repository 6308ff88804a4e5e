"""/v1/moderations: what is harmful in a text."""

import secrets
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import AsksModels
from finery.api.context import Plane
from finery.control import moderation
from finery.control.moderation import Moderation
from finery.core.errors import InvalidRequest

router = APIRouter(prefix="/v1/moderations", tags=["moderations"])

MAX_INPUTS = 512


class CreateModeration(BaseModel):
    """The body of a moderation; images are a 400."""

    model_config = ConfigDict(extra="ignore")
    input: str | list[str] | list[dict[str, Any]]
    model: str | None = None

    def texts(self) -> list[str]:
        """Each input's text; parts of one message are one input."""
        if isinstance(self.input, str):
            return [self.input]
        if not 1 <= len(self.input) <= MAX_INPUTS:
            raise InvalidRequest(f"There are {len(self.input)} inputs; send 1 to {MAX_INPUTS}.", param="input")
        parts = [part for part in self.input if isinstance(part, dict)]
        if not parts:
            return [str(text) for text in self.input]
        return ["\n".join(_text(part, place) for place, part in enumerate(parts))]


@router.post("")
async def create(plane: Plane, caller: AsksModels, body: CreateModeration) -> dict[str, Any]:
    """Look for harm in texts."""
    found = await moderation.moderate(plane, caller, body.texts())
    return {
        "id": f"modr-{secrets.token_urlsafe(18)}",
        "model": f"finery-safety-{plane.filter.version}",
        "results": [_result(one) for one in found],
    }


def _result(found: Moderation) -> dict[str, Any]:
    return {
        "flagged": found.flagged,
        "categories": found.categories,
        "category_scores": found.scores,
        "category_applied_input_types": {name: ["text"] for name in found.categories},
    }


def _text(part: dict[str, Any], place: int) -> str:
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InvalidRequest(
        f"input[{place}] is a part of type {part.get('type')!r}; only text can be looked at here.",
        param=f"input[{place}]",
    )
