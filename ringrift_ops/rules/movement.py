"""Moving and capturing: RULES.md 4.1 (dead placements), 4.2, 4.3."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.boards import (
    H_BOARD,
    H_CELL,
    H_CELLS,
    H_COLLAPSED,
    H_DIRECTION_OF,
    H_DIRECTIONS,
    H_NEIGHBOUR,
    H_PLAYERS,
    H_RINGS,
    H_WORDS,
    H_X,
    H_Y,
)
from ringrift_ops.rules.bits import bit_index, both, either, empty, has, load, opposite, shift, without
from ringrift_ops.rules.layout import (
    EMPTY,
    MARKER,
    MOVE,
    OVERTAKE,
    PLACE,
    S_CONTROL,
    S_ELIMINATED,
    S_HAND,
    S_MUST,
    S_ON_BOARD,
    S_PLAYER,
    STACK,
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
    with_ring_on_top,
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
def can_act(G, s, cell, height, cap):
    """canAct (2.4) for a stack of this height and cap on ``cell``, whatever stands there now.

    A simple move exists iff the cells at distances 1..height are free; a capture over the first
    stack at distance k iff its cap is not larger and k+1 .. max(k+1, height) are free (App. C).
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
        if is_stack(word) and cap_of(word) <= cap:
            last = max(k + 1, height)
            c = G[row + c]
            k += 1
            while is_free(s[base + c]):
                if k == last:
                    return True
                c = G[row + c]
                k += 1
        row += stride
    return False


@jit
def has_segment(G, s, cell):
    """Whether the stack on ``cell`` has a capture segment (4.3)."""
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    row = G[H_NEIGHBOUR]
    own = s[base + cell]
    height, cap = height_of(own), cap_of(own)
    for _ in range(G[H_DIRECTIONS]):
        c = G[row + cell]
        k = 1
        while is_free(s[base + c]):
            c = G[row + c]
            k += 1
        word = s[base + c]
        if is_stack(word) and cap_of(word) <= cap:
            last = max(k + 1, height)
            c = G[row + c]
            k += 1
            while is_free(s[base + c]):
                if k == last:
                    return True
                c = G[row + c]
                k += 1
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
    height, cap = height_of(own), cap_of(own)
    for _ in range(G[H_DIRECTIONS]):
        c = G[row + cell]
        k = 1
        while is_free(s[base + c]):
            c = G[row + c]
            k += 1
        word = s[base + c]
        if is_stack(word) and cap_of(word) <= cap:
            n = _add_landings(G, s, row, cell, c, k, height, kind, moves, n)
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
    """anyMove (2.4): some stack of ``p`` can act; with mustMoveFrom set, that stack."""
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
def stacks_and_collapsed(G, s, zero):
    """The set of cells that are not free."""
    taken = zero
    for i in range(G[H_PLAYERS]):
        taken = either(taken, load(s, S_CONTROL + i * G[H_WORDS], zero))
        taken = either(taken, load(s, G[H_COLLAPSED] + i * G[H_WORDS], zero))
    return taken


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
def add_placements(G, s, moves, n, zero):
    """place_ring (4.1): per cell the counts 1..3, those above 1 only where 1 is legal.

    A stack of height k on an empty cell is alive at once where k free cells lie in a row; only the
    few other cells are tested one by one.
    """
    p = s[S_PLAYER]
    limit = _placement_limit(G, s, p)
    if limit < 1:
        return n
    free = without(load(G, G[H_BOARD], zero), stacks_and_collapsed(G, s, zero))
    one, two, three = zero, zero, zero
    for d in range(G[H_DIRECTIONS]):
        back = opposite(G, d)
        row = shift(G, back, free)
        one = either(one, row)
        row = shift(G, back, both(free, row))
        two = either(two, row)
        three = either(three, shift(G, back, both(free, row)))
    base = G[H_CELL]
    for cell in range(G[H_CELLS]):
        word = s[base + cell]
        if word == EMPTY:
            if has(one, cell) or can_act(G, s, cell, 1, 1):
                n = add_move(moves, n, pack(PLACE, cell, 0, 0, 1))
                if limit > 1 and (has(two, cell) or can_act(G, s, cell, 2, 2)):
                    n = add_move(moves, n, pack(PLACE, cell, 0, 0, 2))
                if limit > 2 and (has(three, cell) or can_act(G, s, cell, 3, 3)):
                    n = add_move(moves, n, pack(PLACE, cell, 0, 0, 3))
        elif word & 3 == STACK and _alive_on(G, s, cell, word, p):
            n = add_move(moves, n, pack(PLACE, cell, 0, 0, 1))
    return n


@jit
def any_placement(G, s, p, zero):
    """anyPlacement (2.4): some cell is a legal placement with count 1."""
    if _placement_limit(G, s, p) < 1:
        return False
    base = G[H_CELL]
    stride = G[H_CELLS] + 1
    for cell in range(G[H_CELLS]):
        if s[base + cell] == EMPTY:
            for d in range(G[H_DIRECTIONS]):
                if is_free(s[base + G[G[H_NEIGHBOUR] + d * stride + cell]]):
                    return True
    for cell in range(G[H_CELLS]):
        word = s[base + cell]
        if word == EMPTY:
            if can_act(G, s, cell, 1, 1):
                return True
        elif word & 3 == STACK and _alive_on(G, s, cell, word, p):
            return True
    return False


@jit
def place(G, s, cell, rings, p):
    """Effect of place_ring (4.1)."""
    word = take_stack(G, s, cell) if is_stack(cell_word(G, s, cell)) else np.int64(0)
    for _ in range(rings):
        word = with_ring_on_top(G, s, word, p)
    put_stack(G, s, cell, word)
    s[S_HAND + p - 1] -= rings
    s[S_MUST] = cell


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
