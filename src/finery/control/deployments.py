"""Deployments: names of the project's choice under which models answer.

Creating and changing are two steps: the row (`Creating`, or an `update` beside what serves now), at once; and the proof
(`proofs`), by the caretaker. What fails its proof says why; what served before serves on.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from finery.control import audit, budgets, costs, models, policies, promotion_rules, providers, quotas
from finery.control.inference import Need
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.deployments import (
    MAX_IDLE_SECONDS,
    MAX_REPLICAS,
    Deployment,
    DeploymentStatus,
    check_count,
    check_sku,
)
from finery.core.errors import Conflict, FineryError, InvalidRequest, NotFound
from finery.core.ids import check_name, new_id
from finery.core.records import Kind
from finery.core.tenancy import Provider
from finery.storage import deployments, records


def create(plane: ControlPlane, caller: Caller, *, name: str, model: str, **options: Any) -> Deployment:
    """Take a deployment in; it is `Creating` until the caretaker has proven it. `options` are as `update` takes them.

    Raises:
        UnknownModel: no such model.
        Conflict: the name is taken.
        InvalidRequest: a name that can't be one or that is a model's, or an option that can't be.
    """
    check_name(name, what="a deployment")
    if models.find_base(plane, name):
        raise InvalidRequest(f"'{name}' is the name of a base model. Give the deployment another one.", param="name")
    providers.require(plane, caller, Provider.INFERENCE)
    budgets.require_money(plane, caller.project)
    values = _checked(plane, caller, {"model": model, **options}, {})
    moment = now()
    deployment = Deployment(
        name=name,
        project_id=caller.project.id,
        status=DeploymentStatus.CREATING,
        revision=new_id("rev_"),
        created_at=moment,
        updated_at=moment,
        **values,
    )
    with plane.database.write() as connection:
        if deployments.get(connection, caller.project.id, name):
            raise Conflict(
                f"There is a deployment '{name}' already. Choose another name, update it, or delete it first.",
                param="name",
            )
        _require_model(plane, caller, deployment)
        quotas.take(connection, deployment.project_id, deployments=1)
        deployments.insert_deployment(connection, deployment)
        audit.record(connection, caller, "deployments.create", name, asked={"model": model, **options})
    return deployment


def update(
    plane: ControlPlane, caller: Caller, name: str, changes: Mapping[str, Any], *, promoted: bool = False
) -> Deployment:
    """Ask for another model, sku, policy, engine, or number of replicas or idle seconds, or for a parity override.

    What answers now goes on until the change has been proven, and for good where it fails its proof. A newer update
    takes the place of one that isn't proven yet.

    Raises:
        NotFound: there is no such deployment.
        UnknownModel: no such model.
        InvalidRequest: a value that can't be.
        Conflict: it is being deleted, or has a promotion rule that the model was not `promoted` by.
    """
    deployment = get(plane, caller, name)
    if "model" in changes and not promoted:
        promotion_rules.require_none(plane, caller, name)
    values = _checked(plane, caller, changes, deployment.sku)
    if deployment.status == DeploymentStatus.SUCCEEDED:
        pending = deployment.update["changes"] if deployment.updating and deployment.update else {}
        wanted: dict[str, Any] = {
            "changes": {**pending, **values},
            "status": DeploymentStatus.CREATING,
            "status_details": None,
        }
        fields: dict[str, Any] = {"update": wanted}
    else:
        # Nothing answers yet: it is made anew as wanted.
        fields = {**values, "status": DeploymentStatus.CREATING, "status_details": None, "update": None}
    fields |= {"revision": new_id("rev_"), "updated_at": now()}
    with plane.database.write() as connection:
        _require_model(plane, caller, dataclasses.replace(deployment, **values))
        if deployment.status == DeploymentStatus.DELETING or not deployments.change(connection, deployment, **fields):
            raise Conflict(f"The deployment '{name}' is being deleted or changed by somebody else. Look at it again.")
        audit.record(connection, caller, "deployments.update", name, asked=dict(changes))
    return get(plane, caller, name)


def put(
    plane: ControlPlane, caller: Caller, *, name: str, model: str, sku: dict[str, Any] | None, policy: str | None
) -> tuple[Deployment, bool]:
    """Make a deployment, or make the one of that name what is asked for; one that failed is tried again.

    Returns the deployment, and whether it was made. Raises as `create` and `update`.
    """
    with plane.database.read() as connection:
        old = deployments.get(connection, caller.project.id, name)
    if old is None:
        return create(plane, caller, name=name, model=model, sku=sku, policy=policy), True
    return update(plane, caller, name, {"model": model, "sku": sku, "policy": policy}), False


def get(plane: ControlPlane, caller: Caller, name: str) -> Deployment:
    """A deployment of the caller's project.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.read() as connection:
        deployment = deployments.get(connection, caller.project.id, name)
    if deployment is None:
        raise NotFound(f"There is no deployment '{name}' in this project.", code="DeploymentNotFound")
    return deployment


