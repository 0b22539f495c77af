"""One contract for all twelve configs: shapes, dtypes, single = batched, terminal states, text round trips."""

from __future__ import annotations

import numpy as np
import pytest

from ringrift_ops.errors import UsageError
from ringrift_ops.rules import layout as l
from ringrift_ops.rules.boards import BOARDS, H_STATE, UnknownBoardError, geometry
from ringrift_ops.rules.game import Game, IllegalMoveError, StateStringError, game
from ringrift_ops.rules.invariants import broken_invariant
from ringrift_ops.rules.playout import random_game, random_games

CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]
THRESHOLDS = {  # RULES.md 1.4: cells, rings, L, D, V, T
    "square8_2p": (64, 18, 4, 3, 18, 33), "square8_3p": (64, 18, 3, 3, 24, 22), "square8_4p": (64, 18, 3, 3, 30, 17),
    "square19_2p": (361, 72, 4, 4, 72, 181), "square19_3p": (361, 72, 4, 4, 96, 121),
    "square19_4p": (361, 72, 4, 4, 120, 91),
    "hex8_2p": (61, 18, 4, 4, 18, 31), "hex8_3p": (61, 18, 3, 4, 24, 21), "hex8_4p": (61, 18, 3, 4, 30, 16),
    "hexagonal_2p": (469, 96, 4, 4, 96, 235), "hexagonal_3p": (469, 96, 4, 4, 128, 157),
    "hexagonal_4p": (469, 96, 4, 4, 160, 118),
}  # fmt: skip


def _recorded(rules: Game, seed: int) -> np.ndarray:
    """Move codes of one random game played by the compiled loop."""
    record, scratch = np.empty(5000, dtype=np.int64), np.empty(l.MOVE_BUFFER, dtype=np.int64)
    made = random_game(rules.geometry, rules.initial_state(), seed, record, scratch, rules.zero)
    return record[:made]


@pytest.mark.parametrize("config", CONFIGS)
def test_R061_R062_R120_thresholds_of_the_config(config: str) -> None:
    rules = game(config)
    board, n = rules.board, rules.players
    found = (len(board.cells), board.rings_per_player, board.line_length(n), board.detect, board.victory_rings(n),
             board.territory_minimum(n))  # fmt: skip
    assert found == THRESHOLDS[config]


@pytest.mark.parametrize("config", CONFIGS)
def test_states_and_moves_have_the_promised_shapes_and_dtypes(config: str) -> None:
    rules = game(config)
    state = rules.initial_state()
    moves = rules.legal_moves(state)
    assert (state.dtype, state.shape) == (np.int64, (rules.size,))
    assert state.flags.c_contiguous
    assert (moves.dtype, moves.ndim) == (np.int64, 1)
    assert rules.size == geometry(rules.board.name, rules.players)[H_STATE]
    assert len(moves) == 3 * len(rules.board.cells)  # RULES.md App. C2
    assert not geometry(rules.board.name, rules.players).flags.writeable


@pytest.mark.parametrize("config", CONFIGS)
def test_one_game_step_by_step_is_the_game_of_the_compiled_loop(config: str) -> None:
    rules = game(config)
    state = rules.initial_state()
    for ply, move in enumerate(_recorded(rules, seed=5)):
        assert state[l.S_PLY] == ply
        assert not rules.is_over(state)
        state = rules.apply(state, int(move))
    assert rules.is_over(state)
    assert broken_invariant(rules.geometry, state, rules.zero) == 0


@pytest.mark.parametrize("config", CONFIGS)
def test_games_played_in_one_call_are_those_played_one_by_one(config: str) -> None:
    rules = game(config)
    scratch = np.empty(l.MOVE_BUFFER, dtype=np.int64)
    start = rules.initial_state()
    n = 20 if len(rules.board.cells) < 100 else 2
    steps, wins = random_games(rules.geometry, start, n, 1, 10_000, scratch, rules.zero)
    assert wins.sum() == n
    assert wins[0] == 0
    assert rules.state_string(start) == rules.state_string(rules.initial_state())
    again, wins_again = random_games(rules.geometry, start, n, 1, 10_000, scratch, rules.zero)
    assert (steps, wins.tolist()) == (again, wins_again.tolist())


