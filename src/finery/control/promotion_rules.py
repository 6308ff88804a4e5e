"""What a new model must show before it may answer under a deployment's name. `promotions` promotes.

A rule belongs to the name: where there is one, a model is changed by promoting it, and no other way.
"""

from dataclasses import dataclass
from typing import Any

from finery.control import audit, datasets, files
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import check_name, new_id
from finery.core.records import Kind, Record
from finery.evaluation import metrics
from finery.storage import records

MAX_WATCH_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What is asked of a candidate, and of its first hours."""

    data: str
    """Held-out rows: a file's id, or a dataset's name."""
    metric: str | None = None
    """What decides; None: what suits the rows."""
    threshold: float = 0.0
    """The lower end of the difference's interval must lie above this: 0 asks for clearly better, -0.02 for no more than
    two points worse."""
    forgetting: bool = True
    """Refuse a model that clearly forgot general questions."""
    max_error_rate: float | None = None
    """Share of requests that may fail after a promotion, before the model that answered earlier comes back."""
    max_filter_rate: float | None = None
    """The same of answers that the content filter stopped."""
    watch_seconds: int = 3600
    """How long after a promotion those rates are watched."""
    min_requests: int = 20
    """Requests before a rate means something."""


def put(plane: ControlPlane, caller: Caller, name: str, rule: Rule) -> Record:
    """Set a deployment's rule; it need not exist yet.

    Raises:
        NotFound: no such file. InvalidRequest: no such metric, or a number out of its range.
    """
    check_name(name, what="a deployment")
    _check(rule)
    file = files.get(plane, caller, datasets.file_of(plane, caller, rule.data), param="data")
    body = {field: getattr(rule, field) for field in Rule.__dataclass_fields__} | {"sha256": file.sha256}
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.PROMOTION_RULE, name)
        made = Record(
            id=new_id("rule_"),
            project_id=caller.project.id,
            kind=Kind.PROMOTION_RULE,
            owner=name,
            body=body,
            created_at=now(),
        )
        records.insert_record(connection, made)
        audit.record(connection, caller, "promotion_rules.put", name, asked=body)
    return made


def find(plane: ControlPlane, project_id: str, name: str) -> Record | None:
    """A deployment's rule, where it has one."""
    with plane.database.read() as connection:
        found = records.list_owned(connection, project_id, Kind.PROMOTION_RULE, name)
    return found[-1] if found else None


def get(plane: ControlPlane, caller: Caller, name: str) -> Record:
    """A deployment's rule.

    Raises:
        NotFound: it has none.
    """
    found = find(plane, caller.project.id, name)
    if found is None:
        raise NotFound(f"The deployment '{name}' has no promotion rule.", code="no_promotion_rule")
    return found


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Take a rule away."""
    get(plane, caller, name)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.PROMOTION_RULE, name)
        audit.record(connection, caller, "promotion_rules.delete", name)


def require_none(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Refuse to change a model past the rule.

    Raises:
        Conflict: the deployment has one.
    """
    if find(plane, caller.project.id, name) is not None:
        raise Conflict(
            f"The deployment '{name}' has a promotion rule: its model changes by `finery deployments promote {name} "
            f"--model …`, or POST /finery/v1/deployments/{name}/promotions.",
            code="promotion_required",
            param="model",
        )


def _check(rule: Rule) -> None:
    if rule.metric is not None:
        metric = metrics.find(rule.metric)
        if metric.kind == "corpus":
            raise InvalidRequest(f"{rule.metric} has no interval; choose another metric.", param="metric")
    ranges: tuple[tuple[str, Any, float, float], ...] = (
        ("threshold", rule.threshold, -1e6, 1e6),
        ("max_error_rate", rule.max_error_rate, 0, 1),
        ("max_filter_rate", rule.max_filter_rate, 0, 1),
        ("watch_seconds", rule.watch_seconds, 1, MAX_WATCH_SECONDS),
        ("min_requests", rule.min_requests, 1, 1_000_000),
    )
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise InvalidRequest(f"{name} is {value}; it must be from {low:g} to {high:g}.", param=name)
