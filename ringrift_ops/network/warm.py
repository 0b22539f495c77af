"""Calling every compiled entry point of the nets once (``rules/warm.py`` says why).

Two random games become a dataset and a net, because compiled code also depends on how arrays come:
those of a database or a mapped dataset are read-only.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringrift_ops.network.dataset import TRAINING, VALIDATION, DatasetWriter, open_dataset
from ringrift_ops.network.policy import find_move, policy_index
from ringrift_ops.network.probe import probe
from ringrift_ops.network.samples import Sampler
from ringrift_ops.network.shapes import Family
from ringrift_ops.network.weights import fresh_network
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_PLAYER
from ringrift_ops.rules.playout import random_game
from ringrift_ops.settings.tables import CHECKS

Array = npt.NDArray[Any]
SIZES: dict[Family, dict[str, int]] = {
    "sparse": {"hidden": 16, "dense": 16, "policy": 16},
    "convolutional": {"blocks": 1, "channels": 8},
}


def _as_read(array: Array) -> Array:
    """The array as a database gives it: read-only."""
    return np.frombuffer(array.tobytes(), dtype=array.dtype)


def _dataset(rules: Game, path: Path) -> None:
    record, moves = np.empty(8192, dtype=np.int64), np.empty(MOVE_BUFFER, dtype=np.int64)
    sampler = Sampler(rules)
    with DatasetWriter(path, rules.config, {}) as writer:
        for split, seed in ((TRAINING, 1), (VALIDATION, 2)):
            start = rules.initial_state()
            length = random_game(rules.geometry, start, np.uint64(seed), record, moves, rules.zero)
            codes = _as_read(record[:length])
            index = policy_index(rules.geometry, codes[0], start[S_PLAYER])
            find_move(rules.geometry, start, codes, 1, index)
            searched = (
                _as_read(np.zeros(1, dtype=np.int32)),
                _as_read(np.array([0, 1], dtype=np.int32)),
                _as_read(np.array([index], dtype=np.int32)),
                _as_read(np.ones(1, dtype=np.float32)),
            )
            s = sampler.samples("warm", codes, swap_rule=False, opening=0, policies=searched)
            writer.add_game(s.rows, s.values, s.plies, split, s.policy_indptr, s.policy_indices, s.policy_values)


def warm(rules: Game) -> None:
    """Compile, or load, everything of ``network/`` that is called from outside: export, training, serving."""
    from ringrift_ops.network.plan import Plan
    from ringrift_ops.network.training import train  # torch: seconds that other verbs do not pay

    p = probe(rules.config, 4, every=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "warm.npz")
        _dataset(rules, path)
        dataset = open_dataset(path, rules.config)
        for family, sizes in SIZES.items():
            fresh_network(rules.config, family, sizes, 1).evaluate_batch(p.states, p.moves, p.counts)
            plan = Plan(
                config=rules.config,
                family=family,
                sizes=sizes,
                epochs=1,
                batch_size=1024,
                learning_rate=1e-3,
                weight_decay=0.0,
                clip_norm=1.0,
                seed=1,
                device="cpu",
                threads=0,
                checkpoint_every_steps=1000,
            )
            train(
                plan,
                dataset,
                None,
                dataset_sha="",
                parent_sha=None,
                train_spec="",
                folder=Path(folder, family),
                checks=CHECKS.model_copy(update={"served_positions": 4}),
            )
