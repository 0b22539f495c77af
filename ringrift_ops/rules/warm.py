"""Calling every compiled entry point of the rules once, so that nobody waits for the compiler later.

Every room with compiled code has a module of this name with a function ``warm``. One config per
bitboard width is enough: the machine code depends on the width alone.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)


import numpy as np

from ringrift_ops.rules.game import Game
from ringrift_ops.rules.invariants import check_games
from ringrift_ops.rules.layout import MOVE_BUFFER
from ringrift_ops.rules.playout import random_game, random_games


def warm(rules: Game) -> None:
    """Compile, or load, everything of ``rules/`` that is called from outside."""
    moves = np.empty(MOVE_BUFFER, dtype=np.int64)
    start = rules.initial_state()
    random_games(rules.geometry, start, 1, 1, 12, moves, rules.zero)
    random_game(rules.geometry, start, 1, np.empty(12, dtype=np.int64), moves, rules.zero)
    check_games(rules, games=1, seed=1, max_moves=12)
    state = rules.parse_state(rules.state_string(start))
    state = rules.apply(state, rules.parse_key(state, "P0,0*1"))
    rules.fingerprint(state)
    rules.state_hash(state)
    rules.legal_hash(state)
    rules.victory_if_tested(state)
