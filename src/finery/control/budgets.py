"""How much a project may spend: first its people are warned, then its jobs pause with a checkpoint.

Over budget nothing new is begun (jobs, answers, deployments); what is deployed stays and goes on to be charged for.
"""

from typing import Any

from finery.control import audit
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Project
from finery.core.costs import Budget, Period, first_day, in_currency
from finery.core.errors import InvalidRequest, NotFound, OverBudget
from finery.core.jobs import JobStatus
from finery.storage import costs, jobs


def get(plane: ControlPlane, caller: Caller) -> tuple[Budget, int]:
    """The budget of the caller's project, and what was spent of it.

    Raises:
        NotFound: it has none.
    """
    with plane.database.read() as connection:
        budget = costs.get_budget(connection, caller.project.id)
        if budget is None:
            raise NotFound(f"The project '{caller.project.name}' has no budget.")
        return budget, _spent(connection, budget)


def put(plane: ControlPlane, caller: Caller, *, limit: int, period: Period, warn_at: float) -> tuple[Budget, int]:
    """Give the caller's project a budget, `limit` in nano-units.

    Raises:
        InvalidRequest: a share to warn at that is none.
    """
    if not 0 < warn_at <= 1:
        raise InvalidRequest(f"warn_at is {warn_at}; it must be a share above 0 and up to 1.", param="warn_at")
    budget = Budget(project_id=caller.project.id, limit=limit, period=period, warn_at=warn_at)
    with plane.database.write() as connection:
        costs.set_budget(connection, budget)
        audit.record(connection, caller, "budgets.set", caller.project.id, nanos=limit, period=period, warn_at=warn_at)
        enforce(connection, caller.project.id)
    return get(plane, caller)


def delete(plane: ControlPlane, caller: Caller) -> None:
    """Let the caller's project spend without a limit.

    Raises:
        NotFound: it has no budget.
    """
    with plane.database.write() as connection:
        if not costs.remove_budget(connection, caller.project.id):
            raise NotFound(f"The project '{caller.project.name}' has no budget.")
        audit.record(connection, caller, "budgets.delete", caller.project.id)


def require_money(plane: ControlPlane, project: Project, more: int = 0) -> None:
    """Refuse to begin what the project's budget has nothing left for; `more` is what it is known to cost.

    Raises:
        OverBudget: saying what was spent of how much.
    """
    with plane.database.read() as connection:
        budget = costs.get_budget(connection, project.id)
        if budget is None:
            return
        spent = _spent(connection, budget)
    if spent >= budget.limit or spent + more > budget.limit:
        added = f", and this would cost {in_currency(more):g}" if more else ""
        raise OverBudget(
            f"The project's budget is {in_currency(budget.limit):g}"
            f"{' a month' if budget.period == Period.MONTH else ''}; {in_currency(spent):g} are spent{added}. "
            "Raise the budget (PUT /finery/v1/budget), or wait for the next month."
        )


def enforce_all(plane: ControlPlane) -> None:
    """Look after every budget."""
    with plane.database.read() as connection:
        watched = [budget.project_id for budget in costs.list_budgets(connection)]
    for project_id in watched:
        with plane.database.write() as connection:
            enforce(connection, project_id)


def enforce(connection: Any, project_id: str) -> None:
    """Warn or pause, inside the transaction in which something was charged."""
    budget = costs.get_budget(connection, project_id)
    if budget is None:
        return
    spent = _spent(connection, budget)
    share = f"{in_currency(spent):g} of {in_currency(budget.limit):g}"
    if spent >= budget.limit:
        if budget.exhausted_at is None:
            costs.mark_budget(connection, project_id, exhausted_at=now(), warned_at=budget.warned_at or now())
            _tell(connection, project_id, "budgets.exhausted", spent)
        _pause_jobs(connection, project_id, f"The budget is used up ({share}); the job is paused")
    elif spent >= budget.limit * budget.warn_at:
        if budget.warned_at is None:
            costs.mark_budget(connection, project_id, warned_at=now())
            _tell(connection, project_id, "budgets.warned", spent)
            for job in _live_jobs(connection, project_id):
                text = f"The budget will soon be used up: {share} are spent"
                jobs.insert_events(connection, job.id, [_event(f"budget-warned:{now()}", text)])
        if budget.exhausted_at is not None:
            costs.mark_budget(connection, project_id, exhausted_at=None)
    elif budget.warned_at is not None:
        costs.mark_budget(connection, project_id, warned_at=None, exhausted_at=None)


def _pause_jobs(connection: Any, project_id: str, text: str) -> None:
    for job in _live_jobs(connection, project_id):
        target = JobStatus.PAUSED if job.status == JobStatus.QUEUED else JobStatus.PAUSING
        if jobs.change(connection, job, target):
            said = text if target == JobStatus.PAUSED else f"{text} at its next checkpoint"
            jobs.insert_events(connection, job.id, [_event(f"budget:{job.lease_epoch}:{now()}", said)])


def _live_jobs(connection: Any, project_id: str) -> list[Any]:
    live = jobs.list_in(connection, JobStatus.QUEUED, JobStatus.RUNNING)
    return [job for job in live if job.project_id == project_id]


def _tell(connection: Any, project_id: str, action: str, spent: int) -> None:
    server = Caller(project=Project(id=project_id, name="", created_at=0), key_id="")
    audit.record(connection, server, action, project_id, nanos=spent)


def _event(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "type": "message", "level": "warn", "message": text, "data": {}, "created_at": now()}


def _spent(connection: Any, budget: Budget) -> int:
    return costs.spent(connection, budget.project_id, first_day(budget.period, now()))
