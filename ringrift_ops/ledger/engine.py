"""Opening the database, its transactions, and its migrations.

Every write transaction is alone: ``BEGIN IMMEDIATE`` on SQLite, one advisory lock on Postgres. Rows
are few and small, and order is then the same on both.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from ringrift_ops.ledger.errors import (
    LedgerTooNewError,
    LedgerTooOldError,
    LedgerUnavailableError,
    NotALedgerError,
)
from ringrift_ops.ledger.schema import REVISION, VERSION_TABLE

BUSY_SECONDS = 30
"""How long a writer waits for another before it gives up."""

_POSTGRES_LOCK = 0x52494E47
"""Key of the advisory lock ("RING")."""

MIGRATIONS = Path(__file__).parent / "migrations"


def utc_now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def make_engine(url: str) -> Engine:
    """Return an engine whose connections are never shared between processes (tasks fork).

    Raises :class:`NotALedgerError` for a URL that is neither SQLite's nor Postgres'.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise NotALedgerError(f"ledger URL {parsed.render_as_string()}: only sqlite and postgresql are supported")
        arguments: dict[str, Any] = {"connect_timeout": BUSY_SECONDS}
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise NotALedgerError(f"ledger URL {url}: a ledger needs a file that every process can open")
            arguments = {} if "timeout" in parsed.query else {"timeout": BUSY_SECONDS}
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        elif parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(parsed, poolclass=NullPool, connect_args=arguments)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise NotALedgerError(f"ledger URL {url.split('@')[-1]!r} cannot be used: {error}") from error
    except OSError as error:
        raise LedgerUnavailableError(f"cannot make the folder of ledger {url}: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions would begin too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    _write_ahead(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have the file written ahead. Its first time needs the file alone, and SQLite's own patience is not for that."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("ringrift_writes", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
    elif writing:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})")


class Connected:
    """What every part of the ledger stands on: transactions with named errors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._moment = threading.local()

    @property
    def place(self) -> str:
        """Return the ledger's URL, the password left out."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Let all that this thread reads inside be of one moment, on one connection.

        What is written inside, by this thread too, is not seen there. One inside another is the outer one.
        """
        if self._held is not None:
            yield
            return
        engine = self._engine
        if engine.dialect.name != "sqlite":  # every transaction of SQLite's reads one state
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._named_errors():
            connection = engine.connect()
        try:
            with self._named_errors():
                connection.begin()
            self._moment.connection = connection
            yield
        finally:
            self._moment.connection = None
            connection.close()

    @property
    def _held(self) -> Connection | None:
        return getattr(self._moment, "connection", None)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        held = self._held
        if held is not None:
            with self._named_errors():
                yield held
            return
        with self._named_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._named_errors(), self._engine.execution_options(ringrift_writes=True).begin() as connection:
            yield connection

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            cause = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            if "not a database" in cause or "malformed" in cause:
                raise NotALedgerError(f"{self.place} is not a ledger: {cause}; move it away or restore it") from error
            raise LedgerUnavailableError(
                f"ledger {self.place}: {cause}; check that the disk has space and is writable and the server runs"
            ) from error
        except OSError as error:
            raise LedgerUnavailableError(f"ledger {self.place}: {error}") from error

    def revision(self) -> str | None:
        """Return the ledger's revision; None before the first migration."""
        with self._reading() as connection:
            return _revision(connection)

    def migrate(self) -> tuple[str | None, str]:
        """Bring the tables to this version and return (revision before, revision now). Repeating it is harmless.

        Raises :class:`LedgerTooNewError`, :class:`LedgerUnavailableError`, :class:`NotALedgerError`.
        """
        from alembic import command
        from alembic.config import Config

        with self._writing() as connection:
            before = _revision(connection)
            if before == REVISION:
                return before, REVISION
            if before is not None:
                _refuse_newer(before, self.place)
            elif connection.dialect.name == "sqlite" and (others := sa.inspect(connection).get_table_names()):
                raise NotALedgerError(
                    f"{self.place} is a database of something else (it has a table {others[0]}); nothing was added "
                    "to it; name another file"
                )
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)
            return before, REVISION

    def check_revision(self) -> None:
        """Make sure that the tables are those of this version.

        A SQLite ledger that is new or older is migrated on the spot; on a server that is the
        operator's decision: :class:`LedgerTooOldError`. Raises :class:`LedgerTooNewError` too.
        """
        found = self.revision()
        if found == REVISION:
            return
        if found is not None:
            _refuse_newer(found, self.place)
        if self._engine.dialect.name != "sqlite":
            raise LedgerTooOldError(
                f"ledger {self.place} is at revision {found or 'none'}, this version needs {REVISION}; "
                "run `ringrift db migrate`"
            )
        self.migrate()


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE)))
    return found


def _refuse_newer(found: str, place: str) -> None:
    if not any(MIGRATIONS.glob(f"versions/{found}_*.py")):
        raise LedgerTooNewError(
            f"ledger {place} is at revision {found}, which this version ({REVISION}) does not know; "
            "install the version that wrote it, or point RINGRIFT_HOME at another home"
        )
