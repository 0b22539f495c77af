"""The PUCT tree of one decision, for 2-4 players, in flat arrays inside compiled code.

Values are vectors, one entry per seat in [-1, 1]; nothing assumes two players. A node stores its
position after all forced moves, so that a simulation never spends an evaluation on a position with
one legal move. Selection is the PUCT rule of AlphaGo Zero (Silver et al. 2017), with the value of
an unvisited child taken as the parent's value minus ``FPU_REDUCTION``.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.boards import H_ON_BOARD, H_PLAYERS, H_STATE
from ringrift_ops.rules.layout import S_PLAYER, S_WINNER
from ringrift_ops.rules.playout import random_below, random_unit
from ringrift_ops.rules.turn import apply_move, legal_moves

N_FIRST, N_EDGES, N_VISITS, N_SEAT = range(4)
E_CHILD, E_VISITS = range(2)
U_NODES, U_EDGES, U_DEPTH = range(3)

FPU_REDUCTION = 0.2
DIRICHLET_TOTAL = 10.0
"""Concentration of the root noise is this over the number of moves (Silver et al. 2018)."""


class Tree(NamedTuple):
    """N = simulations + 1 nodes, E edges, S words of a state."""

    states: npt.NDArray[np.int64]  # [N, S]
    nodes: npt.NDArray[np.int32]  # [N, 4]: first edge, edges (0 = leaf), visits, seat to move
    values: npt.NDArray[np.float32]  # [N, 4]: sum of the value vectors backed up
    moves: npt.NDArray[np.int64]  # [E]
    edges: npt.NDArray[np.int32]  # [E, 2]: child node or -1, visits
    priors: npt.NDArray[np.float32]  # [E]
    totals: npt.NDArray[np.float32]  # [E]: sum of values for the seat that chooses
    path: npt.NDArray[np.int32]  # [N + 1, 2]: nodes and edges of the simulation under way
    used: npt.NDArray[np.int64]  # [3]: nodes, edges, path length


def new_tree(geometry: npt.NDArray[np.int64], simulations: int) -> Tree:
    """An empty tree with room for the longest placement list at every node.

    A node whose moves no longer fit stays a leaf, so E bounds memory only.
    """
    n = simulations + 1
    e = n * (3 * int(geometry[H_ON_BOARD]) + 32)
    return Tree(
        states=np.zeros((n, geometry[H_STATE]), dtype=np.int64),
        nodes=np.zeros((n, 4), dtype=np.int32),
        values=np.zeros((n, 4), dtype=np.float32),
        moves=np.zeros(e, dtype=np.int64),
        edges=np.zeros((e, 2), dtype=np.int32),
        priors=np.zeros(e, dtype=np.float32),
        totals=np.zeros(e, dtype=np.float32),
        path=np.zeros((n + 1, 2), dtype=np.int32),
        used=np.zeros(3, dtype=np.int64),
    )


@jit
def _add_node(tree, seat):
    node = tree.used[U_NODES]
    tree.used[U_NODES] += 1
    tree.nodes[node, N_EDGES] = 0
    tree.nodes[node, N_VISITS] = 0
    tree.nodes[node, N_SEAT] = seat
    for i in range(4):
        tree.values[node, i] = 0.0
    return node


@jit
def plant(tree, s):
    """Make ``s`` the root of an empty tree."""
    tree.used[U_NODES] = 0
    tree.used[U_EDGES] = 0
    tree.used[U_DEPTH] = 0
    node = _add_node(tree, s[S_PLAYER])
    copy_state(tree.states[node], s)


@jit
def _select(tree, node, c_puct):
    """The edge with the largest Q + U; Q of an unvisited one is the node's value less a little."""
    first = tree.nodes[node, N_FIRST]
    visits = max(1, tree.nodes[node, N_VISITS])
    seat = tree.nodes[node, N_SEAT]
    unvisited = tree.values[node, seat - 1] / visits - FPU_REDUCTION
    scale = c_puct * np.sqrt(np.float32(visits))
    best, best_edge = np.float32(-1e30), first
    for e in range(first, first + tree.nodes[node, N_EDGES]):
        n = tree.edges[e, E_VISITS]
        q = tree.totals[e] / n if n > 0 else unvisited
        score = q + scale * tree.priors[e] / (1 + n)
        if score > best:
            best, best_edge = score, e
    return best_edge


@jit
def skip_forced(G, s, moves, zero):
    """Play forced moves until there is a choice or the game is over; return the number of moves."""
    n = legal_moves(G, s, moves, zero)
    while n == 1:
        apply_move(G, s, moves[0], moves, zero)
        n = legal_moves(G, s, moves, zero)
    return n


