"""Positions for checks that need real ones: out of seeded random games, with at least two legal moves."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip  (sets the cache folder before numba loads)

import numpy as np
import numpy.typing as npt

from ringrift_ops.network.policy import policy_index
from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED, S_PLAYER
from ringrift_ops.rules.playout import random_below
from ringrift_ops.rules.turn import apply_move, legal_moves


class Probe(NamedTuple):
    """Positions with their legal moves, in both forms in which nets are asked."""

    states: npt.NDArray[np.int64]  # [N, words]
    moves: npt.NDArray[np.int64]  # [N, widest]
    counts: npt.NDArray[np.int64]  # [N]
    indptr: npt.NDArray[np.int64]  # [N + 1]
    indices: npt.NDArray[np.int32]  # [total] policy indices of all moves


@jit_allocating
def _collect(G, start, seed, every, states, moves, counts, zero):
    """Every so many positions with a choice; lists longer than the buffer are passed over."""
    rng = np.array([seed], dtype=np.uint64)
    buffer = np.empty(MOVE_BUFFER, dtype=np.int64)
    s = start.copy()
    k, seen = 0, 0
    while k < states.shape[0]:
        if s[S_COMPLETED]:
            copy_state(s, start)
        n = legal_moves(G, s, buffer, zero)
        if 1 < n <= moves.shape[1]:
            seen += 1
            if seen % every == 0:
                copy_state(states[k], s)
                moves[k, :n] = buffer[:n]
                counts[k] = n
                k += 1
        apply_move(G, s, buffer[random_below(rng, n)], buffer, zero)


@jit
def _indices(G, states, moves, counts, out):
    k = 0
    for i in range(states.shape[0]):
        for m in range(counts[i]):
            out[k] = policy_index(G, moves[i, m], states[i, S_PLAYER])
            k += 1


def probe(config: str, count: int, *, seed: int = 1, every: int = 7, widest: int = 1024) -> Probe:
    """``count`` positions of random games of a config, one of ``every`` that offer a choice."""
    rules = game(config)
    g: Any = rules.geometry
    states = np.empty((count, rules.size), dtype=np.int64)
    moves = np.zeros((count, widest), dtype=np.int64)
    counts = np.zeros(count, dtype=np.int64)
    _collect(g, rules.initial_state(), np.uint64(seed), every, states, moves, counts, rules.zero)
    moves = np.ascontiguousarray(moves[:, : int(counts.max())])
    indices = np.empty(int(counts.sum()), dtype=np.int32)
    _indices(g, states, moves, counts, indices)
    return Probe(states, moves, counts, np.concatenate([[0], np.cumsum(counts)]), indices)
