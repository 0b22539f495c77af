"""Small datasets out of random games."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from pathlib import Path

import numpy as np

from ringrift_ops.network import encoder
from ringrift_ops.network.dataset import TRAINING, VALIDATION, DatasetWriter
from ringrift_ops.network.policy import policy_indices
from ringrift_ops.network.targets import relative_to, targets_of
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_PLAYER, S_WINNER
from ringrift_ops.rules.playout import random_game
from ringrift_ops.rules.turn import apply_move, legal_moves

LINEAGE = {"batches": ["0" * 64], "generation": 1}


def write_random_games(path: Path, config: str, games: int, *, policies: bool, seed: int = 1) -> Path:
    """Random games as a dataset; every fifth game validates. A policy is made up: it prefers larger indices."""
    rules = game(config)
    g = rules.geometry
    moves, record = np.empty(MOVE_BUFFER, np.int64), np.empty(6000, np.int64)
    with DatasetWriter(path, config, LINEAGE) as writer:
        for number in range(games):
            length = random_game(g, rules.initial_state(), np.uint64(seed * 1000 + number), record, moves, rules.zero)
            state = rules.initial_state()
            rows, movers, plies, lists = [], [], [], []
            for ply in range(length):
                n = legal_moves(g, state, moves, rules.zero)
                if n > 1:
                    row = np.empty(encoder.row_bytes(g), np.uint8)
                    encoder.compact(g, state, row)
                    indices = np.empty(n, np.int32)
                    policy_indices(g, moves, n, state[S_PLAYER], indices)
                    rows.append(row)
                    movers.append(int(state[S_PLAYER]))
                    plies.append(ply)
                    lists.append(indices)
                apply_move(g, state, record[ply], moves, rules.zero)
            assert state[S_WINNER] > 0
            values = targets_of(state, rules.players)
            indptr = np.concatenate([[0], np.cumsum([len(x) for x in lists])])
            shares = [np.float32(1) * (np.argsort(np.argsort(x)) + 1) ** 2 for x in lists]
            csr = (indptr, np.concatenate(lists), np.concatenate([x / x.sum() for x in shares])) if policies else ()
            writer.add_game(
                np.array(rows),
                np.array([relative_to(values, m) for m in movers]),
                np.array(plies),
                VALIDATION if number % 5 == 4 else TRAINING,
                *csr,
            )
    return path
