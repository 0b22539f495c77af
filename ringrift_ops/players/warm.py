"""Calling every compiled entry point of the players once (``rules/warm.py`` says why)."""

from __future__ import annotations

import numpy as np

from ringrift_ops.players.breakdown import breakdown
from ringrift_ops.players.evaluator import evaluate
from ringrift_ops.players.heuristic import HEURISTIC, every_seat, heuristic_games
from ringrift_ops.players.weights import difficulty_weights
from ringrift_ops.rules.game import Game


def warm(rules: Game) -> None:
    """Compile, or load, the heuristic player."""
    seats = every_seat(1, rules.players, hero=0)
    heuristic_games(rules, HEURISTIC[None], seats, np.ones(1, dtype=np.uint64), openings=1, max_moves=4)
    breakdown(rules, rules.initial_state(), 1, order=[])
    evaluate(rules.geometry, rules.initial_state(), 1, difficulty_weights(5), rules.zero)
