"""What a net sees of a position: one encoder, stored compactly, read in two views.

Everything is relative to the seat to move: seat i of a view is seat ``(mover + i) mod n``, so seats
stay apart and in playing order; the mover's own seat number is one of the globals.

*Compact position*: ``uint8 [row_bytes(G)]``, what a dataset stores per sample. Head, then three
bytes per cell in board order (all first bytes, all second, all third)::

    0  phase    1  mover - 1    2  bits FLAG_*    3  pie rule: 1 done, 2 on offer, 4 in use
    4  LPS leader + 1 (relative, 0 none)    5  LPS exclusive seat + 1    6  LPS rounds
    7  LPS mask, two bits per relative seat: 0 not seen, 1 seen without real action, 2 with
    8  per relative seat six uint16, low byte first: hand, eliminated, territory, on board,
       stacks, markers

    cell byte 1   0 empty, 1-4 marker, 5-8 collapsed, 9-12 stack of a relative seat;
                  +64 the stack that must move, +128 the stack that captures
    cell byte 2   min(height, 15) | min(cap, 15) << 4 of a stack
    cell byte 3   rings below the cap, two bits per relative owner: 0, 1, 2, 3 or more

*Sparse view*: the numbers of the active features (``type * cells + rank``, int32) and a short vector
of globals (float32). *Planes*: float32 [C, H, W] for convolutions, plus the same globals.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

import numpy as np

from ringrift_ops.rules.bits import bit_index
from ringrift_ops.rules.boards import (
    H_CELL,
    H_COLLAPSED,
    H_HEX,
    H_MARKERS,
    H_ON_BOARD,
    H_ORDER,
    H_PLAYERS,
    H_RANK,
    H_RINGS,
    H_TERRITORY,
    H_VICTORY,
    H_WORDS,
    H_X,
    H_Y,
)
from ringrift_ops.rules.layout import (
    CAPTURE,
    CHAIN_CAPTURE,
    S_ACTED,
    S_CHAIN,
    S_CONTROL,
    S_ELIMINATED,
    S_HAND,
    S_LINE_DEBT,
    S_LPS_EXCLUSIVE,
    S_LPS_FIRST,
    S_LPS_MASK,
    S_LPS_ROUNDS,
    S_MARKER_COUNT,
    S_MUST,
    S_ON_BOARD,
    S_PHASE,
    S_PLAYER,
    S_RECOVERED,
    S_REGIONS,
    S_STACKS,
    S_SWAP,
    S_TERRITORY,
    S_TERRITORY_DEBT,
    SWAP_DONE,
    SWAP_OFFERED,
    SWAP_RULE,
)
from ringrift_ops.rules.stacks import NO_RING, cap_of, height_of, owner_of, ring_below, ring_owner, top_ring

ENCODER_VERSION: Final = "1"
"""Raised with every change of a number below; stored, with a digest, in datasets and weights."""

HEAD: Final = 8
SEAT_BYTES: Final = 12
FLAG_ACTED, FLAG_RECOVERED, FLAG_LINE_DEBT, FLAG_TERRITORY_DEBT, FLAG_REGIONS = 1, 2, 4, 8, 16
PHASES: Final = 7
FLAGS: Final = 8
SEAT_GLOBALS: Final = 12
LPS_ROUNDS: Final = 3

KIND_MARKER, KIND_COLLAPSED, KIND_STACK = 1, 5, 9
MUST_BIT, CHAIN_BIT = 64, 128

# Feature types per cell for n players, in this order.
HEIGHTS: Final = 9  # 1..7, 8-9, 10+ ; per controller
CAPS: Final = 6  # 1..5, 6+ ; per controller
BURIED: Final = 3  # 1, 2, 3+ rings below the cap ; per owner
PER_SEAT_TYPES: Final = HEIGHTS + CAPS + BURIED + 2  # and marker, collapsed

CONTENT_HEIGHTS: Final = 6  # 1..4, 5-6, 7+
CONTENT_CAPS: Final = 4  # 1..3, 4+


@jit
def head_bytes(G):
    """Bytes of a compact position before its cells."""
    return HEAD + SEAT_BYTES * G[H_PLAYERS]


@jit
def row_bytes(G):
    """Bytes of a compact position."""
    return head_bytes(G) + 3 * G[H_ON_BOARD]


@jit
def feature_types(G):
    """Feature types per cell: per seat height, cap, buried, marker, collapsed; then must, chain."""
    return PER_SEAT_TYPES * G[H_PLAYERS] + 2


@jit
def feature_count(G):
    """Rows of the first layer of a sparse net."""
    return feature_types(G) * G[H_ON_BOARD]


@jit
def feature_capacity(G):
    """The most features one position can have."""
    return G[H_ON_BOARD] * (G[H_PLAYERS] + 2) + 2


@jit
def global_count(G):
    """Globals: phase, mover's seat, flags, and per relative seat ``SEAT_GLOBALS`` numbers."""
    return PHASES + FLAGS + (1 + SEAT_GLOBALS) * G[H_PLAYERS]


