"""Who plays: players by name and settings, turned into the arrays that ``play.py`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.network import sparse
from ringrift_ops.network.weights import Network, fresh_network
from ringrift_ops.players import play
from ringrift_ops.players.heuristic import STYLE_SIZE, style
from ringrift_ops.players.search import HEURISTIC_SCALE
from ringrift_ops.players.tree import Tree, new_tree
from ringrift_ops.rules.game import Game
from ringrift_ops.stages.specs import SearchSettings

ROSTER_SIZE = 2
"""Players a game may seat: one everywhere, or a candidate (row 0) among baselines (row 1)."""


class PlayerKind(StrEnum):
    RANDOM = "random"
    HEURISTIC = "heuristic"
    NET = "net"


class PlayerError(UsageError):
    """A player that cannot play: a net without weights, or a family this loop does not evaluate."""


@dataclass(frozen=True)
class Player:
    """A kind, how it searches (0 simulations: plain play), and its net if it is one."""

    kind: PlayerKind
    search: SearchSettings
    network: Network | None = None

    @property
    def code(self) -> int:
        """The ``PLAYER_*`` of the compiled loop."""
        if self.kind is PlayerKind.RANDOM:
            return play.PLAYER_RANDOM
        searches = self.search.simulations > 0
        if self.kind is PlayerKind.HEURISTIC:
            return play.PLAYER_HEURISTIC_SEARCH if searches else play.PLAYER_HEURISTIC
        return play.PLAYER_NET_SEARCH if searches else play.PLAYER_NET

    @property
    def label(self) -> str:
        """How records name it, e.g. ``mcts_heuristic``; RingRift reads the engine from such words."""
        searched = "mcts_" if self.search.simulations > 0 and self.kind is not PlayerKind.RANDOM else ""
        return searched + self.kind.value

    def row(self) -> npt.NDArray[np.float64]:
        row = np.zeros(play.F_SIZE)
        row[play.F_KIND] = self.code
        row[play.F_SIMULATIONS] = self.search.simulations
        row[play.F_C_PUCT] = self.search.c_puct
        row[play.F_TEMPERATURE] = self.search.temperature
        row[play.F_TEMPERATURE_PLIES] = self.search.temperature_plies
        row[play.F_NOISE] = self.search.noise_fraction
        row[play.F_UNIFORM] = self.search.random_move_fraction
        row[play.F_SCALE] = HEURISTIC_SCALE
        return row


class Openings:
    """Random openings of one config; keeps its buffers."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self._work = play.new_workspace(game.size)
        self._generator = np.zeros(1, dtype=np.uint64)

    def draw(self, start: npt.NDArray[np.int64], decisions: int, seed: int) -> npt.NDArray[np.int64]:
        """``decisions`` uniform legal decisions from ``start`` with the forced moves between: move codes."""
        buffer = np.empty(64 * decisions + 1, dtype=np.int64)
        play.seed_generator(self._generator, np.uint64(seed))
        made = play.random_opening(
            self.game.geometry, start, decisions, buffer, self._work, self._generator, self.game.zero
        )
        return buffer[:made].copy()


class Roster:
    """One or two players of one config, ready for ``play.play_game``."""

    def __init__(self, game: Game, players: Sequence[Player]) -> None:
        if not 1 <= len(players) <= ROSTER_SIZE:
            raise PlayerError(f"a game seats 1 or {ROSTER_SIZE} different players, not {len(players)}")
        self.game = game
        seated = [players[min(i, len(players) - 1)] for i in range(ROSTER_SIZE)]
        self.rows = np.stack([player.row() for player in seated])
        self.styles = np.zeros((ROSTER_SIZE, STYLE_SIZE))
        for i, player in enumerate(seated):
            self.styles[i] = style(temperature=player.search.temperature)
        self.parameters = tuple(_parameters(game, player) for player in seated)
        self.scratches: tuple[Any, ...] = tuple(sparse.new_scratch(game.geometry, p) for p in self.parameters)
        most = max((player.search.simulations for player in seated), default=0)
        self.tree: Tree = new_tree(game.geometry, most)
        self.work = play.new_workspace(game.size)
        self.generator = np.zeros(1, dtype=np.uint64)

    def play(
        self,
        start: npt.NDArray[np.int64],
        opening: npt.NDArray[np.int64],
        seats: npt.NDArray[np.int64],
        seed: int,
        record: npt.NDArray[np.int64],
        policies: play.Policies,
    ) -> npt.NDArray[np.int64]:
        """Play one game; returns the move codes (a view of ``record``). ``state`` holds the end."""
        play.seed_generator(self.generator, np.uint64(seed))
        made = play.play_game(
            self.game.geometry, start, opening, seats, self.rows, self.styles, self.parameters, self.scratches,
            self.tree, policies, self.work, self.generator, record, self.game.zero,
        )  # fmt: skip
        return record[:made]

    @property
    def state(self) -> npt.NDArray[np.int64]:
        """Where the last game ended."""
        return self.work.state


def _parameters(game: Game, player: Player) -> npt.NDArray[np.float32]:
    """Flat parameters of a sparse net; for players without a net those of the smallest one, never read."""
    if player.kind is not PlayerKind.NET:
        return fresh_network(game.config, "sparse", {"hidden": 16, "dense": 16, "policy": 16}, 0).parameters
    if player.network is None:
        raise PlayerError(f"a net plays {game.config} without weights; give its sha256")
    if player.network.family != "sparse":
        raise PlayerError(
            f"the compiled loop evaluates sparse nets; this one is {player.network.family}: it plays in batches"
        )
    return player.network.parameters
