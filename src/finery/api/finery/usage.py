"""/finery/v1/usage, and the metrics of a deployment."""

import dataclasses
from typing import Any

from fastapi import APIRouter

from finery.api.context import AsCaller, Plane
from finery.control import metrics

router = APIRouter(tags=["usage"])


@router.get("/usage")
def usage(
    plane: Plane,
    caller: AsCaller,
    start_time: int | None = None,
    end_time: int | None = None,
    bucket_width: str = "1d",
) -> dict[str, Any]:
    """The project's requests and tokens by deployment or model, in spans of 5m, 1h or 1d."""
    found = metrics.usage(plane, caller, since=start_time, until=end_time, width=bucket_width)
    data = [{"object": "usage", **dataclasses.asdict(one)} for one in found]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/deployments/{name}/metrics")
def deployment_metrics(plane: Plane, caller: AsCaller, name: str, seconds: int = 3600) -> dict[str, Any]:
    """Counters and percentiles of a deployment over the last `seconds`."""
    return {"object": "deployment.metrics", **metrics.of_deployment(plane, caller, name, seconds=seconds)}