@jit
def plane_count(G):
    """Planes: per relative seat stack, height, cap, buried, marker, collapsed; must, chain, board."""
    return 6 * G[H_PLAYERS] + 3


@jit
def content_classes(G):
    """Classes of what stands on one cell, as policy heads look it up."""
    n = G[H_PLAYERS]
    return 1 + n + CONTENT_HEIGHTS * CONTENT_CAPS * n


@jit
def content_class(kind, height, cap, players):
    """Class of a cell: 0 empty or collapsed, a marker per owner, a stack per controller and shape."""
    if kind >= KIND_STACK:
        h = height - 1 if height < 5 else (4 if height < 7 else 5)
        c = min(cap, CONTENT_CAPS) - 1
        return 1 + players + ((kind - KIND_STACK) * CONTENT_HEIGHTS + h) * CONTENT_CAPS + c
    return kind if kind < KIND_COLLAPSED else 0


@jit
def relative_seat(G, seat, mover):
    """0 for the mover, 1 for the next seat in playing order ..."""
    return seat - mover if seat >= mover else seat - mover + G[H_PLAYERS]


@jit
def content_of_word(word, mover, players):
    """``content_class`` of a cell word of a state."""
    tag = word & 3
    if tag == 0 or tag == 2:
        return 0
    relative = owner_of(word) - mover
    if relative < 0:
        relative += players
    if tag == 1:
        return KIND_MARKER + relative
    return content_class(KIND_STACK + relative, height_of(word), cap_of(word), players)


@jit
def content_of_row(row, head, cells, rank, players):
    """``content_class`` of a cell of a compact position."""
    shape = np.int64(row[head + cells + rank])
    return content_class(np.int64(row[head + rank] & 63), shape & 15, shape >> 4, players)


@jit
def buried_counts(G, s, word, mover):
    """Rings below the cap of a stack, two bits per relative owner (0, 1, 2, 3 or more)."""
    counts = 0
    ring = top_ring(word)
    for _ in range(cap_of(word)):
        ring = ring_below(G, s, ring)
    while ring != NO_RING:
        place = 2 * relative_seat(G, ring_owner(G, s, ring), mover)
        if (counts >> place) & 3 != 3:
            counts += 1 << place
        ring = ring_below(G, s, ring)
    return counts


@jit
def _put16(out, at, value):
    out[at] = value & 255
    out[at + 1] = (value >> 8) & 255


