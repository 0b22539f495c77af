"""PUCT search of one decision: the one implementation that self-play and gauntlet share.

The evaluator is the heuristic or a sparse net, called inside compiled code; a convolutional net is
evaluated in batches by ``batched.py`` over the same tree (``tree.py``).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from typing import Final

import numpy as np

from ringrift_ops.network import sparse
from ringrift_ops.players.evaluator import evaluate as heuristic_score
from ringrift_ops.players.tree import (
    N_EDGES,
    add_root_noise,
    back_up,
    descend,
    expand,
    final_values,
    plant,
)
from ringrift_ops.rules.boards import H_PLAYERS
from ringrift_ops.rules.turn import legal_moves

HEURISTIC_EVALUATOR, SPARSE_EVALUATOR = 0, 1

HEURISTIC_SCALE: Final = 400.0
"""Heuristic points per unit of the logistic. Of 15 to 700, 400 played best: 84 % of 600 hex8_2p games
against the plain heuristic at 64 simulations (2026-11-23); 60 scored 78 %."""


@jit
def heuristic_values(G, s, weights, scale, values, zero):
    """Value vector from the heuristic's scores: n softmax(score / scale) - 1, scaled into [-1, 1]."""
    n = G[H_PLAYERS]
    highest = np.float32(-1e30)
    for i in range(n):
        values[i] = heuristic_score(G, s, i + 1, weights, zero) / scale
        highest = max(highest, values[i])
    total = np.float32(0.0)
    for i in range(n):
        values[i] = np.exp(values[i] - highest)
        total += values[i]
    for i in range(n):
        values[i] = (n * values[i] / total - 1.0) / (n - 1)


@jit
def evaluate_leaf(G, s, evaluator, parameters, scratch, weights, scale, moves, n, values, logits, zero):
    """Values (float32 [n seats]) and logits (float32 [n moves]) of a position with a choice."""
    if evaluator == SPARSE_EVALUATOR:
        sparse.evaluate(G, s, parameters, moves, n, scratch, values, logits, zero)
        return
    heuristic_values(G, s, weights, scale, values, zero)
    for i in range(n):
        logits[i] = 0.0


@jit
def search(
    G,
    s,
    tree,
    simulations,
    c_puct,
    noise,
    evaluator,
    parameters,
    scratch,
    weights,
    scale,
    moves,
    values,
    logits,
    rng,
    zero,
):
    """Fill ``tree`` with ``simulations`` simulations from ``s``, a position with a choice.

    moves int64 [any], values float32 [4], logits float32 [moves.size] are overwritten.
    """
    plant(tree, s)
    n = legal_moves(G, s, moves, zero)
    evaluate_leaf(G, s, evaluator, parameters, scratch, weights, scale, moves, n, values, logits, zero)
    expand(tree, 0, moves, n, logits)
    back_up(tree, 0, values, G[H_PLAYERS])
    add_root_noise(tree, noise, rng)
    for _ in range(simulations):
        leaf, n = descend(G, tree, c_puct, moves, zero)
        state = tree.states[leaf]
        if n == 0:
            final_values(G, state, values)
        else:
            evaluate_leaf(G, state, evaluator, parameters, scratch, weights, scale, moves, n, values, logits, zero)
            if tree.nodes[leaf, N_EDGES] == 0:
                expand(tree, leaf, moves, n, logits)
        back_up(tree, leaf, values, G[H_PLAYERS])
