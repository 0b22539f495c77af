"""Many games at once, their leaves evaluated together: how nets play that are not compiled code.

The tree is ``tree.py``'s and every draw comes in the order of ``play.py``, so a net whose batches
give the bits of its compiled evaluation plays the very same games. A convolution may round
differently in batches of another size: its games follow their seed up to that rounding.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ringrift_ops.network.weights import Network
from ringrift_ops.players import play
from ringrift_ops.players.play import F_NOISE, F_SIMULATIONS, F_UNIFORM, Policies
from ringrift_ops.players.roster import Player, PlayerError, PlayerKind, Roster
from ringrift_ops.players.tree import (
    N_EDGES,
    Tree,
    add_root_noise,
    back_up,
    descend,
    expand,
    final_values,
    new_tree,
    plant,
)
from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.boards import H_PLAYERS
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED, S_PLAYER
from ringrift_ops.rules.playout import random_below, random_unit
from ringrift_ops.rules.turn import apply_move, legal_moves

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Evaluate = Callable[[Int64s, Int64s, Int64s], tuple[Floats, Floats]]
"""States [B, words], legal moves [B, M], counts [B] to values [B, players] and logits [B, M]."""

GAMES_AT_ONCE: Final = 128
TREE_BYTES: Final = 512 << 20
"""Memory of all trees together; fewer games at once where they are large."""


class GameOrder(NamedTuple):
    """One game to play: ``seats`` int64 [n] are rows of the players, ``opening`` move codes played as they are."""

    number: int
    start: Int64s
    opening: Int64s
    seats: Int64s
    seed: int


class PlayedGame(NamedTuple):
    """A game played: its order, move codes, policies and final state; good until the next game is asked for."""

    order: GameOrder
    codes: Int64s
    policies: Policies
    state: Int64s


def _nothing() -> None:
    """Nothing is done meanwhile."""


def needs_batches(player: Player) -> bool:
    """Whether the player's net is evaluated in batches instead of in compiled code."""
    return player.kind is PlayerKind.NET and player.network is not None and player.network.family != "sparse"


def games_of(
    rules: Game,
    players: Sequence[Player],
    orders: Iterable[GameOrder],
    *,
    max_moves: int,
    new_room: Callable[[], Policies],
    meanwhile: Callable[[], None] = _nothing,
) -> Iterator[PlayedGame]:
    """Play the orders: one after the other in compiled code, or many at once where a net needs batches.

    ``new_room`` gives room for the policies of one game; ``meanwhile`` is called often while a game lasts.
    Games come in the order in which they end. Raises PlayerError.
    """
    if any(needs_batches(player) for player in players):
        yield from BatchedPlay(rules, players, max_moves, new_room).games(orders, meanwhile)
        return
    roster, record, policies = Roster(rules, players), np.empty(max_moves, dtype=np.int64), new_room()
    for order in orders:
        codes = roster.play(order.start, order.opening, order.seats, order.seed, record, policies)
        yield PlayedGame(order, codes, policies, roster.state)


