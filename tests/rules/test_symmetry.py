"""Symmetries of the rules: the subgroup named in ``rules/symmetry.py``, held against play and recorded positions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.rules.boards import BOARDS
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import S_COMPLETED
from ringrift_ops.rules.symmetry import (
    board_symmetries,
    exact_symmetries,
    image_of_moves,
    image_of_state,
    rule_symmetries,
)

POSITIONS = Path(__file__).parents[1] / "data" / "positions.jsonl.gz"
CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]


def _agree(rules: Game, state: np.ndarray, symmetry: int, moves: np.ndarray) -> bool:
    """Image of the legal list = legal list of the image."""
    image = image_of_state(rules, state, symmetry)
    return bool(
        np.array_equal(np.sort(image_of_moves(rules, state, moves, symmetry)), np.sort(rules.legal_moves(image)))
    )


def _steps_agree(rules: Game, state: np.ndarray, symmetry: int, moves: np.ndarray) -> bool:
    """Image of the position after a move = position after the move's image."""
    image = image_of_state(rules, state, symmetry)
    for move, moved in zip(moves, image_of_moves(rules, state, moves, symmetry), strict=True):
        after = image_of_state(rules, rules.apply_unchecked(state, int(move)), symmetry)
        if rules.state_string(after) != rules.state_string(rules.apply_unchecked(image, int(moved))):
            return False
    return True


@pytest.mark.parametrize("name", BOARDS)
def test_the_symmetries_are_a_group_of_8_or_12_permutations_that_keep_neighbours(name: str) -> None:
    board, all_of_them = BOARDS[name], board_symmetries(name)
    assert len(all_of_them) == (12 if board.is_hex else 8)
    rows = {row.tobytes() for row in all_of_them.ranks}
    assert len(rows) == len(all_of_them)
    for a in all_of_them.ranks:
        assert sorted(a) == list(range(len(board.cells)))
        for b in all_of_them.ranks:
            assert a[b].tobytes() in rows
    for k in range(len(all_of_them)):
        for cell in board.cells:
            for d, (dx, dy) in enumerate(board.directions):
                neighbour = (cell[0] + dx, cell[1] + dy)
                if neighbour in board.cells[:1] + board.cells[-1:]:  # the corners, F20
                    image = all_of_them.cells[k, board.index(cell)]
                    step = board.directions[all_of_them.directions[k, d]]
                    (x, y) = next(c for c in board.cells if board.index(c) == image)
                    assert all_of_them.cells[k, board.index(neighbour)] == board.index((x + step[0], y + step[1]))


@pytest.mark.parametrize("name", BOARDS)
def test_both_subgroups_are_closed_and_nested(name: str) -> None:
    table = board_symmetries(name)
    for subgroup in (exact_symmetries(name), rule_symmetries(name)):
        rows = {table.ranks[k].tobytes() for k in subgroup}
        assert all(table.ranks[a][table.ranks[b]].tobytes() in rows for a in subgroup for b in subgroup)
    assert set(exact_symmetries(name)) <= set(rule_symmetries(name))


@pytest.mark.parametrize("config", CONFIGS)
def test_random_games_look_the_same_from_every_symmetry_of_the_rules(config: str) -> None:
    rules = game(config)
    small = len(rules.board.cells) < 100
    rng = np.random.default_rng(11)
    kept = rule_symmetries(rules.board.name)
    for _ in range(4 if small else 1):
        state, ply = rules.initial_state(), 0
        while not state[S_COMPLETED]:
            moves = rules.legal_moves(state)
            if small or ply % 25 == 0 or len(moves) < 6:
                for symmetry in kept if ply % 4 == 0 else (kept[1 + ply % (len(kept) - 1)],):
                    assert _agree(rules, state, symmetry, moves), rules.state_string(state)
            move = int(rng.choice(moves))
            if small or ply % 25 == 0 or len(moves) < 6:
                symmetry = kept[ply % len(kept)]
                assert _steps_agree(rules, state, symmetry, np.array([move])), rules.state_string(state)
            state, ply = rules.apply_unchecked(state, move), ply + 1


def test_recorded_positions_look_the_same_from_the_exact_symmetries() -> None:
    compared = 0
    with gzip.open(POSITIONS, "rt") as file:
        for line in file:
            record = json.loads(line)
            rules = game(f"{record['board']}_{record['players']}p")
            state = rules.parse_state(record["s"])
            moves = rules.legal_moves(state)
            for symmetry in exact_symmetries(rules.board.name):
                assert _agree(rules, state, symmetry, moves), record["s"]
                assert _steps_agree(rules, state, symmetry, moves[:: max(1, len(moves) // 10)]), record["s"]
                compared += 1
    assert compared >= 60


def _fails(config: str, text: str) -> set[str]:
    """Names of the symmetries under which this position's list or next positions differ."""
    rules = game(config)
    state = rules.parse_state(text)
    moves = rules.legal_moves(state)
    names = board_symmetries(rules.board.name).names
    return {
        names[k]
        for k in range(len(names))
        if not (_agree(rules, state, k, moves) and _steps_agree(rules, state, k, moves))
    }


def test_T9_border_spreading_on_hex8_breaks_the_eight_symmetries_that_are_left_out() -> None:
    # the cell (0,0) walled in by six markers of 1; the marker of 2 at (1,1)+(1,0) touches none of them,
    # but (1,1) beyond (1,0) is a wide step from it
    walls = "-1,0:1 -1,1:1 0,-1:1 0,1:1 1,-1:1 1,0:1 2,1:2"
    text = f"p1;TP;A;m-;c-;e-;ta;h10/10;x0/0;g0/0;l0/--/0/0;y-;s-3,0:1 0,0:2 3,-3:2;k{walls};z"
    kept = {board_symmetries("hex8").names[k] for k in rule_symmetries("hex8")}
    assert _fails("hex8_2p", text) == set(board_symmetries("hex8").names) - kept


def test_T13_crossing_recovery_lines_break_what_exchanges_the_axes() -> None:
    # RULES.md 8.14: the slide (4,1)->(3,0) makes a run of 3 along x and one of 4 along y
    markers = "1,0:1 2,0:1 3,1:1 3,2:1 3,3:1 4,1:1"
    text = f"p1;MV;A;m-;c-;e-;t-;h0/9/9;x0/0/0;g0/0/0;l0/---/0/0;y-;s6,6:12;k{markers};z"
    failing = _fails("square8_3p", text)
    assert failing == {"quarter turn", "three quarter turn", "(x,y) -> (y,x)", "(x,y) -> (-y,-x)"}
