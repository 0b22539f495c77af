"""Recovery slides: RULES.md 4.9 (R110-R115)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from ringrift_ops.rules.bits import bit_index, opposite
from ringrift_ops.rules.boards import (
    H_AXES,
    H_CELL,
    H_CELLS,
    H_DETECT,
    H_DIRECTIONS,
    H_HEX,
    H_LENGTH,
    H_MARKERS,
    H_NEIGHBOUR,
    H_PLAYERS,
    H_RECOVERY_AXES,
    H_WORDS,
)
from ringrift_ops.rules.layout import (
    EMPTY,
    MARKER,
    RECOVER_FALLBACK,
    RECOVER_LINE,
    RECOVER_STRIKE,
    RECOVER_WINDOW,
    S_CONTROL,
    S_ELIMINATED,
    S_MARKER_COUNT,
    S_ON_BOARD,
    S_STACKS,
)
from ringrift_ops.rules.lines import cell_along, collapse_run
from ringrift_ops.rules.movement import add_move, pack
from ringrift_ops.rules.stacks import (
    cell_word,
    clear_marker,
    has_ring_below_top,
    height_of,
    is_stack,
    put_stack,
    set_marker,
    take_stack,
    without_bottommost,
    without_top,
)


@jit
def recovery_eligible(s, p):
    """No stack controlled, a marker, a buried ring; whatever the hand (2.4)."""
    return s[S_STACKS + p - 1] == 0 and s[S_MARKER_COUNT + p - 1] > 0 and s[S_ON_BOARD + p - 1] > 0


@jit
def _markers_beyond(G, s, to, origin, direction, p):
    """Markers of ``p`` in a row after ``to``; the one on ``origin`` has left."""
    row = G[H_NEIGHBOUR] + direction * (G[H_CELLS] + 1)
    mine = MARKER | p << 2
    length = 0
    cell = G[row + to]
    while cell != origin and s[G[H_CELL] + cell] == mine:
        length += 1
        cell = G[row + cell]
    return length


@jit
def _run(G, s, to, origin, axis, p):
    """Length of the run through ``to`` on the axis-th recovery axis, and its markers before ``to``."""
    d = G[G[H_RECOVERY_AXES] + axis]
    before = _markers_beyond(G, s, to, origin, opposite(G, d), p)
    return before + 1 + _markers_beyond(G, s, to, origin, d, p), before


@jit
def _best_axis(G, s, to, origin, p):
    """The first recovery axis with the longest run, and that run's length."""
    best, longest = 0, 0
    for axis in range(G[H_AXES]):
        length, _ = _run(G, s, to, origin, axis, p)
        if length > longest:
            best, longest = axis, length
    return best, longest


@jit
def _applied_axis(G, s, to, origin, p):
    """The axis TS collapses: the first whose run reaches D (T13); -1 if that run is below L or none."""
    for axis in range(G[H_AXES]):
        length, _ = _run(G, s, to, origin, axis, p)
        if length >= G[H_DETECT]:
            return axis if length >= G[H_LENGTH] else -1
    return -1


@jit
def _windows_listed(G, s, to, origin, best, longest, p):
    """False where the recorded lists lack option 2: a tie of the last two hexagonal axes (T30)."""
    if G[H_HEX] == 0 or best != 1:
        return True
    other, _ = _run(G, s, to, origin, 2, p)
    return other != longest


