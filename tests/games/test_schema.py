"""RingRift's schema version 18, column by column (pipeline-facts 1.2)."""

from __future__ import annotations

import sqlite3

import pytest

from ringrift_ops.games import schema

EXPECTED_TABLES = {
    "schema_metadata": "key TEXT pk1, value TEXT notnull",
    "games": (
        "game_id TEXT pk1, board_type TEXT notnull, num_players INTEGER notnull, rng_seed INTEGER, "
        "created_at TEXT notnull, completed_at TEXT, game_status TEXT notnull, winner INTEGER, "
        "termination_reason TEXT, total_moves INTEGER notnull, total_turns INTEGER notnull, duration_ms INTEGER, "
        "source TEXT, schema_version INTEGER notnull, time_control_type TEXT ='none', initial_time_ms INTEGER, "
        "time_increment_ms INTEGER, metadata_json TEXT, quality_score REAL, quality_category TEXT, engine_mode TEXT, "
        "parity_status TEXT ='pending', parity_checked_at TEXT, parity_divergence_move INTEGER, opponent_type TEXT, "
        "opponent_model_id TEXT, excluded_from_training INTEGER =0"
    ),
    "game_players": (
        "game_id TEXT notnull pk1, player_number INTEGER notnull pk2, player_type TEXT notnull, ai_type TEXT, "
        "ai_difficulty INTEGER, ai_profile_id TEXT, final_eliminated_rings INTEGER, final_territory_spaces INTEGER, "
        "final_rings_in_hand INTEGER"
    ),
    "game_initial_state": "game_id TEXT pk1, initial_state_json TEXT notnull, compressed INTEGER =0",
    "game_moves": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, turn_number INTEGER notnull, "
        "player INTEGER notnull, phase TEXT notnull, move_type TEXT notnull, move_json TEXT notnull, timestamp TEXT, "
        "think_time_ms INTEGER, time_remaining_ms INTEGER, engine_eval REAL, engine_eval_type TEXT, "
        "engine_depth INTEGER, engine_nodes INTEGER, engine_pv TEXT, engine_time_ms INTEGER, move_probs TEXT, "
        "search_stats_json TEXT, heuristic_features BLOB"
    ),
    "game_state_snapshots": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, state_json TEXT notnull, compressed INTEGER =0, "
        "state_hash TEXT"
    ),
    "game_choices": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, choice_type TEXT notnull pk3, "
        "player INTEGER notnull, options_json TEXT notnull, selected_option_json TEXT notnull, ai_reasoning TEXT"
    ),
    "game_history_entries": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, player INTEGER notnull, "
        "phase_before TEXT notnull, phase_after TEXT notnull, status_before TEXT notnull, status_after TEXT notnull, "
        "progress_before_json TEXT notnull, progress_after_json TEXT notnull, state_hash_before TEXT, "
        "state_hash_after TEXT, board_summary_before_json TEXT, board_summary_after_json TEXT, "
        "state_before_json TEXT, state_after_json TEXT, compressed_states INTEGER =0, available_moves_json TEXT, "
        "available_moves_count INTEGER, engine_eval REAL, engine_depth INTEGER, fsm_valid INTEGER, "
        "fsm_error_code TEXT"
    ),
    "game_nnue_features": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, player_perspective INTEGER notnull pk3, "
        "features BLOB notnull, value REAL notnull, board_type TEXT notnull, feature_dim INTEGER notnull"
    ),
    "orphaned_games": (
        "game_id TEXT pk1, detected_at TEXT notnull, reason TEXT, original_status TEXT, board_type TEXT, "
        "num_players INTEGER"
    ),
    "ts_parity_hashes": (
        "game_id TEXT notnull pk1, move_number INTEGER notnull pk2, ts_state_hash TEXT notnull, "
        "ts_current_player INTEGER, ts_current_phase TEXT, ts_game_status TEXT, validated_at TEXT"
    ),
}
OUR_TABLES = {"ringrift_ops_batch", "ringrift_ops_games", "ringrift_ops_policies"}
EXPECTED_INDEXES = {
    "games": [
        "board_type", "winner", "termination_reason", "created_at", "source", "board_type,num_players",
        "created_at,board_type", "board_type,created_at", "quality_score DESC", "board_type,quality_score DESC",
        "engine_mode", "board_type,engine_mode", "parity_status", "board_type,parity_status",
        "parity_status,created_at", "board_type,num_players,game_status", "opponent_type",
        "board_type,opponent_type",
    ],
    "game_moves": ["game_id,turn_number", "game_id,move_number", "game_id,player"],
    "game_history_entries": ["game_id", "game_id,phase_before", "game_id,player"],
    "game_nnue_features": ["game_id", "board_type"],
    "orphaned_games": ["detected_at"],
}  # fmt: skip
CHILDREN = set(EXPECTED_TABLES) - {"schema_metadata", "games", "orphaned_games"}


