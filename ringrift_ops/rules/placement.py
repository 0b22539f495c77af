"""Placing rings: RULES.md 4.1 (R080-R082)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.bits import bit_index, both, either, empty, has, load, shift, single, without
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
    """Stacks with cap at most 1, 2, 3."""
    one, two, three = zero, zero, zero
    for i in range(G[H_PLAYERS]):
        start = S_CONTROL + i * G[H_WORDS]
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
    return one, two, three


@jit
def _step_sets(G, free, zero):
    """Cells where a stack of height 1, 2 or 3 has a step: the next h cells of a direction are free."""
    step1, step2, step3 = zero, zero, zero
    for d in range(G[H_DIRECTIONS]):
        free1 = shift(G, d, free)
        free2 = shift(G, d, both(free, free1))
        step1 = either(step1, free1)
        step2 = either(step2, free2)
        step3 = either(step3, shift(G, d, both(free, free2)))
    return step1, step2, step3


@jit
def _capture_sets(G, s, free, zero):
    """Cells where a stack of height and cap 1, 2 or 3 has a capture (App. C shortcuts).

    One over the stack at distance k needs the cells after it free up to distance max(k + 1, h).
    """
    one, two, three = _stacks_by_cap(G, s, zero)
    over1, over2, over3 = zero, zero, zero
    for d in range(G[H_DIRECTIONS]):
        free1 = shift(G, d, free)
        free2 = shift(G, d, both(free, free1))
        over1 = either(over1, shift(G, d, both(one, free1)))
        near = shift(G, d, both(two, free1))
        over2 = either(over2, either(near, shift(G, d, both(free, near))))
        beyond = shift(G, d, both(free, shift(G, d, both(three, free1))))
        over3 = either(over3, shift(G, d, both(three, free2)))
        over3 = either(over3, either(beyond, shift(G, d, both(free, beyond))))
    return over1, over2, over3


@jit
def placement_sets(G, s, p, zero):
    """Cells where ``p`` may place one, two, three rings (4.1): three bitboards, each in the one before.

    Counts 2 and 3 are offered only on empty cells that are legal with count 1 (no. 3 and 6).
    """
    limit = _placement_limit(G, s, p)
    if limit < 1:
        return zero, zero, zero
    stacks, collapsed, markers = zero, zero, zero
    for i in range(G[H_PLAYERS]):
        stacks = either(stacks, load(s, S_CONTROL + i * G[H_WORDS], zero))
        collapsed = either(collapsed, load(s, G[H_COLLAPSED] + i * G[H_WORDS], zero))
        markers = either(markers, load(s, G[H_MARKERS] + i * G[H_WORDS], zero))
    free = without(load(G, G[H_BOARD], zero), either(stacks, collapsed))
    bare = without(free, markers)
    step1, step2, step3 = _step_sets(G, free, zero)
    alive1, alive2, alive3 = step1, step2, step3
    if not empty(without(bare, step1 if limit == 1 else (step2 if limit == 2 else step3))):
        over1, over2, over3 = _capture_sets(G, s, free, zero)
        alive1, alive2, alive3 = either(step1, over1), either(step2, over2), either(step3, over3)
    one = both(alive1, bare)
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
                word = s[G[H_CELL] + cell]
                height = height_of(word) + 1
                steps = (height == 2 and has(step2, cell)) or (height == 3 and has(step3, cell))
                if steps or _alive_on(G, s, cell, word, p):
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
