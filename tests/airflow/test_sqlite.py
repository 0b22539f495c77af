"""SQLite under several writers: a savepoint waits for the lock."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ringrift_ops.airflow.sqlite import lock_before_savepoints


def engine(path: Path) -> sa.Engine:
    made = sa.create_engine(f"sqlite:///{path}?timeout=0.2")
    with made.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS runs (name TEXT)")
    return made


def write(one: sa.Engine, name: str) -> None:
    with one.begin() as connection:
        connection.execute(sa.text("INSERT INTO runs VALUES (:name)"), {"name": name})


def read_then_write_in_a_savepoint(one: sa.Engine, other: sa.Engine) -> None:
    with one.begin() as connection, connection.begin_nested():
        connection.execute(sa.text("SELECT name FROM runs")).all()
        try:
            write(other, "between")
        finally:
            connection.execute(sa.text("INSERT INTO runs VALUES ('nested')"))


def names(one: sa.Engine) -> list[str]:
    with one.connect() as connection:
        return list(connection.execute(sa.text("SELECT name FROM runs ORDER BY name")).scalars())


def test_a_savepoint_fails_where_somebody_wrote_after_it_read(tmp_path: Path) -> None:
    """What SQLite does by itself; should this ever pass, the listener can go."""
    one, other = engine(tmp_path / "a.db"), engine(tmp_path / "a.db")
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):
        read_then_write_in_a_savepoint(one, other)
    assert names(one) == ["between"]


def test_a_savepoint_with_the_lock_makes_the_others_wait_and_both_write(tmp_path: Path) -> None:
    one, other = engine(tmp_path / "a.db"), engine(tmp_path / "a.db")
    lock_before_savepoints(one)
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):  # the other's patience is 0.2 s
        read_then_write_in_a_savepoint(one, other)
    write(one, "first")
    with one.begin() as connection, connection.begin_nested():
        connection.execute(sa.text("SELECT name FROM runs")).all()
        connection.execute(sa.text("INSERT INTO runs VALUES ('nested')"))
    write(other, "after")
    assert names(one) == ["after", "first", "nested"]
