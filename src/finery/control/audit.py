"""Who changed what: every change writes its entry in its own transaction, `audit.record(connection, caller, …)`."""

from dataclasses import dataclass
from typing import Any

from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Level
from finery.core.audit import GENESIS, AuditEntry, canonical
from finery.core.roles import Permission
from finery.storage import audit


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a walk along the chain found."""

    entries: int
    head: str
    """Hash of the last entry: keep it elsewhere, and a later walk can't be fooled by a log written anew."""
    broken_at: int | None
    """Number of the first entry that isn't what was written; None: all are."""


def record(
    connection: Any, caller: Caller | None, action: str, target: str, /, *, shared: bool = False, **details: Any
) -> None:
    """Tell of a change inside its transaction; `details` say what was asked for, and hold no secret.

    Args:
        caller: who did it; None: the server by itself.
        action: noun and verb, as `keys.create`.
        target: id or name of what was changed.
        shared: it concerns a hub or the subscription, not the caller's project.
    """
    audit.append(
        connection,
        created_at=now(),
        key_id=caller.key_id if caller else "",
        principal_id=caller.principal_id if caller else None,
        project_id=None if shared or caller is None else caller.project.id,
        action=action,
        target=target,
        details=canonical({name: value for name, value in details.items() if value is not None}),
    )


def list_entries(
    plane: ControlPlane, caller: Caller, *, before: int | None, limit: int
) -> list[tuple[AuditEntry, str]]:
    """Entries with their hashes, newest first: all for whoever audits the subscription, else the project's."""
    everything = caller.may(Permission.AUDIT_READ, caller.project.scope.widened(Level.SUBSCRIPTION))
    project_id = None if everything else caller.project.id
    with plane.database.read() as connection:
        return audit.list_entries(connection, project_id=project_id, before=before, limit=limit)


def verify(plane: ControlPlane) -> Verdict:
    """Walk along the whole chain."""
    with plane.database.read() as connection:
        number, expected = audit.head(connection)
        previous, count = GENESIS, 0
        for entry, stored in audit.all_entries(connection):
            count += 1
            if entry.number != count or entry.previous != previous or entry.hash() != stored:
                return Verdict(entries=number, head=expected, broken_at=count)
            previous = stored
    cut = count != number or previous != expected
    return Verdict(entries=count, head=previous, broken_at=count + 1 if cut else None)
