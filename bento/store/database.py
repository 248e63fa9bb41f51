"""The app's store as a database: its engine, its migrations, and the two kinds of transaction.

SQLite in WAL mode or PostgreSQL, by URL. Everything above it is the same for both.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from bento.errors import ServingError
from bento.telemetry import stage

logger = logging.getLogger("marquee.store")

#: Seconds that a writer waits for another one, and a connection for its server.
PATIENCE_S = 5
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnavailable(ServingError):
    """The app's store cannot be read or written at this moment; nothing of the transaction was kept."""


class Store:
    """One store: ``reading`` and ``writing`` are its transactions, each a ``with`` block around a session.

    Made without touching the database; the first transaction of all makes or updates its tables (``migrate``), so that
    a server that is away at the start is one that comes later. Safe to share between threads.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError as error:
            raise StoreUnavailable("MARQUEE_STORE_URL is not the URL of a database") from error
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        if not self.is_sqlite and self._url.get_backend_name() != "postgresql":
            raise StoreUnavailable(f"MARQUEE_STORE_URL: SQLite or PostgreSQL, not {self._url.get_backend_name()}")
        if self._url.drivername == "postgresql":
            self._url = self._url.set(drivername="postgresql+psycopg")
        self._engine = _sqlite_engine(self._url) if self.is_sqlite else _postgresql_engine(self._url)
        self._writing_engine = self._engine.execution_options(writes=True)
        # SQLite has one writer; waiting for one's turn here is fair, its own busy handler is a lottery.
        self._turn = threading.Lock() if self.is_sqlite else None
        self._migrating = threading.Lock()
        self._migrated = False

    def migrate(self) -> None:
        """Bring the tables to the newest revision; of several processes that start at once, one does it."""
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import text

        if self.is_sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        try:
            # On SQLite the transaction begins as the only writer's; PostgreSQL is asked for a lock of this name.
            with self._writing_engine.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('marquee.store'))"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            self._migrated = True
        except DBAPIError as error:
            raise _unavailable(error) from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees one state of the store."""
        with stage("store"), self._session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose changes are committed together at the end of the block, or not at all."""
        if self._turn is None:
            with stage("store"), self._session(self._writing_engine) as session:
                yield session
            return
        with stage("store"), self._turn, self._session(self._writing_engine) as session:
            yield session

    def forget_traces(self) -> None:
        """Empty SQLite's log of changes, in which a deleted row still stands until its place is used again.

        What was deleted is deleted without it: where others do not let it, that is logged and the next one does it.
        """
        if not self.is_sqlite:
            return
        try:
            with self._engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                # Past SQLAlchemy, for a checkpoint cannot run inside a transaction.
                ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (SQLAlchemyError, sqlite3.Error) as error:
            logger.warning("the store's log was not emptied: %s", type(error).__name__)
        else:
            if busy:
                logger.warning("the store's log was not emptied: others are reading it")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        if not self._migrated:
            with self._migrating:
                if not self._migrated:
                    self.migrate()
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except DBAPIError as error:
            if error.connection_invalidated or _is_operational(error):
                raise _unavailable(error) from error
            raise


def _unavailable(error: SQLAlchemyError) -> StoreUnavailable:
    # Of the error only its kind: its text holds the statement's values, which are people's.
    kind = type(getattr(error, "orig", None) or error).__name__
    return StoreUnavailable(f"the app's store cannot be reached ({kind}): see MARQUEE_STORE_URL")


def _is_operational(error: DBAPIError) -> bool:
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error, OperationalError | InterfaceError)


def _sqlite_engine(url: Any) -> Engine:
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": PATIENCE_S},
        pool_size=8,
        max_overflow=56,
        # The text of an error goes into the log, and the values are people's names and keys' hashes.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # The driver would begin transactions by itself, and not before a SELECT; `_begin` does.
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            # An acknowledged write survives a loss of power, not only of the process.
            "synchronous = FULL",
            "foreign_keys = ON",
            # What is deleted is overwritten: a person who left must not be found in the file's free pages.
            "secure_delete = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A transaction that reads first and writes later would be refused where another wrote in between.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: Any) -> Engine:
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=8,
        max_overflow=24,
        pool_timeout=PATIENCE_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": PATIENCE_S,
            "options": f"-c timezone=UTC -c lock_timeout={PATIENCE_S * 1000} -c statement_timeout={PATIENCE_S * 1000}",
        },
    )
