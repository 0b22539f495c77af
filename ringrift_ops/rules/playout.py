"""Random play-outs as compiled loops, and the small generator they draw from."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.layout import S_COMPLETED, S_PLY, S_WINNER
from ringrift_ops.rules.turn import apply_move, legal_moves


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
def play_randomly(G, s, rng, moves, max_moves, zero):
    """Play uniform legal moves until the game ends or ``max_moves`` were made; return how many."""
    made = 0
    while not s[S_COMPLETED] and made < max_moves:
        n = legal_moves(G, s, moves, zero)
        move = moves[0] if n == 1 else moves[random_below(rng, n)]
        apply_move(G, s, move, moves, zero)
        made += 1
    return made


@jit
def random_games(G, start, games, seed, max_moves, moves, zero):
    """Play ``games`` games from ``start``; return (steps, wins per seat int64 [5], seat 0 = none)."""
    rng = np.array([seed], dtype=np.uint64)
    s = start.copy()
    wins = np.zeros(5, dtype=np.int64)
    steps = 0
    for _ in range(games):
        s[:] = start
        steps += play_randomly(G, s, rng, moves, max_moves, zero)
        wins[s[S_WINNER]] += 1
    return steps, wins


@jit
def random_game(G, start, seed, record, moves, zero):
    """One random game; writes its move codes to ``record`` (int64 [max moves]); returns the count."""
    rng = np.array([seed], dtype=np.uint64)
    s = start.copy()
    while not s[S_COMPLETED] and s[S_PLY] < record.size:
        n = legal_moves(G, s, moves, zero)
        move = moves[random_below(rng, n)]
        record[s[S_PLY]] = move
        apply_move(G, s, move, moves, zero)
    return s[S_PLY]