@pytest.mark.parametrize("config", CONFIGS)
def test_apply_leaves_its_argument_alone_and_a_finished_game_offers_nothing(config: str) -> None:
    rules = game(config)
    state = rules.initial_state()
    before = state.copy()
    for move in _recorded(rules, seed=9):
        after = rules.apply_unchecked(state, int(move))
        assert np.array_equal(before, state)
        state, before = after, after.copy()
    result = rules.result(state)
    assert result is not None
    assert 1 <= result.winner <= rules.players
    assert result.reason in l.REASONS[1:]
    assert sorted(rules.standings(state)) == list(range(1, rules.players + 1))
    assert len(rules.legal_moves(state)) == 0
    assert (state[l.S_PLAYER], state[l.S_PHASE]) == (0, l.GAME_OVER)
    assert ";GO;C" in rules.state_string(state)
    with pytest.raises(IllegalMoveError, match="not legal"):
        rules.apply(state, int(l.NO_PLACEMENT))


@pytest.mark.parametrize("config", CONFIGS)
def test_state_strings_and_keys_come_back_as_what_they_were(config: str) -> None:
    rules = game(config)
    state = rules.initial_state()
    moves = _recorded(rules, seed=3)
    stride = max(1, len(moves) // 60)
    for ply, move in enumerate(moves):
        if ply % stride == 0:
            text = rules.state_string(state)
            parsed = rules.parse_state(text)
            assert rules.state_string(parsed) == text
            assert rules.state_hash(parsed) == rules.state_hash(state)
            assert np.array_equal(rules.legal_moves(parsed), rules.legal_moves(state))
            assert rules.legal_hash(parsed) == rules.legal_hash(state)
            assert rules.parse_key(state, rules.key(state, int(move))) == move
        state = rules.apply_unchecked(state, int(move))


def _extremes(config: str) -> list[tuple[int, int]]:
    cells = BOARDS[config.split("_")[0]].cells
    far = max(x for x, _ in cells)
    corners = {min(cells), max(cells), (0, 0)} | {c for c in cells if abs(c[0]) == far and c[1] in (0, far, -far)}
    return sorted(corners & set(cells))


@pytest.mark.parametrize("config", CONFIGS)
def test_F20_the_cell_0_0_and_the_far_corners_are_cells_like_others(config: str) -> None:
    rules = game(config)
    for cell in _extremes(config):
        key = f"P{cell[0]},{cell[1]}*2"
        placed = rules.apply(rules.initial_state(), rules.parse_key(rules.initial_state(), key))
        assert f";s{cell[0]},{cell[1]}:11;" in rules.state_string(placed)
        moves = rules.legal_moves(placed)
        assert len(moves) > 0
        assert all(k.startswith(f"M{cell[0]},{cell[1]}>") for k in rules.keys(placed, moves))
        for move in moves:
            after = rules.apply_unchecked(placed, int(move))
            assert broken_invariant(rules.geometry, after, rules.zero) == 0
            assert f";k{cell[0]},{cell[1]}:1;" in rules.state_string(after)


@pytest.mark.parametrize("config", CONFIGS)
def test_F20_a_stack_reaches_every_far_corner_on_its_lines_and_comes_back(config: str) -> None:
    rules = game(config)
    board = rules.board
    cells = set(board.cells)
    for corner in _extremes(config):
        for d in board.directions:
            far = corner
            while (far[0] + d[0], far[1] + d[1]) in cells:
                far = (far[0] + d[0], far[1] + d[1])
            if far == corner:
                continue
            state = rules.initial_state()
            for key in (f"P{corner[0]},{corner[1]}*1", f"M{corner[0]},{corner[1]}>{far[0]},{far[1]}"):
                state = rules.apply(state, rules.parse_key(state, key))
            assert f";s{far[0]},{far[1]}:1;k{corner[0]},{corner[1]}:1;" in rules.state_string(state)


@pytest.mark.parametrize("config", ["hex8_5p", "hex9_2p", "hex8", "", "square8_2p "])
def test_unknown_configs_are_refused(config: str) -> None:
    with pytest.raises(UsageError, match="is not a config"):
        game(config)


def test_unknown_boards_and_player_counts_are_refused() -> None:
    with pytest.raises(UnknownBoardError, match="there are: square8"):
        geometry("hex9", 2)
    with pytest.raises(UnknownBoardError, match="not 5"):
        geometry("hex8", 5)
    with pytest.raises(UsageError, match="needs 2 players"):
        game("hex8_3p").initial_state(swap_rule=True)


GOOD = "p1;RP;A;m-;c-;e-;t-;h18/18;x0/0;g0/0;l0/--/0/0;y-;s;k;z"


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("p1;", "", "15 fields"),
        ("s;", "s9,9:1;", r"\(9, 9\) is not a cell"),
        ("s;", "s0,0:13;", "names a seat that does not exist"),
        ("k;", "k0:1;", "is not a cell"),
        ("s;k;", "s1,1:1;k1,1:2;", "two things on 1,1"),
        ("h18/18", "h18/18/18", "does not have 2 seats"),
        ("RP", "XX", "not a state string"),
        ("s;", "s0,0:" + "1" * 101 + ";", "more rings than"),
    ],
)
def test_a_bad_state_string_says_what_is_wrong(find: str, put: str, message: str) -> None:
    assert game("square8_2p").state_string(game("square8_2p").parse_state(GOOD)) == GOOD
    with pytest.raises(StateStringError, match=message):
        game("square8_2p").parse_state(GOOD.replace(find, put))


