"""Lines: RULES.md 4.6 (R120-R123)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from ringrift_ops.rules.bits import bit_index, both, empty, load, opposite, shift
from ringrift_ops.rules.boards import (
    H_AXES,
    H_CELL,
    H_CELLS,
    H_DETECT,
    H_LENGTH,
    H_LINE_AXES,
    H_MARKERS,
    H_NEIGHBOUR,
    H_WORDS,
)
from ringrift_ops.rules.layout import LINE_OPTION, MARKER, PROCESS_LINE, S_MARKER_COUNT
from ringrift_ops.rules.movement import add_move, pack
from ringrift_ops.rules.stacks import collapse


@jit
def eligible_length(G):
    """max(D, L): on hex8 with 3 or 4 players a run of exactly L = 3 never counts (T5)."""
    return max(G[H_DETECT], G[H_LENGTH])


@jit
def any_line(G, s, p, zero):
    """Whether ``p`` has an eligible line."""
    need = eligible_length(G)
    if s[S_MARKER_COUNT + p - 1] < need:
        return False
    markers = load(s, G[H_MARKERS] + (p - 1) * G[H_WORDS], zero)
    for axis in range(G[H_AXES]):
        d = G[G[H_LINE_AXES] + axis]
        ends = markers
        for _ in range(need - 1):
            ends = both(markers, shift(G, d, ends))
        if not empty(ends):
            return True
    return False


@jit
def run_length(G, s, cell, direction, p):
    """Cells in a row holding markers of ``p``, from ``cell`` (included) on."""
    row = G[H_NEIGHBOUR] + direction * (G[H_CELLS] + 1)
    mine = MARKER | p << 2
    length = 0
    while s[G[H_CELL] + cell] == mine:
        length += 1
        cell = G[row + cell]
    return length


@jit
def cell_along(G, cell, direction, steps):
    """The cell ``steps`` steps away."""
    row = G[H_NEIGHBOUR] + direction * (G[H_CELLS] + 1)
    for _ in range(steps):
        cell = G[row + cell]
    return cell


@jit
def add_line_moves(G, s, p, moves, n):
    """Options of every eligible line: process_line at exact length; else all of it or any L-window."""
    need, length = eligible_length(G), G[H_LENGTH]
    mine = MARKER | p << 2
    start = G[H_MARKERS] + (p - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            rest ^= bit
            cell = w * 64 + bit_index(bit)
            for axis in range(G[H_AXES]):
                d = G[G[H_LINE_AXES] + axis]
                before = cell_along(G, cell, opposite(G, d), 1)
                if s[G[H_CELL] + before] == mine:
                    continue
                run = run_length(G, s, cell, d, p)
                if run < need:
                    continue
                if run == length:
                    n = add_move(moves, n, pack(PROCESS_LINE, 0, cell, 0, axis | run << 3))
                    continue
                n = add_move(moves, n, pack(LINE_OPTION, 0, cell, cell, axis | run << 3 | run << 8))
                for i in range(run - length + 1):
                    first = cell_along(G, cell, d, i)
                    n = add_move(moves, n, pack(LINE_OPTION, 0, cell, first, axis | run << 3 | length << 8))
    return n


@jit
def collapse_run(G, s, first, direction, cells, p):
    """Collapse ``cells`` cells in a row for ``p``."""
    for _ in range(cells):
        collapse(G, s, first, p)
        first = cell_along(G, first, direction, 1)
