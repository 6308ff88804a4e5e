"""Blocklists of a project: made, filled, read, emptied, and ready to look for."""

import dataclasses
from collections.abc import Callable, Sequence

from finery.control import audit
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import check_name, new_id
from finery.core.policies import Policy, Source
from finery.core.records import Kind, Record
from finery.safety import blocklists
from finery.safety.blocklists import MAX_ITEMS, Item, Matcher
from finery.storage import records


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Blocklist:
    """A list of terms."""

    name: str
    description: str
    items: tuple[Item, ...]
    version: str
    """Another one after each change."""


def get(plane: ControlPlane, caller: Caller, name: str) -> Blocklist:
    """A blocklist of the caller's project.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.read() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.BLOCKLIST, name)
    if not found:
        raise NotFound(f"There is no blocklist '{name}' in this project.", code="NotFound")
    return _blocklist(found[0])


def list_all(plane: ControlPlane, caller: Caller) -> list[Blocklist]:
    """The project's blocklists, oldest first."""
    with plane.database.read() as connection:
        return [_blocklist(r) for r in records.list_under(connection, caller.project.id, Kind.BLOCKLIST, "")]


def put(plane: ControlPlane, caller: Caller, name: str, description: str | None) -> tuple[Blocklist, bool]:
    """Make a list, or give it another description; True where it is new."""
    check_name(name, what="a blocklist")
    return _change(plane, caller, name, lambda items: items, description=description or "", make=True)


def add_items(plane: ControlPlane, caller: Caller, name: str, items: Sequence[Item]) -> list[Item]:
    """Add terms; those that are there already stay as they are.

    Raises:
        NotFound: no such list; InvalidRequest: an item that can't be looked for, or too many.
    """
    new = [dataclasses.replace(blocklists.check(item), id=new_id("item_")) for item in items]

    def extend(there: tuple[Item, ...]) -> tuple[Item, ...]:
        if len(there) + len(new) > MAX_ITEMS:
            raise InvalidRequest(
                f"The blocklist '{name}' would have {len(there) + len(new)} items; at most {MAX_ITEMS} are allowed."
            )
        return there + tuple(new)

    _change(plane, caller, name, extend)
    return new


def remove_items(plane: ControlPlane, caller: Caller, name: str, ids: Sequence[str]) -> None:
    """Take terms off a list.

    Raises:
        NotFound: no such list, or no such item.
    """

    def shrink(there: tuple[Item, ...]) -> tuple[Item, ...]:
        missing = set(ids) - {item.id for item in there}
        if missing:
            raise NotFound(f"The blocklist '{name}' has no item {sorted(missing)[0]!r}.", code="NotFound")
        return tuple(item for item in there if item.id not in ids)

    _change(plane, caller, name, shrink)


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Delete a list.

    Raises:
        NotFound: there is none of that name; Conflict: a policy uses it.
    """
    get(plane, caller, name)
    with plane.database.write() as connection:
        users = [
            record.owner
            for record in records.list_under(connection, caller.project.id, Kind.POLICY, "")
            if any(use["name"] == name for use in record.body["blocklists"])
        ]
        if users:
            raise Conflict(f"The blocklist '{name}' is in use by the policies: {', '.join(users)}.")
        records.remove_owned(connection, caller.project.id, Kind.BLOCKLIST, name)
        audit.record(connection, caller, "blocklists.delete", name)


def matchers(plane: ControlPlane, caller: Caller, policy: Policy, source: Source) -> dict[str, Matcher]:
    """The lists that a policy looks for in a direction, ready to look, by name.

    Raises:
        NotFound: a list is gone.
    """
    return {use.name: matcher(plane, caller, use.name) for use in policy.blocklists if use.source == source}


def matcher(plane: ControlPlane, caller: Caller, name: str) -> Matcher:
    """A list made ready; kept until the list changes, since making it takes a while.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.read() as connection:
        version = records.find_id(connection, caller.project.id, Kind.BLOCKLIST, name)
    ready = _ready.get(version or "")
    if ready is None:
        blocklist = get(plane, caller, name)
        ready = Matcher.of(blocklist.items)
        while len(_ready) >= _MOST_READY:
            _ready.pop(next(iter(_ready)), None)
        _ready[blocklist.version] = ready
    return ready


_MOST_READY = 64
_ready: dict[str, Matcher] = {}
"""By the list's version."""


def _change(
    plane: ControlPlane,
    caller: Caller,
    name: str,
    edit: Callable[[tuple[Item, ...]], tuple[Item, ...]],
    *,
    description: str | None = None,
    make: bool = False,
) -> tuple[Blocklist, bool]:
    with plane.database.write() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.BLOCKLIST, name)
        if not found and not make:
            raise NotFound(f"There is no blocklist '{name}' in this project.", code="NotFound")
        there = _blocklist(found[0]) if found else Blocklist(name=name, description="", items=(), version="")
        changed = Record(
            # A fresh id is the list's new version.
            id=new_id("blocklist_"),
            project_id=caller.project.id,
            kind=Kind.BLOCKLIST,
            owner=name,
            body={
                "description": there.description if description is None else description,
                "items": [dataclasses.asdict(item) for item in edit(there.items)],
            },
            created_at=found[0].created_at if found else now(),
        )
        records.remove_owned(connection, caller.project.id, Kind.BLOCKLIST, name)
        records.insert_record(connection, changed)
        audit.record(connection, caller, "blocklists.put", name, items=len(changed.body["items"]))
    return _blocklist(changed), not found


def _blocklist(record: Record) -> Blocklist:
    items = tuple(Item(**item) for item in record.body["items"])
    return Blocklist(name=record.owner, description=record.body["description"], items=items, version=record.id)