def test_a_key_that_is_not_legal_is_refused_with_the_position() -> None:
    rules = game("square8_2p")
    with pytest.raises(IllegalMoveError, match=r"P3,3\*4 is not among the 192 legal moves of square8_2p"):
        rules.parse_key(rules.initial_state(), "P3,3*4")


MOVING = "p1;MV;A;m-;c-;e-;ta;h17/18;x0/0;g0/0;l1/1-/0/0;y-;s0,0:12 3,1:2;k1,1:1;z2,2:2"


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("p1", "p0"), ("p1", "p3"), ("p1", "p-1"), ("p1", "q1"), ("MV", "XX"), (";MV", ";GO"), ("A", "C9"), ("A", "C1"),
        (";MV", ";CA"), (";MV", ";CC"), ("m-", "m9,9"), ("c-", "x-"), ("e-", "eX"), ("h17", "h-1"),
        ("h17", "h99999999999999999999"), ("h17/18", "h17"), ("x0/0", "x0/0/0"), ("g0/0", "g0/70000"),
        ("l1/1-", "l7/1-"), ("l1/1-", "l1/1-0"), ("0/0;y", "0/9;y"), ("y-", "y99"), ("0,0:12", "0,0:13"),
        ("0,0:12", "0,0:"), ("0,0:12", "8,8:12"), ("0,0:12", "1,1:12"), ("0,0:12", "0,0:" + "1" * 400),
        ("k1,1:1", "k1,1:12"), ("z2,2:2", "z2,2:0"),
    ],
)  # fmt: skip
def test_a_state_string_that_no_position_has_never_reaches_compiled_code(there: str, instead: str) -> None:
    rules = game("square8_2p")
    assert rules.state_string(rules.parse_state(MOVING)) == MOVING
    assert there in MOVING
    with pytest.raises(StateStringError):
        rules.parse_state(MOVING.replace(there, instead, 1))
