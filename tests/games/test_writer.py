"""Batches are written whole or not at all, and survive whoever writes them."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.errors import InfrastructureError, NoDataError
from ringrift_ops.games.contract import NonCanonicalError
from ringrift_ops.games.database import DatabaseWriteError, EmptyDatabaseError
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.records import Policies, RecordError
from ringrift_ops.games.start_state import start_state
from ringrift_ops.games.writer import BatchBusyError, BatchExistsError, BatchMismatchError, BatchWriter
from ringrift_ops.rules.boards import board_named
from ringrift_ops.rules.move_json import PHASES, MoveKeyError, move_type_of
from ringrift_ops.settings.names import UnknownConfigError
from ringrift_ops.store import WriteError
from tests.games.traces import CONFIGS, FOLDER, needs_traces, raw_games, records

pytestmark = needs_traces
ROOT = Path(__file__).parents[2]


def write(path, games, config="hex8_2p"):
    with BatchWriter(path, config, codes_version="1") as writer:
        for game in games:
            writer.add(game)
        return writer.finish()


def policies_of(record):
    """A policy over two keys for the first three moves."""
    keys = tuple(key for move in record.moves[:3] for key in (move, "P0,0*1"))
    return Policies(
        "test-1",
        np.arange(3, dtype=np.int32),
        np.arange(0, 8, 2, dtype=np.int32),
        np.arange(6, dtype=np.int32),
        np.array([0.75, 0.25] * 3, dtype=np.float32),
        keys,
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_real_games_of_every_config_come_back_from_the_file_as_they_went_in(tmp_path, config):
    games = records(config, 2)
    assert games
    batch = write(tmp_path / "b.db", games, config)
    with GameDatabase(batch.path, config) as database:
        assert list(database.games()) == sorted(games, key=lambda game: game.game_id)
        assert database.verify() == batch.digest == database.stored_digest
        assert database.counts().complete == len(games) == batch.games


@pytest.mark.parametrize("config", CONFIGS)
def test_rows_are_in_RingRifts_terms(tmp_path, config):
    (game,) = records(config, 1)
    batch = write(tmp_path / "b.db", [game], config)
    connection = sqlite3.connect(batch.path)
    connection.row_factory = sqlite3.Row
    (row,) = connection.execute("SELECT * FROM games")
    board, players = config.rpartition("_")[0], int(config[-2])
    assert (row["board_type"], row["num_players"], row["schema_version"]) == (board, players, 18)
    assert (row["game_status"], row["winner"], row["rng_seed"]) == ("completed", game.winner, game.seed)
    assert row["termination_reason"] in {"ring_elimination", "territory", "last_player_standing", "structural"}
    assert (row["total_moves"], row["total_turns"]) == (len(game.moves), game.total_turns)
    assert (row["completed_at"], row["parity_status"]) == (game.completed_at, "pending")
    turn, previous = 0, game.seats[0]
    moves = connection.execute("SELECT * FROM game_moves ORDER BY move_number").fetchall()
    for number, (move, key, seat, phase) in enumerate(zip(moves, game.moves, game.seats, game.phases, strict=True)):
        turn += seat != previous
        previous = seat
        text = json.loads(move["move_json"])
        assert (move["move_number"], move["turn_number"], move["player"]) == (number, turn, seat)
        assert (move["phase"], move["move_type"]) == (PHASES[phase], move_type_of(key))
        assert (text["type"], text["player"], text["moveNumber"]) == (move["move_type"], seat, number + 1)
        assert text["id"]
    assert turn + 1 == row["total_turns"]
    seats = connection.execute("SELECT * FROM game_players ORDER BY player_number").fetchall()
    assert [seat["player_type"] for seat in seats] == ["ai"] * players
    assert tuple(seat["final_eliminated_rings"] for seat in seats) == game.eliminated
    assert tuple(seat["final_territory_spaces"] for seat in seats) == game.territory
    assert tuple(seat["final_rings_in_hand"] for seat in seats) == game.in_hand
    for table in ("game_history_entries", "game_state_snapshots"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    connection.close()


@pytest.mark.parametrize("config", CONFIGS)
def test_the_start_state_has_the_thresholds_of_the_recorded_games(config):
    game = next(raw_games(config))
    state = start_state(config, seed=5, swap_rule=game["swapRule"], created_at="2026-01-01T00:00:00Z")
    assert state["victoryThreshold"] == game["thresholds"]["rings"]
    territory = game["thresholds"]["territory"]
    assert state["territoryVictoryMinimum"] == state["territoryVictoryThreshold"] == territory
    assert state["lpsRoundsRequired"] == game["thresholds"]["lpsRounds"]
    hands = game["init"].split(";")[7][1:].split("/")
    assert [str(player["ringsInHand"]) for player in state["players"]] == hands
    assert state["rulesOptions"] == ({"swapRuleEnabled": game["swapRule"]} if game["players"] == 2 else None)
    assert state["board"]["size"] == {"square8": 8, "square19": 19, "hex8": 9, "hexagonal": 25}[game["board"]]
    assert state["totalRingsInPlay"] == board_named(game["board"]).rings_per_player * game["players"]


def test_the_stored_start_state_has_every_top_level_field_and_the_games_pie_rule(tmp_path):
    games = [replace(records("hex8_2p", 1)[0], game_id=f"g{on:d}", swap_rule=on) for on in (False, True)]
    batch = write(tmp_path / "b.db", games)
    connection = sqlite3.connect(batch.path)
    for game, (text,) in zip(
        games, connection.execute("SELECT initial_state_json FROM game_initial_state"), strict=True
    ):
        state = json.loads(text)
        assert state == start_state("hex8_2p", seed=game.seed, swap_rule=game.swap_rule, created_at=game.created_at)
        assert state["rulesOptions"]["swapRuleEnabled"] is game.swap_rule
    connection.close()
    fields = (
        "id boardType rngSeed board players currentPhase currentPlayer moveHistory timeControl spectators gameStatus "
        "winner createdAt lastMoveAt isRated maxPlayers totalRingsInPlay totalRingsEliminated victoryThreshold "
        "territoryVictoryThreshold territoryVictoryMinimum chainCaptureState mustMoveFromStackKey zobristHash "
        "lpsRoundIndex lpsCurrentRoundActorMask lpsExclusivePlayerForCompletedRound lpsCurrentRoundFirstPlayer "
        "lpsConsecutiveExclusiveRounds lpsRoundsRequired lpsConsecutiveExclusivePlayer rulesOptions "
        "pendingLineRewardElimination"
    )
    assert set(state) == set(fields.split())


def test_policies_are_stored_by_index_and_as_RingRifts_short_keys_that_add_up(tmp_path):
    (game,) = records("hex8_2p", 1)
    policies = policies_of(game)
    batch = write(tmp_path / "b.db", [replace(game, policies=policies), replace(game, game_id="plain")])
    assert (batch.games, batch.distinct, batch.policy_games) == (2, 1, 1)
    with GameDatabase(batch.path) as database:
        read, plain = database.games()
        database.verify()
    assert plain.policies is None
    assert read.policies is not None
    assert read.policies.blobs() == policies.blobs()
    assert read.policies.encoder_version == "test-1"
    connection = sqlite3.connect(batch.path)
    probs = [
        text
        for (text,) in connection.execute(
            "SELECT move_probs FROM game_moves WHERE game_id <> 'plain' ORDER BY move_number"
        )
    ]
    connection.close()
    assert probs[3:] == [None] * (len(game.moves) - 3)
    for text in probs[:3]:
        assert sum(json.loads(text).values()) == pytest.approx(1.0)
    first = game.moves[0].split("*")[0][1:]
    assert json.loads(probs[0]) == {f"place_ring_{first}": 0.75, "place_ring_0,0": 0.25}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"probabilities": np.array([0.7, 0.25] * 3, dtype=np.float32)}, "sums to 0.95"),
        ({"probabilities": np.array([np.nan, 1.0] * 3, dtype=np.float32)}, "not a number"),
        ({"move_numbers": np.array([0, 1, 9999], dtype=np.int32)}, "do not fit"),
        ({"row_starts": np.array([0, 2, 2, 6], dtype=np.int32)}, "do not fit"),
    ],
)
def test_a_policy_that_is_no_distribution_is_refused(tmp_path, change, says):
    (game,) = records("hex8_2p", 1)
    with BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer:
        with pytest.raises(RecordError, match=says):
            writer.add(replace(game, policies=replace(policies_of(game), **change)))
        assert len(writer) == 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"winner": None}, RecordError, "game without end"),
        ({"winner": 3}, RecordError, "game without end"),
        ({"termination_reason": "bored"}, RecordError, "unknown termination"),
        ({"termination_reason": "max_moves"}, RecordError, "no winner"),
        ({"moves": ("P0,0*1",) * 4, "seats": (1,) * 4, "phases": ("RP",) * 4}, RecordError, "fewer than 5"),
        ({"seats": (1, 2, 3)}, RecordError, "differ in number"),
        ({"in_hand": (1, 2, 3)}, RecordError, "not 2"),
        ({"game_id": 'a"b'}, RecordError, "its id"),
        ({"game_id": "../../x"}, RecordError, "its id"),
        ({"seed": 1 << 63}, RecordError, "seed"),
        ({"config": "hex8_3p"}, RecordError, "this batch of hex8_2p"),
        ({"move_codes": b"1234"}, RecordError, "int64"),
    ],
)
def test_F20_a_record_that_contradicts_itself_is_refused_and_leaves_nothing(tmp_path, change, error, says):
    good, other = records("hex8_2p", 2)
    with BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer:
        with pytest.raises(error, match=says):
            writer.add(replace(good, **change))
        writer.add(other)
        with pytest.raises(RecordError, match="already in"):
            writer.add(other)
        batch = writer.finish()
    with GameDatabase(batch.path) as database:
        assert list(database.game_ids()) == [other.game_id]


def with_move(game, number, key, phase):
    return replace(
        game,
        moves=(*game.moves[:number], key, *game.moves[number + 1 :]),
        phases=(*game.phases[:number], phase, *game.phases[number + 1 :]),
    )


@pytest.mark.parametrize(
    ("key", "phase", "error", "says"),
    [
        ("M0,0>1,0", "RP", NonCanonicalError, "phase_move_mismatch:ring_placement:move_stack at move 3 of game hex8"),
        ("0L", "GO", NonCanonicalError, "non_canonical_phase:game_over at move 3"),
        ("0L", "XX", NonCanonicalError, "non_canonical_phase:XX at move 3"),
        ("P9,9*1", "RP", MoveKeyError, "'9,9' is not a cell of hex8"),
        ("T0,0:3:abcdef01", "TP", MoveKeyError, "not expanded"),
    ],
)
def test_F20_a_move_that_breaks_the_contract_is_refused_with_its_reason(tmp_path, key, phase, error, says):
    (game,) = records("hex8_2p", 1)
    with BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer:
        with pytest.raises(error, match=says):
            writer.add(with_move(game, 3, key, phase))
        assert len(writer) == 0


def test_a_game_stopped_at_the_move_cap_is_recorded_without_winner(tmp_path):
    (game,) = records("hex8_2p", 1)
    capped = replace(game, winner=None, termination_reason="max_moves", metadata={})
    batch = write(tmp_path / "b.db", [capped])
    with GameDatabase(batch.path) as database:
        assert list(database.games()) == [capped]


def test_the_identity_of_a_batch_leaves_out_clocks_and_order_but_nothing_else(tmp_path):
    games = list(records("hex8_2p", 3))
    later = [replace(game, created_at="2030-01-01", completed_at="2031-01-01", duration_ms=9) for game in games]
    first = write(tmp_path / "a.db", games)
    again = write(tmp_path / "b.db", later[::-1])
    assert first.digest == again.digest
    for change in ({"seed": 4}, {"swap_rule": False}, {"final_hash": "0" * 16}, {"opening_plies": 2}):
        changed = write(tmp_path / f"{next(iter(change))}.db", [replace(games[0], **change), *games[1:]])
        assert changed.digest != first.digest
    assert games[0].move_hash() == replace(games[0], game_id="other", seed=1).move_hash()


def test_F19_the_batch_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "b.db"
    with BatchWriter(path, "hex8_2p", codes_version="1") as writer:
        writer.add(records("hex8_2p", 1)[0])
        assert not path.exists()
        writer.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["b.db"]
    with pytest.raises(BatchExistsError, match="already complete"):
        BatchWriter(path, "hex8_2p", codes_version="1")


def test_F19_a_second_writer_of_the_same_batch_is_refused_and_told_who_has_it(tmp_path):
    path = tmp_path / "b.db"
    with BatchWriter(path, "hex8_2p", codes_version="1") as writer:
        with pytest.raises(BatchBusyError, match=f"process {os.getpid()}"):
            BatchWriter(path, "hex8_2p", codes_version="1")
        writer.add(records("hex8_2p", 1)[0])
    with BatchWriter(path, "hex8_2p", codes_version="1") as next_writer:
        assert len(next_writer) == 1
        next_writer.finish()
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_batch_of_another_producer_is_not_taken_up(tmp_path):
    path = tmp_path / "b.db"
    with BatchWriter(path, "hex8_2p", codes_version="1", header={"seed": "5"}) as writer:
        writer.add(records("hex8_2p", 1)[0])
    for config, version, seed, key in [("hex8_2p", "1", "6", "seed"), ("hex8_2p", "2", "5", "codes_version"),
                                       ("hex8_3p", "1", "5", "config")]:  # fmt: skip
        with pytest.raises(BatchMismatchError, match=f"{key} = "):
            BatchWriter(path, config, codes_version=version, header={"seed": seed})


def test_a_batch_without_games_is_not_written(tmp_path):
    with (
        BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer,
        pytest.raises(EmptyDatabaseError, match="without games"),
    ):
        writer.finish()
    assert issubclass(EmptyDatabaseError, NoDataError)
    assert not (tmp_path / "b.db").exists()


def test_an_unknown_config_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UnknownConfigError, match="hex8_5p"):
        BatchWriter(tmp_path / "new" / "b.db", "hex8_5p", codes_version="1")
    assert list(tmp_path.iterdir()) == []


WRITER_PROCESS = """
import os, sys
from dataclasses import replace
from pathlib import Path
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.writer import BatchWriter
with GameDatabase(Path(sys.argv[3])) as database:
    (game,) = database.games()
