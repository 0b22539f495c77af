"""The sparse family: a small net evaluated inside compiled code, one position at a time.

::

    active features --sum of rows--+
    globals --------matrix---------+-> hidden (relu) -+-> dense (relu) -> value per seat
                                                      +-> query q
    logit of a move = q . (slot row + role rows of its cells + content rows of its cells)

The value of relative seat i is the mean of ``tanh(o_i - o_j)`` over the other seats j: within
[-1, 1], mean zero, and every ranking of the seats is representable; two players get v and -v.

All parameters lie in one flat float32 array with a header of ``P_*`` numbers, so that searches pass
a net around like any other array.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip  (sets the cache folder before numba loads)

import math

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.network.encoder import (
    content_classes,
    content_of_word,
    feature_capacity,
    feature_count,
    features,
    global_count,
    head_bytes,
    read_globals,
    write_head,
)
from ringrift_ops.network.policy import FROM_ROLE, NO_CELL, ROLE_COUNT, SLOTS, THIRD_ROLE, TO_ROLE, slot_of_move
from ringrift_ops.network.vectors import FLOAT, LANES, add_four, add_product, address, copy_floats, dot, rectify
from ringrift_ops.rules.boards import H_CELL, H_LENGTH, H_ON_BOARD, H_PLAYERS, H_RANK
from ringrift_ops.rules.layout import S_PLAYER

Floats = npt.NDArray[np.float32]
Scratch = tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.uint8]]

LAYOUT_VERSION: Final = 1
(
    P_VERSION,
    P_PLAYERS,
    P_FEATURES,
    P_GLOBALS,
    P_HIDDEN,
    P_DENSE,
    P_POLICY,
    P_CONTENTS,  # content classes
    P_CELL_ROWS,  # offset: [feature][hidden], then a zero row
    P_GLOBAL_ROWS,  # offset: [global][hidden], then zero rows up to a multiple of four
    P_HIDDEN_BIAS,
    P_DENSE_ROWS,  # offset: [hidden][dense]
    P_DENSE_BIAS,
    P_VALUE_ROWS,  # offset: [seat][dense]
    P_VALUE_BIAS,
    P_QUERY_ROWS,  # offset: [hidden][policy]
    P_QUERY_BIAS,
    P_SLOT_ROWS,  # offset: [slot][policy]
    P_ROLE_ROWS,  # offset: a zero row, then [role - 1][rank][policy]
    P_CONTENT_ROWS,  # offset: a zero row, then [role - 1][content class][policy]
    P_SIZE,
) = range(21)
HEADER: Final = 32
ALIGN: Final = 16
"""Sections start at multiples of so many floats (one cache line)."""

POLICY_WIDTH: Final = 32
"""Length of a policy vector where the sizes do not name another (``policy``)."""


class SizeError(UsageError):
    """The sizes of a net are not those of its family, or not usable."""


def sparse_sizes(sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """(hidden, dense, policy) of a sparse net. Raises SizeError."""
    if not {"hidden", "dense"} <= set(sizes) <= {"hidden", "dense", "policy"}:
        raise SizeError(f"a sparse net has the sizes hidden, dense and maybe policy, not {sorted(sizes)}")
    full = {"policy": POLICY_WIDTH, **sizes}
    for name, value in full.items():
        if not 0 < value <= 4096 or value % LANES:
            raise SizeError(f"size {name} of a sparse net is a multiple of {LANES} up to 4096, not {value}")
    return full["hidden"], full["dense"], full["policy"]


def sparse_shapes(G: Any, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a sparse net, in the order of the flat array. Raises SizeError."""
    hidden, dense, policy = sparse_sizes(sizes)
    players, cells = int(G[H_PLAYERS]), int(G[H_ON_BOARD])
    return {
        "cell_rows": (int(feature_count(G)), hidden),
        "global_rows": (int(global_count(G)), hidden),
        "hidden_bias": (hidden,),
        "dense_rows": (hidden, dense),
        "dense_bias": (dense,),
        "value_rows": (players, dense),
        "value_bias": (players,),
        "query_rows": (hidden, policy),
        "query_bias": (policy,),
        "slot_rows": (SLOTS, policy),
        "role_rows": (ROLE_COUNT * cells, policy),
        "content_rows": (ROLE_COUNT * int(content_classes(G)), policy),
    }


