"""Deployments: names of the project's choice under which models answer.

Creating is two steps: the row (`Creating`), at once; and the proof, by the caretaker: the model is loaded and asked one
question before it is called `Succeeded`.
"""

import dataclasses
import logging
from typing import Any

from finery.control import models
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Project
from finery.core.deployments import Deployment, DeploymentStatus
from finery.core.errors import Conflict, FineryError, InvalidRequest, NotFound
from finery.core.ids import check_name
from finery.core.records import Kind
from finery.serving.protocol import Finish, GenerateRequest
from finery.storage import deployments, records

log = logging.getLogger(__name__)

SMOKE_TEST = GenerateRequest(messages=[{"role": "user", "content": "Hello"}], max_tokens=1, temperature=0.0)


def create(
    plane: ControlPlane, caller: Caller, *, name: str, model: str, sku: dict[str, Any] | None, policy: str | None
) -> Deployment:
    """Take a deployment in; it is `Creating` until the caretaker has proven it.

    Raises:
        UnknownModel: no such model.
        Conflict: the name is taken.
        InvalidRequest: a name that can't be one, or that is a model's.
    """
    check_name(name, what="a deployment")
    if models.find_base(plane, name):
        raise InvalidRequest(f"'{name}' is the name of a base model. Give the deployment another one.", param="name")
    found = models.resolve(plane, caller, model)
    moment = now()
    deployment = Deployment(
        name=name,
        project_id=caller.project.id,
        model=model,
        base_model=found.base.id,
        status=DeploymentStatus.CREATING,
        sku={"name": "Standard", "capacity": 1} | (sku or {}),
        policy=policy,
        created_at=moment,
        updated_at=moment,
    )
    with plane.database.write() as connection:
        if deployments.get(connection, caller.project.id, name):
            raise Conflict(
                f"There is a deployment '{name}' already. Choose another name, or delete it first.", param="name"
            )
        # Looked up again under the write lock: the model may have been deleted since.
        if found.tuned is not None and models.get_tuned(plane, caller, model) is None:
            raise NotFound(f"The model '{model}' was deleted in this very moment.", param="model")
        deployments.insert_deployment(connection, deployment)
    return deployment


def put(
    plane: ControlPlane, caller: Caller, *, name: str, model: str, sku: dict[str, Any] | None, policy: str | None
) -> tuple[Deployment, bool]:
    """Make a deployment, or make the one of that name what is asked for; with another model it is proven anew.

    Returns the deployment, and whether it was made. Raises as `create`.
    """
    with plane.database.read() as connection:
        old = deployments.get(connection, caller.project.id, name)
    if old is None:
        return create(plane, caller, name=name, model=model, sku=sku, policy=policy), True
    found = models.resolve(plane, caller, model)
    values: dict[str, Any] = {"sku": old.sku | (sku or {}), "policy": policy, "updated_at": now()}
    # One that failed is tried again.
    if model != old.model or old.status == DeploymentStatus.FAILED:
        values |= {"model": model, "base_model": found.base.id, "status": DeploymentStatus.CREATING}
    with plane.database.write() as connection:
        if not deployments.change(connection, old, **values):
            raise Conflict(f"The deployment '{name}' changed in this very moment. Look at it again.", param="name")
    return get(plane, caller, name), False


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


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Delete a deployment; the model stays. Answers that are being written are finished.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.write() as connection:
        if not deployments.remove(connection, caller.project.id, name):
            raise NotFound(f"There is no deployment '{name}' in this project.", code="DeploymentNotFound")
        # Whoever takes the name next must not find what was said to this one.
        for kind in (Kind.CAPTURE_POLICY, Kind.CAPTURED):
            records.remove_owned(connection, caller.project.id, kind, name)
    plane.traffic.capture(caller.project.id, name, None)


async def prove(plane: ControlPlane, deployment: Deployment) -> None:
    """Load a deployment's model, ask it one question, and record how that went."""
    try:
        await _smoke_test(plane, deployment)
    except FineryError as error:
        _record(plane, deployment, DeploymentStatus.FAILED, error.message)
    except Exception:
        log.exception("deployment %s", deployment.name)
        _record(plane, deployment, DeploymentStatus.FAILED, "The model could not be loaded; the server's log says why.")
    else:
        _record(plane, deployment, DeploymentStatus.SUCCEEDED, None)


def list_unproven(plane: ControlPlane) -> list[Deployment]:
    """Deployments of all projects that are still being created."""
    with plane.database.read() as connection:
        return deployments.list_in(connection, DeploymentStatus.CREATING)


def deployed_bases(plane: ControlPlane) -> set[str]:
    """Base models that some deployment needs."""
    with plane.database.read() as connection:
        return {d.base_model for d in deployments.list_in(connection, DeploymentStatus.SUCCEEDED)}


async def _smoke_test(plane: ControlPlane, deployment: Deployment) -> None:
    owner = Caller(project=Project(id=deployment.project_id, name="", created_at=0), key_id="")
    model = models.resolve(plane, owner, deployment.model)
    async with plane.inference.use(model.base, model.tuned) as (client, adapter):
        request = dataclasses.replace(SMOKE_TEST, adapter=adapter, cache_scope=deployment.project_id)
        pieces = [piece async for piece in client.generate(request)]
    assert isinstance(pieces[-1], Finish)


def _record(plane: ControlPlane, deployment: Deployment, status: DeploymentStatus, details: str | None) -> None:
    with plane.database.write() as connection:
        deployments.set_status(connection, deployment, status, details, now())
