"""What is remembered of deployments while they are made, changed and taken down; models are loaded elsewhere."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finery import bootstrap
from finery.control import deployments, proofs
from finery.control.inference import Need
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.deployments import Deployment
from finery.core.errors import Conflict, NotFound, Unavailable
from finery.settings import Settings

ASKED = 10
"""Tokens."""


@pytest.fixture
def plane(tmp_path: Path, tiny_folder: Path) -> Iterator[ControlPlane]:
    """A control plane whose caretaker sleeps."""
    made = bootstrap.control_plane(Settings(home=tmp_path, models=tiny_folder, worker=False))
    yield made
    made.database.close()


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How the next proofs go: a `reason` to fail, or a `certificate`."""
    outcome: dict[str, Any] = {"certificate": None}

    async def prove(plane: ControlPlane, target: Deployment, *, before: Deployment | None) -> Any:
        outcome["seen"] = target
        if "reason" in outcome:
            raise Unavailable(outcome["reason"])
        return outcome["certificate"]

    monkeypatch.setattr(proofs, "_proof", prove)
    return outcome


def prove_all(plane: ControlPlane) -> None:
    for deployment in deployments.list_unproven(plane):
        asyncio.run(proofs.prove(plane, deployment))


def made(plane: ControlPlane, caller: Caller, name: str = "d", **options: Any) -> Deployment:
    deployments.create(plane, caller, name=name, model="tiny-phi3", **options)
    prove_all(plane)
    return deployments.get(plane, caller, name)


def test_a_change_is_proven_beside_what_serves(plane: ControlPlane, caller: Caller, proof: dict[str, Any]) -> None:
    assert made(plane, caller).status == "Succeeded"
    changed = deployments.update(plane, caller, "d", {"replicas": 3, "sku": {"capacity": 5}})
    assert (changed.status, changed.replicas, changed.updating) == ("Succeeded", 1, True)
    proof["reason"] = "no room"
    prove_all(plane)
    failed = deployments.get(plane, caller, "d")
    assert (failed.status, failed.replicas) == ("Succeeded", 1)
    assert failed.update is not None
    assert (failed.update["status"], failed.update["status_details"]) == ("Failed", "no room")
    assert deployments.list_unproven(plane) == []
    del proof["reason"]
    deployments.update(plane, caller, "d", {"idle_seconds": 60})
    prove_all(plane)
    changed = deployments.get(plane, caller, "d")
    # The change that failed is not tried again behind anybody's back.
    assert (changed.replicas, changed.capacity, changed.idle_seconds, changed.update) == (1, 1000, 60, None)


def test_changes_that_follow_each_other_add_up(plane: ControlPlane, caller: Caller, proof: dict[str, Any]) -> None:
    made(plane, caller)
    deployments.update(plane, caller, "d", {"replicas": 2})
    first = deployments.list_unproven(plane)
    deployments.update(plane, caller, "d", {"policy": "default-asynchronous"})
    asyncio.run(proofs.prove(plane, first[0]))
    assert deployments.get(plane, caller, "d").replicas == 1, "the proof of an older wish must change nothing"
    prove_all(plane)
    changed = deployments.get(plane, caller, "d")
    assert (changed.replicas, changed.policy, changed.update) == (2, "default-asynchronous", None)


def test_a_proof_of_a_deleted_one_changes_nothing(plane: ControlPlane, caller: Caller, proof: dict[str, Any]) -> None:
    deployments.create(plane, caller, name="d", model="tiny-phi3")
    old = deployments.list_unproven(plane)
    assert deployments.delete(plane, caller, "d")
    again = deployments.create(plane, caller, name="d", model="tiny-phi3")
    proof["reason"] = "of the old one"
    asyncio.run(proofs.prove(plane, old[0]))
    assert deployments.get(plane, caller, "d") == again


