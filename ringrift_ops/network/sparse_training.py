"""Training the sparse family: the net of ``sparse.py`` as a torch module.

On a CPU the two parts that touch rows of tables (the sum of active rows, the policy head with its
softmax) are compiled kernels with gradients of their own: torch's embedding bag sorts its indices
in the backward pass and costs several times as much. On other devices the same is written in torch
operations; a test holds the two together.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ringrift_ops.network import encoder
from ringrift_ops.network.convolutional import seat_values
from ringrift_ops.network.policy import FROM_ROLE, NO_CELL, THIRD_ROLE, TO_ROLE, index_parts
from ringrift_ops.network.sparse import content_row, role_row, sparse_shapes
from ringrift_ops.network.vectors import FLOAT, add_scaled, address, dot
from ringrift_ops.rules.boards import H_LENGTH, H_ON_BOARD, H_PLAYERS
from ringrift_ops.rules.game import Game

Array = npt.NDArray[Any]


class SparseInputs(NamedTuple):
    """One batch as a sparse net reads it."""

    active: Array  # int32 [features]
    starts: Array  # int64 [B + 1]
    numbers: Array  # float32 [B, globals]


@jit
def sum_rows(table, width, active, starts, out):
    """out[b] += the sum of the active rows of sample b; flat float32 arrays."""
    rows, sums, stride = address(table), address(out), FLOAT * width
    for b in range(starts.size - 1):
        for k in range(starts[b], starts[b + 1]):
            add_scaled(sums + b * stride, rows + np.int64(active[k]) * stride, width, np.float32(1.0))


@jit
def spread_rows(gradient, width, active, starts, table_gradient):
    """The gradient of ``sum_rows`` with respect to its table, added to ``table_gradient``."""
    sums, rows, stride = address(gradient), address(table_gradient), FLOAT * width
    for b in range(starts.size - 1):
        for k in range(starts[b], starts[b + 1]):
            add_scaled(rows + np.int64(active[k]) * stride, sums + b * stride, width, np.float32(1.0))


@jit
def policy_rows(G, rows, indptr, indices, contents, out):
    """Table rows of every policy entry: slot, then role and content rows of to, from, third.

    ``out`` int32 [entries, 7]. Row 0 of roles and contents is the zero row.
    """
    cells, players = G[H_ON_BOARD], G[H_PLAYERS]
    head = encoder.head_bytes(G)
    for b in range(rows.shape[0]):
        row = rows[b]
        for k in range(indptr[b], indptr[b + 1]):
            kind, slot, to, origin, third = index_parts(G, np.int64(indices[k]), G[H_LENGTH])
            out[k, 0] = slot
            for place in range(3):
                role = TO_ROLE[kind] if place == 0 else (FROM_ROLE[kind] if place == 1 else THIRD_ROLE[kind])
                rank = to if place == 0 else (origin if place == 1 else third)
                content = 0 if rank == NO_CELL else encoder.content_of_row(row, head, cells, rank, players)
                out[k, 1 + place] = role_row(role, rank, cells)
                out[k, 4 + place] = content_row(role, rank, content, contents)


@jit
def policy_logits(query, tables, role_start, content_start, width, entries, indptr, out):
    """Logits of all entries. ``tables``: slot, role and content rows one after the other, flat."""
    q, rows, stride = address(query), address(tables), FLOAT * width
    roles, whats = rows + FLOAT * role_start, rows + FLOAT * content_start
    for b in range(indptr.size - 1):
        for k in range(indptr[b], indptr[b + 1]):
            total = dot(q, rows + np.int64(entries[k, 0]) * stride, roles, width)
            for c in range(1, 4):
                if entries[k, c] != 0:
                    role, what = np.int64(entries[k, c]), np.int64(entries[k, c + 3])
                    total += dot(q, roles + role * stride, whats + what * stride, width)
            out[k] = total
        q += stride


@jit
def softmax_errors(logits, shares, indptr):
    """Summed cross-entropy (float64) of the rows; ``logits`` become softmax minus shares."""
    total = 0.0
    for b in range(indptr.size - 1):
        first, last = indptr[b], indptr[b + 1]
        if first == last:
            continue
        highest = logits[first]
        for k in range(first, last):
            highest = max(highest, logits[k])
        norm = 0.0
        for k in range(first, last):
            norm += np.exp(logits[k] - highest)
        log_norm = np.log(norm) + highest
        for k in range(first, last):
            total += shares[k] * (log_norm - logits[k])
            logits[k] = np.exp(logits[k] - log_norm) - shares[k]
    return total


@jit
def spread_policy(errors, query, tables, role_start, content_start, width, entries, indptr, query_gradient, gradient):
    """Gradients of the summed cross-entropy: with respect to queries and to all table rows."""
    q, dq, rows, d_rows, stride = (
        address(query),
        address(query_gradient),
        address(tables),
        address(gradient),
        FLOAT * width,
    )
    for b in range(indptr.size - 1):
        for k in range(indptr[b], indptr[b + 1]):
            for c in range(7):
                row = np.int64(entries[k, c])
                if c > 0 and row == 0:
                    continue
                start = 0 if c == 0 else (role_start if c < 4 else content_start)
                at = FLOAT * start + row * stride
                add_scaled(dq, rows + at, width, errors[k])
                add_scaled(d_rows + at, q, width, errors[k])
        q += stride
        dq += stride


def _flat(tensor: torch.Tensor) -> Array:
    flat: Array = tensor.detach().contiguous().view(-1).numpy()
    return flat


class _SumRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, active, starts):
        width = table.shape[1]
        out = torch.zeros(len(starts) - 1, width)
        sum_rows(_flat(table), width, active, starts, _flat(out))
        ctx.shape, ctx.active, ctx.starts = table.shape, active, starts
        return out

    @staticmethod
    def backward(ctx, gradient):
        table = torch.zeros(ctx.shape)
        spread_rows(_flat(gradient), ctx.shape[1], ctx.active, ctx.starts, _flat(table))
        return table, None, None


class _PolicyCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, slots, roles, contents, entries, indptr, shares):
        width = query.shape[1]
        tables = torch.cat([slots, functional.pad(roles, (0, 0, 1, 0)), functional.pad(contents, (0, 0, 1, 0))])
        role_start = slots.shape[0] * width
        content_start = role_start + (roles.shape[0] + 1) * width
        errors = np.empty(len(entries), dtype=np.float32)
        arguments = (_flat(query), _flat(tables), role_start, content_start, width, entries, indptr)
        policy_logits(*arguments, errors)
        total = softmax_errors(errors, shares, indptr)
        ctx.arguments, ctx.errors, ctx.lengths = arguments, errors, (len(slots), len(roles), len(contents))
        return torch.tensor(total, dtype=torch.float32)

    @staticmethod
    def backward(ctx, upstream):
        query, flat, role_start, content_start, width, entries, indptr = ctx.arguments
        query_gradient = torch.zeros(len(indptr) - 1, width)
        slots, roles, contents = ctx.lengths
        tables = torch.zeros(slots + roles + contents + 2, width)
        gradients = (_flat(query_gradient), _flat(tables))
        spread_policy(ctx.errors, query, flat, role_start, content_start, width, entries, indptr, *gradients)
        query_gradient *= upstream
        tables *= upstream
        return (
            query_gradient,
            tables[:slots],
            tables[slots + 1 : slots + 1 + roles],
            tables[slots + roles + 2 :],
            None,
            None,
            None,
        )


class SparseNet(nn.Module):
    """Parameters named and shaped as on disk (``sparse_shapes``)."""

    def __init__(self, rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array]) -> None:
        super().__init__()
        self.rules = rules
        for name in sparse_shapes(rules.geometry, sizes):
            self.register_parameter(name, nn.Parameter(torch.from_numpy(np.array(tensors[name]))))

    def forward(self, inputs: SparseInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs [B, players] (values are ``seat_values`` of them) and query vectors [B, policy]."""
        p = self.get_parameter
        table = self.get_parameter("cell_rows")
        if table.device.type == "cpu":
            summed: torch.Tensor = _SumRows.apply(table, inputs.active, inputs.starts)
        else:
            summed = functional.embedding_bag(
                torch.from_numpy(inputs.active).to(table.device).long(),
                table,
                torch.from_numpy(inputs.starts[:-1]).to(table.device),
                mode="sum",
            )
        numbers = torch.from_numpy(inputs.numbers).to(table.device)
        hidden = functional.relu(torch.addmm(summed + p("hidden_bias"), numbers, p("global_rows")))
        dense = functional.relu(torch.addmm(p("dense_bias"), hidden, p("dense_rows")))
        outputs = functional.linear(dense, self.get_parameter("value_rows"), p("value_bias"))
        return outputs, torch.addmm(p("query_bias"), hidden, p("query_rows"))

    def inputs(self, rows: Array) -> SparseInputs:
        """The sparse view of compact positions uint8 [B, row bytes]."""
        g = self.rules.geometry
        active = np.empty(len(rows) * encoder.feature_capacity(g), dtype=np.int32)
        starts = np.empty(len(rows) + 1, dtype=np.int64)
        numbers = np.empty((len(rows), encoder.global_count(g)), dtype=np.float32)
        count = encoder.features_of_rows(g, rows, active, starts, numbers)
        return SparseInputs(active[:count], starts, numbers)

    def entries(self, rows: Array, indptr: Array, indices: Array) -> Array:
        """Table rows of policy entries, int32 [M, 7] (``policy_rows``)."""
        out = np.empty((len(indices), 7), dtype=np.int32)
        g = self.rules.geometry
        policy_rows(g, rows, indptr, indices, encoder.content_classes(g), out)
        return out

    def values(self, rows: Array) -> torch.Tensor:
        """Values [B, players], relative seats."""
        return seat_values(self(self.inputs(rows))[0])

    def policy_loss(self, query: torch.Tensor, entries: Array, indptr: Array, shares: Array) -> torch.Tensor:
        """Summed cross-entropy of the rows that have entries."""
        tables = (self.get_parameter(n) for n in ("slot_rows", "role_rows", "content_rows"))
        if query.device.type == "cpu":
            loss: torch.Tensor = _PolicyCrossEntropy.apply(query, *tables, entries, indptr, shares)
            return loss
        return segment_cross_entropy(self.logits(query, entries, indptr), indptr, shares)

    def logits(self, query: torch.Tensor, entries: Array, indptr: Array) -> torch.Tensor:
        """Logits [M] of policy entries in torch operations: any device, any order of gradients."""
        device = query.device
        where = torch.from_numpy(entries).to(device).long()
        total = self.get_parameter("slot_rows")[where[:, 0]]
        for name, first in (("role_rows", 1), ("content_rows", 4)):
            table = functional.pad(self.get_parameter(name), (0, 0, 1, 0))
            total = total + table[where[:, first : first + 3]].sum(dim=1)
        owner = torch.from_numpy(np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))).to(device)
        return (query[owner] * total).sum(dim=1)


def segment_cross_entropy(logits: torch.Tensor, indptr: Array, shares: Array) -> torch.Tensor:
    """Summed cross-entropy of CSR rows of logits [M] against shares [M], in torch operations."""
    rows = len(indptr) - 1
    owner = torch.from_numpy(np.repeat(np.arange(rows), np.diff(indptr))).to(logits.device)
    highest = torch.full((rows,), -torch.inf, device=logits.device)
    highest = highest.scatter_reduce(0, owner, logits.detach(), "amax")
    moved = logits - highest[owner]
    norms = torch.zeros(rows, device=logits.device).index_add(0, owner, moved.exp())
    return (torch.from_numpy(shares).to(logits.device) * (norms[owner].log() - moved)).sum()