@jit
def write_head(G, s, out):
    """The head of a compact position into ``out`` (uint8 [>= head_bytes])."""
    n = G[H_PLAYERS]
    mover = max(1, s[S_PLAYER])
    out[0] = s[S_PHASE]
    out[1] = mover - 1
    out[2] = (
        (FLAG_ACTED if s[S_ACTED] else 0)
        | (FLAG_RECOVERED if s[S_RECOVERED] else 0)
        | (FLAG_LINE_DEBT if s[S_LINE_DEBT] else 0)
        | (FLAG_TERRITORY_DEBT if s[S_TERRITORY_DEBT] else 0)
        | (FLAG_REGIONS if s[S_REGIONS] else 0)
    )
    out[3] = (
        (1 if s[S_SWAP] & SWAP_DONE else 0)
        | (2 if s[S_SWAP] & SWAP_OFFERED else 0)
        | (4 if s[S_SWAP] & SWAP_RULE else 0)
    )
    out[4] = 0 if s[S_LPS_FIRST] == 0 else relative_seat(G, s[S_LPS_FIRST], mover) + 1
    out[5] = 0 if s[S_LPS_EXCLUSIVE] == 0 else relative_seat(G, s[S_LPS_EXCLUSIVE], mover) + 1
    out[6] = min(s[S_LPS_ROUNDS], 255)
    mask = 0
    for i in range(n):
        p = (mover - 1 + i) % n
        mask |= ((s[S_LPS_MASK] >> (2 * p)) & 3) << (2 * i)
        at = HEAD + SEAT_BYTES * i
        _put16(out, at, s[S_HAND + p])
        _put16(out, at + 2, s[S_ELIMINATED + p])
        _put16(out, at + 4, s[S_TERRITORY + p])
        _put16(out, at + 6, s[S_ON_BOARD + p])
        _put16(out, at + 8, s[S_STACKS + p])
        _put16(out, at + 10, s[S_MARKER_COUNT + p])
    out[7] = mask


