"""/finery/v1/deployments/{name}/promotion_rule and …/promotions: which model may answer under a name."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsDeployments, WritesDeployments
from finery.api.context import Plane, Sent, paging
from finery.api.openai import wire
from finery.control import promotion_rules, promotions, replays
from finery.control.promotion_rules import Rule
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/finery/v1/deployments/{name}", tags=["promotions"])

PromotionsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]


class PromotionRule(BaseModel):
    """What a candidate must show, as `control.promotion_rules.Rule` says."""

    model_config = ConfigDict(extra="forbid")
    data: str
    metric: str | None = None
    threshold: float = 0.0
    forgetting: bool = True
    max_error_rate: float | None = None
    max_filter_rate: float | None = None
    watch_seconds: int = 3600
    min_requests: int = 20


class Promote(BaseModel):
    """A candidate, and the evaluation that speaks for it."""

    model_config = ConfigDict(extra="forbid")
    model: str
    evaluation: str | None = None


@router.put("/promotion_rule")
def put_rule(plane: Plane, caller: WritesDeployments, name: str, body: PromotionRule) -> dict[str, Any]:
    """Set a deployment's rule."""
    return _rule(promotion_rules.put(plane, caller, name, Rule(**body.model_dump())))


@router.get("/promotion_rule")
def retrieve_rule(plane: Plane, caller: ReadsDeployments, name: str) -> dict[str, Any]:
    """A deployment's rule."""
    return _rule(promotion_rules.get(plane, caller, name))


@router.delete("/promotion_rule")
def delete_rule(plane: Plane, caller: WritesDeployments, name: str) -> dict[str, Any]:
    """Take a deployment's rule away."""
    promotion_rules.delete(plane, caller, name)
    return {"name": name, "object": "promotion_rule", "deleted": True}


@router.post("/promotions")
def create(plane: Plane, caller: WritesDeployments, sent: Sent, name: str, body: Promote) -> dict[str, Any]:
    """Ask for another model under the name."""
    asked = body.model_dump(mode="json")
    return replays.once(plane, caller, sent, asked, lambda: _promotion(promotions.create(plane, caller, name, **asked)))


@router.get("/promotions")
def list_promotions(plane: Plane, caller: ReadsDeployments, name: str, cursor: PromotionsCursor) -> dict[str, Any]:
    """A deployment's promotions, newest first."""
    return wire.page(promotions.list_page(plane, caller, name, cursor), _promotion)


@router.get("/promotions/{promotion_id}")
def retrieve(plane: Plane, caller: ReadsDeployments, name: str, promotion_id: str) -> dict[str, Any]:
    """One promotion."""
    return _promotion(promotions.get(plane, caller, name, promotion_id))


def _rule(record: Record) -> dict[str, Any]:
    return {"name": record.owner, "object": "promotion_rule", "created_at": record.created_at, **record.body}


def _promotion(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "id": record.id,
        "object": "promotion",
        "deployment": record.owner,
        "status": record.status,
        "model": body["model"],
        "previous_model": body["previous_model"],
        "evaluation_id": body["evaluation_id"],
        "reason": body.get("reason"),
        "created_at": record.created_at,
        "promoted_at": body.get("promoted_at"),
    }
