"""Base models as people choose them: what the catalog says of each, and whether it is on this machine."""

from dataclasses import dataclass

from finery.control import models
from finery.control.plane import ControlPlane
from finery.core.errors import UnknownModel
from finery.modeling.catalog import CATALOG


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A base model and its facts; those of a model from outside the catalog are its folder's own."""

    id: str
    name: str
    family: str
    parameters: int
    context_tokens: int
    licence: str
    licence_url: str | None
    description: str
    source: str
    tasks: tuple[str, ...]
    learning_rate: float | None
    """What learning_rate_multiplier multiplies; None where the trainer's own default counts."""
    here: bool
    """On this machine: it can be tuned and deployed right away."""


def list_offers(plane: ControlPlane) -> list[Offer]:
    """What is on this machine, then what can be pulled; each by size."""
    local = {model.id: model for model in models.list_bases(plane)}
    offers = [
        Offer(
            id=entry.id,
            name=entry.name,
            family=entry.family,
            parameters=entry.parameters,
            context_tokens=entry.context_tokens,
            licence=entry.licence,
            licence_url=entry.licence_url,
            description=entry.description,
            source=entry.source,
            tasks=entry.tasks,
            learning_rate=entry.learning_rate,
            here=entry.id in local,
        )
        for entry in CATALOG.values()
    ]
    offers += [
        Offer(
            id=model.id,
            name=model.id,
            family=model.architecture,
            parameters=model.parameters,
            context_tokens=model.context_tokens,
            licence=model.licence,
            licence_url=None,
            description="",
            source=model.source,
            tasks=("chat", "completion", "classification"),
            learning_rate=None,
            here=True,
        )
        for model in local.values()
        if model.id not in CATALOG
    ]
    return sorted(offers, key=lambda offer: (not offer.here, offer.parameters))


def get_offer(plane: ControlPlane, model_id: str) -> Offer:
    """One base model.

    Raises:
        UnknownModel: neither in the catalog nor on this machine.
    """
    for offer in list_offers(plane):
        if offer.id == model_id:
            return offer
    raise UnknownModel(
        f"There is no base model '{model_id}'. GET /finery/v1/models lists what there is.", param="model"
    )
