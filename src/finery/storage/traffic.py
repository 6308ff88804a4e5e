"""What answers came to, in buckets of time: one row for a project, a name and the second the bucket begins.

The columns are those that are summed over many rows; all else of a tally is told of one name at a time, from JSON.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from finery.core.traffic import Tally
from finery.storage.schema import traffic

_SUMMED = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What was used of one name in one span of time."""

    name: str
    began_at: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def add(connection: Connection, project_id: str, name: str, began_at: int, tally: Tally) -> None:
    """Add to a bucket, in a transaction that writes: those take turns."""
    here = (traffic.c.project_id == project_id) & (traffic.c.name == name) & (traffic.c.began_at == began_at)
    kept = connection.execute(select(traffic.c.tally).where(here)).scalar_one_or_none()
    if kept is None:
        key = {"project_id": project_id, "name": name, "began_at": began_at}
        connection.execute(insert(traffic).values(**key, **_columns(tally)))
        return
    total = Tally.from_json(kept)
    total.add(tally)
    connection.execute(update(traffic).where(here).values(**_columns(total)))


def list_tallies(
    connection: Connection, project_id: str, name: str, *, since: int, until: int
) -> list[tuple[int, Tally]]:
    """One name's buckets that begin in [since, until), oldest first, each with the second it begins."""
    query = (
        select(traffic.c.began_at, traffic.c.tally)
        .where(
            traffic.c.project_id == project_id,
            traffic.c.name == name,
            traffic.c.began_at >= since,
            traffic.c.began_at < until,
        )
        .order_by(traffic.c.began_at)
    )
    return [(row.began_at, Tally.from_json(row.tally)) for row in connection.execute(query)]


def list_all_tallies(connection: Connection, project_id: str, *, since: int, until: int) -> list[tuple[str, Tally]]:
    """A project's buckets that begin in [since, until), each with the name it is of."""
    query = select(traffic.c.name, traffic.c.tally).where(
        traffic.c.project_id == project_id, traffic.c.began_at >= since, traffic.c.began_at < until
    )
    return [(row.name, Tally.from_json(row.tally)) for row in connection.execute(query)]


def list_usage(connection: Connection, project_id: str, *, since: int, until: int, width: int) -> list[Usage]:
    """A project's usage in [since, until) by name and spans of `width` seconds, oldest first."""
    began = (traffic.c.began_at - traffic.c.began_at % width).label("began_at")
    query = (
        select(traffic.c.name, began, *(func.sum(traffic.c[name]).label(name) for name in _SUMMED))
        .where(traffic.c.project_id == project_id, traffic.c.began_at >= since, traffic.c.began_at < until)
        .group_by(traffic.c.name, began)
        .order_by(began, traffic.c.name)
    )
    # A sum of whole numbers is a Decimal in PostgreSQL.
    return [
        Usage(name=row.name, began_at=int(row.began_at), **{name: int(getattr(row, name)) for name in _SUMMED})
        for row in connection.execute(query)
    ]


def forget_before(connection: Connection, moment: int) -> None:
    """Forget buckets that begin before a second."""
    connection.execute(delete(traffic).where(traffic.c.began_at < moment))


def _columns(tally: Tally) -> dict[str, object]:
    return {**{name: getattr(tally, name) for name in _SUMMED}, "tally": tally.to_json()}
