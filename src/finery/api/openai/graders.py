"""/v1/fine_tuning/alpha/graders: try a grader before it is used."""

import time
from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from finery.api.access import WritesEvaluations
from finery.api.context import Plane
from finery.api.openai.batches import answer_line
from finery.control.grading import Grader
from finery.evaluation import graders
from finery.evaluation.graders import ERRORS, Grade

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"])


class ValidateGrader(BaseModel):
    """A grader to look at."""

    grader: dict[str, Any]


class RunGrader(ValidateGrader):
    """A grader, and what it shall grade."""

    model_config = ConfigDict(extra="ignore")
    model_sample: str
    item: Any = None


@router.post("/validate")
def validate(plane: Plane, caller: WritesEvaluations, body: ValidateGrader) -> dict[str, Any]:
    """Say whether a grader could grade."""
    graders.check(body.grader)
    return {"grader": body.grader}


@router.post("/run")
async def run(plane: Plane, caller: WritesEvaluations, body: RunGrader) -> dict[str, Any]:
    """Grade one sample."""
    await run_in_threadpool(graders.check, body.grader)
    began = time.monotonic()
    grader = Grader(caller=caller, ask=partial(answer_line, plane))
    sample = graders.sample_of(body.model_sample)
    grade = await grader.grade(body.grader, item=body.item or {}, sample=sample)
    return _grade(grade, time.monotonic() - began)


def _grade(grade: Grade, seconds: float) -> dict[str, Any]:
    details = {
        f"{kind}_details": grade.errors.get(kind)
        for kind in ("python_grader_runtime_error", "model_grader_server_error")
    }
    return {
        "reward": grade.score,
        "sub_rewards": dict(grade.parts),
        "metadata": {
            "name": grade.name,
            "type": grade.type,
            "scores": dict(grade.parts) or {grade.name: grade.score},
            "execution_time": seconds,
            "errors": {
                **{kind: kind in grade.errors for kind in ERRORS},
                **details,
                "python_grader_server_error_type": grade.errors.get("python_grader_server_error"),
                "other_error_details": grade.errors.get("other_error"),
            },
            "token_usage": sum(grade.tokens.values()) or None,
            "sampled_model_name": next(iter(grade.tokens), None),
        },
        "model_grader_token_usage_per_model": dict(grade.tokens),
    }