@pytest.fixture
def empty():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    schema.create(connection)
    yield connection
    connection.close()


def columns_of(connection, table):
    described = []
    for _, name, kind, notnull, default, pk in connection.execute(f"PRAGMA table_info({table})"):
        parts = [name, kind, "notnull" * notnull, f"={default}" if default is not None else "", f"pk{pk}" if pk else ""]
        described.append(" ".join(part for part in parts if part))
    return ", ".join(described)


def test_sqlite_master_holds_exactly_the_tables_of_version_18_and_three_of_ours(empty):
    tables = {name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == set(EXPECTED_TABLES) | OUR_TABLES
    assert dict(empty.execute("SELECT key, value FROM schema_metadata")) == {"schema_version": "18"}


@pytest.mark.parametrize("table", EXPECTED_TABLES)
def test_columns_types_defaults_and_keys(empty, table):
    assert columns_of(empty, table) == EXPECTED_TABLES[table]


def test_indexes(empty):
    found: dict[str, list[str]] = {}
    for table, sql in empty.execute("SELECT tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL"):
        found.setdefault(table, []).append(sql[sql.index("(") + 1 : -1].replace(", ", ","))
    assert {table: sorted(columns) for table, columns in found.items()} == {
        table: sorted(columns) for table, columns in EXPECTED_INDEXES.items()
    }


@pytest.mark.parametrize("table", sorted(CHILDREN | {"ringrift_ops_games", "ringrift_ops_policies"}))
def test_children_of_a_game_go_with_it(empty, table):
    (key,) = empty.execute(f"PRAGMA foreign_key_list({table})").fetchall()
    assert key[2:7] == ("games", "game_id", "game_id", "NO ACTION", "CASCADE")


def insert_game(connection, status, moves):
    connection.execute(
        "INSERT INTO games (game_id, board_type, num_players, created_at, game_status, total_moves, total_turns, "
        "schema_version) VALUES ('g', 'hex8', 2, '', ?, ?, 1, 18)",
        (status, moves),
    )


@pytest.mark.parametrize("status", ["completed", "finished"])
def test_F20_a_game_cannot_be_inserted_as_completed_without_its_moves(empty, status):
    with pytest.raises(sqlite3.IntegrityError, match="completed after its moves"):
        insert_game(empty, status, 9)


@pytest.mark.parametrize("status", ["completed", "finished"])
def test_F20_a_game_cannot_be_completed_with_fewer_than_five_moves(empty, status):
    insert_game(empty, "in_progress", 0)
    with pytest.raises(sqlite3.IntegrityError, match="at least 5 moves"):
        empty.execute("UPDATE games SET game_status = ?, total_moves = 4", (status,))
    empty.execute("UPDATE games SET game_status = ?, total_moves = 5", (status,))
    assert empty.execute("SELECT parity_status, excluded_from_training FROM games").fetchone() == ("pending", 0)
