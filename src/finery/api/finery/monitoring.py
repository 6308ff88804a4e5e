"""/finery/v1/usage; metrics of all deployments and of one; drift of one."""

import dataclasses
from typing import Any

from fastapi import APIRouter

from finery.api.access import ReadsMonitoring
from finery.api.context import Plane
from finery.control import drift, metrics

router = APIRouter(prefix="/finery/v1", tags=["monitoring"])


@router.get("/usage")
def usage(
    plane: Plane,
    caller: ReadsMonitoring,
    start_time: int | None = None,
    end_time: int | None = None,
    bucket_width: str = "1d",
) -> dict[str, Any]:
    """The project's requests and tokens by deployment or model, in spans of 5m, 1h or 1d."""
    found = metrics.usage(plane, caller, since=start_time, until=end_time, width=bucket_width)
    data = [{"object": "usage", **dataclasses.asdict(one)} for one in found]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/metrics")
def all_metrics(plane: Plane, caller: ReadsMonitoring, seconds: int = 3600) -> dict[str, Any]:
    """Counters and percentiles of every deployment over the last `seconds`, the newest deployment first."""
    found = metrics.of_deployments(plane, caller, seconds=seconds)
    return {"object": "list", "data": [{"object": "deployment.metrics", **one} for one in found], "has_more": False}


@router.get("/deployments/{name}/metrics")
def deployment_metrics(plane: Plane, caller: ReadsMonitoring, name: str, seconds: int = 3600) -> dict[str, Any]:
    """Counters and percentiles of a deployment over the last `seconds`."""
    return {"object": "deployment.metrics", **metrics.of_deployment(plane, caller, name, seconds=seconds)}


@router.get("/deployments/{name}/drift")
def deployment_drift(plane: Plane, caller: ReadsMonitoring, name: str, seconds: int = 86_400) -> dict[str, Any]:
    """How far a deployment's traffic of the last `seconds` has moved away from its model's training data."""
    return {"object": "deployment.drift", **drift.of_deployment(plane, caller, name, seconds=seconds)}
