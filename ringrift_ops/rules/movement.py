"""Moving and capturing: RULES.md 4.1 (dead placements), 4.2, 4.3."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.bits import bit_index
from ringrift_ops.rules.boards import (
    H_CELL,
    H_CELLS,
    H_DIRECTION_OF,
    H_DIRECTIONS,
    H_NEIGHBOUR,
    H_WORDS,
    H_X,
    H_Y,
)
from ringrift_ops.rules.layout import (
    MARKER,
    MOVE,
    OVERTAKE,
    S_CONTROL,
    S_ELIMINATED,
    S_MUST,
    S_PLAYER,
)
from ringrift_ops.rules.stacks import (
    cap_of,
    cell_word,
    clear_marker,
    collapse,
    height_of,
    is_free,
    is_stack,
    owner_of,
    put_stack,
    ring_owner,
    set_marker,
    take_stack,
    top_ring,
    with_ring_at_bottom,
    without_top,
)


@jit
def pack(kind, to, origin, third, extra):
    """One move as an int64 (``layout.py``)."""
    return np.int64(kind) | to << 5 | origin << 15 | third << 25 | extra << 35


@jit
def add_move(moves, n, move):
    """Append to a buffer; a full buffer only counts, so that the caller sees what it needs."""
    if n < moves.size:
        moves[n] = move
    return n + 1


@jit
def direction_between(G, a, b):
    """Direction index of the straight line from cell a to cell b."""
    dx = G[G[H_X] + b] - G[G[H_X] + a]
    dy = G[G[H_Y] + b] - G[G[H_Y] + a]
    sx = (1 if dx > 0 else 0) - (1 if dx < 0 else 0)
    sy = (1 if dy > 0 else 0) - (1 if dy < 0 else 0)
    return G[G[H_DIRECTION_OF] + 3 * (sx + 1) + sy + 1]


@jit
def _lands_behind(G, s, row, target, k, height):
    """Whether a capture over the stack at distance ``k`` can land: k + 1 .. max(k + 1, height) are free (App. C)."""
    base = G[H_CELL]
    last = max(k + 1, height)
    c = G[row + target]
    k += 1
    while is_free(s[base + c]):
        if k == last:
            return True
        c = G[row + c]
        k += 1
    return False


@jit
def _to_obstacle(G, s, row, cell):
    """The first cell on a ray that is not free, and its distance."""
    base = G[H_CELL]
    c, k = G[row + cell], 1
    while is_free(s[base + c]):
        c = G[row + c]
        k += 1
    return c, k


@jit
def can_act(G, s, cell, height, cap):
    """Whether a stack of this height and cap on ``cell`` can act (canAct, 2.4), whatever stands there now.

    A simple move exists iff the cells at distances 1..height are free; a capture iff the first stack's
    cap is not larger and there is room behind it (App. C).
    """
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    row = G[H_NEIGHBOUR]
    for _ in range(G[H_DIRECTIONS]):
        c = G[row + cell]
        word = s[base + c]
        k = 1
        while is_free(word):
            if k == height:
                return True
            c = G[row + c]
            word = s[base + c]
            k += 1
        if is_stack(word) and cap_of(word) <= cap and _lands_behind(G, s, row, c, k, height):
            return True
        row += stride
    return False


@jit
def has_segment(G, s, cell):
    """Whether the stack on ``cell`` has a capture segment (4.3)."""
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    row = G[H_NEIGHBOUR]
    own = s[base + cell]
    for _ in range(G[H_DIRECTIONS]):
        c, k = _to_obstacle(G, s, row, cell)
        word = s[base + c]
        if is_stack(word) and cap_of(word) <= cap_of(own) and _lands_behind(G, s, row, c, k, height_of(own)):
            return True
        row += stride
    return False


@jit
def add_steps_and_segments(G, s, cell, moves, n):
    """All simple moves (4.2) and capture segments (4.3) of the stack on ``cell``."""
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    row = G[H_NEIGHBOUR]
    own = s[base + cell]
    height, cap = height_of(own), cap_of(own)
    for _ in range(G[H_DIRECTIONS]):
        c = G[row + cell]
        k = 1
        while is_free(s[base + c]):
            if k >= height:
                n = add_move(moves, n, pack(MOVE, c, cell, 0, 0))
            c = G[row + c]
            k += 1
        word = s[base + c]
        if is_stack(word) and cap_of(word) <= cap:
            n = _add_landings(G, s, row, cell, c, k, height, OVERTAKE, moves, n)
        row += stride
    return n


@jit
def add_segments(G, s, cell, kind, moves, n):
    """All capture segments (4.3) of the stack on ``cell``, as ``OVERTAKE`` or ``CONTINUE_CAPTURE``."""
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    row = G[H_NEIGHBOUR]
    own = s[base + cell]
    for _ in range(G[H_DIRECTIONS]):
        c, k = _to_obstacle(G, s, row, cell)
        word = s[base + c]
        if is_stack(word) and cap_of(word) <= cap_of(own):
            n = _add_landings(G, s, row, cell, c, k, height_of(own), kind, moves, n)
        row += stride
    return n


@jit
def _add_landings(G, s, row, cell, target, k, height, kind, moves, n):
    """Landings behind a target at distance ``k`` that are at least ``height`` away."""
    base = G[H_CELL]
    c = G[row + target]
    k += 1
    while is_free(s[base + c]):
        if k >= height:
            n = add_move(moves, n, pack(kind, c, cell, target, 0))
        c = G[row + c]
        k += 1
    return n


@jit
def add_movements(G, s, moves, n, zero):
    """Moves and captures of the movement phase: of every own stack, or of mustMoveFrom's alone."""
    must = s[S_MUST]
    if must >= 0:
        return add_steps_and_segments(G, s, must, moves, n)
    start = S_CONTROL + (s[S_PLAYER] - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            n = add_steps_and_segments(G, s, w * 64 + bit_index(bit), moves, n)
            rest ^= bit
    return n


@jit
def any_move(G, s, p):
    """Whether any move exists (anyMove, 2.4): some stack of ``p`` can act; with mustMoveFrom set, that stack."""
    base = G[H_CELL]
    if s[S_MUST] >= 0:
        word = s[base + s[S_MUST]]
        return is_stack(word) and owner_of(word) == p and can_act(G, s, s[S_MUST], height_of(word), cap_of(word))
    start = S_CONTROL + (p - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            cell = w * 64 + bit_index(bit)
            word = s[base + cell]
            if can_act(G, s, cell, height_of(word), cap_of(word)):
                return True
            rest ^= bit
    return False


@jit
def _cross(G, s, cell, p):
    """A stack passes over a cell (4.2 step 2): own marker collapses, another's is flipped."""
    word = cell_word(G, s, cell)
    if word & 3 == MARKER:
        if owner_of(word) == p:
            collapse(G, s, cell, p)
        else:
            clear_marker(G, s, cell)
            set_marker(G, s, cell, p)


@jit
def _land(G, s, cell, word):
    """A stack lands (4.2 step 3): a marker there goes and costs the top ring."""
    if cell_word(G, s, cell) & 3 == MARKER:
        clear_marker(G, s, cell)
        s[S_ELIMINATED + owner_of(word) - 1] += 1
        word = without_top(G, s, word, 1)
    put_stack(G, s, cell, word)


@jit
def move_stack(G, s, origin, to, p):
    """Effect of move_stack (4.2)."""
    word = take_stack(G, s, origin)
    set_marker(G, s, origin, p)
    row = G[H_NEIGHBOUR] + direction_between(G, origin, to) * (G[H_CELLS] + 1)
    c = G[row + origin]
    while c != to:
        _cross(G, s, c, p)
        c = G[row + c]
    _land(G, s, to, word)


@jit
def capture(G, s, origin, target, to, p):
    """Effect of one capture segment (4.3): the target's top ring goes under the attacker."""
    word = take_stack(G, s, origin)
    set_marker(G, s, origin, p)
    row = G[H_NEIGHBOUR] + direction_between(G, origin, to) * (G[H_CELLS] + 1)
    c = G[row + origin]
    while c != to:
        if c != target:
            _cross(G, s, c, p)
        c = G[row + c]
    captured = take_stack(G, s, target)
    taken = ring_owner(G, s, top_ring(captured))
    put_stack(G, s, target, without_top(G, s, captured, 1))
    _land(G, s, to, with_ring_at_bottom(G, s, word, taken))


@jit
def controlled_by(G, s, cell, p):
    """Whether a stack of controller ``p`` stands on the cell."""
    word = cell_word(G, s, cell)
    return is_stack(word) and owner_of(word) == p
