"""One interface over both families for the trainer: losses of a batch, predictions of positions."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ringrift_ops.network import encoder
from ringrift_ops.network.convolutional import ConvolutionalNet, Heads, build, move_columns, seat_values
from ringrift_ops.network.dataset import Dataset
from ringrift_ops.network.sparse_training import SparseNet, segment_cross_entropy
from ringrift_ops.rules.game import Game

Array = npt.NDArray[Any]


class Batch(NamedTuple):
    """Samples as they lie in a dataset."""

    rows: Array  # uint8 [B, row bytes]
    values: Array  # float32 [B, players], relative seats
    indptr: Array  # int64 [B + 1]
    indices: Array  # int32 [M]
    shares: Array  # float32 [M]

    @property
    def policies(self) -> int:
        """Samples that carry a policy."""
        return int(np.count_nonzero(np.diff(self.indptr)))


class Losses(NamedTuple):
    """Sums over a batch, so that means over many batches are exact."""

    value: torch.Tensor  # of (value - target)^2, mean over seats
    policy: torch.Tensor  # cross-entropy over the legal moves of the samples that carry a policy


class Trainee(Protocol):
    """A net while it is trained."""

    module: nn.Module

    def losses(self, batch: Batch) -> Losses:
        """Differentiable losses of a batch."""
        ...

    def predict(self, rows: Array, indptr: Array, indices: Array) -> tuple[Array, Array]:
        """The training forward: values float32 [B, players] of relative seats, logits float32 [M]."""
        ...


@jit
def _gather(
    starts: Any, picked: Any, indices: Any, shares: Any, indptr: Any, out_indices: Any, out_shares: Any
) -> None:
    k = 0
    for i in range(picked.size):
        indptr[i] = k
        for j in range(starts[picked[i]], starts[picked[i] + 1]):
            out_indices[k] = indices[j]
            out_shares[k] = shares[j]
            k += 1
    indptr[picked.size] = k


def batch_of(dataset: Dataset, picked: Array) -> Batch:
    """The samples with these numbers (int64 [B]), copied out of the mapped file."""
    starts = np.asarray(dataset.policy_indptr)
    entries = int((starts[picked + 1] - starts[picked]).sum())
    indptr = np.empty(len(picked) + 1, dtype=np.int64)
    indices, shares = np.empty(entries, dtype=np.int32), np.empty(entries, dtype=np.float32)
    _gather(
        starts, picked, np.asarray(dataset.policy_indices), np.asarray(dataset.policy_values), indptr, indices, shares
    )
    return Batch(np.asarray(dataset.features)[picked], np.asarray(dataset.values)[picked], indptr, indices, shares)


def policies_of(dataset: Dataset, picked: Array) -> int:
    """How many of these samples carry a policy."""
    starts = np.asarray(dataset.policy_indptr)
    return int(np.count_nonzero(starts[picked + 1] - starts[picked]))


def _value_loss(outputs: torch.Tensor, values: Array) -> torch.Tensor:
    targets = torch.from_numpy(values).to(outputs.device)
    return (seat_values(outputs.float()) - targets).square().mean(dim=1).sum()


class SparseTrainee:
    """The sparse family."""

    def __init__(self, rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array], device: str) -> None:
        self.net = SparseNet(rules, sizes, tensors).to(device)
        self.module: nn.Module = self.net

    def losses(self, batch: Batch) -> Losses:
        """As ``Trainee.losses``."""
        outputs, query = self.net(self.net.inputs(batch.rows))
        query = query.float()
        policy = torch.zeros((), device=outputs.device)
        if len(batch.indices):
            entries = self.net.entries(batch.rows, batch.indptr, batch.indices)
            policy = self.net.policy_loss(query, entries, batch.indptr, batch.shares)
        return Losses(_value_loss(outputs, batch.values), policy)

    def predict(self, rows: Array, indptr: Array, indices: Array) -> tuple[Array, Array]:
        """As ``Trainee.predict``."""
        with torch.no_grad():
            outputs, query = self.net(self.net.inputs(rows))
            logits = self.net.logits(query, self.net.entries(rows, indptr, indices), indptr)
            return seat_values(outputs).cpu().numpy(), logits.cpu().numpy()


class ConvolutionalTrainee:
    """The convolutional family."""

    def __init__(self, rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array], device: str) -> None:
        self.rules = rules
        self.device = torch.device(device)
        self.net: ConvolutionalNet = build(rules, sizes, tensors).to(self.device)
        self.module: nn.Module = self.net

    def _heads(self, rows: Array) -> Heads:
        g, size = self.rules.geometry, self.rules.board.size
        planes = np.empty((len(rows), encoder.plane_count(g), size, size), dtype=np.float32)
        numbers = np.empty((len(rows), encoder.global_count(g)), dtype=np.float32)
        encoder.planes_of_rows(g, rows, planes, numbers)
        heads: Heads = self.net(torch.from_numpy(planes).to(self.device), torch.from_numpy(numbers).to(self.device))
        return heads

    def _logits(self, heads: Heads, indptr: Array, indices: Array) -> torch.Tensor:
        parts = np.empty((len(indices), 6), dtype=np.int64)
        move_columns(self.rules.geometry, indices, parts)
        owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return self.net.logits(heads, torch.from_numpy(owner).to(self.device), torch.from_numpy(parts).to(self.device))

    def losses(self, batch: Batch) -> Losses:
        """As ``Trainee.losses``."""
        heads = Heads(*(head.float() for head in self._heads(batch.rows)))
        policy = torch.zeros((), device=self.device)
        if len(batch.indices):
            logits = self._logits(heads, batch.indptr, batch.indices)
            policy = segment_cross_entropy(logits, batch.indptr, batch.shares)
        return Losses(_value_loss(heads.outputs, batch.values), policy)

    def predict(self, rows: Array, indptr: Array, indices: Array) -> tuple[Array, Array]:
        """As ``Trainee.predict``."""
        with torch.no_grad():
            heads = self._heads(rows)
            return seat_values(heads.outputs).cpu().numpy(), self._logits(heads, indptr, indices).cpu().numpy()


def trainee(family: str, rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array], device: str) -> Trainee:
    """A net of a family, ready to be trained on a device."""
    made = SparseTrainee if family == "sparse" else ConvolutionalTrainee
    return made(rules, sizes, tensors, device)
