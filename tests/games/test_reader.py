"""Reading: ours and foreign files, and a clear error for each kind of bad one (R13, R16)."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.games.contract import NonCanonicalError
from ringrift_ops.games.database import (
    DamagedDatabaseError,
    DatabaseBusyError,
    DatabaseWriteError,
    EmptyDatabaseError,
    ForeignDatabaseError,
    MissingDatabaseError,
    SchemaVersionError,
    WrongConfigError,
    connect,
)
from ringrift_ops.games.discovery import GamePool, discover
from ringrift_ops.games.reader import (
    GameDatabase,
    GameRowError,
    IncompleteGameError,
    MoveCodesError,
    ParityVerdict,
    UnknownGameError,
)
from ringrift_ops.games.start_state import StartStateError
from ringrift_ops.games.writer import BatchWriter
from ringrift_ops.rules.move_json import MoveJsonError
from tests.games.traces import needs_traces, records

pytestmark = needs_traces
NOW = "2026-02-03T04:05:06+00:00"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A finished batch of three hex8_2p games; never changed."""
    path = tmp_path_factory.mktemp("games") / "b.db"
    with BatchWriter(path, "hex8_2p", codes_version="1") as writer:
        for game in records("hex8_2p", 3):
            writer.add(game)
        writer.finish()
    return path


@pytest.fixture
def batch(pristine, tmp_path):
    return Path(shutil.copy(pristine, tmp_path / "b.db"))


@pytest.fixture
def foreign(batch):
    """The same games as RingRift would hold them: none of our tables, no ``excluded_from_training``, WAL."""
    connection = sqlite3.connect(batch)
    for table in ("ringrift_ops_games", "ringrift_ops_policies", "ringrift_ops_batch"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("ALTER TABLE games DROP COLUMN excluded_from_training")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return batch


def change(path, sql, *parameters):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = ON")
    with connection:
        cursor = connection.execute(sql, parameters)
    rows = cursor.rowcount
    connection.close()
    assert rows != 0


def read_all(path, config="hex8_2p"):
    with GameDatabase(path, config) as database:
        return list(database.games())


def test_a_foreign_file_without_our_tables_is_read_from_its_move_json(foreign):
    plain = [
        replace(game, final_hash=None, move_codes=None)
        for game in sorted(records("hex8_2p", 3), key=lambda game: game.game_id)
    ]
    assert read_all(foreign) == plain
    with GameDatabase(foreign) as database:
        assert database.stored_digest is None
        assert database.counts().excluded == 0
        with pytest.raises(MoveCodesError, match="use games"):
            next(database.compact_games(codes_version="1"))


def test_foreign_move_json_may_have_other_fields_and_another_order(foreign):
    connection = sqlite3.connect(foreign)
    rows = connection.execute("SELECT game_id, move_number, move_json, phase FROM game_moves").fetchall()
    for game_id, number, text, phase in rows:
        move = json.loads(text) | {"timestamp": NOW, "thinkTime": 3, "phase": phase, "capturedStacks": None}
        spelled = json.dumps(dict(reversed(move.items())), indent=1)
        connection.execute(
            "UPDATE game_moves SET move_json = ? WHERE game_id = ? AND move_number = ?", (spelled, game_id, number)
        )
    connection.commit()
    connection.close()
    assert [game.moves for game in read_all(foreign)] == [
        game.moves for game in sorted(records("hex8_2p", 3), key=lambda game: game.game_id)
    ]


def test_a_gzipped_or_missing_initial_state_is_what_RingRift_takes_it_for(batch):
    (text,) = sqlite3.connect(batch).execute("SELECT initial_state_json FROM game_initial_state LIMIT 1").fetchone()
    change(batch, "UPDATE game_initial_state SET initial_state_json = ?, compressed = 1", gzip.compress(text.encode()))
    assert [game.swap_rule for game in read_all(batch)] == [game.swap_rule for game in records("hex8_2p", 3)]
    change(batch, "DELETE FROM game_initial_state")
    assert [game.swap_rule for game in read_all(batch)] == [False] * 3
    change(batch, "INSERT INTO game_initial_state SELECT game_id, 'x', 1 FROM games")
    with pytest.raises(DamagedDatabaseError, match="initial state"):
        read_all(batch)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("boardType",), "square8", "boardType"),
        (("victoryThreshold",), 24, "victoryThreshold"),
        (("currentPlayer",), 2, "currentPlayer"),
        (("board", "stacks"), {"0,0,0": {}}, "stacks; not an empty board"),
        (("players",), [], "players"),
    ],
)
def test_a_game_that_does_not_start_from_its_configs_start_is_refused(batch, path, value, says):
    (text,) = sqlite3.connect(batch).execute("SELECT initial_state_json FROM game_initial_state LIMIT 1").fetchone()
    state = json.loads(text)
    (state if len(path) == 1 else state[path[0]])[path[-1]] = value
    change(batch, "UPDATE game_initial_state SET initial_state_json = ?", json.dumps(state))
    with pytest.raises(StartStateError, match=says):
        read_all(batch)


