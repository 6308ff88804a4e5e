"""Which of several control planes looks after what is pending. Knows no work that has to be done.

The right is an advisory lock of a session: it ends with the process, its machine, or the database, and needs no clock.
"""

import contextlib

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from finery.storage.database import Database

CARE_LOCK = 0x46494E4552590002
"""PostgreSQL's number of it; `database.WRITERS_LOCK` is the other one."""


class Care:
    """The right to look after what is pending, of one control plane at a time: held for as long as a session lives."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: Connection | None = None

    def take(self) -> bool:
        """Whether the right is ours; a SQLite file has one control plane, whose it always is."""
        if self._database.is_sqlite:
            return True
        try:
            if self._session is None:
                self._session = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            return bool(self._session.exec_driver_sql(f"SELECT pg_try_advisory_lock({CARE_LOCK})").scalar())
        except DBAPIError:
            self.drop()
            return False

    def held(self) -> bool:
        """Whether it is ours still: a session that ended has lost it, perhaps to another control plane."""
        if self._database.is_sqlite:
            return True
        try:
            if self._session is None:
                return False
            self._session.exec_driver_sql("SELECT 1")
        except DBAPIError:
            self.drop()
        return self._session is not None

    def drop(self) -> None:
        """Let another one have it."""
        session, self._session = self._session, None
        if session is None:
            return
        with contextlib.suppress(SQLAlchemyError):
            if not session.invalidated:
                session.exec_driver_sql(f"SELECT pg_advisory_unlock({CARE_LOCK})")
        with contextlib.suppress(SQLAlchemyError):
            # Not back into the pool: what is left of the session ends with it.
            session.invalidate()
            session.close()
