"""RingRift's game database, schema version 18, and the three tables of ours beside it.

Tables, columns, keys, defaults and triggers are RingRift's (pipeline-facts 1.2), so that it reads a file of
ours without a migration. Ours are called ``ringrift_ops_*``; RingRift never looks at them, and a file
without them is read all the same.
"""

from __future__ import annotations

import sqlite3
from typing import Final

SCHEMA_VERSION: Final = 18
"""The only version that is written and read."""

MINIMUM_MOVES: Final = 5
"""RingRift's triggers refuse to complete a game with fewer recorded moves."""

_GAME_KEY: Final = "game_id TEXT NOT NULL REFERENCES games(game_id) ON DELETE CASCADE"

_TABLES: Final[tuple[str, ...]] = (
    "CREATE TABLE schema_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE games (
    game_id TEXT PRIMARY KEY,
    board_type TEXT NOT NULL,
    num_players INTEGER NOT NULL,
    rng_seed INTEGER,
    created_at TEXT NOT NULL,
    completed_at TEXT,
    game_status TEXT NOT NULL,
    winner INTEGER,
    termination_reason TEXT,
    total_moves INTEGER NOT NULL,
    total_turns INTEGER NOT NULL,
    duration_ms INTEGER,
    source TEXT,
    schema_version INTEGER NOT NULL,
    time_control_type TEXT DEFAULT 'none',
    initial_time_ms INTEGER,
    time_increment_ms INTEGER,
    metadata_json TEXT,
    quality_score REAL,
    quality_category TEXT,
    engine_mode TEXT,
    parity_status TEXT DEFAULT 'pending',
    parity_checked_at TEXT,
    parity_divergence_move INTEGER,
    opponent_type TEXT,
    opponent_model_id TEXT,
    excluded_from_training INTEGER DEFAULT 0
)""",
    f"""CREATE TABLE game_players (
    {_GAME_KEY},
    player_number INTEGER NOT NULL,
    player_type TEXT NOT NULL,
    ai_type TEXT,
    ai_difficulty INTEGER,
    ai_profile_id TEXT,
    final_eliminated_rings INTEGER,
    final_territory_spaces INTEGER,
    final_rings_in_hand INTEGER,
    PRIMARY KEY (game_id, player_number)
)""",
    """CREATE TABLE game_initial_state (
    game_id TEXT PRIMARY KEY REFERENCES games(game_id) ON DELETE CASCADE,
    initial_state_json TEXT NOT NULL,
    compressed INTEGER DEFAULT 0
)""",
    f"""CREATE TABLE game_moves (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    turn_number INTEGER NOT NULL,
    player INTEGER NOT NULL,
    phase TEXT NOT NULL,
    move_type TEXT NOT NULL,
    move_json TEXT NOT NULL,
    timestamp TEXT,
    think_time_ms INTEGER,
    time_remaining_ms INTEGER,
    engine_eval REAL,
    engine_eval_type TEXT,
    engine_depth INTEGER,
    engine_nodes INTEGER,
    engine_pv TEXT,
    engine_time_ms INTEGER,
    move_probs TEXT,
    search_stats_json TEXT,
    heuristic_features BLOB,
    PRIMARY KEY (game_id, move_number)
)""",
    f"""CREATE TABLE game_state_snapshots (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    state_json TEXT NOT NULL,
    compressed INTEGER DEFAULT 0,
    state_hash TEXT,
    PRIMARY KEY (game_id, move_number)
)""",
    f"""CREATE TABLE game_choices (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    choice_type TEXT NOT NULL,
    player INTEGER NOT NULL,
    options_json TEXT NOT NULL,
    selected_option_json TEXT NOT NULL,
    ai_reasoning TEXT,
    PRIMARY KEY (game_id, move_number, choice_type)
)""",
    f"""CREATE TABLE game_history_entries (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    player INTEGER NOT NULL,
    phase_before TEXT NOT NULL,
    phase_after TEXT NOT NULL,
    status_before TEXT NOT NULL,
    status_after TEXT NOT NULL,
    progress_before_json TEXT NOT NULL,
    progress_after_json TEXT NOT NULL,
    state_hash_before TEXT,
    state_hash_after TEXT,
    board_summary_before_json TEXT,
    board_summary_after_json TEXT,
    state_before_json TEXT,
    state_after_json TEXT,
    compressed_states INTEGER DEFAULT 0,
    available_moves_json TEXT,
    available_moves_count INTEGER,
    engine_eval REAL,
    engine_depth INTEGER,
    fsm_valid INTEGER,
    fsm_error_code TEXT,
    PRIMARY KEY (game_id, move_number)
)""",
    f"""CREATE TABLE game_nnue_features (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    player_perspective INTEGER NOT NULL,
    features BLOB NOT NULL,
    value REAL NOT NULL,
    board_type TEXT NOT NULL,
    feature_dim INTEGER NOT NULL,
    PRIMARY KEY (game_id, move_number, player_perspective)
)""",
    """CREATE TABLE orphaned_games (
    game_id TEXT PRIMARY KEY,
    detected_at TEXT NOT NULL,
    reason TEXT,
    original_status TEXT,
    board_type TEXT,
    num_players INTEGER
)""",
    f"""CREATE TABLE ts_parity_hashes (
    {_GAME_KEY},
    move_number INTEGER NOT NULL,
    ts_state_hash TEXT NOT NULL,
    ts_current_player INTEGER,
    ts_current_phase TEXT,
    ts_game_status TEXT,
    validated_at TEXT,
    PRIMARY KEY (game_id, move_number)
)""",
)

INDEXES: Final[dict[str, tuple[str, str]]] = {
    "idx_games_board_type": ("games", "board_type"),
    "idx_games_winner": ("games", "winner"),
    "idx_games_termination": ("games", "termination_reason"),
    "idx_games_created": ("games", "created_at"),
    "idx_games_source": ("games", "source"),
    "idx_games_board_players": ("games", "board_type, num_players"),
    "idx_games_created_board": ("games", "created_at, board_type"),
    "idx_games_board_created": ("games", "board_type, created_at"),
    "idx_games_quality": ("games", "quality_score DESC"),
    "idx_games_quality_board": ("games", "board_type, quality_score DESC"),
    "idx_games_engine_mode": ("games", "engine_mode"),
    "idx_games_board_engine": ("games", "board_type, engine_mode"),
    "idx_games_parity_status": ("games", "parity_status"),
    "idx_games_board_parity": ("games", "board_type, parity_status"),
    "idx_games_parity_created": ("games", "parity_status, created_at"),
    "idx_games_config": ("games", "board_type, num_players, game_status"),
    "idx_games_opponent_type": ("games", "opponent_type"),
    "idx_games_board_opponent": ("games", "board_type, opponent_type"),
    "idx_moves_game_turn": ("game_moves", "game_id, turn_number"),
    "idx_moves_lookup": ("game_moves", "game_id, move_number"),
    "idx_moves_player": ("game_moves", "game_id, player"),
    "idx_history_game": ("game_history_entries", "game_id"),
    "idx_history_phase": ("game_history_entries", "game_id, phase_before"),
    "idx_history_player": ("game_history_entries", "game_id, player"),
    "idx_nnue_game": ("game_nnue_features", "game_id"),
    "idx_nnue_board": ("game_nnue_features", "board_type"),
    "idx_orphaned_detected": ("orphaned_games", "detected_at"),
}
"""Index -> (table, columns)."""

_TRIGGERS: Final[tuple[str, ...]] = (
    """CREATE TRIGGER trg_games_complete_needs_moves BEFORE UPDATE ON games