def initial_tensors(G: Any, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, Floats]:
    """A random net: values near 0, nearly uniform priors."""
    scale = {
        "cell_rows": 0.03,  # about 60 rows are summed per position
        "global_rows": 0.2,
        "dense_rows": math.sqrt(2.0 / sizes["hidden"]),
        "value_rows": 0.05,
        "query_rows": math.sqrt(1.0 / sizes["hidden"]),
        "slot_rows": 1e-4,  # at 0.01 the random priors cost 26 points of 85 % (hex8_2p, 64 simulations)
        "role_rows": 1e-4,
        "content_rows": 1e-4,
    }
    return {
        name: (rng.standard_normal(shape) * scale.get(name, 0.0)).astype(np.float32)
        for name, shape in sparse_shapes(G, sizes).items()
    }


def aligned_floats(size: int) -> Floats:
    """Zeros, float32 [size], starting at a multiple of 64 bytes."""
    raw = np.zeros(size + ALIGN, dtype=np.float32)
    skip = (-raw.ctypes.data % 64) // 4
    return raw[skip : skip + size]


def flatten(G: Any, sizes: Mapping[str, int], tensors: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """The flat parameter array (float32) of named tensors whose shapes are ``sparse_shapes``'s."""
    shapes = sparse_shapes(G, sizes)
    policy = shapes["query_bias"][0]
    offsets: dict[str, int] = {}
    end = HEADER
    zero_before = {"role_rows": policy, "content_rows": policy}
    zero_after = {"cell_rows": sizes["hidden"], "global_rows": 4 * sizes["hidden"]}
    for name, shape in shapes.items():
        offsets[name] = end
        floats = math.prod(shape) + zero_before.get(name, 0) + zero_after.get(name, 0)
        end += -(-floats // ALIGN) * ALIGN
    flat = aligned_floats(end)
    header = {
        P_VERSION: LAYOUT_VERSION,
        P_PLAYERS: int(G[H_PLAYERS]),
        P_FEATURES: shapes["cell_rows"][0],
        P_GLOBALS: shapes["global_rows"][0],
        P_HIDDEN: sizes["hidden"],
        P_DENSE: sizes["dense"],
        P_POLICY: policy,
        P_CONTENTS: int(content_classes(G)),
    } | {P_CELL_ROWS + i: offsets[name] for i, name in enumerate(shapes)}
    for place, value in header.items():
        flat[place] = value
    for name, shape in shapes.items():
        start = offsets[name] + zero_before.get(name, 0)
        flat[start : start + math.prod(shape)] = np.asarray(tensors[name], dtype=np.float32).ravel()
    return flat


@jit_allocating
def new_scratch(G, parameters):
    """Buffers of one evaluation at a time: (features int32, floats float32, head uint8)."""
    floats = np.int64(parameters[P_HIDDEN] + parameters[P_DENSE] + parameters[P_POLICY])
    return (
        np.empty(feature_capacity(G) + 3, dtype=np.int32),
        np.empty(floats + global_count(G) + 64, dtype=np.float32),
        np.empty(head_bytes(G), dtype=np.uint8),
    )


@jit
def seat_values(outputs, at, players, values, mover):
    """Mean of tanh(o_i - o_j) per relative seat of ``outputs[at:]``, into ``values`` by absolute seat."""
    for i in range(players):
        values[i] = 0.0
    share = np.float32(1.0 / (players - 1))
    for i in range(players):
        for j in range(i + 1, players):
            t = np.float32(math.tanh(outputs[at + i] - outputs[at + j])) * share
            values[(mover - 1 + i) % players] += t
            values[(mover - 1 + j) % players] -= t


@jit
def _place(parameters, header):
    """Address of a section of the parameters."""
    return address(parameters) + FLOAT * np.int64(parameters[header])


@jit
def _value_and_query(G, s, parameters, scratch, values):
    """Run the trunk: values by absolute seat; the query vector is left at ``floats[hidden:]``."""
    active, floats, head = scratch
    hidden = np.int64(parameters[P_HIDDEN])
    dense = np.int64(parameters[P_DENSE])
    policy = np.int64(parameters[P_POLICY])
    players = G[H_PLAYERS]
    start = hidden + policy + dense + LANES  # of the globals; the outputs lie before them
    h = address(floats)
    q, e = h + FLOAT * hidden, h + FLOAT * (hidden + policy)
    copy_floats(h, _place(parameters, P_HIDDEN_BIAS), hidden)
    count = features(G, s, active)
    spare = np.int64(parameters[P_FEATURES])
    for k in range(count, count + 3):
        active[k] = spare
    rows, stride = _place(parameters, P_CELL_ROWS), FLOAT * hidden
    for k in range(0, count, 4):
        a, b = rows + np.int64(active[k]) * stride, rows + np.int64(active[k + 1]) * stride
        c, d = rows + np.int64(active[k + 2]) * stride, rows + np.int64(active[k + 3]) * stride
        add_four(h, a, b, c, d, hidden)
    write_head(G, s, head)
    inputs = np.int64(parameters[P_GLOBALS])
    for k in range(start + inputs, start + inputs + 3):
        floats[k] = 0.0
    read_globals(G, head, floats, start)
    add_product(h, _place(parameters, P_GLOBAL_ROWS), hidden, h + FLOAT * start, (inputs + 3) & ~3)
    rectify(h, hidden)
    copy_floats(q, _place(parameters, P_QUERY_BIAS), policy)
    add_product(q, _place(parameters, P_QUERY_ROWS), policy, h, hidden)
    copy_floats(e, _place(parameters, P_DENSE_BIAS), dense)
    add_product(e, _place(parameters, P_DENSE_ROWS), dense, h, hidden)
    rectify(e, dense)
    zeros = rows + spare * stride
    bias, rows = np.int64(parameters[P_VALUE_BIAS]), _place(parameters, P_VALUE_ROWS)
    for j in range(players):
        floats[start - LANES + j] = parameters[bias + j] + dot(e, rows + FLOAT * j * dense, zeros, dense)
    seat_values(floats, start - LANES, players, values, s[S_PLAYER])


@jit
def role_row(role, rank, cells):
    """Row of a cell in a role: 0 is the zero row of a move without such a cell."""
    return np.int64(0) if rank == NO_CELL else 1 + (role - 1) * cells + rank


@jit
def content_row(role, rank, content, contents):
    """Row of what stands on a cell in a role; row 0 is zero."""
    return np.int64(0) if rank == NO_CELL else 1 + (role - 1) * contents + content


@jit
def _with(three, place, value):
    """A triple with one of its numbers replaced."""
    return (
        value if place == 0 else three[0],
        value if place == 1 else three[1],
        value if place == 2 else three[2],
    )


@jit
def _logits(G, s, parameters, moves, n, floats, logits):
    """Logits of a legal list; what neighbours in it share is computed once."""
    policy, contents = np.int64(parameters[P_POLICY]), np.int64(parameters[P_CONTENTS])
    slots, roles = _place(parameters, P_SLOT_ROWS), _place(parameters, P_ROLE_ROWS)
    whats = _place(parameters, P_CONTENT_ROWS)
    q = address(floats) + FLOAT * np.int64(parameters[P_HIDDEN])
    mover, length, players, cells = s[S_PLAYER], G[H_LENGTH], G[H_PLAYERS], G[H_ON_BOARD]
    stride = FLOAT * policy
    last = (np.int64(-1), np.int64(-1), np.int64(-1))
    shares = (np.float32(0.0), np.float32(0.0), np.float32(0.0))
    last_slot, by_slot = np.int64(-1), np.float32(0.0)
    for m in range(n):
        move = moves[m]
        kind = move & 31
        slot = slot_of_move(players, move, mover, length)
        if slot != last_slot:
            last_slot, by_slot = slot, dot(q, slots + slot * stride, roles, policy)
        for place in range(3):
            part = move & (31 | 1023 << (5 + 10 * place))
            if part == last[place]:
                continue
            last = _with(last, place, part)
            role = TO_ROLE[kind] if place == 0 else (FROM_ROLE[kind] if place == 1 else THIRD_ROLE[kind])
            share = np.float32(0.0)
            if role != 0:
                cell = part >> (5 + 10 * place)
                content = content_of_word(s[G[H_CELL] + cell], mover, players)
                row = role_row(role, G[G[H_RANK] + cell], cells)
                what = content_row(role, np.int64(0), content, contents)
                share = dot(q, roles + row * stride, whats + what * stride, policy)
            shares = _with(shares, place, share)
        logits[m] = by_slot + shares[0] + shares[1] + shares[2]


@jit
def evaluate(G, s, parameters, moves, n, scratch, values, logits, zero):
    """Evaluate a position that is not over.

    Writes ``values`` (float32 [>= players], by absolute seat, mean zero, within [-1, 1]) and
    ``logits`` (float32 [>= n], one per move of ``moves[:n]``, before softmax). ``parameters`` from
    ``flatten``, ``scratch`` from ``new_scratch``. ``zero`` is not used; every evaluator takes it.
    """
    _value_and_query(G, s, parameters, scratch, values)
    _logits(G, s, parameters, moves, n, scratch[1], logits)


@jit_allocating
def evaluate_states(G, states, parameters, moves, counts, values, logits, zero):
    """``evaluate`` for a batch: states int64 [B, words], moves int64 [B, M], counts int64 [B].

    Fills values float32 [B, players] and logits float32 [B, M] (-inf beyond the counts).
    """
    scratch = new_scratch(G, parameters)
    for i in range(states.shape[0]):
        logits[i] = -np.inf
        evaluate(G, states[i], parameters, moves[i], counts[i], scratch, values[i], logits[i], zero)
