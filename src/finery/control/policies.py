"""Content filter policies of a project, and which one a name answers under."""

import dataclasses

from finery.control import audit
from finery.control.plane import ControlPlane, now
from finery.core import policies
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import check_name, new_id
from finery.core.policies import ALIASES, BUILT_IN, DEFAULT, Policy
from finery.core.records import Kind, Record
from finery.core.roles import Permission
from finery.safety.guards import KINDS
from finery.storage import deployments, records


def get(plane: ControlPlane, caller: Caller, name: str) -> Policy:
    """A policy of the caller's project, or a built-in one.

    Raises:
        NotFound: there is none of that name.
    """
    found = _find(plane, caller, name)
    if found is None:
        there = ", ".join(policy.name for policy in list_all(plane, caller))
        raise NotFound(f"There is no content filter policy '{name}' in this project; there are: {there}.")
    return found


def list_all(plane: ControlPlane, caller: Caller) -> list[Policy]:
    """The built-in policies, then the project's, oldest first."""
    with plane.database.read() as connection:
        stored = records.list_under(connection, caller.project.id, Kind.POLICY, "")
    return [*BUILT_IN.values(), *(_policy(record) for record in stored)]


def put(plane: ControlPlane, caller: Caller, policy: Policy) -> Policy:
    """Make or replace a policy; deployments under it are filtered by the new one from their next request on.

    Filters that it doesn't name are those of its base policy, the default one where none is named.

    Raises:
        InvalidRequest: a filter, threshold or guard that isn't one, or a base policy, a blocklist or a deployment that
            isn't there.
        Conflict: the name of a built-in policy.
    """
    check_name(policy.name, what="a content filter policy")
    if policy.name in BUILT_IN or policy.name in ALIASES:
        raise Conflict(
            f"'{policy.name}' is built in and can't be changed. Give your policy another name.", param="name"
        )
    policy = policies.check(policy).over(_base(plane, caller, policy))
    _check_guard(plane, policy)
    moment = now()
    with plane.database.write() as connection:
        guard = policy.guard.deployment if policy.guard else None
        if guard is not None and deployments.get(connection, caller.project.id, guard) is None:
            raise InvalidRequest(f"There is no deployment '{guard}' in this project to be the guard.", param="guard")
        for use in policy.blocklists:
            if not records.list_owned(connection, caller.project.id, Kind.BLOCKLIST, use.name):
                raise InvalidRequest(
                    f"There is no blocklist '{use.name}' in this project. Make it first.", param="blocklists"
                )
        known = records.list_owned(connection, caller.project.id, Kind.POLICY, policy.name)
        created_at = known[0].created_at if known else moment
        saved = dataclasses.replace(policy, built_in=False, created_at=created_at, updated_at=moment)
        records.remove_owned(connection, caller.project.id, Kind.POLICY, policy.name)
        records.insert_record(
            connection,
            Record(
                id=new_id("policy_"),
                project_id=caller.project.id,
                kind=Kind.POLICY,
                owner=policy.name,
                body=dataclasses.asdict(saved),
                created_at=created_at,
            ),
        )
        guarding = dataclasses.asdict(saved.guard) if saved.guard else None
        audit.record(
            connection, caller, "policies.put", policy.name, weaker_than_default=saved.weakened, guard=guarding
        )
    return saved


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Delete a policy.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is built in, or a deployment is under it.
    """
    if get(plane, caller, name).built_in:
        raise Conflict(f"'{name}' is built in and can't be deleted.")
    with plane.database.write() as connection:
        users = [d.name for d in deployments.list_all(connection, caller.project.id) if d.policy == name]
        if users:
            raise Conflict(
                f"The policy '{name}' is in use by: {', '.join(users)}. Give these deployments another policy first."
            )
        records.remove_owned(connection, caller.project.id, Kind.POLICY, name)
        audit.record(connection, caller, "policies.delete", name)


def require(plane: ControlPlane, caller: Caller, name: str | None) -> Policy:
    """The policy that a deployment is to be under; None is the default one.

    Raises:
        InvalidRequest: there is none of that name.
        Forbidden: it blocks less than the default one, and the caller may not decide that.
    """
    if name is None:
        return DEFAULT
    try:
        found = get(plane, caller, name)
    except NotFound as error:
        raise InvalidRequest(error.message, param="policy") from None
    if found.weakened:
        caller.require(Permission.SAFETY_WRITE)
    return found


def of_name(plane: ControlPlane, caller: Caller, name: str) -> Policy:
    """The policy under which a deployment's or a model's name answers: the default one where none was chosen.

    A policy that is gone counts as the default one: what is asked for stays filtered.
    """
    with plane.database.read() as connection:
        deployment = deployments.get(connection, caller.project.id, name)
    chosen = deployment.policy if deployment else None
    return (_find(plane, caller, chosen) or DEFAULT) if chosen else DEFAULT


def guarded_by(plane: ControlPlane, caller: Caller, deployment: str) -> list[str]:
    """The policies whose guard a deployment is."""
    return [one.name for one in list_all(plane, caller) if one.guard and one.guard.deployment == deployment]


def _check_guard(plane: ControlPlane, policy: Policy) -> None:
    guard = policy.guard
    if guard is None:
        if any(one.name == "guard" and one.enabled for one in policy.content_filters):
            raise InvalidRequest("The policy has a filter for a guard and no guard; name one.", param="guard")
        return
    if guard.kind not in KINDS:
        raise InvalidRequest(f"{guard.kind!r} is no kind of guard; there are {', '.join(KINDS)}.", param="guard")
    if guard.deployment is None and not plane.settings.guard_url:
        raise InvalidRequest(
            "The guard names no deployment, and this server has no guard on the network. Name one of the project's "
            "deployments, or let the operator set FINERY_GUARD_URL.",
            param="guard",
        )
    if (guard.deployment is None) == (guard.model is None):
        raise InvalidRequest(
            "A guard is a deployment of the project, or the model of the guard on the network: name one of them.",
            param="guard",
        )


def _base(plane: ControlPlane, caller: Caller, policy: Policy) -> Policy:
    if policy.base_policy is None:
        return DEFAULT
    try:
        return get(plane, caller, policy.base_policy)
    except NotFound as error:
        raise InvalidRequest(error.message, param="base_policy") from None


def _find(plane: ControlPlane, caller: Caller, name: str) -> Policy | None:
    built_in = BUILT_IN.get(ALIASES.get(name, name))
    if built_in is not None:
        return built_in
    with plane.database.read() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.POLICY, name)
    return _policy(found[0]) if found else None


def _policy(record: Record) -> Policy:
    return policies.from_body(record.body)