WHEN NEW.game_status IN ('completed', 'finished') AND NEW.total_moves < 5
BEGIN SELECT RAISE(ABORT, 'a completed game needs at least 5 moves'); END""",
    """CREATE TRIGGER trg_games_insert_needs_moves AFTER INSERT ON games
WHEN NEW.game_status IN ('completed', 'finished')
AND (SELECT COUNT(*) FROM game_moves WHERE game_id = NEW.game_id) < 5
BEGIN SELECT RAISE(ABORT, 'a game is inserted as in_progress and completed after its moves'); END""",
)

_OWN_TABLES: Final[tuple[str, ...]] = (
    "CREATE TABLE ringrift_ops_batch (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE ringrift_ops_games (
    game_id TEXT PRIMARY KEY REFERENCES games(game_id) ON DELETE CASCADE,
    swap_rule INTEGER NOT NULL,
    opening_plies INTEGER NOT NULL,
    move_hash TEXT NOT NULL,
    game_digest TEXT NOT NULL,
    final_hash TEXT,
    move_codes BLOB
)""",
    """CREATE TABLE ringrift_ops_policies (
    game_id TEXT PRIMARY KEY REFERENCES games(game_id) ON DELETE CASCADE,
    encoder_version TEXT NOT NULL,
    move_numbers BLOB NOT NULL,
    row_starts BLOB NOT NULL,
    policy_indices BLOB NOT NULL,
    probabilities BLOB NOT NULL
)""",
)

RECORDED_TABLES: Final[tuple[str, ...]] = (
    "game_moves", "games", "game_players", "game_initial_state", "ringrift_ops_games", "ringrift_ops_policies",
)  # fmt: skip
"""The tables that a batch of ours has rows in; moves first, because a trigger looks for them when games come."""

STATEMENTS: Final[tuple[str, ...]] = (
    *_TABLES,
    *(f"CREATE INDEX {name} ON {table}({columns})" for name, (table, columns) in INDEXES.items()),
    *_TRIGGERS,
    *_OWN_TABLES,
)
"""Every statement that makes an empty database, in order."""


def create(connection: sqlite3.Connection) -> None:
    """Make all tables, indexes and triggers in an empty database and record version 18.

    Runs inside the caller's transaction.
    """
    for statement in STATEMENTS:
        connection.execute(statement)
    connection.execute("INSERT INTO schema_metadata VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
