"""Placing rings: RULES.md 4.1 (R080-R082)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.bits import bit_index, both, either, empty, has, load, opposite, shift, single, without
from ringrift_ops.rules.boards import (
    H_BOARD,
    H_CELL,
    H_CELLS,
    H_COLLAPSED,
    H_DIRECTIONS,
    H_MARKERS,
    H_NEIGHBOUR,
    H_PLAYERS,
    H_RINGS,
    H_WORDS,
)
from ringrift_ops.rules.layout import EMPTY, PLACE, S_CONTROL, S_HAND, S_MUST, S_ON_BOARD, S_PLAYER
from ringrift_ops.rules.movement import add_move, can_act, pack
from ringrift_ops.rules.stacks import (
    cap_of,
    cell_word,
    height_of,
    is_free,
    is_stack,
    owner_of,
    put_stack,
    take_stack,
    with_ring_on_top,
)


@jit
def _placement_limit(G, s, p):
    """Rings ``p`` may still put on one empty cell: hand, three, and supply (4.1 no. 1, 3, 4)."""
    return min(s[S_HAND + p - 1], min(3, G[H_RINGS] - s[S_ON_BOARD + p - 1]))


@jit
def _alive_on(G, s, cell, word, p):
    """No dead placement (4.1 no. 5) of one ring on a stack."""
    cap = cap_of(word) + 1 if owner_of(word) == p else 1
    return can_act(G, s, cell, height_of(word) + 1, cap)


@jit
def _stacks_by_cap(G, s, zero):
    """All stacks, and those with cap at most 1, 2, 3."""
    one, two, three, stacks = zero, zero, zero, zero
    for i in range(G[H_PLAYERS]):
        start = S_CONTROL + i * G[H_WORDS]
        stacks = either(stacks, load(s, start, zero))
        for w in range(G[H_WORDS]):
            rest = s[start + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                cap = cap_of(s[G[H_CELL] + cell])
                if cap > 3:
                    continue
                here = single(cell, zero)
                three = either(three, here)
                if cap < 3:
                    two = either(two, here)
                if cap < 2:
                    one = either(one, here)
    return stacks, one, two, three


@jit
def _alive_sets(G, free, one, two, three, zero):
    """Cells where a stack of height and cap 1, 2 or 3 could move or capture (App. C shortcuts).

    Per direction, with f_k = cells whose next k cells are free: a step needs f_h; a capture over the
    stack at distance k needs the cells after it free up to distance max(k + 1, h).
    """
    alive1, alive2, alive3 = zero, zero, zero
    for d in range(G[H_DIRECTIONS]):
        back = opposite(G, d)
        free1 = shift(G, back, free)
        free2 = shift(G, back, both(free, free1))
        free3 = shift(G, back, both(free, free2))
        alive1 = either(alive1, either(free1, shift(G, back, both(one, free1))))
        over = shift(G, back, both(two, free1))
        alive2 = either(alive2, either(free2, either(over, shift(G, back, both(free, over)))))
        beyond = shift(G, back, both(free, shift(G, back, both(three, free1))))
        alive3 = either(alive3, either(free3, shift(G, back, both(three, free2))))
        alive3 = either(alive3, either(beyond, shift(G, back, both(free, beyond))))
    return alive1, alive2, alive3


@jit
def placement_sets(G, s, p, zero):
    """Cells where ``p`` may place one, two, three rings (4.1): three bitboards, each in the one before.

    Counts 2 and 3 are offered only on empty cells that are legal with count 1 (no. 3 and 6).
    """
    limit = _placement_limit(G, s, p)
    if limit < 1:
        return zero, zero, zero
    stacks, cap1, cap2, cap3 = _stacks_by_cap(G, s, zero)
    collapsed, markers = zero, zero
    for i in range(G[H_PLAYERS]):
        collapsed = either(collapsed, load(s, G[H_COLLAPSED] + i * G[H_WORDS], zero))
        markers = either(markers, load(s, G[H_MARKERS] + i * G[H_WORDS], zero))
    free = without(load(G, G[H_BOARD], zero), either(stacks, collapsed))
    alive1, alive2, alive3 = _alive_sets(G, free, cap1, cap2, cap3, zero)
    one = both(alive1, without(free, markers))
    two = both(one, alive2) if limit > 1 else zero
    three = both(one, alive3) if limit > 2 else zero
    for i in range(G[H_PLAYERS]):
        start = S_CONTROL + i * G[H_WORDS]
        for w in range(G[H_WORDS]):
            rest = s[start + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                if _alive_on(G, s, cell, s[G[H_CELL] + cell], p):
                    one = either(one, single(cell, zero))
    return one, two, three


@jit
def add_placements(G, s, moves, n, zero):
    """place_ring (4.1): per cell the legal counts in ascending order."""
    one, two, three = placement_sets(G, s, s[S_PLAYER], zero)
    if empty(one):
        return n
    for cell in range(G[H_CELLS]):
        if has(one, cell):
            n = add_move(moves, n, pack(PLACE, cell, 0, 0, 1))
            if has(two, cell):
                n = add_move(moves, n, pack(PLACE, cell, 0, 0, 2))
            if has(three, cell):
                n = add_move(moves, n, pack(PLACE, cell, 0, 0, 3))
    return n


@jit
def any_placement(G, s, p, zero):
    """Whether some cell is a legal placement with count 1 (anyPlacement, 2.4)."""
    if _placement_limit(G, s, p) < 1:
        return False
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    for cell in range(G[H_CELLS]):
        if s[base + cell] == EMPTY:
            for d in range(G[H_DIRECTIONS]):
                if is_free(s[base + G[G[H_NEIGHBOUR] + d * stride + cell]]):
                    return True
    one, _, _ = placement_sets(G, s, p, zero)
    return not empty(one)


@jit
def place(G, s, cell, rings, p):
    """Effect of place_ring (4.1)."""
    word = take_stack(G, s, cell) if is_stack(cell_word(G, s, cell)) else np.int64(0)
    for _ in range(rings):
        word = with_ring_on_top(G, s, word, p)
    put_stack(G, s, cell, word)
    s[S_HAND + p - 1] -= rings
    s[S_MUST] = cell
