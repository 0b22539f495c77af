"""Which symmetries of a board are symmetries of the rules, and how they act: RULES.md 1.3, 4.7, 4.9.

A square has 8 symmetries, a hexagon 12. Nearly every rule looks the same from all of them: moves,
captures, lines, regions, payments, victory. Two rules do not:

* **Border spreading on hex8** (4.7 step 1, T9) steps by the eight offsets of a square in (x, y):
  the six neighbours and also (1,1) and (-1,-1). Only the four symmetries that map this pair to
  itself respect it: identity, half turn, (x,y) -> (y,x) and (x,y) -> (-y,-x).
* **Recovery takes axes in a fixed order** (4.9, T13): where runs on two axes cross in the slide's
  destination, the first long enough one is collapsed and the first longest one offers windows.
  Only identity and half turn keep every axis in its place.

So ``exact_symmetries`` are the identity and the half turn, on every board. ``rule_symmetries``
respect all but the recovery order: all 8 on the squares, all 12 on hexagonal, 4 on hex8. They err
only where a recovery can make two runs at once. ``tests/rules/test_symmetry.py`` plays games and
recorded positions through all of them, and shows for each that is left out where it fails.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.rules.bits import copy_state, empty, lowest, single, without
from ringrift_ops.rules.boards import (
    H_AXES,
    H_CELL,
    H_CELLS,
    H_DIRECTIONS,
    H_LENGTH,
    H_LINE_AXES,
    H_RECOVERY_AXES,
    H_WORDS,
    Board,
    Cell,
    board_named,
)
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import (
    CONTINUE_CAPTURE,
    ELIMINATE_LINE,
    ELIMINATE_RECOVERY,
    FORCED,
    LINE_OPTION,
    MARKER,
    MOVE,
    OVERTAKE,
    PLACE,
    PROCESS_LINE,
    RECOVER_FALLBACK,
    RECOVER_WINDOW,
    S_CHAIN,
    S_CONTROL,
    S_MUST,
    STACK,
    TERRITORY,
)
from ringrift_ops.rules.lines import cell_along
from ringrift_ops.rules.movement import pack
from ringrift_ops.rules.territory import region_cells

Int64Array = npt.NDArray[np.int64]
IDENTITY: Final = 0


@dataclass(frozen=True)
class Symmetries:
    """All symmetries of a board, the identity first.

    names       one per symmetry
    cells       int64 [K, H_CELLS + 1]   cell index -> cell index (off the board: itself)
    ranks       int64 [K, cells]         place in board order -> place in board order
    directions  int64 [K, H_DIRECTIONS]  direction -> direction
    """

    names: tuple[str, ...]
    cells: Int64Array
    ranks: Int64Array
    directions: Int64Array

    def __len__(self) -> int:
        return len(self.names)


Map = Callable[[Cell], Cell]


def _square_maps() -> list[tuple[str, Map]]:
    """Linear parts; a square board is turned about its middle."""
    return [
        ("identity", lambda c: c),
        ("quarter turn", lambda c: (-c[1], c[0])),
        ("half turn", lambda c: (-c[0], -c[1])),
        ("three quarter turn", lambda c: (c[1], -c[0])),
        ("left-right", lambda c: (-c[0], c[1])),
        ("up-down", lambda c: (c[0], -c[1])),
        ("(x,y) -> (y,x)", lambda c: (c[1], c[0])),
        ("(x,y) -> (-y,-x)", lambda c: (-c[1], -c[0])),
    ]


def _hex_maps() -> list[tuple[str, Map]]:
    turns: list[tuple[str, Map]] = [
        ("identity", lambda c: c),
        ("turn 60", lambda c: (-c[1], c[0] + c[1])),
        ("turn 120", lambda c: (-c[0] - c[1], c[0])),
        ("half turn", lambda c: (-c[0], -c[1])),
        ("turn 240", lambda c: (c[1], -c[0] - c[1])),
        ("turn 300", lambda c: (c[0] + c[1], -c[0])),
    ]
    mirrors: list[tuple[str, Map]] = [
        ("(x,y) -> (y,x)", lambda c: (c[1], c[0])),
        ("(x,y) -> (x,z)", lambda c: (c[0], -c[0] - c[1])),
        ("(x,y) -> (z,y)", lambda c: (-c[0] - c[1], c[1])),
        ("(x,y) -> (-y,-x)", lambda c: (-c[1], -c[0])),
        ("(x,y) -> (-z,-y)", lambda c: (c[0] + c[1], -c[1])),
        ("(x,y) -> (-x,-z)", lambda c: (-c[0], c[0] + c[1])),
    ]
    return turns + mirrors


@cache
def board_symmetries(name: str) -> Symmetries:
    """The 8 or 12 symmetries of a board. Raises UnknownBoardError."""
    board = board_named(name)
    maps = _hex_maps() if board.is_hex else _square_maps()
    cells = np.tile(np.arange(board.index_space + 1, dtype=np.int64), (len(maps), 1))
    ranks = np.empty((len(maps), len(board.cells)), dtype=np.int64)
    directions = np.empty((len(maps), len(board.directions)), dtype=np.int64)
    rank_of = {cell: rank for rank, cell in enumerate(board.cells)}
    for k, (_, linear) in enumerate(maps):
        for rank, cell in enumerate(board.cells):
            image = _about_middle(board, linear, cell)
            cells[k, board.index(cell)] = board.index(image)
            ranks[k, rank] = rank_of[image]
        directions[k] = [board.directions.index(linear(d)) for d in board.directions]
    for table in (cells, ranks, directions):
        table.flags.writeable = False
    return Symmetries(tuple(name for name, _ in maps), cells, ranks, directions)


def _about_middle(board: Board, linear: Map, cell: Cell) -> Cell:
    if board.is_hex:
        return linear(cell)
    last = board.size - 1  # doubled coordinates put the middle of an even board on a lattice point
    x, y = linear((2 * cell[0] - last, 2 * cell[1] - last))
    return (x + last) // 2, (y + last) // 2


def rule_symmetries(name: str) -> tuple[int, ...]:
    """Numbers of the symmetries that respect every rule but the axis order of recovery."""
    symmetries = board_symmetries(name)
    if name != "hex8":
        return tuple(range(len(symmetries)))
    kept = ("identity", "half turn", "(x,y) -> (y,x)", "(x,y) -> (-y,-x)")
    return tuple(symmetries.names.index(one) for one in kept)


def exact_symmetries(name: str) -> tuple[int, ...]:
    """Numbers of the symmetries that respect every rule: identity and half turn."""
    return (IDENTITY, board_symmetries(name).names.index("half turn"))


@jit
def transform_state(G, s, cells, out):
    """Write to ``out`` the image of a state; ``cells`` is one row of ``Symmetries.cells``."""
    copy_state(out, s)
    out[S_CONTROL : G[H_CELL]] = 0
    for cell in range(G[H_CELLS]):
        word, image = s[G[H_CELL] + cell], cells[cell]
        out[G[H_CELL] + image] = word
        kind, p = word & 3, (word >> 2) & 7
        if p > 0:
            section = 0 if kind == STACK else (1 if kind == MARKER else 2)
            n_seats = (G[H_CELL] - S_CONTROL) // (3 * G[H_WORDS])
            place = S_CONTROL + (section * n_seats + p - 1) * G[H_WORDS]
            out[place + (image >> 6)] |= np.int64(1) << (image & 63)
    if s[S_MUST] >= 0:
        out[S_MUST] = cells[s[S_MUST]]
    if s[S_CHAIN] >= 0:
        out[S_CHAIN] = cells[s[S_CHAIN]]


@jit
def _image_of_run(G, first, axes, axis, length, cells, directions):
    """(image of the first cell of a run, its axis): the run may be walked from its other end."""
    d = G[axes + axis]
    image = directions[d]
    for other in range(G[H_AXES]):
        if G[axes + other] == image:
            return cells[first], other
        if (G[axes + other] + G[H_DIRECTIONS] // 2) % G[H_DIRECTIONS] == image:
            return cells[cell_along(G, first, d, length - 1)], other
    return np.int64(-1), np.int64(-1)


@jit
def transform_move(G, s, move, cells, directions, zero):
    """The image of a move that is legal in ``s``: a move of the image of ``s``."""
    kind, extra = move & 31, move >> 35
    to, origin, third = (move >> 5) & 1023, (move >> 15) & 1023, (move >> 25) & 1023
    if kind == PLACE or ELIMINATE_LINE <= kind <= ELIMINATE_RECOVERY or kind == FORCED:
        return pack(kind, cells[to], 0, 0, extra)
    if kind == MOVE:
        return pack(kind, cells[to], cells[origin], 0, extra)
    if kind == OVERTAKE or kind == CONTINUE_CAPTURE or RECOVER_FALLBACK <= kind < RECOVER_WINDOW:
        return pack(kind, cells[to], cells[origin], cells[third], extra)
    if kind == RECOVER_WINDOW:
        first, axis = _image_of_run(G, third, G[H_RECOVERY_AXES], extra, G[H_LENGTH], cells, directions)
        return pack(kind, cells[to], cells[origin], first, axis)
    if kind == PROCESS_LINE or kind == LINE_OPTION:
        run, chosen = (extra >> 3) & 31, extra >> 8
        first, axis = _image_of_run(G, origin, G[H_LINE_AXES], extra & 7, run, cells, directions)
        if kind == PROCESS_LINE:
            return pack(kind, 0, first, 0, axis | run << 3)
        window, _ = _image_of_run(G, third, G[H_LINE_AXES], extra & 7, chosen, cells, directions)
        return pack(kind, 0, first, window, axis | run << 3 | chosen << 8)
    if kind == TERRITORY:
        region = region_cells(G, s, to, extra, zero)
        smallest = np.int64(G[H_CELLS])
        while not empty(region):
            cell = lowest(region)
            region = without(region, single(cell, zero))
            smallest = min(smallest, cells[cell])
        return pack(kind, smallest, 0, 0, extra)
    return move


@jit
def transform_moves(G, s, moves, cells, directions, out, zero):
    """``transform_move`` of each of ``moves`` into ``out``, in the order of ``moves``."""
    for i in range(moves.size):
        out[i] = transform_move(G, s, moves[i], cells, directions, zero)


def image_of_state(rules: Game, state: Int64Array, symmetry: int) -> Int64Array:
    """The image of a position under a symmetry, by its number in ``board_symmetries``."""
    out = np.empty_like(state)
    transform_state(rules.geometry, state, board_symmetries(rules.board.name).cells[symmetry], out)
    return out


def image_of_moves(rules: Game, state: Int64Array, moves: Int64Array, symmetry: int) -> Int64Array:
    """The images of moves legal in ``state``, int64 [n] in the same order."""
    symmetries = board_symmetries(rules.board.name)
    out = np.empty_like(moves)
    transform_moves(
        rules.geometry, state, moves, symmetries.cells[symmetry], symmetries.directions[symmetry], out, rules.zero
    )
    return out
