"""How good a net is on a split, and whether it is served as it was trained (F5)."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from ringrift_ops.errors import GateError
from ringrift_ops.network import encoder
from ringrift_ops.network.dataset import Dataset
from ringrift_ops.network.probe import probe
from ringrift_ops.network.targets import by_seat
from ringrift_ops.network.trainees import Trainee, batch_of
from ringrift_ops.network.weights import Network
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import S_PLAYER
from ringrift_ops.settings.tables import Checks

Array = npt.NDArray[Any]

VALIDATION_BATCH: Final = 8192


class ServedDifferentlyError(GateError):
    """What would be served is not what was trained (F5)."""


@dataclass(frozen=True)
class Evaluation:
    """Mean losses over a split; ``policy`` over the samples that carry one (0 if none does)."""

    value: float
    policy: float

    @property
    def loss(self) -> float:
        return self.value + self.policy


def evaluate_split(net: Trainee, dataset: Dataset, samples: Array, batch_size: int = VALIDATION_BATCH) -> Evaluation:
    """Mean losses of a net over samples (int64 [N])."""
    value, policy, policies = 0.0, 0.0, 0
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            batch = batch_of(dataset, samples[start : start + batch_size])
            losses = net.losses(batch)
            value += float(losses.value)
            policy += float(losses.policy)
            policies += batch.policies
    return Evaluation(value / len(samples), policy / policies if policies else 0.0)


def served_difference(net: Trainee, network: Network, positions: int, seed: int) -> float:
    """Largest difference between the training forward and what is served, over fresh positions (F5).

    Covers values and logits. The training forward reads compact positions, serving reads states.
    """
    p = probe(network.config, positions, seed=seed)
    g = game(network.config).geometry
    rows = np.empty((positions, encoder.row_bytes(g)), dtype=np.uint8)
    encoder.compact_states(g, p.states, rows)
    trained_values, trained_logits = net.predict(rows, p.indptr, p.indices)
    values, logits = network.evaluate_batch(p.states, p.moves, p.counts)
    absolute = np.array(
        [by_seat(v, int(m)) for v, m in zip(trained_values, p.states[:, S_PLAYER], strict=True)], dtype=np.float32
    )
    flat = logits[np.arange(logits.shape[1]) < p.counts[:, None]]
    return float(max(np.abs(absolute - values).max(), np.abs(flat - trained_logits).max()))


def check_served(net: Trainee, network: Network, seed: int, checks: Checks) -> float:
    """Return the largest difference between what was trained and what would be served, if it may be served.

    Raises ServedDifferentlyError.
    """
    difference = served_difference(net, network, checks.served_positions, seed)
    if not difference <= checks.served_tolerance:
        raise ServedDifferentlyError(
            f"over {checks.served_positions} positions the served output differs from the training forward by "
            f"{difference:.2e}, allowed are {checks.served_tolerance:.0e}; encoder or evaluation is at fault"
        )
    return difference
