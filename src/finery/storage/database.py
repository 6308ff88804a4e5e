"""One door to the database, SQLite or PostgreSQL. Knows no table but alembic's.

Writers take turns, on both engines: within a process by a lock, between the processes of one PostgreSQL by an advisory
lock that ends with the transaction. So whatever is read in a transaction that writes still holds when it writes.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at once. Here one process
opens the file (a lock in the home makes sure), writes pass one at a time, and only a writer ever checkpoints, so the
race can't happen. `synchronous=FULL`: acknowledged means durable, as it does with PostgreSQL's defaults.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from finery.core.errors import Conflict, InvalidRequest, StorageFull, Unavailable

_MIGRATIONS = Path(__file__).parent / "migrations"

WRITERS_LOCK = 0x46494E4552590001
"""PostgreSQL's advisory lock that writers hold; any number will do that nobody else uses."""

_PLACES = 20
"""Connections kept to PostgreSQL, and as many again where many call at once."""
_ABANDONED_MS = 60_000
"""A transaction whose process fell silent is ended after this, so that others get their turn."""


class Database:
    """Opens connections; `read()` for looking, `write()` for one transaction."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writing = threading.RLock()
        self.changes = 0
        """Transactions of this process that changed something, since it started."""
        # What is read in one block is of one moment, as in SQLite.
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._looking = self.engine.execution_options(**options)

    @property
    def is_shared(self) -> bool:
        """Whether other control planes may work on it too."""
        return not self.is_sqlite

    def migrate(self, version: str = "head") -> None:
        """Bring the schema to this version, or to an older one that is on the way.

        Raises:
            Conflict: the schema is of a newer Finery.
            Unavailable: the database doesn't answer.
        """
        with self._writing, _said_plainly(with_reason=True), self.engine.connect() as connection:
            if self.is_sqlite:
                # A table is changed by making it anew: the old one is dropped while others still point to it. All
                # of it is one transaction, so that a migration that fails leaves the schema it found.
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            self._begin(connection)
            try:
                found = schema_of(connection)
                _require_known(found)
                if found != max(known_schemas()):
                    _upgrade(connection, version)
                    connection.commit()
            finally:
                connection.rollback()
                if self.is_sqlite:
                    connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database and changes nothing.

        Raises:
            Unavailable: the database doesn't answer.
        """
        with _said_plainly(), self._looking.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any error.

        Raises:
            StorageFull: no space left; nothing was changed.
            Unavailable: the database doesn't answer; if it fell silent at the very end, the change may have been made.
        """
        with _said_plainly(), self._writing, self.engine.connect() as connection:
            self._begin(connection)
            before = self._total_changes(connection)
            yield connection
            connection.commit()
            # What changes nothing, as a worker's question for jobs does, wakes nobody up.
            if not self.is_sqlite or self._total_changes(connection) != before:
                self.changes += 1

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _total_changes(self, connection: Connection) -> int:
        driver = connection.connection.driver_connection
        return driver.total_changes if isinstance(driver, sqlite3.Connection) else 0

    def _begin(self, connection: Connection) -> None:
        if self.is_sqlite:
            # Take the write lock at once: a read that turns into a write could find the file changed.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


def known_schemas() -> set[str]:
    """The versions of the schema that this Finery can bring to its own: the files of migrations begin with them."""
    return {script.name[:4] for script in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def schema_of(connection: Connection) -> str | None:
    """The version of the schema that a database has; None where it has none yet."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return version


def _upgrade(connection: Connection, version: str) -> None:
    # Half a second of imports, which a start with the schema of today doesn't pay.
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, version)


def _require_known(revision: str | None) -> None:
    known = known_schemas()
    if revision is not None and revision not in known:
        raise Conflict(
            f"The database has schema {revision}, of a newer Finery; this one knows up to {max(known)}. Start the "
            "newer version, or restore a backup that this one made."
        )


def _engine(url: str) -> Engine:
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(parsed)
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    try:
        engine = sqlalchemy.create_engine(
            parsed,
            pool_size=_PLACES,
            max_overflow=_PLACES,
            # A connection that the server closed meanwhile is found out before it is used.
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "application_name": "finery"},
        )
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"A database on PostgreSQL needs {error.name}: pip install 'finery[postgres]'.", code="missing_extra"
        ) from None
    event.listen(engine, "connect", _set_up_postgres)
    return engine


def _parsed(url: str) -> URL:
    """The URL with the driver that we have.

    Raises:
        InvalidRequest: it is no URL, or one of another kind of database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidRequest(
            "FINERY_DATABASE_URL is no URL. It looks like postgresql://user:password@host/database; leave it out for "
            "SQLite in the home."
        ) from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return parsed
    raise InvalidRequest(
        f"FINERY_DATABASE_URL begins with {parsed.drivername}; it may be postgresql://user:password@host/database or "
        "sqlite:////path/of/a/file."
    )


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Transactions are ours to begin: the driver's own guess would begin none for a SELECT.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA busy_timeout=10000")


def _set_up_postgres(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = {_ABANDONED_MS}")
    connection.autocommit = False


@contextlib.contextmanager
def _said_plainly(*, with_reason: bool = False) -> Iterator[None]:
    """What a driver says, in our words where we have some; its own `with_reason`, where the operator reads it."""
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("The database has no connection free. Try again.", code="database_unavailable") from error
    except DBAPIError as error:
        if _is_full(error):
            raise StorageFull("The disk that holds the database is full. Free some space and try again.") from error
        if isinstance(error, DataError):
            raise InvalidRequest("A value is too long or holds characters that the database can't keep.") from error
        if _is_absence(error):
            text = "The database doesn't answer. Look whether it runs, and whether FINERY_DATABASE_URL leads to it."
            reason = f" It said: {' '.join(str(error.orig).split())}" if with_reason else ""
            raise Unavailable(text + reason, code="database_unavailable") from error
        raise


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def _is_full(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return isinstance(error, OperationalError) and "full" in str(error.orig)
    return _sqlstate(error) == "53100"


def _is_absence(error: DBAPIError) -> bool:
    """Whether PostgreSQL couldn't be reached, or was going down or coming up."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = _sqlstate(error)
    if not state:
        return isinstance(error, OperationalError)
    # Connections; a wrong name, password or database; going down or coming up; too many.
    return state[:2] in ("08", "28", "3D") or state[:3] == "57P" or state == "53300"
