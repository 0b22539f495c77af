"""Savepoints on SQLite that wait for the lock instead of failing at once.

A SAVEPOINT outside a transaction begins one that only reads. If it writes later and somebody else has written in
between, SQLite answers "database is locked" immediately, whatever the timeout, because what was read is out of date.
``airflow backfill create`` makes its runs in savepoints and failed so now and then beside a working scheduler (Airflow
3.3.2, 2026-11-25). Taking the lock before the savepoint makes it wait its turn like every other writer.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine


def lock_before_savepoints(engines: Engine | type[Engine]) -> None:
    """Let savepoints of ``engines`` (one, or the class for all) begin with the write lock where they are SQLite's."""
    event.listen(engines, "savepoint", _take_lock)


def _take_lock(connection: Connection, name: str | None) -> None:
    if connection.dialect.driver != "pysqlite":
        return
    raw = connection.connection.dbapi_connection
    if raw is not None and not raw.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