with BatchWriter(Path(sys.argv[1]), "hex8_2p", codes_version="1") as writer:
    number = len(writer)
    while number < int(sys.argv[2]):
        writer.add(replace(game, game_id=f"g{number:06d}"))
        print(number, flush=True)
        number += 1
    writer.finish()
"""


def writer_process(path, games, **options):
    source = write(path.with_name("source.db"), records("hex8_2p", 1))
    return subprocess.Popen(
        [sys.executable, "-c", WRITER_PROCESS, str(path), str(games), str(source.path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_kill_9_loses_no_game_that_was_added_and_the_next_writer_goes_on(tmp_path):
    path = tmp_path / "b.db"
    process = writer_process(path, 1_000_000)
    added = -1
    for line in process.stdout:
        added = int(line)
        if added >= 40:
            process.send_signal(signal.SIGKILL)
            break
    added = max([added, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert not path.exists()
    with BatchWriter(path, "hex8_2p", codes_version="1") as writer:
        assert writer.recorded >= {f"g{number:06d}" for number in range(added + 1)}
        have = len(writer)
        assert have - added <= 2
        writer.add(replace(records("hex8_2p", 1)[0], game_id=f"g{have:06d}"))
        batch = writer.finish()
    assert batch.games == have + 1
    with GameDatabase(path) as database:
        assert database.verify() == batch.digest


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))


def test_F19_a_disk_that_fills_up_is_a_named_error_and_the_batch_can_be_resumed(tmp_path):
    path = tmp_path / "b.db"
    process = writer_process(path, 500, preexec_fn=limit_file_size)
    out, err = process.communicate()
    assert process.returncode != 0
    assert "DatabaseWriteError" in err
    assert issubclass(DatabaseWriteError, InfrastructureError)
    assert not path.exists()
    added = len(out.splitlines())
    assert added > 3
    with BatchWriter(path, "hex8_2p", codes_version="1") as writer:
        assert len(writer) == added
        writer.finish()
    with GameDatabase(path) as database:
        assert database.counts().complete == added
        database.verify()


def test_F19_a_full_database_rolls_the_game_back(tmp_path):
    games = records("hex8_2p", 3)
    with BatchWriter(tmp_path / "b.db", "hex8_2p", codes_version="1") as writer:
        writer.add(games[0])
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DatabaseWriteError, match="disk is full"):
            writer.add(games[1])
        assert writer.recorded == {games[0].game_id}
        writer._connection.execute("PRAGMA max_page_count = 100000")
        writer.add(games[1])
        batch = writer.finish()
    assert batch.games == 2


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs a folder nobody can write")
def test_F19_a_read_only_place_is_a_named_error_and_nothing_is_made(tmp_path):
    place = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "locked"
    if place.parent == tmp_path:
        place.mkdir(mode=0o500)
    with pytest.raises(WriteError, match="cannot write"):
        BatchWriter(place / "new" / "b.db", "hex8_2p", codes_version="1")


def test_the_traces_are_where_the_tests_expect_them():
    assert (FOLDER / "hex8_2p.jsonl.gz").is_file()
