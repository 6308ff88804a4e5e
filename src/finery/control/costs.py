"""What things cost: the price table, what is charged when, estimates and reports.

Everything is charged in the transaction that makes it so: training as a run reports its steps (exactly once, for its
lease is looked at in that transaction), tokens of answers as their buckets are written, hosting as time passes. A job
that fails is charged nothing, whatever it failed of.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from finery.control import audit, datasets, files, models, tenancy
from finery.control.plane import ControlPlane, now
from finery.core import hyperparameters
from finery.core.access import Caller, Project
from finery.core.costs import ANY_MODEL, Meter, Price, Spent, amount, day_of
from finery.core.errors import InvalidRequest, NotFound
from finery.core.ids import check_name
from finery.core.jobs import Job
from finery.core.roles import Permission
from finery.core.traffic import Tally
from finery.storage import costs, deployments, projects
from finery.storage import models as tuned_models

GROUPS = ("project", "model", "day", "meter", "source")
"""By what a report can be grouped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a job would cost."""

    model: str
    tokens: int
    """Of the training rows, once."""
    n_epochs: int
    trained_tokens: int
    amount: int
    """Nano-units."""


def list_prices(plane: ControlPlane) -> list[Price]:
    """The price table."""
    with plane.database.read() as connection:
        return costs.list_prices(connection)


def set_price(plane: ControlPlane, caller: Caller, price: Price) -> Price:
    """Price a base model, or every other with `*`; what was used before keeps its price.

    Raises:
        Forbidden: the caller may not, in the whole subscription.
    """
    _require_pricing(plane, caller)
    if price.model != ANY_MODEL:
        check_name(price.model, what="a base model", param="model")
    with plane.database.write() as connection:
        costs.set_price(connection, price)
        asked = {meter: price.of(meter) for meter in Meter}
        audit.record(connection, caller, "prices.set", price.model, shared=True, nanos=asked)
    return price


def delete_price(plane: ControlPlane, caller: Caller, model: str) -> None:
    """Take a model out of the price table.

    Raises:
        NotFound: it isn't in it.
    """
    _require_pricing(plane, caller)
    with plane.database.write() as connection:
        if not costs.remove_price(connection, model):
            raise NotFound(f"There is no price for {model!r}.")
        audit.record(connection, caller, "prices.delete", model, shared=True)


def estimate(
    plane: ControlPlane, caller: Caller, *, model: str, training_file: str, options: dict[str, Any]
) -> Estimate:
    """What a job would cost, counted with the model's own tokenizer; nothing is submitted.

    Raises:
        InvalidRequest: a file that isn't checked or has faults, or a knob that can't be.
    """
    found = models.resolve(plane, caller, model)
    asked = hyperparameters.check(options)
    file = files.get(plane, caller, datasets.file_of(plane, caller, training_file), param="training_file")
    if not file.rows:
        raise InvalidRequest(f"File {file.id} has no checked rows: its status is {file.status}.", param="training_file")
    statistics = datasets.check_for_model(plane, caller, file.id, model, None)["statistics"]
    resolved = hyperparameters.resolve(
        asked,
        method="supervised",
        num_examples=file.rows,
        context_tokens=found.base.context_tokens,
        longest_example=0,
        task="chat",
    )
    tokens, epochs = int(statistics["tokens"]), int(resolved["n_epochs"])
    with plane.database.read() as connection:
        price = costs.price_of(connection, found.base.id)
    trained = tokens * epochs
    return Estimate(
        model=found.base.id,
        tokens=tokens,
        n_epochs=epochs,
        trained_tokens=trained,
        amount=amount(Meter.TRAINING, price.training, trained),
    )


def charge_training(connection: Any, job: Job, trained_tokens: int) -> None:
    """Charge a job up to a number of tokens, in the transaction that moves it on; less than before is given back."""
    more = trained_tokens - costs.charged(connection, job.project_id, Meter.TRAINING, job.id)
    if more:
        _charge(connection, job.project_id, Meter.TRAINING, job.id, job.base_model, more, now())


def charge_steps(connection: Any, job: Job, events: list[dict[str, Any]]) -> None:
    """Charge a job for the steps that its trainer has told of."""
    done = [event["data"] for event in events if event["type"] == "metrics" and event["data"].get("total_steps")]
    if not done:
        return
    latest = max(done, key=lambda data: int(data["step"]))
    planned = int(job.data["training"]["tokens"]) * int(job.resolved["n_epochs"])
    reached = min(planned, planned * int(latest["step"]) // int(latest["total_steps"]))
    if reached > costs.charged(connection, job.project_id, Meter.TRAINING, job.id):
        charge_training(connection, job, reached)


def forgive_training(connection: Any, job: Job) -> None:
    """Charge nothing for a job that failed."""
    costs.void(connection, job.project_id, Meter.TRAINING, job.id)


def charge_answers(connection: Any, project_id: str, name: str, began_at: int, tally: Tally) -> None:
    """Charge what one name read and wrote, in the transaction that writes its bucket."""
    base = _base_of(connection, project_id, name)
    for meter, tokens in ((Meter.INPUT, tally.prompt_tokens), (Meter.OUTPUT, tally.completion_tokens)):
        if tokens:
            _charge(connection, project_id, meter, name, base, tokens, began_at)


def charge_all_hosting(plane: ControlPlane) -> None:
    """Charge every deployment that answers for the time since it was last charged."""
    with plane.database.read() as connection:
        if not deployments.list_hosted(connection):
            return
    with plane.database.write() as connection:
        charge_hosting(connection)


def charge_hosting(connection: Any, project_id: str | None = None, name: str | None = None) -> None:
    """Charge deployments that answer up to now: all, or the one that is about to be deleted."""
    moment = now()
    for deployment, charged_until in deployments.list_hosted(connection):
        if name is not None and (deployment.project_id, deployment.name) != (project_id, name):
            continue
        if charged_until is None:
            deployments.set_charged(connection, deployment, moment)
        elif moment > charged_until:
            used = moment - charged_until
            base = deployment.base_model
            _charge(connection, deployment.project_id, Meter.HOSTING, deployment.name, base, used, moment)
            deployments.set_charged(connection, deployment, moment)


def report(
    plane: ControlPlane, caller: Caller, *, since: str, until: str, group_by: list[str]
) -> list[tuple[dict[str, str], Spent]]:
    """What was spent in the projects whose costs the caller may see, summed up by some of `GROUPS`.

    Raises:
        InvalidRequest: a group there isn't.
    """
    unknown = [name for name in group_by if name not in GROUPS]
    if unknown:
        raise InvalidRequest(
            f"A report can't be grouped by {unknown[0]!r}; use some of {', '.join(GROUPS)}.", param="group_by"
        )
    with plane.database.read() as connection:
        seen = [p for p in projects.list_projects(connection) if caller.may(Permission.COSTS_READ, p.scope)]
        lines = costs.report(connection, [project.id for project in seen], since, until)
    return _summed(lines, seen, group_by)


def _summed(lines: list[Spent], seen: list[Project], group_by: list[str]) -> list[tuple[dict[str, str], Spent]]:
    names = {project.id: project.name for project in seen}
    sums: dict[tuple[str, ...], tuple[dict[str, str], Spent]] = {}
    for line in lines:
        told = {field.name: str(getattr(line, field.name)) for field in fields(Spent)}
        group = {name: names[line.project_id] if name == "project" else told[name] for name in group_by}
        key = tuple(group.values())
        known = sums.get(key)
        total = line if known is None else known[1]
        if known is not None:
            total = replace(total, amount=total.amount + line.amount, quantity=total.quantity + line.quantity)
        sums[key] = (group, total)
    return list(sums.values())


def _charge(
    connection: Any, project_id: str, meter: Meter, source: str, base_model: str, quantity: int, moment: int
) -> None:
    price = costs.price_of(connection, base_model)
    use = Spent(
        project_id=project_id,
        day=day_of(moment),
        meter=meter,
        source=source,
        model=base_model,
        quantity=quantity,
        amount=0,
    )
    costs.charge(connection, use, price.of(meter))


def _base_of(connection: Any, project_id: str, name: str) -> str:
    deployment = deployments.get(connection, project_id, name)
    if deployment is not None:
        return deployment.base_model
    tuned = tuned_models.get(connection, project_id, name)
    return tuned.base_model if tuned else name


def _require_pricing(plane: ControlPlane, caller: Caller) -> None:
    caller.require(Permission.COSTS_WRITE, tenancy.subscription(plane).scope)
