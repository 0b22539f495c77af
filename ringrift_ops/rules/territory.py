"""Territory regions: RULES.md 4.7 (R140-R145)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from ringrift_ops.rules.bits import both, either, empty, load, lowest, same, shift, single, without
from ringrift_ops.rules.boards import (
    H_BOARD,
    H_CENTRE,
    H_COLLAPSED,
    H_MARKERS,
    H_PLAYERS,
    H_TERRITORY_AXES,
    H_TERRITORY_DIRECTIONS,
    H_WIDE,
    H_WORDS,
)
from ringrift_ops.rules.layout import (
    S_CONTROL,
    S_ELIMINATED,
    S_MARKER_COUNT,
    S_ON_BOARD,
    S_PLAYER,
    S_RECOVERED,
    TERRITORY,
)
from ringrift_ops.rules.movement import add_move, pack
from ringrift_ops.rules.stacks import (
    cell_word,
    collapse,
    has_ring_below_top,
    height_of,
    is_stack,
    take_stack,
    without_top,
)


@jit
def passable(G, s, colour, zero):
    """Cells not collapsed and without a marker of ``colour``; colour 0 = markers do not block."""
    cells = load(G, G[H_BOARD], zero)
    for i in range(G[H_PLAYERS]):
        cells = without(cells, load(s, G[H_COLLAPSED] + i * G[H_WORDS], zero))
    if colour > 0:
        cells = without(cells, load(s, G[H_MARKERS] + (colour - 1) * G[H_WORDS], zero))
    return cells


@jit
def component(G, seed, cells):
    """The connected component (territory adjacency) of ``cells`` that contains the set ``seed``."""
    grown = seed
    half = G[H_TERRITORY_DIRECTIONS] >> 1
    while not same(grown, cells):
        before = grown
        for i in range(half):
            there = shift(G, G[G[H_TERRITORY_AXES] + i], grown)
            back = shift(G, G[G[H_TERRITORY_AXES] + half + i], grown)
            grown = either(grown, both(cells, either(there, back)))
        if same(before, grown):
            break
    return grown


@jit
def _controllers_in(G, s, region, zero):
    seats = 0
    for i in range(G[H_PLAYERS]):
        if not empty(both(region, load(s, S_CONTROL + i * G[H_WORDS], zero))):
            seats += 1
    return seats


@jit
def _payable(G, s, region, zero):
    """Whether a payment stack stands outside the region: an own one, or in recovery context any
    stack with a ring of the player below the top.
    """
    p = s[S_PLAYER]
    if s[S_RECOVERED] == 0:
        return not empty(without(load(s, S_CONTROL + (p - 1) * G[H_WORDS], zero), region))
    for i in range(G[H_PLAYERS]):
        outside = without(load(s, S_CONTROL + i * G[H_WORDS], zero), region)
        while not empty(outside):
            cell = lowest(outside)
            if has_ring_below_top(G, s, cell_word(G, s, cell), p):
                return True
            outside = without(outside, single(cell, zero))
    return False


@jit
def _found_before(G, s, colour, region, zero):
    """Whether an earlier colour (1..n, then 0) yields the same cells: they count once."""
    last = G[H_PLAYERS] if colour == 0 else colour - 1
    seed = single(lowest(region), zero)
    for c in range(1, last + 1):
        if s[S_MARKER_COUNT + c - 1] > 0:
            cells = passable(G, s, c, zero)
            if empty(without(region, cells)) and same(component(G, seed, cells), region):
                return True
    return False


@jit
def _one_piece(G, cells, zero):
    """Whether a set of cells is connected; a flood from the middle of the board needs the fewest steps."""
    middle = both(cells, load(G, G[H_CENTRE], zero))
    if empty(middle):
        middle = cells
    return empty(middle) or same(component(G, single(lowest(middle), zero), cells), cells)


@jit
def _add_regions_of(G, s, colour, cells, active, moves, n, stop_at_first, zero):
    rest = cells
    while not empty(rest):
        region = component(G, single(lowest(rest), zero), cells)
        rest = without(rest, region)
        seats = _controllers_in(G, s, region, zero)
        candidate = seats < active if colour > 0 else (seats == 1 and active > 1)
        if candidate and _payable(G, s, region, zero):
            if stop_at_first:
                return n + 1
            if not _found_before(G, s, colour, region, zero):
                n = add_move(moves, n, pack(TERRITORY, lowest(region), 0, 0, colour))
    return n


@jit
def add_regions(G, s, moves, n, stop_at_first, zero):
    """choose_territory_option for every processable region; with ``stop_at_first`` only whether.

    Where the cells of a colour are one piece, that holds every stack: nothing outside it can pay.
    For colour 0 too, then: whatever else becomes passable holds no stack, so no single controller.
    """
    active, markers = 0, 0
    for i in range(G[H_PLAYERS]):
        active += 1 if s[S_ON_BOARD + i] > 0 else 0
        markers += s[S_MARKER_COUNT + i]
    if active == 0:
        return n
    found, whole = n, False
    if markers > 0:
        for colour in range(1, G[H_PLAYERS] + 1):
            if s[S_MARKER_COUNT + colour - 1] > 0:
                cells = passable(G, s, colour, zero)
                if _one_piece(G, cells, zero):
                    whole = True
                    continue
                found = _add_regions_of(G, s, colour, cells, active, moves, found, stop_at_first, zero)
                if stop_at_first and found > n:
                    return found
    cells = passable(G, s, 0, zero)
    if whole or _one_piece(G, cells, zero):
        return found
    return _add_regions_of(G, s, 0, cells, active, moves, found, stop_at_first, zero)


@jit
def any_region(G, s, moves, zero):
    """Whether the player to move can process a region."""
    return add_regions(G, s, moves, 0, True, zero) > 0


@jit
def region_cells(G, s, seed, colour, zero):
    """The cells of the region that contains ``seed``, found with border ``colour``."""
    return component(G, single(seed, zero), passable(G, s, colour, zero))


@jit
def _border(G, s, region, zero):
    """Border markers (4.7 step 1): all adjacent ones, then every marker reached by wide steps (T9)."""
    markers = zero
    for i in range(G[H_PLAYERS]):
        markers = either(markers, load(s, G[H_MARKERS] + i * G[H_WORDS], zero))
    markers = without(markers, region)
    border = zero
    for i in range(G[H_TERRITORY_DIRECTIONS]):
        border = either(border, both(markers, shift(G, G[G[H_TERRITORY_AXES] + i], region)))
    while True:
        before = border
        for d in range(G[H_WIDE]):
            border = either(border, both(markers, shift(G, d, border)))
        if same(before, border):
            return border


@jit
def claim(G, s, seed, colour, p, zero):
    """Effect of choose_territory_option: rings inside are credited, cells and border collapse."""
    region = region_cells(G, s, seed, colour, zero)
    rest = either(region, _border(G, s, region, zero))
    while not empty(rest):
        cell = lowest(rest)
        rest = without(rest, single(cell, zero))
        word = cell_word(G, s, cell)
        if is_stack(word):
            word = take_stack(G, s, cell)
            s[S_ELIMINATED + p - 1] += height_of(word)
            without_top(G, s, word, height_of(word))
        collapse(G, s, cell, p)