def list_all(plane: ControlPlane, caller: Caller) -> list[Deployment]:
    """The deployments of the caller's project, newest first."""
    with plane.database.read() as connection:
        return deployments.list_all(connection, caller.project.id)


def only_one(plane: ControlPlane, caller: Caller) -> Deployment:
    """The deployment that is meant where an address names none.

    Raises:
        InvalidRequest: there is none that answers, or more than one.
    """
    ready = [found for found in list_all(plane, caller) if found.status == DeploymentStatus.SUCCEEDED]
    if len(ready) == 1:
        return ready[0]
    names = ", ".join(sorted(found.name for found in ready)) or "none"
    raise InvalidRequest(
        f"The request names no model, and {len(ready)} deployments answer: {names}. Say which one is meant, in model.",
        param="model",
    )


def ready_replicas(plane: ControlPlane, deployment: Deployment) -> int:
    """How many of its inference servers run now; 0 where it sleeps until somebody asks."""
    return max(
        plane.inference.ready_replicas(model, deployment.engine, deployment.replicas)
        for model in {deployment.model, deployment.base_model}
    )


def delete(plane: ControlPlane, caller: Caller, name: str) -> bool:
    """Delete a deployment; the model stays. True once it is gone, False while answers are still being written.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is a policy's guard.
    """
    deployment = get(plane, caller, name)
    if guarded := policies.guarded_by(plane, caller, name):
        raise Conflict(
            f"The deployment '{name}' is the guard of the policies: {', '.join(guarded)}. Give them another one first."
        )
    with plane.database.write() as connection:
        costs.charge_hosting(connection, caller.project.id, name)
        fields = {"status": DeploymentStatus.DELETING, "updated_at": now()}
        # Read again, where nobody else writes: its proof may have ended since.
        deployment = deployments.get(connection, caller.project.id, name) or deployment
        if deployment.status != DeploymentStatus.DELETING and not deployments.change(connection, deployment, **fields):
            raise Conflict(f"The deployment '{name}' changed in this very moment. Try again.")
        audit.record(connection, caller, "deployments.delete", name)
    return _remove_unused(plane, deployment)


def finish_deleting(plane: ControlPlane) -> None:
    """Remove deployments whose last answers have been written."""
    with plane.database.read() as connection:
        leaving = deployments.list_in(connection, DeploymentStatus.DELETING)
    for deployment in leaving:
        _remove_unused(plane, deployment)


def list_unproven(plane: ControlPlane) -> list[Deployment]:
    """Deployments of all projects that are being created or changed."""
    with plane.database.read() as connection:
        return deployments.list_unproven(connection)


def needs(plane: ControlPlane) -> dict[tuple[str, str], Need]:
    """By model and engine: how many replicas deployments need, and how long those may idle."""
    with plane.database.read() as connection:
        serving = deployments.list_in(connection, DeploymentStatus.SUCCEEDED)
    found: dict[tuple[str, str], Need] = {}
    for one in serving:
        idle = math.inf if one.idle_seconds is None else float(one.idle_seconds)
        for model in {one.base_model, one.model}:
            before = found.get((model, one.engine), Need(0, 0.0))
            most = Need(max(before.replicas, one.replicas), max(before.idle_seconds, idle))
            found[model, one.engine] = most
    return found


def _checked(
    plane: ControlPlane, caller: Caller, given: Mapping[str, Any], current_sku: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of a deployment out of what was asked for."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name == "model":
            found = models.resolve(plane, caller, value)
            values |= {"model": found.name, "base_model": found.base.id}
        elif name == "policy":
            policies.require(plane, caller, value)
            values[name] = value
        elif name == "sku":
            values["sku"] = check_sku(value, current_sku)
        elif name == "replicas":
            values[name] = check_count(value, most=MAX_REPLICAS, what="The number of replicas", param=name)
        elif name == "idle_seconds" and value is not None:
            values[name] = check_count(value, most=MAX_IDLE_SECONDS, what="The idle time in seconds", param=name)
        elif name == "parity_override" and value is not None:
            values[name] = {"reason": value, "by": caller.id, "at": now()}
        else:
            values[name] = value
    return values


def _require_model(plane: ControlPlane, caller: Caller, deployment: Deployment) -> None:
    """Looked up again under the write lock: the model may have been deleted since."""
    if deployment.model != deployment.base_model:
        try:
            models.resolve(plane, caller, deployment.model)
        except FineryError:
            raise NotFound(f"The model '{deployment.model}' was deleted in this very moment.", param="model") from None


def _remove_unused(plane: ControlPlane, deployment: Deployment) -> bool:
    if plane.admission.active(deployment.project_id, deployment.name):
        return False
    with plane.database.write() as connection:
        deployments.remove(connection, deployment.project_id, deployment.name)
        # Whoever takes the name next must not find what was said to this one.
        for kind in (Kind.CAPTURE_POLICY, Kind.CAPTURED):
            records.remove_owned(connection, deployment.project_id, kind, deployment.name)
    plane.traffic.capture(deployment.project_id, deployment.name, None)
    plane.admission.forget(deployment.project_id, deployment.name)
    return True
