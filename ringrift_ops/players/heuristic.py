"""The heuristic player, one move deep: RULES.md 9.2; and whole games of it as one compiled loop.

For every legal move it values the position after it for the seat that made it and plays the best,
ties uniformly at random. ``swap_sides`` is valued from the other seat's view, because that is
where the player goes on. A single legal move is played without looking.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.players.evaluator import N_FEATURES, evaluate, evaluate_keeping
from ringrift_ops.players.weights import Weights, difficulty_weights
from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED, S_KIND, S_PLAYER, S_WINNER, SWAP_SIDES
from ringrift_ops.rules.playout import next_random, random_below, random_unit
from ringrift_ops.rules.turn import apply_move, legal_moves

TIE: Final = 1e-9
"""Values this close are equal: sums of the same terms may round differently."""

STYLE_UNIFORM, STYLE_TEMPERATURE, STYLE_WEIGHTS = 0, 1, 2
STYLE_SIZE: Final = STYLE_WEIGHTS + N_FEATURES

Style = npt.NDArray[np.float64]


def style(weights: Weights | None = None, temperature: float = 0.0, uniform: float = 0.0) -> Style:
    """How a seat plays, float64 [STYLE_SIZE].

    ``uniform`` is the share of uniformly random moves, ``temperature`` that of a softmax over the
    values in their own unit (0 = play the maximum), ``weights`` float64 [N_FEATURES] (default:
    difficulty 5).
    """
    out = np.empty(STYLE_SIZE)
    out[STYLE_UNIFORM], out[STYLE_TEMPERATURE] = uniform, temperature
    out[STYLE_WEIGHTS:] = difficulty_weights(5) if weights is None else weights
    return out


RANDOM: Final = style(uniform=1.0)
"""The random player: every move is uniform."""

HEURISTIC: Final = style()
"""The heuristic player of difficulty 5, aggressive weights: the baseline of the gauntlet."""


@jit
def value_moves(G, s, moves, n, weights, values, child, scratch, zero):
    """Write to ``values[:n]`` the value of each move for the seat to move.

    ``child`` int64 [G[H_STATE]] and ``scratch`` (a moves buffer, not ``moves``) are overwritten.
    """
    p = s[S_PLAYER]
    kept_markers = zero
    kept = (0.0, 0.0, 0.0)
    for i in range(n):
        copy_state(child, s)
        apply_move(G, child, moves[i], scratch, zero)
        if moves[i] & 31 == SWAP_SIDES:
            values[i] = evaluate(G, child, 3 - p, weights, zero)
        else:
            values[i], kept_markers, kept = evaluate_keeping(G, child, p, weights, kept_markers, kept, zero)


@jit
def pick_best(values, n, rng):
    """Index of the greatest of ``values[:n]``; among equals a uniformly random one."""
    best = values[0]
    for i in range(1, n):
        best = max(best, values[i])
    equals = 0
    chosen = 0
    for i in range(n):
        if values[i] >= best - TIE:
            equals += 1
            if equals == 1 or random_below(rng, equals) == 0:
                chosen = i
    return chosen


@jit
def pick_softmax(values, n, temperature, rng):
    """Index drawn with probability proportional to exp(value / temperature); overwrites ``values``."""
    best = values[0]
    for i in range(1, n):
        best = max(best, values[i])
    total = 0.0
    for i in range(n):
        values[i] = np.exp((values[i] - best) / temperature)
        total += values[i]
    rest = random_unit(rng) * total
    for i in range(n):
        rest -= values[i]
        if rest < 0.0:
            return i
    return n - 1


@jit
def choose(G, s, moves, n, how, rng, values, child, scratch, zero):
    """The move a seat of style ``how`` plays among ``moves[:n]`` (float64 [STYLE_SIZE]).

    ``rng`` is uint64 [1]; ``values`` float64 [moves.size], ``child`` and ``scratch`` are overwritten.
    """
    if n == 1:
        return moves[0]
    uniform = how[STYLE_UNIFORM]
    if uniform >= 1.0 or (uniform > 0.0 and random_unit(rng) < uniform):
        return moves[random_below(rng, n)]
    value_moves(G, s, moves, n, how[STYLE_WEIGHTS:], values, child, scratch, zero)
    if how[STYLE_TEMPERATURE] > 0.0:
        return moves[pick_softmax(values, n, how[STYLE_TEMPERATURE], rng)]
    return moves[pick_best(values, n, rng)]


@jit_allocating
def play_games(G, start, styles, seats, seeds, openings, record, lengths, winners, kinds, zero):
    """Play games from ``start`` to their end or until ``record`` is full.

    styles    float64 [K, STYLE_SIZE]   the players that take part
    seats     int64 [games, n]          row of ``styles`` in each seat
    seeds     uint64 [games]            each game depends on its own seed alone
    openings  int64 [games]             so many first moves are uniformly random
    record    int64 [games, max moves]  written: move codes
    lengths   int64 [games]             written: moves made
    winners   int64 [games]             written: winning seat, 0 = none or not finished
    kinds     int64 [games]             written: how it ended (KIND_*), 0 = not finished
    """
    s = start.copy()
    child = start.copy()
    moves = np.empty(MOVE_BUFFER, dtype=np.int64)
    scratch = np.empty(MOVE_BUFFER, dtype=np.int64)
    values = np.empty(MOVE_BUFFER, dtype=np.float64)
    rng = np.empty(1, dtype=np.uint64)
    for game in range(seeds.size):
        rng[0] = seeds[game]
        next_random(rng)
        copy_state(s, start)
        made = 0
        while not s[S_COMPLETED] and made < record.shape[1]:
            n = legal_moves(G, s, moves, zero)
            if made < openings[game]:
                move = moves[random_below(rng, n)]
            else:
                how = styles[seats[game, s[S_PLAYER] - 1]]
                move = choose(G, s, moves, n, how, rng, values, child, scratch, zero)
            record[game, made] = move
            apply_move(G, s, move, scratch, zero)
            made += 1
        lengths[game] = made
        winners[game] = s[S_WINNER]
        kinds[game] = s[S_KIND]


@dataclass(frozen=True)
class Games:
    """Games of one batch.

    ``moves`` int64 [games, max moves]: row g holds ``lengths[g]`` move codes. ``winners`` int64
    [games]: 0 = none or not finished. ``kinds`` int64 [games]: ``layout.KINDS``, 0 = not finished.
    """

    moves: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    winners: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]


MAX_MOVES: Final = 4_000
"""Longer than any game seen by a factor of two (RULES.md App. C2: 1,690)."""


def heuristic_games(
    rules: Game,
    styles: npt.NDArray[np.float64],
    seats: npt.NDArray[np.int64],
    seeds: npt.NDArray[np.uint64],
    *,
    openings: npt.NDArray[np.int64] | int = 0,
    swap_rule: bool = False,
    max_moves: int = MAX_MOVES,
) -> Games:
    """Whole games of the seats' styles, in one compiled loop; see ``play_games`` for the shapes.

    Game g depends on ``seeds[g]``, ``seats[g]`` and its opening alone, not on the others.
    """
    n = len(seeds)
    games = Games(np.empty((n, max_moves), dtype=np.int64), *(np.zeros(n, dtype=np.int64) for _ in range(3)))
    play_games(
        rules.geometry,
        rules.initial_state(swap_rule),
        np.ascontiguousarray(styles),
        np.ascontiguousarray(seats, dtype=np.int64),
        np.ascontiguousarray(seeds, dtype=np.uint64),
        np.full(n, openings, dtype=np.int64) if isinstance(openings, int) else openings,
        games.moves,
        games.lengths,
        games.winners,
        games.kinds,
        rules.zero,
    )
    return games


def every_seat(games: int, players: int, hero: int = 1, others: int = 0) -> npt.NDArray[np.int64]:
    """Seats of a match, int64 [games, players]: style ``hero`` sits in seat g mod players + 1 of game g."""
    seats = np.full((games, players), others, dtype=np.int64)
    seats[np.arange(games), np.arange(games) % players] = hero
    return seats