def test_R16_a_missing_file_an_empty_one_and_a_folder(tmp_path):
    with pytest.raises(MissingDatabaseError, match="no game database"):
        GameDatabase(tmp_path / "none.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(EmptyDatabaseError, match="0 bytes"):
        GameDatabase(tmp_path / "empty.db")
    with pytest.raises(ForeignDatabaseError, match="folder"):
        GameDatabase(tmp_path)
    assert issubclass(MissingDatabaseError, NoDataError)
    assert issubclass(ForeignDatabaseError, UsageError)


def test_a_file_of_another_program_is_foreign(tmp_path):
    (tmp_path / "text.db").write_text("game_id,winner\n" * 50)
    with pytest.raises(ForeignDatabaseError, match="not a SQLite"):
        GameDatabase(tmp_path / "text.db")
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE moves (x)")
    connection.close()
    with pytest.raises(ForeignDatabaseError, match="without games"):
        GameDatabase(tmp_path / "other.db")


@pytest.mark.parametrize(("version", "advice"), [("17", "migrate"), ("19", "update this platform"), ("x", "migrate")])
def test_another_schema_version_is_named(batch, version, advice):
    change(batch, "UPDATE schema_metadata SET value = ? WHERE key = 'schema_version'", version)
    with pytest.raises(SchemaVersionError, match=f"schema version {version}, only 18 is read; .*{advice}"):
        GameDatabase(batch)


def test_a_database_without_metadata_is_version_1(batch):
    change(batch, "DROP TABLE schema_metadata")
    with pytest.raises(SchemaVersionError, match="schema version 1,"):
        GameDatabase(batch)


def test_the_consolidated_layout_without_move_json_is_refused(batch):
    change(batch, "ALTER TABLE game_moves DROP COLUMN move_json")
    with pytest.raises(ForeignDatabaseError, match="consolidated"):
        GameDatabase(batch)


def test_F19_a_file_truncated_anywhere_is_noticed(batch):
    whole = batch.read_bytes()
    for size in [1, 50, 99, 100, *range(4096, len(whole), 4096), len(whole) - 1]:
        batch.write_bytes(whole[:size])
        with pytest.raises(DamagedDatabaseError, match="truncated"):
            GameDatabase(batch)


def test_F19_a_zero_tail_or_flipped_bits_never_pass_verification(batch):
    whole = batch.read_bytes()
    batch.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises((NoDataError, UsageError)), GameDatabase(batch, "hex8_2p") as database:
        database.verify()
    text = b'"type":"place_ring","player":1,"from":null,"to":{"x":'
    places = [i for i in range(len(whole)) if whole.startswith(text, i)][:20]
    assert len(places) == 20
    for place in places:
        flipped = bytearray(whole)
        flipped[place + len(text)] ^= 1
        batch.write_bytes(flipped)
        with pytest.raises((NoDataError, UsageError)), GameDatabase(batch, "hex8_2p") as database:
            database.verify()


def test_a_three_player_file_in_a_two_player_config_is_refused(tmp_path):
    with BatchWriter(tmp_path / "b.db", "hex8_3p", codes_version="1") as writer:
        writer.add(records("hex8_3p", 1)[0])
        writer.finish()
    with pytest.raises(WrongConfigError, match="1 games of hex8_3p, none of hex8_2p"):
        GameDatabase(tmp_path / "b.db", "hex8_2p")


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("phase", "ring_movement", "non_canonical_phase:ring_movement at b.db, game hex8_2p_1000, move 2"),
        ("phase", "capture", "phase_move_mismatch:capture:place_ring at b.db, game hex8_2p_1000, move 2"),
        ("move_type", "PLACE", "non_canonical_move_type:PLACE at b.db, game hex8_2p_1000, move 2"),
    ],
)
def test_a_non_canonical_row_is_refused_with_RingRifts_reason(batch, column, value, says):
    connection = sqlite3.connect(batch)
    number = next(
        n for (n,) in connection.execute("SELECT move_number FROM game_moves WHERE move_type = 'place_ring' "
                                         "AND game_id = 'hex8_2p_1000' ORDER BY 1 LIMIT 1 OFFSET 1")
    )  # fmt: skip
    connection.close()
    change(batch, f"UPDATE game_moves SET {column} = ? WHERE game_id = 'hex8_2p_1000' AND move_number = ?",
           value, number)  # fmt: skip
    with pytest.raises(NonCanonicalError) as caught:
        read_all(batch)
    assert says.replace("move 2", f"move {number}") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "null", '{"type":"place_ring","player":1,"to":null}', "[1"])