@jit
def compact(G, s, out):
    """The compact position of a state that is not over, into ``out`` (uint8 [row_bytes])."""
    n, W, cells = G[H_PLAYERS], G[H_WORDS], G[H_ON_BOARD]
    out[:] = 0
    write_head(G, s, out)
    mover = max(1, s[S_PLAYER])
    first = head_bytes(G)
    ranks = G[H_RANK]
    for i in range(n):
        p = (mover - 1 + i) % n
        for w in range(W):
            rest = s[S_CONTROL + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                at = first + G[ranks + cell]
                word = s[G[H_CELL] + cell]
                height, cap = height_of(word), cap_of(word)
                out[at] = KIND_STACK + i
                out[at + cells] = min(height, 15) | min(cap, 15) << 4
                out[at + 2 * cells] = buried_counts(G, s, word, mover) if cap < height else 0
            rest = s[G[H_MARKERS] + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                out[first + G[ranks + w * 64 + bit_index(bit)]] = KIND_MARKER + i
            rest = s[G[H_COLLAPSED] + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                out[first + G[ranks + w * 64 + bit_index(bit)]] = KIND_COLLAPSED + i
    if s[S_MUST] >= 0:
        out[first + G[ranks + s[S_MUST]]] |= MUST_BIT
    if s[S_CHAIN] >= 0 and (s[S_PHASE] == CAPTURE or s[S_PHASE] == CHAIN_CAPTURE):
        out[first + G[ranks + s[S_CHAIN]]] |= CHAIN_BIT


@jit
def compact_states(G, states, out):
    """Compact positions of ``states`` (int64 [N, words]) into ``out`` (uint8 [N, row_bytes])."""
    for i in range(states.shape[0]):
        compact(G, states[i], out[i])


@jit
def _get16(row, at):
    return np.int64(row[at]) | np.int64(row[at + 1]) << 8


@jit
def read_globals(G, head, out, start):
    """The globals of a compact head (uint8) into ``out[start:]`` (float32, global_count numbers)."""
    n = G[H_PLAYERS]
    for i in range(start, start + PHASES + FLAGS + (1 + SEAT_GLOBALS) * n):
        out[i] = 0.0
    if head[0] < PHASES:
        out[start + head[0]] = 1.0
    flags = np.int64(head[2]) | np.int64(head[3]) << 5
    for i in range(FLAGS):
        out[start + PHASES + i] = np.float32((flags >> i) & 1)
    out[start + PHASES + FLAGS + head[1]] = 1.0
    at = start + PHASES + FLAGS + n
    rings, cells = np.float32(G[H_RINGS]), np.float32(G[H_ON_BOARD])
    for i in range(n):
        b = HEAD + SEAT_BYTES * i
        hand, on_board = _get16(head, b), _get16(head, b + 6)
        out[at] = np.float32(hand) / rings
        out[at + 1] = np.float32(_get16(head, b + 2)) / np.float32(G[H_VICTORY])
        out[at + 2] = np.float32(_get16(head, b + 4)) / np.float32(G[H_TERRITORY])
        out[at + 3] = np.float32(on_board) / rings
        out[at + 4] = np.float32(4 * _get16(head, b + 8)) / cells
        out[at + 5] = np.float32(4 * _get16(head, b + 10)) / cells
        out[at + 6] = 1.0 if hand + on_board > 0 else 0.0
        out[at + 7] = 1.0 if hand > 0 else 0.0
        out[at + 8] = 1.0 if (head[7] >> (2 * i)) & 3 == 1 else 0.0
        out[at + 9] = 1.0 if (head[7] >> (2 * i)) & 3 == 2 else 0.0
        out[at + 10] = 1.0 if head[4] == i + 1 else 0.0
        out[at + 11] = np.float32(min(head[6], LPS_ROUNDS)) / np.float32(LPS_ROUNDS) if head[5] == i + 1 else 0.0
        at += SEAT_GLOBALS


@jit
def _add_stack(n, cells, relative, height, cap, buried, rank, out, k):
    """Features of one stack; ``buried`` as in cell byte 3."""
    h = height - 1 if height < 8 else (7 if height < 10 else 8)
    out[k] = (relative * HEIGHTS + h) * cells + rank
    out[k + 1] = (n * HEIGHTS + relative * CAPS + min(cap, CAPS) - 1) * cells + rank
    k += 2
    i = 0
    while buried != 0:
        c = buried & 3
        if c:
            out[k] = (n * (HEIGHTS + CAPS) + i * BURIED + c - 1) * cells + rank
            k += 1
        buried >>= 2
        i += 1
    return k


@jit
def features(G, s, out):
    """Active features of a state that is not over into ``out`` (int32 [feature_capacity]); how many."""
    n, W, cells = G[H_PLAYERS], G[H_WORDS], G[H_ON_BOARD]
    mover = s[S_PLAYER]
    ranks = G[H_RANK]
    marker = n * (HEIGHTS + CAPS + BURIED)
    k = 0
    for i in range(n):
        p = (mover - 1 + i) % n
        for w in range(W):
            rest = s[S_CONTROL + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                word = s[G[H_CELL] + cell]
                height, cap = height_of(word), cap_of(word)
                buried = buried_counts(G, s, word, mover) if cap < height else 0
                k = _add_stack(n, cells, i, height, cap, buried, G[ranks + cell], out, k)
            rest = s[G[H_MARKERS] + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                out[k] = (marker + i) * cells + G[ranks + w * 64 + bit_index(bit)]
                k += 1
            rest = s[G[H_COLLAPSED] + p * W + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                out[k] = (marker + n + i) * cells + G[ranks + w * 64 + bit_index(bit)]
                k += 1
    if s[S_MUST] >= 0:
        out[k] = (marker + 2 * n) * cells + G[ranks + s[S_MUST]]
        k += 1
    if s[S_CHAIN] >= 0 and (s[S_PHASE] == CAPTURE or s[S_PHASE] == CHAIN_CAPTURE):
        out[k] = (marker + 2 * n + 1) * cells + G[ranks + s[S_CHAIN]]
        k += 1
    return k


@jit
def features_of_row(G, row, out, k):
    """Append the active features of a compact position to ``out`` (int32) at ``k``; the new end."""
    n, cells = G[H_PLAYERS], G[H_ON_BOARD]
    head = head_bytes(G)
    marker = n * (HEIGHTS + CAPS + BURIED)
    for rank in range(cells):
        what = np.int64(row[head + rank])
        if what == 0:
            continue
        kind = what & 63
        if kind >= KIND_STACK:
            shape = np.int64(row[head + cells + rank])
            buried = np.int64(row[head + 2 * cells + rank])
            k = _add_stack(n, cells, kind - KIND_STACK, shape & 15, shape >> 4, buried, rank, out, k)
        elif kind >= KIND_COLLAPSED:
            out[k] = (marker + n + kind - KIND_COLLAPSED) * cells + rank
            k += 1
        elif kind >= KIND_MARKER:
            out[k] = (marker + kind - KIND_MARKER) * cells + rank
            k += 1
        if what & MUST_BIT:
            out[k] = (marker + 2 * n) * cells + rank
            k += 1
        if what & CHAIN_BIT:
            out[k] = (marker + 2 * n + 1) * cells + rank
            k += 1
    return k


@jit
def features_of_rows(G, rows, out, starts, global_rows):
    """The sparse view of ``rows`` (uint8 [N, row_bytes]); returns the number of features.

    ``out`` int32 [N * feature_capacity], ``starts`` int64 [N + 1], ``global_rows`` float32 [N, global_count].
    """
    k = 0
    for i in range(rows.shape[0]):
        starts[i] = k
        k = features_of_row(G, rows[i], out, k)
        read_globals(G, rows[i], global_rows[i], 0)
    starts[rows.shape[0]] = k
    return k


@jit
def planes_of_row(G, row, out):
    """The planes of a compact position into ``out`` (float32 [C, H, W], index [plane, x, y])."""
    n, cells = G[H_PLAYERS], G[H_ON_BOARD]
    head = head_bytes(G)
    side = out.shape[1]
    offset = side // 2 if G[H_HEX] else 0
    out[:] = 0.0
    for rank in range(cells):
        cell = G[G[H_ORDER] + rank]
        x, y = G[G[H_X] + cell] + offset, G[G[H_Y] + cell] + offset
        out[6 * n + 2, x, y] = 1.0
        what = np.int64(row[head + rank])
        kind = what & 63
        if kind >= KIND_STACK:
            i = kind - KIND_STACK
            shape = np.int64(row[head + cells + rank])
            out[6 * i, x, y] = 1.0
            out[6 * i + 1, x, y] = np.float32(shape & 15) / np.float32(8.0)
            out[6 * i + 2, x, y] = np.float32(shape >> 4) / np.float32(8.0)
            buried = np.int64(row[head + 2 * cells + rank])
            for j in range(n):
                out[6 * j + 3, x, y] = np.float32((buried >> (2 * j)) & 3) / np.float32(3.0)
        elif kind >= KIND_COLLAPSED:
            out[6 * (kind - KIND_COLLAPSED) + 5, x, y] = 1.0
        elif kind >= KIND_MARKER:
            out[6 * (kind - KIND_MARKER) + 4, x, y] = 1.0
        if what & MUST_BIT:
            out[6 * n, x, y] = 1.0
        if what & CHAIN_BIT:
            out[6 * n + 1, x, y] = 1.0


@jit
def planes_of_rows(G, rows, out, global_rows):
    """Planes and globals of ``rows`` (uint8 [N, row_bytes]) into float32 [N, C, H, W] and [N, globals]."""
    for i in range(rows.shape[0]):
        planes_of_row(G, rows[i], out[i])
        read_globals(G, rows[i], global_rows[i], 0)


@jit
def first_bad_row(G, rows):
    """The first of ``rows`` (uint8 [N, row_bytes]) that is no compact position, -1 if there is none."""
    n, cells = G[H_PLAYERS], G[H_ON_BOARD]
    first = head_bytes(G)
    for i in range(rows.shape[0]):
        row = rows[i]
        if row[0] >= PHASES or row[1] >= n or row[2] > 31 or row[3] > 7 or row[4] > n or row[5] > n:
            return i
        must, chain = 0, 0
        for rank in range(cells):
            kind = np.int64(row[first + rank]) & 63
            shape = np.int64(row[first + cells + rank])
            buried = np.int64(row[first + 2 * cells + rank])
            must += row[first + rank] >> 6 & 1
            chain += row[first + rank] >> 7
            if kind < KIND_STACK:
                relative = (kind - 1) & 3
                if shape != 0 or buried != 0 or (kind != 0 and relative >= n):
                    return i
            elif kind - KIND_STACK >= n or buried >> (2 * n) != 0 or not 1 <= shape >> 4 <= shape & 15:
                return i
        if must > 1 or chain > 1:
            return i
    return -1
