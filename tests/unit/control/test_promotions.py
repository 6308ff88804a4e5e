"""What a rule lets through, and that a model which goes wrong in its first hour makes way for the earlier one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from finery import bootstrap
from finery.control import deployments, kept, promotions
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.deployments import DeploymentStatus
from finery.core.records import Kind, Record
from finery.core.traffic import Answered
from finery.modeling import sources
from finery.settings import Settings
from finery.storage import deployments as rows
from finery.storage import projects

RULE = {"metric": "accuracy", "threshold": 0.0, "forgetting": True}


def report(low: float | None, high: float | None, *, forgot: bool = False, metric: str = "accuracy") -> dict[str, Any]:
    pair = {
        "first": "old",
        "second": "new",
        "sentence": "So it is.",
        "differences": {metric: {"value": 0.0, "low": low, "high": high}},
        "forgetting": {"forgot": forgot},
    }
    return {"metric": metric, "comparisons": [pair]}


@pytest.mark.parametrize(
    ("change", "found", "allowed"),
    [
        ({}, report(0.01, 0.2), True),
        ({}, report(0.0, 0.2), False),
        ({}, report(-0.01, 0.2), False),
        ({"threshold": -0.02}, report(-0.01, 0.2), True),
        ({"threshold": 0.05}, report(0.01, 0.2), False),
        ({}, report(0.01, 0.2, forgot=True), False),
        ({"forgetting": False}, report(0.01, 0.2, forgot=True), True),
        ({"metric": "perplexity"}, report(-3.0, -1.0, metric="perplexity"), True),
        ({"metric": "perplexity"}, report(1.0, 3.0, metric="perplexity"), False),
        ({"metric": None}, report(0.01, 0.2), True),
        ({"metric": "bleu"}, report(0.01, 0.2), False),
        ({}, report(None, None), False),
    ],
)
def test_the_lower_end_of_the_interval_decides(change: dict[str, Any], found: dict[str, Any], allowed: bool) -> None:
    decided, reason = promotions.judge(RULE | change, found, "old")
    assert decided is allowed
    assert reason == "So it is." if allowed else reason.startswith("Refused")


@pytest.fixture
def plane(tmp_path: Path, tiny_folder: Path) -> ControlPlane:
    """A control plane with two base models; the deployment `front` has just been given the second."""
    models = tmp_path / "models"
    shutil.copytree(tiny_folder, models)
    sources.import_folder(models, models / "tiny-phi3", "tiny-new")
    (tmp_path / "home").mkdir()
    return bootstrap.control_plane(Settings(home=tmp_path / "home", models=models))


def promoted(plane: ControlPlane, **rule: Any) -> tuple[Caller, Record]:
    with plane.database.read() as connection:
        project = projects.find_project(connection, "default")
    assert project is not None
    caller = Caller(project=project, key_id="")
    made = deployments.create(plane, caller, name="front", model="tiny-new")
    with plane.database.write() as connection:
        rows.change(connection, made, status=DeploymentStatus.SUCCEEDED)
    limits = {"max_error_rate": None, "max_filter_rate": None, "min_requests": 10, "watch_seconds": 3600, **rule}
    promotion = Record(
        id="promotion_1",
        project_id=project.id,
        kind=Kind.PROMOTION,
        owner="front",
        status=promotions.PROMOTED,
        body={
            "model": "tiny-new",
            "previous_model": "tiny-phi3",
            "evaluation_id": None,
            "rule": RULE | limits,
            "promoted_at": now() - 2,
            "watch_until": now() + 3600,
            "before": {"requests": 0, "error": 0, "filter": 0},
        },
        created_at=now(),
    )
    return caller, kept.insert(plane, promotion)


def answer(plane: ControlPlane, caller: Caller, outcome: str, times: int) -> None:
    for _ in range(times):
        plane.traffic.record(Answered(project_id=caller.project.id, name="front", outcome=outcome))


@pytest.mark.parametrize(
    ("rule", "outcomes", "back"),
    [
        ({"max_error_rate": 0.1}, {"stop": 8, "internal_error": 2}, True),
        ({"max_error_rate": 0.2}, {"stop": 8, "internal_error": 2}, False),
        ({"max_error_rate": 0.1}, {"stop": 3, "internal_error": 2}, False),
        ({"max_error_rate": 0.1}, {"stop": 8, "invalid_request": 20}, False),
        ({"max_filter_rate": 0.1}, {"stop": 8, "content_filter": 2}, True),
        ({}, {"internal_error": 50}, False),
    ],
    ids=[
        "too many errors",
        "as many as allowed",
        "too few requests",
        "the callers' faults",
        "too many filtered",
        "no limit",
    ],
)
def test_too_many_errors_bring_the_earlier_model_back(
    plane: ControlPlane, rule: dict[str, Any], outcomes: dict[str, int], back: bool
) -> None:
    caller, promotion = promoted(plane, **rule)
    for outcome, times in outcomes.items():
        answer(plane, caller, outcome, times)
    promotions.decide_pending(plane)
    found = promotions.get(plane, caller, "front", promotion.id)
    wanted = deployments.get(plane, caller, "front").wanted.model
    assert (found.status, wanted) == (("rolled_back", "tiny-phi3") if back else ("promoted", "tiny-new"))
    if back:
        assert "Rolled back to tiny-phi3" in found.body["reason"]


def test_faults_of_the_model_that_leaves_are_not_held_against_the_one_that_comes(plane: ControlPlane) -> None:
    caller, promotion = promoted(plane, max_error_rate=0.1)
    deployment = deployments.get(plane, caller, "front")
    proving = {"changes": {"model": "tiny-new"}, "status": DeploymentStatus.CREATING, "status_details": None}
    with plane.database.write() as connection:
        rows.change(connection, deployment, model="tiny-phi3", base_model="tiny-phi3", update=proving)
    answer(plane, caller, "internal_error", 50)
    promotions.decide_pending(plane)
    assert promotions.get(plane, caller, "front", promotion.id).status == "promoted"
    with plane.database.write() as connection:
        rows.change(
            connection,
            deployments.get(plane, caller, "front"),
            model="tiny-new",
            base_model="tiny-new",
            update=None,
        )
    answer(plane, caller, "stop", 10)
    promotions.decide_pending(plane)
    assert promotions.get(plane, caller, "front", promotion.id).status == "promoted"
    answer(plane, caller, "internal_error", 2)
    promotions.decide_pending(plane)
    assert promotions.get(plane, caller, "front", promotion.id).status == "rolled_back"