def test_F20_a_row_whose_move_json_is_none_names_game_and_move(batch, text):
    change(batch, "UPDATE game_moves SET move_json = ? WHERE game_id = 'hex8_2p_1000' AND move_number = 0", text)
    with pytest.raises(MoveJsonError, match=r"b\.db, game hex8_2p_1000, move 0"):
        read_all(batch)


def test_F20_a_row_that_contradicts_its_json_is_refused(batch):
    change(batch, "UPDATE game_moves SET player = 2 WHERE game_id = 'hex8_2p_1000' AND move_number = 0")
    with pytest.raises(GameRowError, match="move 0: the row says place_ring by seat 2, its JSON place_ring by seat 1"):
        read_all(batch)


def test_phases_left_blank_or_game_over_are_inferred_from_the_type(batch):
    before = read_all(batch)
    change(batch, "UPDATE game_moves SET phase = '' WHERE move_type = 'place_ring'")
    change(batch, "UPDATE game_moves SET phase = 'game_over' WHERE move_type = 'no_territory_action'")
    assert read_all(batch) == before


def test_a_game_without_end_is_listed_and_not_read(batch):
    change(batch, "UPDATE games SET game_status = 'in_progress' WHERE game_id = 'hex8_2p_1000'")
    change(batch, "UPDATE games SET winner = NULL WHERE game_id = 'hex8_2p_1001'")
    with GameDatabase(batch, "hex8_2p") as database:
        assert {game.game_id: game.reason for game in database.incomplete()} == {
            "hex8_2p_1000": "game without end: its status is 'in_progress'",
            "hex8_2p_1001": "game without end: winner None, reason 'ring_elimination'",
        }
        assert (database.counts().complete, database.counts().incomplete) == (1, 2)
        assert len(list(database.games())) == 1
        with pytest.raises(IncompleteGameError, match="without end"):
            database.game("hex8_2p_1000")
        with pytest.raises(UnknownGameError, match="nobody"):
            database.game("nobody")


def test_a_game_with_a_missing_move_is_refused(batch):
    change(batch, "DELETE FROM game_moves WHERE game_id = 'hex8_2p_1000' AND move_number = 7")
    with pytest.raises(IncompleteGameError, match="moves are there"):
        read_all(batch)


def test_a_database_without_any_game_says_so(batch):
    change(batch, "DELETE FROM games")
    with pytest.raises(EmptyDatabaseError, match="no games of hex8_2p"):
        read_all(batch)


def test_compact_games_carry_the_codes_of_exactly_the_engine_asked_for(batch):
    games = {game.game_id: game for game in records("hex8_2p", 3)}
    with GameDatabase(batch, "hex8_2p") as database:
        compact = list(database.compact_games(codes_version="1"))
        assert [game.game_id for game in compact] == sorted(games)
        for game in compact:
            record = games[game.game_id]
            assert game.move_codes.tobytes() == record.move_codes
            assert (game.move_hash, game.winner, game.swap_rule) == (
                record.move_hash(),
                record.winner,
                record.swap_rule,
            )
        with pytest.raises(MoveCodesError, match="not 2"):
            next(database.compact_games(codes_version="2"))


def test_verdicts_are_written_while_reading_and_leave_the_identity_alone(batch):
    with GameDatabase(batch, "hex8_2p") as database:
        digest = database.content_digest()
        for number, game in enumerate(database.games()):
            status, move = ("failed", 12) if number == 1 else ("passed", None)
            database.set_parities([ParityVerdict(game.game_id, status, move, NOW)])
        database.set_parity_gate(passed=2, failed=1, checked_at=NOW)
        assert database.parity_of("hex8_2p_1001") == ParityVerdict("hex8_2p_1001", "failed", 12, NOW)
        assert database.counts().parity == {"passed": 2, "failed": 1}
        assert list(database.game_ids(passed_only=True)) == ["hex8_2p_1000", "hex8_2p_1002"]
        assert database.verify() == digest
    change(batch, "UPDATE games SET excluded_from_training = 1 WHERE game_id = 'hex8_2p_1000'")
    with GameDatabase(batch, "hex8_2p") as database:
        assert [game.game_id for game in database.games(passed_only=True)] == ["hex8_2p_1002"]
        assert database.counts().excluded == 1
    metadata = dict(sqlite3.connect(batch).execute("SELECT key, value FROM schema_metadata"))
    assert metadata == {
        "schema_version": "18", "parity_gate_status": "failed", "parity_gate_timestamp": NOW,
        "parity_gate_passed_count": "2", "parity_gate_failed_count": "1",
    }  # fmt: skip


