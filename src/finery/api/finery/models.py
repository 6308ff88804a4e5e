"""/finery/v1/models: base models with licence, context and whereabouts, which OpenAI's list has no room for."""

import dataclasses
from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsModels
from finery.api.context import Plane
from finery.control import catalog
from finery.control.catalog import Offer

router = APIRouter(prefix="/finery/v1/models", tags=["models"])


@router.get("")
def list_models(plane: Plane, caller: ReadsModels) -> dict[str, Any]:
    """Base models: those on this machine, then those of the catalog that can be pulled."""
    return {"object": "list", "data": [_model(offer) for offer in catalog.list_offers(plane)], "has_more": False}


@router.get("/{model_id}")
def retrieve(plane: Plane, caller: ReadsModels, model_id: str) -> dict[str, Any]:
    """One base model."""
    return _model(catalog.get_offer(plane, model_id))


def _model(offer: Offer) -> dict[str, Any]:
    return {"object": "model", **dataclasses.asdict(offer)}
