"""Positions of random games, as the tests of this room use them."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit_allocating  # isort: skip

from functools import cache

import numpy as np
import numpy.typing as npt

from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED
from ringrift_ops.rules.playout import random_below
from ringrift_ops.rules.turn import apply_move, legal_moves

SMALL = ("square8_2p", "square8_3p", "square8_4p", "hex8_2p", "hex8_3p", "hex8_4p")
LARGE = ("square19_2p", "square19_3p", "square19_4p", "hexagonal_2p", "hexagonal_3p", "hexagonal_4p")
CONFIGS = SMALL + LARGE


@jit_allocating
def _collect(G, start, seed, every, states, zero):  # type: ignore[no-untyped-def]  # compiled
    """Positions with a choice out of random games, every so many of them; the index of the first ply of each game."""
    rng = np.array([seed], dtype=np.uint64)
    moves = np.empty(MOVE_BUFFER, dtype=np.int64)
    s = start.copy()
    k, seen = 0, 0
    while k < states.shape[0]:
        if s[S_COMPLETED]:
            s[:] = start
        n = legal_moves(G, s, moves, zero)
        if n > 1:
            seen += 1
            if seen % every == 0:
                states[k] = s
                k += 1
        apply_move(G, s, moves[random_below(rng, n)], moves, zero)
    return k


@cache
def random_positions(config: str, count: int, seed: int = 1, every: int = 7) -> npt.NDArray[np.int64]:
    """``count`` positions with at least two legal moves out of random games, int64 [count, state words]."""
    rules = game(config)
    states = np.empty((count, rules.size), dtype=np.int64)
    _collect(rules.geometry, rules.initial_state(), np.uint64(seed), every, states, rules.zero)
    states.flags.writeable = False
    return states


def legal_lists(rules: Game, states: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Legal moves of each position: int64 [N, widest], int64 [N]."""
    lists = [rules.legal_moves(s) for s in states]
    counts = np.array([len(m) for m in lists], dtype=np.int64)
    moves = np.zeros((len(lists), int(counts.max())), dtype=np.int64)
    for row, legal in zip(moves, lists, strict=True):
        row[: len(legal)] = legal
    return moves, counts
