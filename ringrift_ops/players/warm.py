"""Calling every compiled entry point of the players once (``rules/warm.py`` says why)."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from ringrift_ops.network.weights import fresh_network
from ringrift_ops.players.batched import BatchedPlay, GameOrder
from ringrift_ops.players.breakdown import breakdown
from ringrift_ops.players.evaluator import evaluate
from ringrift_ops.players.heuristic import HEURISTIC, every_seat, heuristic_games
from ringrift_ops.players.play import new_policies
from ringrift_ops.players.recording import Recorder
from ringrift_ops.players.roster import Openings, Player, PlayerKind, Roster
from ringrift_ops.players.weights import difficulty_weights
from ringrift_ops.rules.game import Game
from ringrift_ops.stages.specs import SearchSettings


def warm(rules: Game) -> None:
    """Compile, or load, the heuristic player, the search with its nets, and the making of records."""
    seats = every_seat(1, rules.players, hero=0)
    heuristic_games(rules, HEURISTIC[None], seats, np.ones(1, dtype=np.uint64), openings=1, max_moves=4)
    start = rules.initial_state()
    breakdown(rules, start, 1, order=[])
    evaluate(rules.geometry, start, 1, difficulty_weights(5), rules.zero)
    roster = Roster(rules, [Player(PlayerKind.HEURISTIC, SearchSettings(simulations=2, temperature=0.0))])
    policies = new_policies(8, 64)
    opening = Openings(rules).draw(start, 1, 1)
    codes = roster.play(start, opening, seats[0], 1, np.empty(6, dtype=np.int64), policies)
    Recorder(rules, "").record(
        start,
        codes,
        policies,
        game_id="warm",
        seed=1,
        swap_rule=False,
        players=[],
        started=datetime.now(UTC),
        opening_plies=1,
        source="warm",
        engine_mode="heuristic",
        metadata={},
    )
    net = fresh_network(rules.config, "sparse", {"hidden": 16, "dense": 16}, 1)
    for simulations in (1, 0):
        player = Player(PlayerKind.NET, SearchSettings(simulations=simulations, temperature=0.0), net)
        order = GameOrder(0, start, opening, seats[0], 1)
        for _ in BatchedPlay(rules, [player], 6, lambda: new_policies(8, 64)).games([order]):
            pass
