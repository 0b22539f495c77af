"""Opening, migrating, and what a database that is not ours gets."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ringrift_ops.errors import ExitCode
from ringrift_ops.ledger import Ledger, LedgerTooNewError, LedgerTooOldError, LedgerUnavailableError, NotALedgerError
from ringrift_ops.ledger.engine import MIGRATIONS, make_engine
from ringrift_ops.ledger.schema import METADATA, REVISION, VERSION_TABLE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def set_revision(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
    connection.close()


def test_the_migrations_make_exactly_the_tables_of_the_code(url: str) -> None:
    engine = make_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )  # fmt: skip
        assert compare_metadata(context, METADATA) == []
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrating_twice_is_once(url: str) -> None:
    assert Ledger.open(url).migrate() == (REVISION, REVISION)


def test_a_new_home_gets_its_ledger_on_first_use(home: Path) -> None:
    ledger = Ledger.open()
    assert (home / "ledger.db").is_file()
    assert ledger.revision() == REVISION
    with sqlite3.connect(home / "ledger.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGRIFT_LEDGER_URL", f"sqlite:///{tmp_path}/other.db?timeout=30")
    Ledger.open().ensure_generation("hex8_2p", None, "a", NOW, "tiny")
    assert (tmp_path / "other.db").is_file()


def test_a_ledger_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(f"sqlite:///{path}")
    set_revision(path, "0999")
    for door in (Ledger.open, lambda url: Ledger.unchecked(url).migrate()):
        with pytest.raises(LedgerTooNewError, match=r"revision 0999, which this version .* does not know") as refused:
            door(f"sqlite:///{path}")
        assert refused.value.exit_code is ExitCode.WRONG_USAGE


def test_a_server_is_migrated_by_its_operator_only(postgres_url: str) -> None:
    with pytest.raises(LedgerTooOldError, match="run `ringrift db migrate`"):
        Ledger.open(postgres_url)
    assert Ledger.unchecked(postgres_url).migrate() == (None, REVISION)
    assert Ledger.open(postgres_url).generations() == []


@pytest.mark.parametrize("content", [b"hello, this is not a database at all" * 50, b"\x00" * 4096])
def test_a_foreign_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(NotALedgerError, match="is not a ledger: file is not a database"):
        Ledger.open(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_database_of_something_else_gets_no_tables_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "games.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE games (game_id TEXT)")
    connection.close()
    for door in (Ledger.open, lambda url: Ledger.unchecked(url).migrate()):
        with pytest.raises(NotALedgerError, match="it has a table games"):
            door(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["games"]
    connection.close()


def test_a_truncated_ledger_is_said_to_be_broken(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.ensure_generation("hex8_2p", None, "a", NOW, "tiny")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((NotALedgerError, LedgerUnavailableError), match=r"ledger\.db"):
        Ledger.open(f"sqlite:///{path}").lineage("0" * 64)


@pytest.mark.parametrize(
    "url", ["mysql://host/x", "sqlite://", "sqlite:///:memory:", "nonsense", "oracle+x://y", "postgresql+pg8000://x/y"]
)
def test_an_impossible_address_is_refused(url: str) -> None:
    with pytest.raises(NotALedgerError, match="ledger URL"):
        Ledger.open(url)


def test_an_unreachable_ledger_is_an_infrastructure_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url in (f"sqlite:///{tmp_path}/file/ledger.db", "postgresql://u:secret@/x?host=/nowhere"):
        with pytest.raises(LedgerUnavailableError) as refused:
            Ledger.open(url)
        assert refused.value.exit_code is ExitCode.INFRASTRUCTURE
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_F19_a_full_disk_refuses_the_row_and_keeps_the_rest(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    first = ledger.ensure_generation("hex8_2p", None, "first", NOW, "tiny")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(LedgerUnavailableError, match=r"ledger\.db.*check that the disk"):
            ledger.ensure_generation("hex8_2p", None, "second", NOW, "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ledger.generations() == [first]
    assert len(ledger.ensure_generation("hex8_2p", None, "second", NOW, "tiny").key) > 0


def test_a_naive_time_is_a_mistake_of_the_caller(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.StatementError, match="has no time zone"):
        ledger.ensure_generation("hex8_2p", None, "a", datetime(2026, 1, 1), "tiny")  # noqa: DTZ001


def test_the_ledger_can_be_copied_while_it_is_open(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    ledger.ensure_generation("hex8_2p", None, "a", NOW, "tiny")
    for suffix in ("", "-wal"):
        if (tmp_path / f"ledger.db{suffix}").exists():
            shutil.copy(tmp_path / f"ledger.db{suffix}", tmp_path / f"copy.db{suffix}")
    assert len(Ledger.open(f"sqlite:///{tmp_path}/copy.db").generations()) == 1


def test_importing_the_ledger_brings_in_no_heavy_module() -> None:
    script = "import sys, ringrift_ops.ledger; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "numba", "airflow", "numpy", "alembic"} & set(loaded)


def test_a_file_that_somebody_holds_at_its_first_opening_is_waited_for(tmp_path: Path) -> None:
    """SQLite's own patience is not for the change to write-ahead: four first openings at once lost one now and then."""
    path = tmp_path / "ledger.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(1.5, lambda: holder.execute("ROLLBACK")).start()
    with make_engine(f"sqlite:///{path}?timeout=30").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    holder.close()


def test_what_is_read_in_one_moment_is_of_one_moment_for_that_thread_alone(ledger: Ledger) -> None:
    first = ledger.ensure_generation("hex8_2p", None, "first", NOW, "tiny")
    with ledger.one_moment():
        assert ledger.generations() == [first]
        elsewhere: list[int] = []

        def write_and_read() -> None:
            ledger.ensure_generation("hex8_2p", None, "second", NOW, "tiny")
            elsewhere.append(len(ledger.generations()))

        thread = threading.Thread(target=write_and_read)
        thread.start()
        thread.join()
        assert elsewhere == [2]
        with ledger.one_moment():
            assert ledger.generations() == [first]
        assert ledger.generations() == [first], "the inner one's end is not the outer one's"
    assert len(ledger.generations()) == 2


def test_an_error_in_one_moment_stays_what_it_is_and_ends_it(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), ledger.one_moment():
        (tmp_path / "the caller's own").stat()
    ledger.ensure_generation("hex8_2p", None, "first", NOW, "tiny")
    assert len(ledger.generations()) == 1
