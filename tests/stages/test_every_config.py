"""A batch of self-play of each of the 12 configs: RingRift's terms in every field, no difference in the second engine.

Names, types and numbers are those of pipeline-facts 1 and 2, written down here once more and not taken from the code.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.settings import CONFIGS
from ringrift_ops.stages import parity, selfplay
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.specs import SearchSettings
from tests.stages.conftest import changed, parity_spec, selfplay_spec

#        board: (size, cells, rings per player, rings that win with 2, 3, 4 players)
BOARDS = {
    "square8": (8, 64, 18, (18, 24, 30)),
    "square19": (19, 361, 72, (72, 96, 120)),
    "hex8": (9, 61, 18, (18, 24, 30)),
    "hexagonal": (25, 469, 96, (96, 128, 160)),
}
RADIUS = {"hex8": 4, "hexagonal": 12}
CONTRACT = {
    "ring_placement": {"place_ring", "skip_placement", "no_placement_action", "swap_sides"},
    "movement": {"move_stack", "overtaking_capture", "recovery_slide", "skip_recovery", "no_movement_action"},
    "capture": {"overtaking_capture", "skip_capture"},
    "chain_capture": {"continue_capture_segment"},
    "line_processing": {"process_line", "choose_line_option", "no_line_action", "eliminate_rings_from_stack"},
    "territory_processing": {
        "choose_territory_option", "eliminate_rings_from_stack", "skip_territory_processing", "no_territory_action",
    },
    "forced_elimination": {"forced_elimination"},
}  # fmt: skip
NEEDED = {
    "place_ring": {"to", "placementCount"},
    "move_stack": {"from", "to"},
    "overtaking_capture": {"from", "to", "captureTarget"},
    "continue_capture_segment": {"from", "to", "captureTarget"},
    "process_line": {"formedLines"},
    "choose_line_option": {"formedLines", "collapsedMarkers"},
    "eliminate_rings_from_stack": {"to", "eliminationContext"},
    "choose_territory_option": {"to", "disconnectedRegions"},
    "recovery_slide": {"from", "to", "recoveryMode", "extractionStacks"},
    "forced_elimination": {"to"},
}
"""Fields without which RingRift cannot replay a move of that type; all others have no geometry at all."""


@pytest.fixture(params=CONFIGS)
def batch(request: pytest.FixtureRequest, home: Path) -> tuple[str, Path]:
    """(config, database) of a few searched games."""
    config: str = request.param
    row = CONFIGS[config]
    asked = selfplay_spec(
        config=config,
        games=1 if row.large else 3,
        max_moves=row.max_moves,
        search=SearchSettings(simulations=1, temperature=0.5, random_move_fraction=0.2),
    )
    return config, home / selfplay.run(asked, silent).path


def test_a_batch_of_selfplay_is_in_RingRifts_terms_and_the_second_engine_agrees(batch: tuple[str, Path]) -> None:
    config, path = batch
    checked = parity.run(changed(parity_spec(str(path)), config=config), silent)
    assert (checked.failed, checked.failures, checked.passed) == (0, [], True)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert dict(connection.execute("SELECT key, value FROM schema_metadata"))["schema_version"] == "18"
        assert [row[0] for row in connection.execute("PRAGMA quick_check")] == ["ok"]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        games = connection.execute("SELECT * FROM games").fetchall()
        assert checked.checked == len(games)
        for game in games:
            _game_row(config, game)
            moves = _rows(connection, "game_moves", game, "move_number")
            _moves(config, game, moves)
            _players(config, game, _rows(connection, "game_players", game, "player_number"))
            (start,) = _rows(connection, "game_initial_state", game, "game_id")
            assert start["compressed"] == 0
            _start(config, game, json.loads(start["initial_state_json"]))


def _rows(connection: sqlite3.Connection, table: str, game: sqlite3.Row, order: str) -> list[sqlite3.Row]:
    return connection.execute(
        f"SELECT * FROM {table} WHERE game_id = ? ORDER BY {order}", (game["game_id"],)
    ).fetchall()


def _game_row(config: str, game: sqlite3.Row) -> None:
    board, players = config.rsplit("_", 1)
    assert (game["board_type"], game["num_players"]) == (board, int(players[0]))
    assert (game["game_status"], game["schema_version"], game["source"]) == ("completed", 18, "selfplay")
    assert game["winner"] in range(1, int(players[0]) + 1)
    assert game["termination_reason"] in {"ring_elimination", "territory", "last_player_standing", "structural"}
    assert 0 <= game["rng_seed"] < 1 << 63
    assert game["total_moves"] >= 5
    begun, ended = (datetime.fromisoformat(game[name]) for name in ("created_at", "completed_at"))
    assert begun <= ended
    assert begun.utcoffset() is not None
    assert game["duration_ms"] == pytest.approx((ended - begun).total_seconds() * 1000, abs=1)
    assert (game["time_control_type"], game["initial_time_ms"], game["time_increment_ms"]) == ("blitz", 600_000, 0)
    metadata = json.loads(game["metadata_json"])
    assert list(metadata) == sorted(metadata)
    assert (game["engine_mode"], game["excluded_from_training"]) == ("mcts_heuristic", 0)
    assert (game["parity_status"], game["parity_divergence_move"]) == ("passed", None)
    assert datetime.fromisoformat(game["parity_checked_at"])
    nothing = ("quality_score", "quality_category", "opponent_type", "opponent_model_id")
    assert [game[name] for name in nothing] == [None] * 4


def _players(config: str, game: sqlite3.Row, seats: list[sqlite3.Row]) -> None:
    _, _, rings, _ = BOARDS[game["board_type"]]
    assert [seat["player_number"] for seat in seats] == list(range(1, game["num_players"] + 1))
    for seat in seats:
        assert (seat["player_type"], seat["ai_type"], seat["ai_profile_id"]) == ("ai", "mcts_heuristic", None)
        assert seat["final_eliminated_rings"] >= 0
        assert 0 <= seat["final_rings_in_hand"] <= rings
        assert 0 <= seat["final_territory_spaces"] <= BOARDS[game["board_type"]][1]


def _moves(config: str, game: sqlite3.Row, moves: list[sqlite3.Row]) -> None:
    board = game["board_type"]
    assert [move["move_number"] for move in moves] == list(range(game["total_moves"]))
    turns = [move["turn_number"] for move in moves]
    changes = [before["player"] != after["player"] for before, after in pairwise(moves)]
    assert turns == [sum(changes[:i]) for i in range(len(moves))]
    assert game["total_turns"] == turns[-1] + 1
    assert Counter(move["move_type"] for move in moves)["place_ring"] > 0
    probabilities = 0
    for move in moves:
        assert move["move_type"] in CONTRACT[move["phase"]]
        said = json.loads(move["move_json"])
        assert said["id"] == f"{game['game_id']}-m{move['move_number']}"
        assert (said["type"], said["player"]) == (move["move_type"], move["player"])
        assert said["moveNumber"] == move["move_number"] + 1
        _fields(board, move["player"], said)
        assert datetime.fromisoformat(move["timestamp"])
        if move["move_probs"] is not None:
            probabilities += 1
            assert sum(json.loads(move["move_probs"]).values()) == pytest.approx(1.0, abs=1e-3)
    assert probabilities > 10


def _fields(board: str, player: int, move: dict[str, Any]) -> None:
    """What RingRift needs of a move of this type is there, and it lies on the board."""
    kind = move["type"]
    needed = NEEDED.get(kind, set())
    assert needed <= set(move), move
    if not needed:
        assert (move["from"], move["to"]) == (None, None)
        assert set(move) == {"id", "type", "player", "from", "to", "moveNumber"}
    for name in ("from", "to", "captureTarget"):
        if move.get(name) is not None:
            _on_board(board, move[name])
    for name in ("collapsedMarkers", "collapsePositions"):
        for position in move.get(name, []):
            _on_board(board, position)
    if kind == "place_ring":
        assert move["placementCount"] in (1, 2, 3)
    if "formedLines" in needed:
        line = move["formedLines"][0]
        assert (line["player"], line["length"]) == (player, len(line["positions"]))
        assert set(line["direction"]) == set(line["positions"][0])
        assert all(a in line["positions"] for a in move.get("collapsedMarkers", []))
    if kind == "choose_territory_option":
        region = move["disconnectedRegions"][0]
        assert (region["controllingPlayer"], region["isDisconnected"]) == (player, True)
        assert move["to"] in region["spaces"]
        for position in region["spaces"]:
            _on_board(board, position)
    if kind == "eliminate_rings_from_stack":
        assert move["eliminationContext"] in ("line", "territory", "recovery")
    if kind == "recovery_slide":
        assert move["recoveryMode"] in ("line", "fallback", "stack_strike")
        assert all(isinstance(key, str) for key in move["extractionStacks"])
        assert len(move["extractionStacks"]) == (0 if move.get("recoveryOption") == 2 else 1)
        assert ("recoveryOption" in move) == (move["recoveryMode"] == "line")


def _on_board(board: str, position: dict[str, int]) -> None:
    if board in RADIUS:
        assert set(position) == {"x", "y", "z"}
        assert sum(position.values()) == 0
        assert max(map(abs, position.values())) <= RADIUS[board]
    else:
        assert set(position) == {"x", "y"}
        assert all(0 <= value < BOARDS[board][0] for value in position.values())


def _start(config: str, game: sqlite3.Row, state: dict[str, Any]) -> None:
    board, players = game["board_type"], game["num_players"]
    size, cells, rings, thresholds = BOARDS[board]
    minimum = cells // players + 1
    assert (state["id"], state["boardType"], state["rngSeed"]) == ("self-play", board, game["rng_seed"])
    assert (state["currentPhase"], state["currentPlayer"], state["gameStatus"]) == ("ring_placement", 1, "active")
    assert (state["victoryThreshold"], state["totalRingsInPlay"]) == (thresholds[players - 2], rings * players)
    assert (state["territoryVictoryMinimum"], state["territoryVictoryThreshold"]) == (minimum, minimum)
    assert (state["lpsRoundsRequired"], state["maxPlayers"], state["winner"]) == (3, players, None)
    assert state["rulesOptions"] == ({"swapRuleEnabled": False} if players == 2 else None)
    assert state["timeControl"] == {"initialTime": 600, "increment": 0, "type": "blitz"}
    assert (state["board"]["type"], state["board"]["size"]) == (board, size)
    assert [state["board"][name] for name in ("stacks", "markers", "collapsedSpaces")] == [{}, {}, {}]
    assert state["board"]["eliminatedRings"] == {str(seat): 0 for seat in range(1, players + 1)}
    assert [seat["playerNumber"] for seat in state["players"]] == list(range(1, players + 1))
    for seat in state["players"]:
        assert (seat["id"], seat["username"]) == (f"p{seat['playerNumber']}", f"AI {seat['playerNumber']}")
        assert (seat["ringsInHand"], seat["eliminatedRings"], seat["territorySpaces"]) == (rings, 0, 0)
    assert {"moveHistory", "spectators", "createdAt", "lastMoveAt", "chainCaptureState", "mustMoveFromStackKey"} <= set(
        state
    )
