"""/v1/models. A model's name may hold slashes and colons, so it is the rest of the path."""

from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsModels, WritesModels
from finery.api.context import Plane
from finery.api.openai import wire
from finery.control import models

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(plane: Plane, caller: ReadsModels) -> dict[str, Any]:
    """Base models of this machine, then the project's tuned ones."""
    bases = [wire.base_model(model) for model in models.list_bases(plane)]
    tuned = [wire.tuned_model(model, caller.project.name) for model in models.list_tuned(plane, caller)]
    return {"object": "list", "data": bases + tuned}


@router.get("/{model:path}")
def retrieve(plane: Plane, caller: ReadsModels, model: str) -> dict[str, Any]:
    """One model, base or tuned."""
    found = models.resolve(plane, caller, model)
    if found.tuned is None:
        return wire.base_model(found.base)
    return wire.tuned_model(found.tuned, caller.project.name)


@router.delete("/{model:path}")
def delete(plane: Plane, caller: WritesModels, model: str) -> dict[str, Any]:
    """Delete a tuned model; refused while it is deployed."""
    models.delete(plane, caller, model)
    return wire.deleted(model, "model")
