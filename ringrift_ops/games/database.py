"""Opening SQLite files of games, and one clear error for each way in which that fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ringrift_ops.errors import InfrastructureError, NoDataError, UsageError
from ringrift_ops.games.schema import SCHEMA_VERSION

BUSY_SECONDS: Final = 30.0
"""RingRift's own busy timeout."""

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100


class MissingDatabaseError(NoDataError):
    """There is no file of that name."""


class EmptyDatabaseError(NoDataError):
    """The file holds nothing, or no game of the config."""


class DamagedDatabaseError(NoDataError):
    """The file is truncated or its contents contradict themselves or its recorded digest."""


class ForeignDatabaseError(UsageError):
    """The file is something else than a RingRift game database."""


class SchemaVersionError(UsageError):
    """A game database of another schema version than 18."""


class WrongConfigError(UsageError):
    """A game database, but of another board or number of players than asked for."""


class DatabaseWriteError(InfrastructureError):
    """The database could not be written: full or read-only disk, I/O error. Nothing is half-written."""


class DatabaseBusyError(InfrastructureError):
    """Another process holds the database."""


_WRITE_ADVICE: Final[dict[str, str]] = {
    "SQLITE_FULL": "the disk is full; free some space and repeat, the games recorded so far are kept",
    "SQLITE_READONLY": "it is read-only; make file and folder writable or choose another folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the folder exists and is writable",
    "SQLITE_PERM": "permission denied; make file and folder writable",
    "SQLITE_IOERR": "input/output error (disk full, file size limit or a failing disk); check the disk and repeat",
}


def is_sqlite(path: Path) -> bool:
    """Whether a regular file starts as every SQLite database does; False also when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def check_file(path: Path) -> None:
    """Refuse what is no whole SQLite file before SQLite sees it.

    Raises :class:`MissingDatabaseError`, :class:`EmptyDatabaseError`, :class:`ForeignDatabaseError` (a folder,
    another kind of file) or :class:`DamagedDatabaseError` (shorter than its own page count).
    """
    if path.is_dir():
        raise ForeignDatabaseError(f"{path} is a folder; name a game database in it, or search it by discovery")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise MissingDatabaseError(f"no game database {path}; check the name") from None
    except OSError as error:
        raise DatabaseWriteError(f"{path} cannot be read: {error.strerror}") from error
    if size == 0:
        raise EmptyDatabaseError(f"{path} is empty (0 bytes); record the games again")
    if not header.startswith(_MAGIC[: len(header)]):
        raise ForeignDatabaseError(f"{path} is not a SQLite database")
    if len(header) < _HEADER_BYTES:
        raise DamagedDatabaseError(f"{path} is truncated: {size} bytes are less than a SQLite header; copy it again")
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(header[28:32], "big")
    if size < page * pages:
        raise DamagedDatabaseError(
            f"{path} is truncated: {size} of {page * pages} bytes are there; copy it again from its source"
        )


@contextmanager
def named_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's errors into the named ones of this module; ``doing`` completes "while ..."."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path, doing) from error


def translated(error: sqlite3.Error, path: Path, doing: str) -> Exception:
    """The named error for what SQLite raised."""
    name: str = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusyError(f"{path} is in use by another process while {doing}; wait for it and repeat")
    for code, advice in _WRITE_ADVICE.items():
        if name.startswith(code):
            return DatabaseWriteError(f"{path}: {advice} (while {doing}: {error})")
    return DamagedDatabaseError(f"{path} is damaged ({error}, while {doing}); copy it again or record it anew")


def connect(path: Path, *, writable: bool = False) -> sqlite3.Connection:
    """A connection to a version-18 game database, transactions by hand.

    Raises the errors of :func:`check_file` and :func:`check_schema`. A WAL database in a folder where SQLite
    cannot make its side files is opened as immutable when nothing waits in its log.
    """
    check_file(path)
    uri = path.resolve().as_uri()
    with named_errors(path, "opening it"):
        try:
            connection = _open(f"{uri}?mode={'rw' if writable else 'ro'}")
        except sqlite3.OperationalError as error:
            log = path.with_name(path.name + "-wal")
            cannot_open = (error.sqlite_errorname or "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
            if writable or not cannot_open or (log.exists() and log.stat().st_size):
                raise
            connection = _open(f"{uri}?mode=ro&immutable=1")
    try:
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise :class:`ForeignDatabaseError` or :class:`SchemaVersionError` unless this is schema version 18."""
    with named_errors(path, "reading its schema"):
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "games" not in tables:
            raise ForeignDatabaseError(f"{path} is a SQLite database without games; not a RingRift game database")
        version: object = 1
        if "schema_metadata" in tables:
            row = connection.execute("SELECT value FROM schema_metadata WHERE key = 'schema_version'").fetchone()
            version = row[0] if row else "none"
        if str(version) != str(SCHEMA_VERSION):
            advice = (
                "update this platform"
                if str(version).isdecimal() and int(str(version)) > SCHEMA_VERSION
                else "let RingRift migrate it first"
            )
            raise SchemaVersionError(f"{path} has schema version {version}, only {SCHEMA_VERSION} is read; {advice}")
        missing = {"game_moves", "game_players", "game_initial_state"} - tables
        columns = {row[1] for row in connection.execute("PRAGMA table_info(game_moves)")}
        if missing or "move_json" not in columns:
            what = ", ".join(sorted(missing)) or "game_moves.move_json (a consolidated layout that leaves out counts)"
            raise ForeignDatabaseError(f"{path} lacks {what}; its games cannot be replayed")
