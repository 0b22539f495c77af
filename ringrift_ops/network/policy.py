"""Policy index of a move: one number below 2^28 per move, and the parts a policy head looks up.

Cells are ranks in board order (``G[H_ORDER]``), so the index does not depend on how bitboards are
laid out; seats appear only relative to the mover. Bits, lowest first::

    0-4    kind of layout.py
    5-13   cell: origin of a move, capture, slide; first cell of a line; else the cell acted upon
    14-16  direction of a move, capture, slide; axis of a line; rings placed; border colour of a
           region relative to the mover (0 none, 1 mover, 2 next seat ...)
    17-21  MOVE, OVERTAKE, CONTINUE_CAPTURE: distance to the landing cell
           LINE_OPTION: steps from the first cell of the line to the first collapsed one
    22-26  OVERTAKE, CONTINUE_CAPTURE: distance to the target; LINE_OPTION: cells collapsed
    17-25  recovery slides: extraction stack, or the first cell of the window (RECOVER_WINDOW)
    26-27  RECOVER_WINDOW: axis of the window

Two legal moves of a position never share an index (tested on every conformance position). Not
separated between *different* positions: the length of a line beyond its collapsed cells and the
extent of a region, which the position itself determines. One region that two border colours yield
alike is listed once, by the first such colour in seat order, so its colour bits may differ between
a position and its seat rotation.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

import numpy as np

from ringrift_ops.rules.boards import (
    H_AXES,
    H_DIRECTIONS,
    H_LENGTH,
    H_LINE_AXES,
    H_ON_BOARD,
    H_ORDER,
    H_PLAYERS,
    H_RANK,
    H_X,
    H_Y,
)
from ringrift_ops.rules.layout import (
    CONTINUE_CAPTURE,
    ELIMINATE_LINE,
    ELIMINATE_RECOVERY,
    FORCED,
    LINE_OPTION,
    MOVE,
    OVERTAKE,
    PLACE,
    PROCESS_LINE,
    RECOVER_FALLBACK,
    RECOVER_WINDOW,
    S_PLAYER,
    TERRITORY,
)
from ringrift_ops.rules.lines import cell_along
from ringrift_ops.rules.movement import direction_between

POLICY_ENCODING: Final = "ringrift-policy-1"
"""Name of this numbering; stored with policies, datasets and weights."""

NO_CELL: Final = -1

# Slots: what kind of move, with the small choices that are no cell.
(
    SLOT_PLACE,  # + rings - 1
    SLOT_SKIP_PLACEMENT,
    SLOT_NO_PLACEMENT,
    SLOT_SWAP,
    SLOT_MOVE,
    SLOT_OVERTAKE,
    SLOT_CONTINUE,
    SLOT_SKIP_CAPTURE,
    SLOT_NO_MOVEMENT,
    SLOT_SKIP_RECOVERY,
    SLOT_FALLBACK,
    SLOT_STRIKE,
    SLOT_RECOVER_LINE,
    SLOT_WINDOW,  # + axis
    SLOT_PROCESS_LINE,  # + axis
    SLOT_LINE_OPTION,  # + axis, + 4 when fewer cells than the whole line collapse
    SLOT_NO_LINE,
    SLOT_ELIMINATE_LINE,
    SLOT_ELIMINATE_TERRITORY,
    SLOT_ELIMINATE_RECOVERY,
    SLOT_TERRITORY,  # + relative colour
    SLOT_SKIP_TERRITORY,
    SLOT_NO_TERRITORY,
    SLOT_FORCED,
) = (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 23, 31, 32, 33, 34, 35, 40, 41, 42)
SLOTS: Final = 43

_FIRST_SLOT = np.array(
    [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 23, 31, 32, 33, 34, 35, 40, 41, 42], dtype=np.int64
)
"""First slot of each kind of ``layout.py``."""

# Roles: what a cell of a move is there for. 0 = the move has no such cell.
ROLES: Final = ("", "place", "land", "slide", "pay", "region", "stack", "marker", "line", "target", "extract", "first")
ROLE_COUNT: Final = 11
TO_ROLE = np.array([1, 0, 0, 0, 2, 2, 2, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 4, 4, 4, 5, 0, 0, 4], dtype=np.int64)
FROM_ROLE = np.array([0, 0, 0, 0, 6, 6, 6, 0, 0, 0, 7, 7, 7, 7, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0], dtype=np.int64)
THIRD_ROLE = np.array([0, 0, 0, 0, 0, 9, 9, 0, 0, 0, 10, 10, 10, 11, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0], dtype=np.int64)


@jit
def _rank(G, cell):
    return G[G[H_RANK] + cell]


@jit
def _distance(G, a, b):
    dx = abs(G[G[H_X] + b] - G[G[H_X] + a])
    dy = abs(G[G[H_Y] + b] - G[G[H_Y] + a])
    return max(dx, dy)


@jit
def _relative_colour(players, colour, mover):
    if colour == 0:
        return 0
    return colour - mover + 1 if colour >= mover else colour - mover + 1 + players


@jit
def policy_index(G, move, mover):
    """The policy index (int64, 0 .. 2^28 - 1) of a move code that seat ``mover`` (1..n) may make."""
    kind = move & 31
    to, origin, third, extra = (move >> 5) & 1023, (move >> 15) & 1023, (move >> 25) & 1023, move >> 35
    if kind == MOVE:
        d = direction_between(G, origin, to)
        return kind | _rank(G, origin) << 5 | d << 14 | _distance(G, origin, to) << 17
    if kind in (OVERTAKE, CONTINUE_CAPTURE):
        d = direction_between(G, origin, to)
        far, near = _distance(G, origin, to), _distance(G, origin, third)
        return kind | _rank(G, origin) << 5 | d << 14 | far << 17 | near << 22
    if kind == PLACE:
        return kind | _rank(G, to) << 5 | extra << 14
    if RECOVER_FALLBACK <= kind <= RECOVER_WINDOW:
        d = direction_between(G, origin, to)
        return kind | _rank(G, origin) << 5 | d << 14 | _rank(G, third) << 17 | extra << 26
    if kind == PROCESS_LINE:
        return kind | _rank(G, origin) << 5 | (extra & 7) << 14
    if kind == LINE_OPTION:
        steps = _distance(G, origin, third)
        return kind | _rank(G, origin) << 5 | (extra & 7) << 14 | steps << 17 | (extra >> 8) << 22
    if kind == TERRITORY:
        return kind | _rank(G, to) << 5 | _relative_colour(G[H_PLAYERS], extra, mover) << 14
    if kind == FORCED or (ELIMINATE_LINE <= kind <= ELIMINATE_RECOVERY):
        return kind | _rank(G, to) << 5
    return np.int64(kind)


@jit
def policy_indices(G, moves, n, mover, out):
    """Policy indices of ``moves[:n]`` into ``out`` (any integer array [>= n])."""
    for i in range(n):
        out[i] = policy_index(G, moves[i], mover)


@jit
def find_move(G, s, moves, n, index):
    """Place in ``moves[:n]`` of the move with this policy index, -1 if it is not among them."""
    for i in range(n):
        if policy_index(G, moves[i], s[S_PLAYER]) == index:
            return i
    return -1


@jit
def move_slot(kind, choice, whole):
    """Slot of a move. ``choice``: rings, axis or relative colour; ``whole``: a line collapses entirely."""
    slot = _FIRST_SLOT[kind]
    if kind == PLACE:
        return slot + choice - 1
    if kind in (RECOVER_WINDOW, PROCESS_LINE, TERRITORY):
        return slot + choice
    if kind == LINE_OPTION:
        return slot + choice + (0 if whole else 4)
    return slot


@jit
def slot_of_move(players, move, mover, line_length):
    """Slot of a move code. ``line_length`` is ``G[H_LENGTH]``: a line option of just so many cells is a window."""
    kind = move & 31
    extra = move >> 35
    choice = extra
    if kind == TERRITORY:
        choice = _relative_colour(players, extra, mover)
    elif kind in (PROCESS_LINE, LINE_OPTION):
        choice = extra & 7
    return move_slot(kind, choice, (extra >> 8) > line_length)


@jit
def move_parts(G, move, mover, line_length):
    """(kind, slot, to, from, third) of a move code; cells as ranks, NO_CELL where it has none."""
    kind = move & 31
    to = _rank(G, (move >> 5) & 1023) if TO_ROLE[kind] else NO_CELL
    origin = _rank(G, (move >> 15) & 1023) if FROM_ROLE[kind] else NO_CELL
    third = _rank(G, (move >> 25) & 1023) if THIRD_ROLE[kind] else NO_CELL
    return kind, slot_of_move(G[H_PLAYERS], move, mover, line_length), to, origin, third


@jit
def _rank_along(G, rank, direction, steps):
    """Rank of the cell that lies some steps from another one, -1 beyond the border."""
    return _rank(G, cell_along(G, G[G[H_ORDER] + rank], direction, steps))


@jit
def index_parts(G, index, line_length):
    """As ``move_parts``, from a policy index alone."""
    kind = index & 31
    cell = (index >> 5) & 511
    choice = (index >> 14) & 7
    low = (index >> 17) & 31
    high = (index >> 22) & 31
    to, origin, third = NO_CELL, NO_CELL, NO_CELL
    if kind == MOVE:
        origin, to = cell, _rank_along(G, cell, choice, low)
    elif kind in (OVERTAKE, CONTINUE_CAPTURE):
        origin, to, third = cell, _rank_along(G, cell, choice, low), _rank_along(G, cell, choice, high)
    elif RECOVER_FALLBACK <= kind <= RECOVER_WINDOW:
        origin, to, third = cell, _rank_along(G, cell, choice, 1), (index >> 17) & 511
        choice = (index >> 26) & 3
    elif kind == PROCESS_LINE:
        origin = cell
    elif kind == LINE_OPTION:
        origin, third = cell, _rank_along(G, cell, G[G[H_LINE_AXES] + choice], low)
    elif TO_ROLE[kind]:
        to = cell
    return kind, move_slot(kind, choice, high > line_length), to, origin, third


@jit
def first_bad_index(G, indices):
    """Place of the first number that is no policy index of this config, -1 if there is none."""
    cells = G[H_ON_BOARD]
    for i in range(indices.size):
        index = np.int64(indices[i])
        if index < 0 or index >= 1 << 28:
            return i
        kind, rank, choice = index & 31, (index >> 5) & 511, (index >> 14) & 7
        if kind > FORCED or rank >= cells:
            return i
        line = kind in (PROCESS_LINE, LINE_OPTION)
        if choice >= (G[H_AXES] if line else (G[H_DIRECTIONS] if FROM_ROLE[kind] else 8)):
            return i
        if (kind == PLACE and not 1 <= choice <= 3) or (kind == TERRITORY and choice > G[H_PLAYERS]):
            return i
        _, _, to, _, third = index_parts(G, index, G[H_LENGTH])
        if (to < 0 and TO_ROLE[kind]) or (third < 0 and THIRD_ROLE[kind]) or max(to, third) >= cells:
            return i
    return -1