@jit
def descend(G, tree, c_puct, moves, zero):
    """Walk from the root to a leaf, creating its node if new; return (leaf, its number of moves).

    The leaf's legal moves are left in ``moves``; 0 moves means a finished game.
    """
    node, depth = 0, 0
    while tree.nodes[node, N_EDGES] > 0:
        e = _select(tree, node, c_puct)
        tree.path[depth, 0] = node
        tree.path[depth, 1] = e
        depth += 1
        child = tree.edges[e, E_CHILD]
        if child < 0:
            child = _add_node(tree, 0)
            tree.edges[e, E_CHILD] = child
            s = tree.states[child]
            copy_state(s, tree.states[node])
            apply_move(G, s, tree.moves[e], moves, zero)
            n = skip_forced(G, s, moves, zero)
            tree.nodes[child, N_SEAT] = s[S_PLAYER]
            tree.used[U_DEPTH] = depth
            return child, n
        node = child
    tree.used[U_DEPTH] = depth
    return node, legal_moves(G, tree.states[node], moves, zero)


@jit
def final_values(G, s, values):
    """Value vector of a finished game: the winner 1, the others -1/(n-1); zeros without winner."""
    n = G[H_PLAYERS]
    for i in range(n):
        values[i] = 0.0 if s[S_WINNER] == 0 else -1.0 / (n - 1)
    if s[S_WINNER] > 0:
        values[s[S_WINNER] - 1] = 1.0


@jit
def expand(tree, leaf, moves, n, logits):
    """Give the leaf its edges, with priors softmax(logits[:n]); left a leaf if they do not fit."""
    first = tree.used[U_EDGES]
    if first + n > tree.moves.size:
        return
    highest = np.float32(-1e30)
    for i in range(n):
        highest = max(highest, logits[i])
    total = np.float32(0.0)
    for i in range(n):
        p = np.exp(logits[i] - highest)
        total += p
        tree.moves[first + i] = moves[i]
        tree.priors[first + i] = p
        tree.edges[first + i, E_CHILD] = -1
        tree.edges[first + i, E_VISITS] = 0
        tree.totals[first + i] = 0.0
    for i in range(n):
        tree.priors[first + i] /= total
    tree.nodes[leaf, N_FIRST] = first
    tree.nodes[leaf, N_EDGES] = n
    tree.used[U_EDGES] += n


@jit
def back_up(tree, leaf, values, seats):
    """Add the leaf's value vector to everything on the path."""
    tree.nodes[leaf, N_VISITS] += 1
    for i in range(seats):
        tree.values[leaf, i] += values[i]
    for d in range(tree.used[U_DEPTH]):
        node, e = tree.path[d, 0], tree.path[d, 1]
        tree.nodes[node, N_VISITS] += 1
        for i in range(seats):
            tree.values[node, i] += values[i]
        tree.edges[e, E_VISITS] += 1
        tree.totals[e] += values[tree.nodes[node, N_SEAT] - 1]


@jit
def _normal(rng):
    """A standard normal number (Box-Muller)."""
    u = 1.0 - random_unit(rng)
    return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * random_unit(rng))


@jit
def _gamma(rng, shape):
    """A Gamma(shape, 1) number (Marsaglia and Tsang 2000, with their boost below shape 1)."""
    boost = 1.0
    if shape < 1.0:
        boost = (1.0 - random_unit(rng)) ** (1.0 / shape)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    while True:
        x = _normal(rng)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and np.log(1.0 - random_unit(rng)) < 0.5 * x * x + d - d * v + d * np.log(v):
            return boost * d * v


@jit_allocating
def add_root_noise(tree, fraction, rng):
    """Mix Dirichlet noise into the root's priors."""
    first, n = tree.nodes[0, N_FIRST], tree.nodes[0, N_EDGES]
    if n == 0 or fraction <= 0.0:
        return
    noise = np.empty(n, dtype=np.float64)
    total = 1e-12
    for i in range(n):
        noise[i] = _gamma(rng, DIRICHLET_TOTAL / n)
        total += noise[i]
    for i in range(n):
        tree.priors[first + i] = (1.0 - fraction) * tree.priors[first + i] + fraction * noise[i] / total


@jit
def choose_root_edge(tree, temperature, rng):
    """An edge of the root by visit counts ** (1 / temperature); temperature 0: the most visited one,
    ties at random.
    """
    first, n = tree.nodes[0, N_FIRST], tree.nodes[0, N_EDGES]
    most = 0
    for e in range(first, first + n):
        most = max(most, tree.edges[e, E_VISITS])
    if temperature <= 1e-6:
        ties = 0
        chosen = first
        for e in range(first, first + n):
            if tree.edges[e, E_VISITS] == most:
                ties += 1
                if random_below(rng, ties) == 0:
                    chosen = e
        return chosen
    total = 0.0
    for e in range(first, first + n):
        total += (tree.edges[e, E_VISITS] / most) ** (1.0 / temperature)
    pick = random_unit(rng) * total
    for e in range(first, first + n):
        pick -= (tree.edges[e, E_VISITS] / most) ** (1.0 / temperature)
        if pick < 0.0 and tree.edges[e, E_VISITS] > 0:
            return e
    return first + n - 1
