"""Promotions: another model answers under a deployment's name, once it has shown what the rule asks.

evaluating → promoted | refused | failed; promoted → rolled_back where the model's first hours go wrong. The evaluation
is one of `evaluations`; the caretaker decides when it is done, and watches what was promoted.
"""

import logging
from collections.abc import Mapping
from typing import Any

from finery.control import chat, deployments, evaluations, kept, promotion_rules
from finery.control import metrics as traffic_metrics
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.deployments import DeploymentStatus
from finery.core.errors import Conflict, FineryError, InvalidRequest
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.evaluation import metrics
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

EVALUATING, PROMOTED, REFUSED, FAILED, ROLLED_BACK = "evaluating", "promoted", "refused", "failed", "rolled_back"

PROOF_SECONDS = 3600
"""How long a deployment may take to prove a model that was promoted without a rule."""

_FAULTS = frozenset({"internal_error", "unavailable", "corrupt_artifact", "deployment_not_ready", "storage_full"})
"""Outcomes that are the server's doing, not the caller's."""


def create(plane: ControlPlane, caller: Caller, name: str, *, model: str, evaluation: str | None = None) -> Record:
    """Ask for another model under a deployment's name. Without a rule it is promoted at once.

    Raises:
        NotFound: no such deployment or evaluation. UnknownModel: no such model.
        Conflict: another promotion of it is being evaluated. InvalidRequest: it has that model already, or an
        evaluation that is of something else.
    """
    deployment = deployments.get(plane, caller, name)
    found = chat.find(plane, caller, model)
    candidate = found.tuned.name if found.tuned else found.base.id
    if candidate == deployment.model:
        raise InvalidRequest(f"The deployment '{name}' answers with {candidate} already.", param="model")
    if any(each.status == EVALUATING for each in _of(plane, caller, name)):
        raise Conflict(f"Another model is being evaluated for '{name}'. Wait for it, or cancel its evaluation.")
    rule = promotion_rules.find(plane, caller.project.id, name)
    asked = None
    if rule is not None:
        asked = _evaluation(plane, caller, rule, [deployment.model, candidate], evaluation)
    promotion = Record(
        id=new_id("promotion_"),
        project_id=caller.project.id,
        kind=Kind.PROMOTION,
        owner=name,
        status=EVALUATING,
        body={
            "model": candidate,
            "previous_model": deployment.model,
            "evaluation_id": asked.id if asked else None,
            "rule": rule.body if rule else None,
        },
        created_at=now(),
    )
    kept.insert(plane, promotion, by=caller)
    if asked is None or asked.status == evaluations.COMPLETED:
        decide(plane, promotion)
    return get(plane, caller, name, promotion.id)


def get(plane: ControlPlane, caller: Caller, name: str, promotion_id: str) -> Record:
    """A promotion.

    Raises:
        NotFound: the deployment has none of that id.
    """
    return kept.find(plane, caller, Kind.PROMOTION, promotion_id, what=f"promotion of '{name}'", param="promotion_id")


def list_page(plane: ControlPlane, caller: Caller, name: str, cursor: Cursor) -> Page[Record]:
    """A deployment's promotions, newest first.

    Raises:
        NotFound: no such deployment.
    """
    deployments.get(plane, caller, name)
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.PROMOTION, cursor, owner=name)


def decide_pending(plane: ControlPlane) -> None:
    """Decide on every promotion whose evaluation is over, and look at the first hours of those promoted."""
    for promotion in kept.unfinished(plane, Kind.PROMOTION, EVALUATING, PROMOTED):
        try:
            if promotion.status == EVALUATING:
                decide(plane, promotion)
            elif promotion.body["watch_until"] is not None:
                _watch(plane, promotion)
        except FineryError as error:
            log.warning("promotion %s: %s", promotion.id, error.message)


def decide(plane: ControlPlane, promotion: Record) -> None:
    """Promote or refuse, if the evaluation is over."""
    owner = kept.owner_of(plane, promotion)
    rule, reason = promotion.body["rule"], "There is no rule to meet."
    if rule is not None:
        evaluation = evaluations.get(plane, owner, promotion.body["evaluation_id"])
        if evaluation.status in evaluations.UNFINISHED:
            return
        if evaluation.status != evaluations.COMPLETED:
            text = f"The evaluation {evaluation.id} is {evaluation.status}: {evaluation.body.get('error') or ''}"
            kept.move(plane, promotion, FAILED, reason=text.rstrip(": "))
            return
        first = _name_of(evaluation, promotion.body["previous_model"])
        allowed, reason = judge(rule, evaluation.body["report"], first)
        if not allowed:
            kept.move(plane, promotion, REFUSED, reason=reason)
            return
    try:
        deployments.update(plane, owner, promotion.owner, {"model": promotion.body["model"]}, promoted=True)
    except FineryError as error:
        kept.move(plane, promotion, FAILED, reason=error.message)
        return
    kept.move(
        plane,
        promotion,
        PROMOTED,
        reason=reason,
        promoted_at=now(),
        watch_until=now() + (rule["watch_seconds"] if rule else PROOF_SECONDS),
        before=_counts(plane, owner, promotion.owner, 1),
    )


