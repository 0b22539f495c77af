"""Whole games between any players, as compiled loops: self-play and matches.

A *player* is one row of numbers (``F_*``) and one parameter array; seats refer to players by row,
so a game may seat one net everywhere, or a candidate among baselines.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ringrift_ops.network import sparse
from ringrift_ops.network.policy import policy_index
from ringrift_ops.players.heuristic import choose
from ringrift_ops.players.search import HEURISTIC_EVALUATOR, SPARSE_EVALUATOR, search
from ringrift_ops.players.tree import E_VISITS, N_EDGES, N_FIRST, choose_root_edge, final_values
from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED, S_PLAYER
from ringrift_ops.rules.playout import next_random, random_below, random_unit
from ringrift_ops.rules.turn import apply_move, legal_moves

PLAYER_RANDOM, PLAYER_HEURISTIC, PLAYER_HEURISTIC_SEARCH, PLAYER_NET, PLAYER_NET_SEARCH, PLAYER_OUTSIDE = range(6)
"""PLAYER_OUTSIDE: whoever called decides (``batched.py``)."""
(
    F_KIND,
    F_SIMULATIONS,
    F_C_PUCT,
    F_TEMPERATURE,
    F_TEMPERATURE_PLIES,
    F_NOISE,
    F_UNIFORM,  # share of uniformly random moves
    F_SCALE,  # heuristic points per unit of the logistic
    F_SIZE,
) = range(9)


class Policies(NamedTuple):
    """Search policies of one game: row r belongs to ply ``plies[r]``; written up to ``used``."""

    plies: npt.NDArray[np.int32]  # [R]
    starts: npt.NDArray[np.int32]  # [R + 1]
    moves: npt.NDArray[np.int64]  # [E] move codes
    indices: npt.NDArray[np.int32]  # [E] policy indices
    shares: npt.NDArray[np.float32]  # [E] visit shares, summing to 1 per row
    used: npt.NDArray[np.int64]  # [1] rows


def no_policies() -> Policies:
    """Room for nothing: games played with it record no policies."""
    return new_policies(0, 0)


def new_policies(rows: int, entries: int) -> Policies:
    """Room for ``rows`` decisions with ``entries`` moves in all."""
    return Policies(
        np.zeros(rows, dtype=np.int32),
        np.zeros(rows + 1, dtype=np.int32),
        np.zeros(entries, dtype=np.int64),
        np.zeros(entries, dtype=np.int32),
        np.zeros(entries, dtype=np.float32),
        np.zeros(1, dtype=np.int64),
    )


@jit
def _record_policy(G, s, tree, ply, policies):
    """Store the root's visit shares; nothing when there is no room (``no_policies``)."""
    row = policies.used[0]
    if row >= policies.plies.size:
        return
    first, n = tree.nodes[0, N_FIRST], tree.nodes[0, N_EDGES]
    total, visited = 0, 0
    for e in range(first, first + n):
        total += tree.edges[e, E_VISITS]
        visited += 1 if tree.edges[e, E_VISITS] > 0 else 0
    place = policies.starts[row]
    if place + visited > policies.moves.size:
        return
    for e in range(first, first + n):
        if tree.edges[e, E_VISITS] > 0:
            policies.moves[place] = tree.moves[e]
            policies.indices[place] = policy_index(G, tree.moves[e], s[S_PLAYER])
            policies.shares[place] = tree.edges[e, E_VISITS] / total
            place += 1
    policies.plies[row] = ply
    policies.starts[row + 1] = place
    policies.used[0] += 1


@jit
def _best_by_value(G, s, parameters, scratch, moves, n, child, other, values, logits, rng, zero):
    """One-ply lookahead of a net: the move whose position it values most for the seat to move."""
    p = s[S_PLAYER]
    best, chosen, ties = np.float32(-1e30), 0, 0
    for i in range(n):
        copy_state(child, s)
        apply_move(G, child, moves[i], other, zero)
        if child[S_COMPLETED]:
            final_values(G, child, values)
        else:
            sparse.evaluate(G, child, parameters, other, 0, scratch, values, logits, zero)
        if values[p - 1] > best:
            best, chosen, ties = values[p - 1], i, 1
        elif values[p - 1] == best:
            ties += 1
            if random_below(rng, ties) == 0:
                chosen = i
    return moves[chosen]


class Workspace(NamedTuple):
    """Buffers of one game at a time."""

    state: npt.NDArray[np.int64]
    child: npt.NDArray[np.int64]
    moves: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]


def new_workspace(state_words: int) -> Workspace:
    """Buffers for games whose states have so many words."""
    return Workspace(
        np.zeros(state_words, dtype=np.int64),
        np.zeros(state_words, dtype=np.int64),
        np.empty(MOVE_BUFFER, dtype=np.int64),
        np.empty(MOVE_BUFFER, dtype=np.int64),
        np.empty(MOVE_BUFFER, dtype=np.float64),
        np.empty(MOVE_BUFFER, dtype=np.float32),
        np.zeros(4, dtype=np.float32),
    )


