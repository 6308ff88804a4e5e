"""Proof that a deployment can be what it is wanted to be, before it answers anybody.

The capacity is within the quota, the model loads on every replica and answers one question, and a tuned model has a
parity certificate that passes or that somebody overrode. What serves now is not touched before a proof is complete.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from finery.control import certificates, model_gate, models
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Project
from finery.core.deployments import Deployment, DeploymentStatus
from finery.core.errors import FineryError, InvalidRequest
from finery.serving.engines import ENGINES
from finery.serving.protocol import Finish, GenerateRequest
from finery.storage import deployments

log = logging.getLogger(__name__)

SMOKE_TEST = GenerateRequest(messages=[{"role": "user", "content": "Hello"}], max_tokens=1, temperature=0.0)


async def prove(plane: ControlPlane, deployment: Deployment) -> None:
    """See that a deployment can be what it is wanted to be, and record how that went."""
    target = deployment.wanted if deployment.updating else deployment
    certificate: dict[str, Any] | None = None
    reason: str | None = None
    try:
        certificate = await _proof(plane, target, before=deployment if deployment.updating else None)
        if certificate is not None and not certificate["passed"] and target.parity_override is None:
            reason = _parity_text(certificate)
    except FineryError as error:
        reason = error.message
    except Exception:
        log.exception("deployment %s", deployment.name)
        reason = "The model could not be loaded; the server's log says why."
    _record(plane, deployment, target, certificate, reason)


async def _proof(plane: ControlPlane, target: Deployment, *, before: Deployment | None) -> dict[str, Any] | None:
    """The certificate, where the model has one; any error is the reason why the deployment can't be."""
    _require_quota(plane, target)
    owner = Caller(project=Project(id=target.project_id, name="", created_at=0), key_id="")
    model = models.resolve(plane, owner, target.model)
    await model_gate.require_safe(plane, owner, model)
    for replica in range(target.replicas):
        await _smoke_test(plane, target, model, replica)
    served = ("model", "engine")
    if before and before.certificate and all(getattr(before, one) == getattr(target, one) for one in served):
        return before.certificate
    async with plane.inference.use_replica(model.base, model.tuned, engine=target.engine, replica=0) as (
        client,
        adapter,
    ):
        certificate = await certificates.certify(plane, model, client, adapter)
    return None if certificate is None else {**certificate.to_json(), "engine": target.engine, "created_at": now()}


async def _smoke_test(plane: ControlPlane, target: Deployment, model: ResolvedModel, replica: int) -> None:
    async with plane.inference.use_replica(model.base, model.tuned, engine=target.engine, replica=replica) as (
        client,
        adapter,
    ):
        request = dataclasses.replace(SMOKE_TEST, adapter=adapter, cache_scope=target.project_id)
        pieces = [piece async for piece in client.generate(request)]
    assert isinstance(pieces[-1], Finish)


def _require_quota(plane: ControlPlane, target: Deployment) -> None:
    if target.engine not in ENGINES:
        raise InvalidRequest(f"{target.engine!r} is no engine; there are {', '.join(ENGINES)}.", param="engine")
    with plane.database.read() as connection:
        others = [one for one in deployments.list_all(connection, target.project_id) if one.name != target.name]
    used = sum(one.capacity for one in others if one.status == DeploymentStatus.SUCCEEDED)
    quota = plane.settings.capacity_quota
    if used + target.capacity > quota:
        raise InvalidRequest(
            f"A capacity of {target.capacity} is beyond the quota: this project may have {quota} thousand tokens a "
            f"minute, and its other deployments have {used}. Ask for at most {max(0, quota - used)}.",
            code="insufficient_quota",
            param="sku.capacity",
        )


def _parity_text(certificate: Mapping[str, Any]) -> str:
    limits = certificate["limits"]
    return (
        f"It does not answer as the trainer's model does: the same token at {certificate['agreement_but_ties']:.2%} of "
        f"{certificate['places']} places (wanted: {limits['agreement']:.2%}), mean KL {certificate['mean_kl']:.4f} "
        f"(at most {limits['mean_kl']}), equal prompts {certificate['prompts_equal']:.0%}. If you accept that, give "
        "parity_override with the reason."
    )


def _record(
    plane: ControlPlane,
    deployment: Deployment,
    target: Deployment,
    certificate: dict[str, Any] | None,
    reason: str | None,
) -> None:
    if reason is None:
        fields: dict[str, Any] = {
            **(deployment.update["changes"] if deployment.updating and deployment.update else {}),
            "status": DeploymentStatus.SUCCEEDED,
            "status_details": None,
            "update": None,
            "certificate": certificate,
        }
        if certificate is not None and not certificate["passed"]:
            log.warning("%s answers without parity: %s", deployment.name, target.parity_override)
    elif deployment.updating and deployment.update is not None:
        failed = {"status": DeploymentStatus.FAILED, "status_details": reason, "certificate": certificate}
        fields = {"update": {**deployment.update, **failed}}
    else:
        fields = {"status": DeploymentStatus.FAILED, "status_details": reason, "certificate": certificate}
    with plane.database.write() as connection:
        deployments.change(connection, deployment, **fields, updated_at=now())