@jit
def _add_extractions(G, s, kind, to, origin, p, moves, n):
    """One move per stack that holds a ring of ``p`` below its top."""
    for i in range(G[H_PLAYERS]):
        for w in range(G[H_WORDS]):
            rest = s[S_CONTROL + i * G[H_WORDS] + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                if has_ring_below_top(G, s, cell_word(G, s, cell), p):
                    n = add_move(moves, n, pack(kind, to, origin, cell, 0))
    return n


@jit
def _add_windows(G, s, to, origin, axis, length, p, moves, n):
    """Option 2: every window of L cells of the best run that contains ``to``."""
    d = G[G[H_RECOVERY_AXES] + axis]
    _, before = _run(G, s, to, origin, axis, p)
    window = G[H_LENGTH]
    for start in range(max(0, before - window + 1), min(before, length - window) + 1):
        first = cell_along(G, to, opposite(G, d), before - start)
        n = add_move(moves, n, pack(RECOVER_WINDOW, to, origin, first, axis))
    return n


@jit
def _add_slide(G, s, to, origin, lines_only, p, moves, n):
    word = cell_word(G, s, to)
    if not lines_only:
        kind = RECOVER_STRIKE if is_stack(word) else RECOVER_FALLBACK
        return _add_extractions(G, s, kind, to, origin, p, moves, n)
    if word != EMPTY:
        return n
    axis, longest = _best_axis(G, s, to, origin, p)
    if longest < G[H_LENGTH] or _applied_axis(G, s, to, origin, p) < 0:
        return n
    n = _add_extractions(G, s, RECOVER_LINE, to, origin, p, moves, n)
    if longest > G[H_LENGTH] and _windows_listed(G, s, to, origin, axis, longest, p):
        n = _add_windows(G, s, to, origin, axis, longest, p, moves, n)
    return n


@jit
def _any_line_slide(G, s, p):
    start = G[H_MARKERS] + (p - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            rest ^= bit
            origin = w * 64 + bit_index(bit)
            for d in range(G[H_DIRECTIONS]):
                to = cell_along(G, origin, d, 1)
                if cell_word(G, s, to) == EMPTY and _best_axis(G, s, to, origin, p)[1] >= G[H_LENGTH]:
                    return True
    return False


@jit
def add_recoveries(G, s, p, moves, n):
    """Slides: if any makes a line only those (even if all are impossible to apply), else every slide
    to an empty cell (fallback) and onto a stack (strike).
    """
    lines_only = _any_line_slide(G, s, p)
    start = G[H_MARKERS] + (p - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            rest ^= bit
            origin = w * 64 + bit_index(bit)
            for d in range(G[H_DIRECTIONS]):
                to = cell_along(G, origin, d, 1)
                word = cell_word(G, s, to)
                if word == EMPTY or is_stack(word):
                    n = _add_slide(G, s, to, origin, lines_only, p, moves, n)
    return n


@jit
def extract(G, s, cell, p):
    """Take the bottommost ring of ``p`` out of a stack; nothing if the stack or ring is gone."""
    word = cell_word(G, s, cell)
    if not is_stack(word):
        return
    word = take_stack(G, s, cell)
    height = height_of(word)
    word = without_bottommost(G, s, word, p)
    if height_of(word) < height:
        s[S_ELIMINATED + p - 1] += 1
    put_stack(G, s, cell, word)


@jit
def recover(G, s, kind, to, origin, third, window_axis, p):
    """Effect of a recovery slide. For option 2 ``third`` is the window's first cell."""
    clear_marker(G, s, origin)
    if kind == RECOVER_STRIKE:
        word = take_stack(G, s, to)
        s[S_ELIMINATED + p - 1] += 1
        put_stack(G, s, to, without_top(G, s, word, 1))
        extract(G, s, third, p)
        return
    set_marker(G, s, to, p)
    if kind == RECOVER_FALLBACK:
        extract(G, s, third, p)
        return
    axis = _applied_axis(G, s, to, origin, p)
    length, before = _run(G, s, to, origin, axis, p)
    if kind == RECOVER_WINDOW and length > G[H_LENGTH]:
        collapse_run(G, s, third, G[G[H_RECOVERY_AXES] + window_axis], G[H_LENGTH], p)
        return
    d = G[G[H_RECOVERY_AXES] + axis]
    collapse_run(G, s, cell_along(G, to, opposite(G, d), before), d, length, p)
    if kind == RECOVER_LINE:
        extract(G, s, third, p)