def best_device() -> str:
    """``cuda`` where torch finds one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _evaluate(network: Network | None, config: str) -> Evaluate:
    if network is None:
        raise PlayerError(f"a net plays {config} without weights; give its sha256")
    return network.evaluate_batch if network.family == "sparse" else network.evaluator(best_device()).evaluate


# --- what is compiled: the same step in many trees ------------------------------------------------


@jit_allocating
def _tree_of(trees, lane):
    return Tree(
        trees.states[lane],
        trees.nodes[lane],
        trees.values[lane],
        trees.moves[lane],
        trees.edges[lane],
        trees.priors[lane],
        trees.totals[lane],
        trees.path[lane],
        trees.used[lane],
    )


@jit_allocating
def _begin_search(s, trees, lane, player, rng):
    """Plant a tree; returns whether the move will be a uniform one (drawn first, as ``play.py`` does)."""
    plant(_tree_of(trees, lane), s)
    return player[F_UNIFORM] > 0.0 and random_unit(rng) < player[F_UNIFORM]


@jit_allocating
def _descend_all(G, trees, lanes, c_puct, leaves, states, moves, counts, zero):
    """To a leaf in each of the trees ``lanes``: its node, position, legal moves; none if the game is over there."""
    for i in range(lanes.size):
        tree = _tree_of(trees, lanes[i])
        leaf, n = descend(G, tree, c_puct[i], moves[i], zero)
        leaves[i] = leaf
        counts[i] = n
        copy_state(states[i], tree.states[leaf])


@jit_allocating
def _absorb_all(G, trees, lanes, leaves, moves, counts, values, logits):
    """Expand the leaves and back their values up."""
    for i in range(lanes.size):
        tree = _tree_of(trees, lanes[i])
        leaf = leaves[i]
        if counts[i] == 0:
            final_values(G, tree.states[leaf], values[i])
        elif tree.nodes[leaf, N_EDGES] == 0:
            expand(tree, leaf, moves[i], counts[i], logits[i])
        back_up(tree, leaf, values[i], G[H_PLAYERS])


@jit_allocating
def _noise(trees, lane, fraction, rng):
    add_root_noise(_tree_of(trees, lane), fraction, rng)


@jit_allocating
def _end_search(G, s, trees, lane, player, ply, policies, uniform, moves, rng, zero):
    """The move of a finished search, its policy recorded."""
    n = legal_moves(G, s, moves, zero)
    return play.searched_move(G, s, n, moves, player, _tree_of(trees, lane), ply, policies, uniform, rng)


@jit
def _children(G, s, moves, n, children, over, values, scratch, zero):
    """Positions after each of ``moves[:n]``; where the game is over there, its values."""
    for i in range(n):
        copy_state(children[i], s)
        apply_move(G, children[i], moves[i], scratch, zero)
        over[i] = children[i, S_COMPLETED]
        if over[i]:
            final_values(G, children[i], values[i])


@jit
def _best(values, n, seat, rng):
    """The row of the largest value for a seat, ties at random."""
    best, chosen, ties = np.float32(-1e30), 0, 0
    for i in range(n):
        if values[i, seat - 1] > best:
            best, chosen, ties = values[i, seat - 1], i, 1
        elif values[i, seat - 1] == best:
            ties += 1
            if random_below(rng, ties) == 0:
                chosen = i
    return chosen


# --- the loop over games --------------------------------------------------------------------------


@dataclass(eq=False)
class _Lane:
    """One game under way; ``simulations`` of the search under way are done (the root's own counts as one)."""

    number: int
    state: Int64s
    record: Int64s
    policies: Policies
    generator: npt.NDArray[np.uint64]
    order: GameOrder | None = None
    made: int = 0
    simulations: int = 0
    uniform: bool = False

    def start(self, order: GameOrder) -> None:
        """Begin a game."""
        self.order, self.made = order, 0
        self.state[:] = order.start
        self.policies.used[0] = 0
        play.seed_generator(self.generator, np.uint64(order.seed))

    def is_over(self) -> bool:
        """Whether the game has ended or stands at its cap."""
        return bool(self.state[S_COMPLETED]) or self.made == len(self.record)

    def player(self) -> int:
        """The row of the player who is to move."""
        assert self.order is not None
        return int(self.order.seats[self.state[S_PLAYER] - 1])


class BatchedPlay:
    """One or two players of one config; nets are evaluated over all games together, others as ever."""

    def __init__(
        self, rules: Game, players: Sequence[Player], max_moves: int, new_room: Callable[[], Policies]
    ) -> None:
        self.rules = rules
        outside = [player.kind is PlayerKind.NET for player in players]
        stand_ins = [
            replace(player, kind=PlayerKind.RANDOM, network=None) if ours else player
            for player, ours in zip(players, outside, strict=True)
        ]
        self.roster = Roster(rules, stand_ins)
        self.evaluators: list[Evaluate | None] = [
            _evaluate(player.network, rules.config) if ours else None
            for player, ours in zip(players, outside, strict=True)
        ]
        for k, ours in enumerate(outside):
            if ours:
                self.roster.rows[k, play.F_KIND] = play.PLAYER_OUTSIDE
        most = max((p.search.simulations for p, ours in zip(players, outside, strict=True) if ours), default=0)
        one = new_tree(rules.geometry, most)
        count = max(1, min(GAMES_AT_ONCE, TREE_BYTES // sum(array.nbytes for array in one)))
        self.trees = Tree(*(np.zeros((count, *array.shape), dtype=array.dtype) for array in one))
        self.lanes = [
            _Lane(
                number,
                np.zeros(rules.size, dtype=np.int64),
                np.empty(max_moves, dtype=np.int64),
                new_room(),
                np.zeros(1, dtype=np.uint64),
            )
            for number in range(count)
        ]
        self._leaves = np.zeros(count, dtype=np.int64)
        self._counts = np.zeros(count, dtype=np.int64)
        self._states = np.zeros((count, rules.size), dtype=np.int64)
        self._moves = np.zeros((count, MOVE_BUFFER), dtype=np.int64)
        self._values = np.zeros((count, 4), dtype=np.float32)
        self._logits = np.zeros((count, MOVE_BUFFER), dtype=np.float32)
        self._scratch = np.empty(MOVE_BUFFER, dtype=np.int64)

    def games(self, orders: Iterable[GameOrder], meanwhile: Callable[[], None] = _nothing) -> Iterator[PlayedGame]:
        """Play the orders, as many at once as there are lanes; games come as they end."""
        waiting = iter(orders)
        ready, searching = self.lanes, list[_Lane]()
        while ready or searching:
            for lane in ready:
                while not self._to_a_search(lane):
                    if lane.order is not None:
                        yield PlayedGame(lane.order, lane.record[: lane.made], lane.policies, lane.state)
                    lane.order = None
                    order = next(waiting, None)
                    if order is None:
                        break
                    lane.start(order)
                else:
                    searching.append(lane)
            ready = self._simulate(searching) if searching else []
            gone = set(ready)
            searching = [lane for lane in searching if lane not in gone]
            meanwhile()

    def _to_a_search(self, lane: _Lane) -> bool:
        """Play on until a search has begun; False when the game is over, or there is none."""
        if lane.order is None:
            return False
        roster, g, zero = self.roster, self.rules.geometry, self.rules.zero
        while not lane.is_over():
            lane.made = play.play_on(
                g, lane.state, lane.order.opening, lane.order.seats, roster.rows, roster.styles, roster.parameters,
                roster.scratches, roster.tree, lane.policies, roster.work, lane.generator, lane.record, lane.made, zero,
            )  # fmt: skip
            if lane.is_over():
                return False
            row = roster.rows[lane.player()]
            if row[F_SIMULATIONS] > 0:
                lane.simulations = 0
                lane.uniform = _begin_search(lane.state, self.trees, lane.number, row, lane.generator)
                return True
            self._make(lane, self._plain_move(lane, row))
        return False

    def _make(self, lane: _Lane, move: int) -> None:
        lane.record[lane.made] = move
        apply_move(self.rules.geometry, lane.state, move, self._scratch, self.rules.zero)
        lane.made += 1

    def _plain_move(self, lane: _Lane, row: npt.NDArray[np.float64]) -> int:
        """Without search: the move whose position the net values most for the seat to move."""
        g, zero = self.rules.geometry, self.rules.zero
        moves = self._moves[lane.number]
        n = int(legal_moves(g, lane.state, moves, zero))
        if row[F_UNIFORM] > 0.0 and random_unit(lane.generator) < row[F_UNIFORM]:
            return int(moves[random_below(lane.generator, n)])
        children = np.empty((n, self.rules.size), dtype=np.int64)
        over, values = np.zeros(n, dtype=np.int64), np.zeros((n, 4), dtype=np.float32)
        _children(g, lane.state, moves, n, children, over, values, self._scratch, zero)
        going = np.flatnonzero(over == 0)
        evaluate = self.evaluators[lane.player()]
        if len(going) and evaluate is not None:
            nothing = np.zeros((len(going), 1), dtype=np.int64)
            found, _ = evaluate(children[going], nothing, np.zeros(len(going), dtype=np.int64))
            values[going, : self.rules.players] = found
        return int(moves[_best(values, n, lane.state[S_PLAYER], lane.generator)])

    def _simulate(self, searching: list[_Lane]) -> list[_Lane]:
        """One simulation in each lane; returns those that have made their move."""
        g, zero, rows, k = self.rules.geometry, self.rules.zero, self.roster.rows, len(searching)
        numbers = np.array([lane.number for lane in searching], dtype=np.int64)
        players = np.array([lane.player() for lane in searching], dtype=np.int64)
        c_puct = rows[players, play.F_C_PUCT].astype(np.float32)
        leaves, counts, moves = self._leaves[:k], self._counts[:k], self._moves[:k]
        _descend_all(g, self.trees, numbers, c_puct, leaves, self._states[:k], moves, counts, zero)
        for player, evaluate in enumerate(self.evaluators):
            asked = np.flatnonzero((players == player) & (counts > 0))
            if evaluate is None or len(asked) == 0:
                continue
            most = int(counts[asked].max())
            values, logits = evaluate(self._states[asked], moves[asked, :most], counts[asked])
            self._values[asked, : self.rules.players] = values
            self._logits[asked, :most] = logits
        _absorb_all(g, self.trees, numbers, leaves, moves, counts, self._values[:k], self._logits[:k])
        done = []
        for lane, player in zip(searching, players.tolist(), strict=True):
            if lane.simulations == 0:
                _noise(self.trees, lane.number, rows[player, F_NOISE], lane.generator)
            lane.simulations += 1
            if lane.simulations > rows[player, F_SIMULATIONS]:
                move = _end_search(
                    g, lane.state, self.trees, lane.number, rows[player], lane.made, lane.policies, lane.uniform,
                    self._scratch, lane.generator, zero,
                )  # fmt: skip
                self._make(lane, int(move))
                done.append(lane)
        return done
