"""/finery/v1/safety_evaluations: what a tuned model's evaluation found, and letting it pass all the same."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsSafety, WritesSafety
from finery.api.context import Plane
from finery.control import model_gate

router = APIRouter(prefix="/finery/v1/safety_evaluations", tags=["safety evaluations"])


class Override(BaseModel):
    """The body of an override."""

    model_config = ConfigDict(extra="forbid")
    reason: str


@router.post("/{model:path}/override")
def override(plane: Plane, caller: WritesSafety, model: str, body: Override) -> dict[str, Any]:
    """Let a model be deployed although its evaluation failed."""
    return model_gate.override(plane, caller, model, body.reason)


@router.get("/{model:path}")
def retrieve(plane: Plane, caller: ReadsSafety, model: str) -> dict[str, Any]:
    """A model's safety evaluation."""
    return model_gate.get(plane, caller, model)
