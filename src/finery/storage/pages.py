"""Listing by cursor, the same way for every table with `id` and `position`."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Connection, Row, Select, Table, select

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """A piece of a listing; `has_more` tells whether the next piece is worth asking for."""

    items: list[T]
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """What to list: up to `limit` items behind the item `after`."""

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"


def fetch(connection: Connection, query: Select[Any], table: Table, cursor: Cursor) -> tuple[list[Row[Any]], bool]:
    """Rows of `query` in the order of `position`, one page; an unknown `after` gives an empty page."""
    position = table.c.position
    if cursor.after is not None:
        start = select(position).where(table.c.id == cursor.after).scalar_subquery()
        query = query.where(position < start if cursor.order == "desc" else position > start)
    query = query.order_by(position.desc() if cursor.order == "desc" else position.asc()).limit(cursor.limit + 1)
    rows = list(connection.execute(query))
    return rows[: cursor.limit], len(rows) > cursor.limit