@jit
def searched_move(G, s, n, moves, player, tree, ply, policies, uniform, rng):
    """Record the policy of a finished search and choose by it, or uniformly among ``moves[:n]``."""
    _record_policy(G, s, tree, ply, policies)
    if uniform:  # searched all the same: its position has a target like every other (F1)
        return moves[random_below(rng, n)]
    temperature = player[F_TEMPERATURE] if ply < player[F_TEMPERATURE_PLIES] else 0.0
    return tree.moves[choose_root_edge(tree, temperature, rng)]


@jit
def _decide(G, s, n, player, style, parameters, scratch, tree, ply, policies, work, rng, zero):
    """The move ``player`` plays; ``work.moves[:n]`` are legal and n > 1."""
    kind = np.int64(player[F_KIND])
    moves = work.moves
    uniform = player[F_UNIFORM] > 0.0 and random_unit(rng) < player[F_UNIFORM]
    searches = kind == PLAYER_NET_SEARCH or kind == PLAYER_HEURISTIC_SEARCH
    if kind == PLAYER_RANDOM or (uniform and not searches):
        return moves[random_below(rng, n)]
    if kind == PLAYER_HEURISTIC:
        return choose(G, s, moves, n, style, rng, work.scores, work.child, work.other, zero)
    if kind == PLAYER_NET:
        return _best_by_value(
            G, s, parameters, scratch, moves, n, work.child, work.other, work.values, work.logits, rng, zero
        )
    evaluator = SPARSE_EVALUATOR if kind == PLAYER_NET_SEARCH else HEURISTIC_EVALUATOR
    weights = style[2:]
    search(
        G,
        s,
        tree,
        np.int64(player[F_SIMULATIONS]),
        np.float32(player[F_C_PUCT]),
        player[F_NOISE],
        evaluator,
        parameters,
        scratch,
        weights,
        player[F_SCALE],
        work.other,
        work.values,
        work.logits,
        rng,
        zero,
    )
    return searched_move(G, s, n, moves, player, tree, ply, policies, uniform, rng)


@jit
def play_on(
    G, s, opening, seats, players, styles, parameters, scratches, tree, policies, work, rng, record, made, zero
):
    """Play on from ``s``, where ``made`` moves were made, as ``play_game`` says; returns the moves made then.

    Stops early where a PLAYER_OUTSIDE has a choice.
    """
    while not s[S_COMPLETED] and made < record.size:
        n = legal_moves(G, s, work.moves, zero)
        if made < opening.size:
            move = opening[made]
        elif n == 1:
            move = work.moves[0]
        else:
            k = seats[s[S_PLAYER] - 1]
            if players[k, F_KIND] == PLAYER_OUTSIDE:
                break
            move = _decide(
                G, s, n, players[k], styles[k], parameters[k], scratches[k], tree, made, policies, work, rng, zero
            )
        record[made] = move
        apply_move(G, s, move, work.other, zero)
        made += 1
    return made


@jit
def play_game(
    G, start, opening, seats, players, styles, parameters, scratches, tree, policies, work, rng, record, zero
):
    """Play one game from ``start`` until it ends or ``record`` is full; the final state is ``work.state``.

    opening     int64 [any]           move codes played first, as they are
    seats       int64 [n]             row of ``players`` in each seat
    players     float64 [K, F_SIZE]
    styles      float64 [K, STYLE_SIZE]  heuristic style of each player
    parameters  K float32 arrays, scratches their buffers (homogeneous tuples)
    record      int64 [max moves]     written: move codes
    Returns the number of moves made.
    """
    s = work.state
    copy_state(s, start)
    policies.used[0] = 0
    return play_on(
        G, s, opening, seats, players, styles, parameters, scratches, tree, policies, work, rng, record, 0, zero
    )


@jit
def random_opening(G, start, decisions, opening, work, rng, zero):
    """Uniform legal moves until ``decisions`` real choices were made; written to ``opening``.

    Returns the number of moves (forced ones included).
    """
    s = work.state
    copy_state(s, start)
    made, chosen = 0, 0
    while chosen < decisions and made < opening.size and not s[S_COMPLETED]:
        n = legal_moves(G, s, work.moves, zero)
        move = work.moves[random_below(rng, n)]
        chosen += 1 if n > 1 else 0
        opening[made] = move
        apply_move(G, s, move, work.other, zero)
        made += 1
    return made


@jit
def seed_generator(rng, seed):
    """Start the generator for one game; nearby seeds give unrelated streams."""
    rng[0] = seed
    next_random(rng)