def test_verdicts_are_written_all_or_none(batch):
    good = ParityVerdict("hex8_2p_1000", "passed", None, NOW)
    with GameDatabase(batch) as database:
        with pytest.raises(UnknownGameError, match="nothing was written"):
            database.set_parities([good, ParityVerdict("nobody", "passed", None, NOW)])
        with pytest.raises(UsageError, match="parity status 'fine'"):
            database.set_parities([good, replace(good, status="fine")])
        assert database.parity_of("hex8_2p_1000").status == "pending"


def test_a_database_somebody_else_writes_is_busy_not_damaged(batch, monkeypatch):
    monkeypatch.setattr("ringrift_ops.games.database.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(batch, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseBusyError, match="in use"):
        connect(batch, writable=True)
    holder.close()


READ_ONLY = """
import os, sys
from pathlib import Path
from ringrift_ops.games.reader import GameDatabase, ParityVerdict
os.setuid(65534)
with GameDatabase(Path(sys.argv[1])) as database:
    print(len(list(database.games())))
    database.set_parities([ParityVerdict("hex8_2p_1000", "passed", None, "now")])
"""


def test_F19_a_read_only_file_is_read_and_a_verdict_refused(foreign, tmp_path):
    """As a user who may not write; as root nothing is read-only, so it steps down first."""
    if not Path("/proc").is_dir() or subprocess.run(["id", "-u"], capture_output=True, check=True).stdout != b"0\n":
        pytest.skip("needs to be root to become somebody else")
    place = Path("/var/tmp") / tmp_path.name
    place.mkdir(mode=0o755)
    try:
        path = Path(shutil.copy(foreign, place / "b.db"))
        path.chmod(0o444)
        result = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(path)],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.stdout == "3\n", result.stderr
        assert DatabaseWriteError.__name__ in result.stderr
    finally:
        shutil.rmtree(place)


def test_R13_discovery_goes_by_content_and_prints_path_and_number(tmp_path, pristine):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(pristine, folder / "anything.bin")
    shutil.copy(pristine, folder / "deep" / "canonical_square8_4p.db")
    (folder / "selfplay_hex8_2p.db").write_text("not a database")
    sqlite3.connect(folder / "foreign.db").execute("CREATE TABLE t (x)")
    (folder / "torn.db").write_bytes(pristine.read_bytes()[:9000])
    with BatchWriter(folder / "three.db", "hex8_3p", codes_version="1") as writer:
        writer.add(records("hex8_3p", 1)[0])
        writer.finish()
    with BatchWriter(folder / "unfinished.db", "hex8_2p", codes_version="1") as writer:
        writer.add(records("hex8_2p", 1)[0])
    discovery = discover(folder, "hex8_2p")
    assert [str(found) for found in discovery.found] == [
        f"{folder / 'anything.bin'}: 3 games",
        f"{folder / 'deep' / 'canonical_square8_4p.db'}: 3 games",
    ]
    assert list(discovery.unreadable) == [folder / "torn.db"]
    assert "truncated" in discovery.unreadable[folder / "torn.db"]
    with pytest.raises(MissingDatabaseError, match="no folder"):
        discover(tmp_path / "nowhere", "hex8_2p")


def test_R13_duplicate_games_are_removed_across_databases_whatever_their_ids(tmp_path, pristine, foreign):
    games = records("hex8_2p", 3)
    with BatchWriter(tmp_path / "again.db", "hex8_2p", codes_version="1") as writer:
        writer.add(replace(games[0], game_id="renamed", seed=99))
        writer.add(replace(games[1], game_id="other-rule", swap_rule=not games[1].swap_rule))
        writer.finish()
    pool = GamePool([pristine, foreign, tmp_path / "again.db"], "hex8_2p", passed_only=False)
    assert [game.game_id for game in pool] == ["hex8_2p_1000", "hex8_2p_1001", "hex8_2p_1002", "other-rule"]
    assert (pool.read, pool.duplicates) == (8, 4)
    assert list(GamePool([pristine], "hex8_2p")) == []


def test_F22_reading_holds_one_game_at_a_time(pristine, tmp_path):
    """200 copies of a game are read with the memory of a few."""
    import tracemalloc

    (game,) = records("hex8_2p", 1)
    with BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer:
        for number in range(200):
            writer.add(replace(game, game_id=f"g{number:04d}"))
        writer.finish()
    with GameDatabase(tmp_path / "b.db") as database:
        for record in database.games():
            if record.game_id == "g0010":
                tracemalloc.start()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000