def test_what_never_served_is_made_anew(plane: ControlPlane, caller: Caller, proof: dict[str, Any]) -> None:
    proof["reason"] = "no room"
    failed = made(plane, caller, replicas=9)
    assert (failed.status, failed.status_details) == ("Failed", "no room")
    del proof["reason"]
    assert deployments.update(plane, caller, "d", {"replicas": 1}).status == "Creating"
    prove_all(plane)
    mended = deployments.get(plane, caller, "d")
    assert (mended.status, mended.status_details, mended.replicas) == ("Succeeded", None, 1)


def test_a_failed_certificate_is_refused_with_its_numbers_or_overridden(
    plane: ControlPlane, caller: Caller, proof: dict[str, Any]
) -> None:
    limits = {"agreement": 0.995, "mean_kl": 0.02, "tie": 0.1}
    proof["certificate"] = {
        "passed": False,
        "agreement_but_ties": 0.5,
        "places": 96,
        "mean_kl": 1.25,
        "prompts_equal": 1.0,
        "limits": limits,
    }
    failed = made(plane, caller)
    assert failed.status == "Failed"
    assert failed.certificate == proof["certificate"]
    assert "50.00% of 96 places" in (failed.status_details or "")
    assert "1.25" in (failed.status_details or "")
    deployments.update(plane, caller, "d", {"parity_override": "a test of the shop's own"})
    prove_all(plane)
    overridden = deployments.get(plane, caller, "d")
    assert (overridden.status, overridden.certificate) == ("Succeeded", proof["certificate"])
    assert overridden.parity_override is not None
    assert (overridden.parity_override["by"], overridden.parity_override["reason"]) == (
        "key_1",
        "a test of the shop's own",
    )


def test_the_last_answers_are_written_before_it_is_gone(
    plane: ControlPlane, caller: Caller, proof: dict[str, Any]
) -> None:
    serving = made(plane, caller)
    with plane.admission.enter(caller.project.id, "d", serving, ASKED):
        assert deployments.delete(plane, caller, "d") is False
        assert deployments.get(plane, caller, "d").status == "Deleting"
        deployments.finish_deleting(plane)
        with pytest.raises(Conflict):
            deployments.update(plane, caller, "d", {"replicas": 2})
        with pytest.raises(Conflict):
            deployments.create(plane, caller, name="d", model="tiny-phi3")
    deployments.finish_deleting(plane)
    with pytest.raises(NotFound):
        deployments.get(plane, caller, "d")


def test_what_deployments_need_of_servers_is_the_most_that_any_needs(
    plane: ControlPlane, caller: Caller, proof: dict[str, Any]
) -> None:
    assert deployments.needs(plane) == {}
    made(plane, caller, "a", idle_seconds=60)
    assert deployments.needs(plane) == {("tiny-phi3", "llamacpp"): Need(1, 60.0)}
    made(plane, caller, "b", replicas=2, idle_seconds=10)
    made(plane, caller, "c", engine="torch")
    assert deployments.needs(plane) == {
        ("tiny-phi3", "llamacpp"): Need(2, 60.0),
        ("tiny-phi3", "torch"): Need(1, math.inf),
    }


def test_the_quota_is_the_projects(plane: ControlPlane, caller: Caller) -> None:
    most = plane.settings.capacity_quota
    serving = Deployment(
        name="d",
        project_id=caller.project.id,
        model="tiny-phi3",
        base_model="tiny-phi3",
        status=deployments.DeploymentStatus.CREATING,
        sku={"name": "Standard", "capacity": most},
        created_at=0,
        updated_at=0,
    )
    proofs._require_quota(plane, serving)
    other = deployments.create(plane, caller, name="other", model="tiny-phi3", sku={"capacity": 1})
    with plane.database.write() as connection:
        deployments.deployments.change(connection, other, status="Succeeded")
    with pytest.raises(deployments.InvalidRequest, match=f"at most {most - 1}") as refused:
        proofs._require_quota(plane, serving)
    assert refused.value.code == "insufficient_quota"
