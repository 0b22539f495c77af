"""The heuristic player and its games."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from ringrift_ops.players.evaluator import evaluate
from ringrift_ops.players.heuristic import (
    HEURISTIC,
    RANDOM,
    STYLE_WEIGHTS,
    choose,
    every_seat,
    heuristic_games,
    pick_softmax,
    style,
    value_moves,
)
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_PLAYER, SWAP_SIDES

CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]
STYLES = np.stack([RANDOM, HEURISTIC])


def _seeds(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.uint64) * np.uint64(1_000_003)


def _values(rules: Game, state: np.ndarray, moves: np.ndarray) -> np.ndarray:
    values, scratch = np.empty(MOVE_BUFFER), np.empty(MOVE_BUFFER, dtype=np.int64)
    weights = HEURISTIC[STYLE_WEIGHTS:]
    value_moves(rules.geometry, state, moves, len(moves), weights, values, state.copy(), scratch, rules.zero)
    return values[: len(moves)]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["hex8_2p", "square8_2p"])
def test_it_beats_random_from_every_seat_with_a_lower_bound_of_75_percent(config: str) -> None:
    seats = every_seat(2000, 2)
    games = heuristic_games(game(config), STYLES, seats, _seeds(2000))
    won = seats[np.arange(2000), np.maximum(games.winners - 1, 0)] == 1
    wins = int((won & (games.winners > 0)).sum())
    assert beta.ppf(0.05, wins, 2000 - wins + 1) >= 0.75  # Clopper-Pearson
    for seat in (0, 1):
        assert won[seats[:, seat] == 1].mean() > 0.7


@pytest.mark.parametrize("config", CONFIGS)
def test_games_of_every_config_replay_to_the_recorded_winner(config: str) -> None:
    rules = game(config)
    count = 4 if rules.zero == 0 else 1
    games = heuristic_games(rules, STYLES, every_seat(count, rules.players), _seeds(count), openings=3)
    for moves, length, winner in zip(games.moves, games.lengths, games.winners, strict=True):
        state = rules.initial_state()
        for move in moves[:length]:
            state = rules.apply(state, move)
        result = rules.result(state)
        assert result is not None
        assert result.winner == winner


def test_a_game_depends_on_its_own_seed_alone() -> None:
    rules, seeds = game("hex8_2p"), _seeds(6)
    together = heuristic_games(rules, STYLES, np.ones((6, 2), dtype=np.int64), seeds, openings=4)
    alone = heuristic_games(rules, STYLES, np.ones((1, 2), dtype=np.int64), seeds[4:5], openings=4)
    assert together.lengths[4] == alone.lengths[0]
    assert np.array_equal(together.moves[4, : together.lengths[4]], alone.moves[0, : alone.lengths[0]])


def test_it_plays_a_best_move_and_draws_among_equals() -> None:
    rules = game("square8_2p")
    state = rules.initial_state()
    moves = rules.legal_moves(state)
    values = _values(rules, state, moves)
    best = set(moves[values >= values.max() - 1e-9].tolist())
    assert len(best) > 1
    rng, scratch = np.array([5], dtype=np.uint64), np.empty(MOVE_BUFFER, dtype=np.int64)
    buffers = np.empty(MOVE_BUFFER), state.copy(), scratch
    drawn = {
        int(choose(rules.geometry, state, moves, len(moves), HEURISTIC, rng, *buffers, rules.zero)) for _ in range(200)
    }
    assert drawn == best


def test_the_value_of_a_move_is_that_of_the_position_after_it_for_the_seat_that_made_it() -> None:
    rules = game("hex8_3p")
    games = heuristic_games(rules, STYLES, np.ones((1, 3), dtype=np.int64), _seeds(1), openings=10)
    state = rules.initial_state()
    for move in games.moves[0, : games.lengths[0]]:
        moves = rules.legal_moves(state)
        for candidate, value in zip(moves, _values(rules, state, moves), strict=True):
            after = rules.apply_unchecked(state, int(candidate))
            weights = HEURISTIC[STYLE_WEIGHTS:]
            assert value == evaluate(rules.geometry, after, state[S_PLAYER], weights, rules.zero)
        state = rules.apply_unchecked(state, int(move))


def test_swap_sides_is_valued_from_the_other_seat() -> None:
    rules = game("square8_2p")
    state = rules.initial_state(swap_rule=True)
    for key in ("P3,3*1", "M3,3>3,5", "0L", "0T"):
        state = rules.apply(state, rules.parse_key(state, key))
    moves = rules.legal_moves(state)
    swap = int(np.flatnonzero(moves & 31 == SWAP_SIDES)[0])
    after = rules.apply_unchecked(state, int(moves[swap]))
    expected = evaluate(rules.geometry, after, 1, HEURISTIC[STYLE_WEIGHTS:], rules.zero)
    assert _values(rules, state, moves)[swap] == expected


def test_a_uniform_share_and_a_temperature_make_games_differ() -> None:
    rules = game("hex8_2p")
    styles = np.stack([style(temperature=20.0), style(uniform=0.2)])
    games = heuristic_games(rules, styles, np.tile([0, 1], (40, 1)), _seeds(40), openings=2)
    distinct = {games.moves[g, : games.lengths[g]].tobytes() for g in range(40)}
    assert len(distinct) == 40


def test_softmax_prefers_the_greater_value_in_the_right_proportion() -> None:
    rng = np.array([1], dtype=np.uint64)
    drawn = [pick_softmax(np.array([0.0, 2.0]), 2, 1.0, rng) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(np.exp(2) / (1 + np.exp(2)), abs=0.03)


def test_a_game_longer_than_the_record_is_left_unfinished_F23() -> None:
    games = heuristic_games(game("hex8_2p"), STYLES, np.zeros((1, 2), dtype=np.int64), _seeds(1), max_moves=10)
    assert (games.lengths[0], games.winners[0], games.kinds[0]) == (10, 0, 0)