def judge(rule: Mapping[str, Any], report: Mapping[str, Any], first: str) -> tuple[bool, str]:
    """Whether a candidate's comparison with the first model, which answers now, meets a rule, and why."""
    pair = next(each for each in report["comparisons"] if each["first"] == first)
    name = rule["metric"] or report["metric"]
    found = pair["differences"].get(name)
    if found is None or found["low"] is None or found["high"] is None:
        return False, f"Refused: {name} could not be measured for both models. {pair['sentence']}"
    low = found["low"] if metrics.find(name).higher_is_better else -found["high"]
    if low <= rule["threshold"]:
        share = metrics.find(name).kind != "likelihood" or name == "token_accuracy"
        worst, least = (f"{100 * each:+.3g} points" if share else f"{each:+.3g}" for each in (low, rule["threshold"]))
        text = f"the difference in {name} may be as low as {worst}, and must be above {least}"
        return False, f"Refused: {text}. {pair['sentence']}"
    if rule["forgetting"] and pair["forgetting"] and pair["forgetting"]["forgot"]:
        return False, f"Refused: it forgot what it knew. {pair['sentence']}"
    return True, pair["sentence"]


def _watch(plane: ControlPlane, promotion: Record) -> None:
    """Bring the model back that answered before, where more than allowed goes wrong."""
    owner, body = kept.owner_of(plane, promotion), promotion.body
    deployment = deployments.get(plane, owner, promotion.owner)
    if deployment.update is not None and deployment.update["status"] == DeploymentStatus.FAILED:
        kept.move(plane, promotion, FAILED, reason=deployment.update["status_details"], watch_until=None)
        return
    rule, replaced = body["rule"], deployment.wanted.model != body["model"]
    if deployment.updating and rule is not None and not replaced:
        # The earlier model answers until the new one is proven: its faults aren't held against the new one.
        if now() > body["promoted_at"]:
            later = {"promoted_at": now(), "watch_until": now() + rule["watch_seconds"]}
            kept.move(plane, promotion, PROMOTED, **later, before=_counts(plane, owner, promotion.owner, 1))
        return
    if replaced or now() > body["watch_until"]:
        kept.move(plane, promotion, PROMOTED, watch_until=None)
        return
    if rule is None:
        return
    counts = _counts(plane, owner, promotion.owner, now() - body["promoted_at"] + 1)
    since = {name: count - body["before"][name] for name, count in counts.items()}
    if since["requests"] < rule["min_requests"]:
        return
    for what, most in (("error", rule["max_error_rate"]), ("filter", rule["max_filter_rate"])):
        rate = since[what] / since["requests"]
        if most is not None and rate > most:
            deployments.update(plane, owner, promotion.owner, {"model": body["previous_model"]}, promoted=True)
            text = (
                f"Rolled back to {body['previous_model']}: the {what} rate was {rate:.1%} over {since['requests']} "
                f"requests; at most {most:.1%} is allowed."
            )
            kept.move(plane, promotion, ROLLED_BACK, reason=text, watch_until=None)
            return


def _counts(plane: ControlPlane, owner: Caller, name: str, seconds: int) -> dict[str, int]:
    """Requests, faults and filtered answers of the last seconds, rounded up to the buckets traffic is counted in."""
    told = traffic_metrics.of_deployment(plane, owner, name, seconds=seconds)
    outcomes = told["outcomes"]
    return {
        "requests": told["requests"],
        "error": sum(count for outcome, count in outcomes.items() if outcome in _FAULTS),
        "filter": outcomes.get("content_filter", 0),
    }


def _evaluation(
    plane: ControlPlane, caller: Caller, rule: Record, models: list[str], evaluation_id: str | None
) -> Record:
    """The evaluation that decides: one that was made already, where it is of the same models and rows, or a new one."""
    if evaluation_id is None:
        return evaluations.create(
            plane,
            caller,
            models=models,
            data=rule.body["data"],
            metric=rule.body["metric"],
            probe=rule.body["forgetting"],
            name=f"Promotion of {models[1]}",
        )
    found = evaluations.get(plane, caller, evaluation_id)
    names = [each["model"] for each in found.body["models"]]
    same_rows = found.body["sha256"] == rule.body["sha256"]
    if found.status != evaluations.COMPLETED or not same_rows or names[-1] != models[1] or models[0] not in names[:-1]:
        raise InvalidRequest(
            f"The evaluation {evaluation_id} can't decide: it must be completed, on the rule's rows, and compare "
            f"{models[1]} (last) with {models[0]}.",
            param="evaluation",
        )
    if rule.body["forgetting"] and not found.body["probe"]:
        raise InvalidRequest(f"The evaluation {evaluation_id} asked no general questions.", param="evaluation")
    return found


def _name_of(evaluation: Record, model: str) -> str:
    """What a model is called in an evaluation."""
    return next(str(each["name"]) for each in evaluation.body["models"] if each["model"] == model)


def _of(plane: ControlPlane, caller: Caller, name: str) -> list[Record]:
    with plane.database.read() as connection:
        return records.list_owned(connection, caller.project.id, Kind.PROMOTION, name)
