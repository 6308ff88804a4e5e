"""/finery/v1/estimates: what a job would take, before it is submitted."""

import dataclasses
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsData
from finery.api.context import Plane
from finery.control import estimates

router = APIRouter(prefix="/finery/v1/estimates", tags=["estimates"])


class EstimateJob(BaseModel):
    """The body of an estimate: a job's settings by their names, `hyperparameters` and fields beside them alike."""

    model_config = ConfigDict(extra="forbid")
    model: str
    training_file: str
    method: Literal["supervised", "dpo", "reinforcement"] = "supervised"
    options: dict[str, Any] = Field(default_factory=dict)
    grader: Any = None
    """Of the method reinforcement."""


@router.post("")
def estimate(plane: Plane, caller: ReadsData, body: EstimateJob) -> dict[str, Any]:
    """Rows, tokens, steps; and the time and memory of the newest job like it."""
    found = estimates.estimate(
        plane,
        caller,
        model=body.model,
        training_file=body.training_file,
        method=body.method,
        options=body.options,
        grader=body.grader,
    )
    return {"object": "estimate", **dataclasses.asdict(found)}
