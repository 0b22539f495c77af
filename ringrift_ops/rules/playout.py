"""Random play-outs as compiled loops, and the small generator they draw from."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip

import numpy as np

from ringrift_ops.rules.bits import copy_state, count, lowest, without_lowest
from ringrift_ops.rules.layout import (
    PLACE,
    RING_PLACEMENT,
    S_COMPLETED,
    S_HAND,
    S_PHASE,
    S_PLAYER,
    S_PLY,
    S_SWAP,
    S_WINNER,
    SKIP_PLACEMENT,
    SWAP_OFFERED,
)
from ringrift_ops.rules.movement import pack
from ringrift_ops.rules.placement import placement_sets
from ringrift_ops.rules.turn import apply_move, legal_moves, may_skip_placement


@jit
def next_random(rng):
    """The next 64 bits of SplitMix64 (Steele, Lea, Flood 2014); ``rng`` is uint64 [1], changed in place."""
    rng[0] += np.uint64(0x9E3779B97F4A7C15)
    z = rng[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit
def random_below(rng, n):
    """A uniform int64 in [0, n) for n < 2^32 (multiply-shift; bias below n / 2^32)."""
    return np.int64(((next_random(rng) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@jit
def random_unit(rng):
    """A uniform float64 in [0, 1)."""
    return np.float64(next_random(rng) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@jit
def _random_cell(cells, rng):
    """A uniform cell of a set that is not empty."""
    for _ in range(random_below(rng, count(cells))):
        cells = without_lowest(cells)
    return lowest(cells)


@jit
def _random_placement(G, s, rng, zero):
    """A uniform move of the placement phase without writing the list; -1 where the list is short."""
    p = s[S_PLAYER]
    if s[S_HAND + p - 1] == 0 or s[S_SWAP] & SWAP_OFFERED:
        return np.int64(-1)
    one, two, three = placement_sets(G, s, p, zero)
    n1, n2, n3 = count(one), count(two), count(three)
    if n1 == 0:
        return np.int64(-1)
    k = random_below(rng, n1 + n2 + n3 + (1 if may_skip_placement(G, s) else 0))
    if k < n1:
        return pack(PLACE, _random_cell(one, rng), 0, 0, 1)
    if k < n1 + n2:
        return pack(PLACE, _random_cell(two, rng), 0, 0, 2)
    if k < n1 + n2 + n3:
        return pack(PLACE, _random_cell(three, rng), 0, 0, 3)
    return pack(SKIP_PLACEMENT, 0, 0, 0, 0)


@jit
def random_move(G, s, rng, moves, zero):
    """A uniform legal move of a game that is not over."""
    if s[S_PHASE] == RING_PLACEMENT:
        move = _random_placement(G, s, rng, zero)
        if move >= 0:
            return move
    n = legal_moves(G, s, moves, zero)
    return moves[0] if n == 1 else moves[random_below(rng, n)]


@jit
def play_randomly(G, s, rng, moves, max_moves, zero):
    """Play uniform legal moves until the game ends or ``max_moves`` were made; return how many."""
    made = 0
    while not s[S_COMPLETED] and made < max_moves:
        apply_move(G, s, random_move(G, s, rng, moves, zero), moves, zero)
        made += 1
    return made


@jit_allocating
def random_games(G, start, games, seed, max_moves, moves, zero):
    """Play ``games`` games from ``start``; return (steps, wins per seat int64 [5], seat 0 = none)."""
    rng = np.array([seed], dtype=np.uint64)
    s = start.copy()
    wins = np.zeros(5, dtype=np.int64)
    steps = 0
    for _ in range(games):
        copy_state(s, start)
        steps += play_randomly(G, s, rng, moves, max_moves, zero)
        wins[s[S_WINNER]] += 1
    return steps, wins


@jit_allocating
def random_game(G, start, seed, record, moves, zero):
    """One random game; writes its move codes to ``record`` (int64 [max moves]); returns the count."""
    rng = np.array([seed], dtype=np.uint64)
    s = start.copy()
    while not s[S_COMPLETED] and s[S_PLY] < record.size:
        move = random_move(G, s, rng, moves, zero)
        record[s[S_PLY]] = move
        apply_move(G, s, move, moves, zero)
    return s[S_PLY]
