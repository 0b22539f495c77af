"""Stacks, markers and collapsed cells of a state: the only code that writes cells and bitboards.

Rings are nodes of linked lists (top to bottom), four nodes to a word: 12 bits next, 3 bits owner.
Every function keeps the cell word, the bitboards and the counts of ``layout.py`` in step.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.boards import H_CELL, H_COLLAPSED, H_MARKERS, H_RING, H_WORDS
from ringrift_ops.rules.layout import (
    COLLAPSED,
    MARKER,
    S_CONTROL,
    S_FREE_RING,
    S_MARKER_COUNT,
    S_ON_BOARD,
    S_STACKS,
    S_TERRITORY,
    STACK,
)

NO_RING = 0xFFF


@jit
def owner_of(word):
    """Owner of a marker or collapsed cell, controller of a stack, from its cell word."""
    return (word >> 2) & 7


@jit
def height_of(word):
    return (word >> 8) & 0xFFF


@jit
def cap_of(word):
    """Consecutive rings of the controller from the top."""
    return (word >> 20) & 0xFFF


@jit
def is_free(word):
    """On board, not collapsed, no stack; a marker is allowed (RULES.md 2.4)."""
    return word & 2 == 0


@jit
def is_stack(word):
    return word & 3 == STACK


@jit
def cell_word(G, s, cell):
    return s[G[H_CELL] + cell]


@jit
def _flip_bit(s, offset, cell):
    s[offset + (cell >> 6)] ^= np.int64(1) << (cell & 63)


@jit
def _node(G, s, ring):
    return (s[G[H_RING] + (ring >> 2)] >> ((ring & 3) << 4)) & 0x7FFF


@jit
def _write_node(G, s, ring, owner, below):
    place = (ring & 3) << 4
    i = G[H_RING] + (ring >> 2)
    s[i] = (s[i] & ~(np.int64(0xFFFF) << place)) | ((owner << 12 | below) << place)


@jit
def ring_owner(G, s, ring):
    return _node(G, s, ring) >> 12


@jit
def ring_below(G, s, ring):
    """The next ring towards the bottom; ``NO_RING`` below the bottom one."""
    return _node(G, s, ring) & 0xFFF


@jit
def top_ring(word):
    return (word >> 32) & 0xFFF


@jit
def bottom_ring(word):
    return (word >> 44) & 0xFFF


@jit
def _stack_word(controller, height, cap, top, bottom):
    return STACK | controller << 2 | height << 8 | cap << 20 | top << 32 | bottom << 44


@jit
def _allocate(G, s, owner, below):
    ring = s[S_FREE_RING]
    s[S_FREE_RING] = ring_below(G, s, ring)
    _write_node(G, s, ring, owner, below)
    s[S_ON_BOARD + owner - 1] += 1
    return ring


@jit
def _release(G, s, ring):
    s[S_ON_BOARD + ring_owner(G, s, ring) - 1] -= 1
    _write_node(G, s, ring, 0, s[S_FREE_RING])
    s[S_FREE_RING] = ring


@jit
def count_cap(G, s, top):
    """Consecutive rings from ``top`` of its owner."""
    owner = ring_owner(G, s, top)
    cap = 1
    ring = ring_below(G, s, top)
    while ring != NO_RING and ring_owner(G, s, ring) == owner:
        cap += 1
        ring = ring_below(G, s, ring)
    return cap


@jit
def take_stack(G, s, cell):
    """Lift the stack off a cell, which becomes empty; returns its word."""
    i = G[H_CELL] + cell
    word = s[i]
    s[i] = 0
    p = owner_of(word)
    _flip_bit(s, S_CONTROL + (p - 1) * G[H_WORDS], cell)
    s[S_STACKS + p - 1] -= 1
    return word


@jit
def put_stack(G, s, cell, word):
    """Stand a stack on an empty cell; a word of height 0 is no stack at all."""
    if height_of(word) == 0:
        return
    s[G[H_CELL] + cell] = word
    p = owner_of(word)
    _flip_bit(s, S_CONTROL + (p - 1) * G[H_WORDS], cell)
    s[S_STACKS + p - 1] += 1


@jit
def with_ring_on_top(G, s, word, owner):
    """The stack word after one more ring on top; ``word`` 0 starts a stack."""
    if word == 0:
        ring = _allocate(G, s, owner, NO_RING)
        return _stack_word(owner, np.int64(1), np.int64(1), ring, ring)
    ring = _allocate(G, s, owner, top_ring(word))
    cap = cap_of(word) + 1 if owner_of(word) == owner else np.int64(1)
    return _stack_word(owner, height_of(word) + 1, cap, ring, bottom_ring(word))


@jit
def with_ring_at_bottom(G, s, word, owner):
    """The stack word after a captured ring was added at the bottom (R102)."""
    ring = _allocate(G, s, owner, NO_RING)
    bottom = bottom_ring(word)
    _write_node(G, s, bottom, ring_owner(G, s, bottom), ring)
    height, cap = height_of(word), cap_of(word)
    if cap == height and owner == owner_of(word):
        cap += 1
    return _stack_word(owner_of(word), height + 1, cap, top_ring(word), ring)


@jit
def without_top(G, s, word, rings):
    """The stack word after its ``rings`` top rings were removed; 0 when none is left."""
    top = top_ring(word)
    height = height_of(word)
    cap = cap_of(word)
    for _ in range(rings):
        below = ring_below(G, s, top)
        _release(G, s, top)
        top = below
        height -= 1
        cap -= 1
    if height == 0:
        return np.int64(0)
    if cap <= 0:
        cap = count_cap(G, s, top)
    return _stack_word(ring_owner(G, s, top), height, cap, top, bottom_ring(word))


@jit
def has_ring_below_top(G, s, word, p):
    """Whether a stack contains a ring of ``p`` that is not its top ring."""
    ring = ring_below(G, s, top_ring(word))
    while ring != NO_RING:
        if ring_owner(G, s, ring) == p:
            return True
        ring = ring_below(G, s, ring)
    return False


@jit
def without_bottommost(G, s, word, p):
    """The stack word after the bottommost ring of ``p`` was removed; unchanged if it holds none."""
    before, found, previous = NO_RING, NO_RING, NO_RING
    ring = top_ring(word)
    while ring != NO_RING:
        if ring_owner(G, s, ring) == p:
            before, found = previous, ring
        previous = ring
        ring = ring_below(G, s, ring)
    if found == NO_RING:
        return word
    height = height_of(word) - 1
    if height == 0:
        _release(G, s, found)
        return np.int64(0)
    top, bottom = top_ring(word), bottom_ring(word)
    below = ring_below(G, s, found)
    if before == NO_RING:
        top = below
    else:
        _write_node(G, s, before, ring_owner(G, s, before), below)
    if found == bottom:
        bottom = before
    _release(G, s, found)
    return _stack_word(ring_owner(G, s, top), height, count_cap(G, s, top), top, bottom)


@jit
def set_marker(G, s, cell, p):
    """Put a marker of ``p`` on a cell that is empty."""
    s[G[H_CELL] + cell] = MARKER | p << 2
    _flip_bit(s, G[H_MARKERS] + (p - 1) * G[H_WORDS], cell)
    s[S_MARKER_COUNT + p - 1] += 1


@jit
def clear_marker(G, s, cell):
    """Remove the marker of a cell, which becomes empty."""
    i = G[H_CELL] + cell
    p = owner_of(s[i])
    s[i] = 0
    _flip_bit(s, G[H_MARKERS] + (p - 1) * G[H_WORDS], cell)
    s[S_MARKER_COUNT + p - 1] -= 1


@jit
def collapse(G, s, cell, p):
    """Collapse a cell for ``p``: what stands there goes, the territory counter grows by one."""
    word = s[G[H_CELL] + cell]
    if word & 3 == MARKER:
        clear_marker(G, s, cell)
    s[G[H_CELL] + cell] = COLLAPSED | p << 2
    _flip_bit(s, G[H_COLLAPSED] + (p - 1) * G[H_WORDS], cell)
    s[S_TERRITORY + p - 1] += 1
