"""One door to the database. Knows no table but alembic's.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at once. Here one process
opens the file (a lock in the home makes sure), writes pass one at a time through one lock, and only a writer ever
checkpoints, so the race can't happen. `synchronous=FULL`: acknowledged means durable.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from finery.core.errors import StorageFull

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Opens connections; `read()` for looking, `write()` for one transaction."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._writing = threading.RLock() if self._sqlite else contextlib.nullcontext()

    def migrate(self) -> None:
        """Bring the schema to this version; refuses a newer one."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self._writing, self.engine.connect() as connection:
            if self._sqlite:
                # A table is changed by making it anew: the old one is dropped while others still point to it. All
                # of it is one transaction, so that a migration that fails leaves the schema it found.
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
                connection.commit()
            finally:
                connection.rollback()
                if self._sqlite:
                    connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database and changes nothing."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any error.

        Raises:
            StorageFull: no space left; nothing was changed.
        """
        try:
            with self._writing, self.engine.connect() as connection:
                if self._sqlite:
                    # Take the write lock at once: a read that turns into a write could find the file changed.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
        except OperationalError as error:
            if "full" in str(error.orig):
                raise StorageFull("The disk that holds the database is full. Free some space and try again.") from error
            raise

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    engine = sqlalchemy.create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Transactions are ours to begin: the driver's own guess would begin none for a SELECT.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA busy_timeout=10000")
