"""All rows of all tables as lines of JSON, and back: the same lines for SQLite and PostgreSQL. Knows no table by name.

JSON columns travel as the text they are: so a JSON null stays apart from no value, and nothing is rounded.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import JSON, Connection, MetaData, Table, Text, bindparam, cast, delete, func, insert, select, text
from sqlalchemy.exc import DataError

from finery.core.errors import InvalidRequest

_AT_ONCE = 500
_VERSION_TABLE = "alembic_version"


def tables(connection: Connection) -> list[Table]:
    """The tables that a database has, those that others point to first; alembic's is left out."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != _VERSION_TABLE]


def dump(connection: Connection, table: Table) -> Iterator[str]:
    """A table's rows, each as a line."""
    columns = [
        cast(column, Text).label(column.name) if isinstance(column.type, JSON) else column for column in table.columns
    ]
    query = select(*columns).order_by(*table.primary_key.columns)
    for row in connection.execute(query, execution_options={"yield_per": _AT_ONCE}):
        yield json.dumps(dict(row._mapping)) + "\n"


def load(connection: Connection, table: Table, lines: Iterable[str]) -> int:
    """Put rows into an empty table; returns how many.

    Raises:
        InvalidRequest: a row that this database can't keep.
    """
    is_postgres = connection.dialect.name == "postgresql"
    values = {column.name: _value(column, is_postgres) for column in table.columns}
    statement = insert(table).values(values)
    numbered = (_row(table, line, is_postgres) for line in lines)
    count = 0
    while chunk := list(islice(numbered, _AT_ONCE)):
        try:
            connection.execute(statement, chunk)
        except DataError as error:
            reason = " ".join(str(error.orig).split())
            raise InvalidRequest(
                f"Rows {count + 1} to {count + len(chunk)} of {table.name} can't be kept: {reason}"
            ) from error
        count += len(chunk)
    if is_postgres:
        _count_on(connection, table)
    return count


def empty(connection: Connection, found: list[Table]) -> None:
    """Take all rows out: a new schema comes with some."""
    for table in reversed(found):
        connection.execute(delete(table))


def drop_all(connection: Connection) -> None:
    """Take the tables away, alembic's too: the database is as empty as it was before."""
    found = MetaData()
    found.reflect(connection)
    found.drop_all(connection)


def _value(column: Any, is_postgres: bool) -> Any:
    if not isinstance(column.type, JSON):
        return bindparam(f"p_{column.name}", type_=column.type)
    as_text = bindparam(f"p_{column.name}", type_=Text())
    return cast(as_text, JSON) if is_postgres else as_text


def _row(table: Table, line: str, is_postgres: bool) -> dict[str, Any]:
    row = json.loads(line)
    if is_postgres:
        for column in table.columns:
            kept = row[column.name]
            if isinstance(column.type, JSON) and kept is not None and ("NaN" in kept or "Infinity" in kept):
                # SQLite keeps what Python writes; to PostgreSQL these are no JSON.
                row[column.name] = json.dumps(json.loads(kept, parse_constant=lambda _: None))
    return {f"p_{name}": value for name, value in row.items()}


def _count_on(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number the next row behind the last one."""
    for column in table.primary_key.columns:
        sequence = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
        ).scalar()
        last = connection.execute(select(func.max(column))).scalar() if sequence else None
        if last is not None:
            connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})
