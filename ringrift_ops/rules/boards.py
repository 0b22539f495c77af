"""The four boards and twelve configs as numbers: RULES.md section 1.

``Board`` knows coordinates; ``geometry(board, players)`` packs what compiled code needs into one
flat ``int64`` table ``G``. Cells carry an *index* chosen so that one step in a direction is one
shift of a bitboard (``bits.py``)::

    square8    8x + y                 64 cells, one word
    hex8       (14x + y) mod 61       61 cells, one word: a step is a rotation by 61 bits
    square19   19x + y               361 cells, ten words
    hexagonal  25(x+12) + (y+12)     469 cells in a box of 625, ten words

``square8`` (x to the right, y down; board order is x outer, y inner)::

       x 0  1  2
    y 0  0  8 16 ..
      1  1  9 17 ..
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError

Cell = tuple[int, int]
Int64Array = npt.NDArray[np.int64]

SQUARE_DIRECTIONS: Final = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
HEX_DIRECTIONS: Final = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
WIDE_EXTRA: Final = ((1, 1), (-1, -1))
"""hex8 spreads border markers over these two offsets also (RULES.md 1.3, T9)."""

# Header of G. The comment after each name says what the word holds.
(
    H_WORDS,  # 64-bit words of one bitboard: 1 or 10
    H_CELLS,  # size of the cell index space; the index H_CELLS itself is the border cell
    H_PLAYERS,
    H_RINGS,  # rings per player
    H_DETECT,  # D: shortest run that is detected at all
    H_LENGTH,  # L: line length
    H_VICTORY,  # V: eliminated rings that win
    H_TERRITORY,  # T: territory minimum
    H_DIRECTIONS,  # movement directions; the opposite of d is (d + half) mod directions
    H_AXES,
    H_TERRITORY_DIRECTIONS,
    H_WIDE,  # directions of border spreading; 0 on hexagonal
    H_LINE_AXES,  # offset: direction index of each line axis, RULES.md 1.3
    H_RECOVERY_AXES,  # offset: the same in the order recovery uses
    H_TERRITORY_AXES,  # offset: direction index of each territory neighbour
    H_NEIGHBOUR,  # offset: [direction][cell] -> cell, or the border cell
    H_SHIFT,  # offset: [direction] -> bit shift of one step
    H_ARRIVAL,  # offset: [direction][word] -> cells that a step in this direction can reach
    H_BOARD,  # offset: [word] -> all cells
    H_ORDER,  # offset: [rank] -> cell, in board order
    H_RANK,  # offset: [cell] -> rank in board order, -1 off the board
    H_KEY_ORDER,  # offset: [rank] -> cell, in the order of TS position keys sorted as strings
    H_X,  # offset: [cell] -> x
    H_Y,  # offset: [cell] -> y
    H_ON_BOARD,  # number of real cells
    H_HEX,  # 1 on hexagonal grids
    H_MARKERS,  # offset in a state of the marker bitboards
    H_COLLAPSED,  # offset in a state of the collapsed bitboards
    H_CELL,  # offset in a state of the cell words
    H_RING,  # offset in a state of the ring words
    H_STATE,  # words in a state
    H_RING_CAPACITY,
    H_DIRECTION_OF,  # offset: [3 (sign dx + 1) + sign dy + 1] -> direction, -1 if none
    H_CENTRE,  # offset: [word] -> centre cells of the evaluator (RULES.md 9.1; hex8 radius 1)
    H_SIZE,
) = range(35)

STATE_HEADER: Final = 48
"""Words of a state before the bitboards; ``layout.py`` names them."""

SPARE_RINGS: Final = 64
"""Rings beyond n*r that a constructed position may hold (recorded positions need not add up)."""


class UnknownBoardError(UsageError):
    """The board name or player count is not one of the twelve configs."""


@dataclass(frozen=True)
class Board:
    """One of the four boards. ``radius`` is None on square boards."""

    name: str
    size: int
    radius: int | None
    rings_per_player: int
    detect: int

    @property
    def is_hex(self) -> bool:
        return self.radius is not None

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells in board order: x ascending outer, y ascending inner."""
        if self.radius is None:
            return tuple((x, y) for x in range(self.size) for y in range(self.size))
        r = self.radius
        return tuple((x, y) for x in range(-r, r + 1) for y in range(max(-r, -x - r), min(r, -x + r) + 1))

    @property
    def directions(self) -> tuple[Cell, ...]:
        return HEX_DIRECTIONS if self.is_hex else SQUARE_DIRECTIONS

    @property
    def words(self) -> int:
        return 1 if len(self.cells) <= 64 else 10

    @property
    def index_space(self) -> int:
        return {"square8": 64, "hex8": 61, "square19": 361, "hexagonal": 625}[self.name]

    def index(self, cell: Cell) -> int:
        """The index of a cell (module docstring)."""
        x, y = cell
        if self.name == "hex8":
            return (14 * x + y) % 61
        offset = self.radius or 0
        return (x + offset) * self.size + y + offset

    def key(self, cell: Cell) -> str:
        """RingRift's position key: ``x,y`` on square boards, ``x,y,z`` on hexagonal ones."""
        x, y = cell
        return f"{x},{y},{-x - y}" if self.is_hex else f"{x},{y}"

    @property
    def centre(self) -> frozenset[Cell]:
        """Centre set of the heuristic evaluator: TypeScript's, but true hex geometry on hex8."""
        if self.is_hex:
            return frozenset((x, y) for x, y in self.cells if max(abs(x), abs(y), abs(x + y)) <= 1)
        c = self.size // 2
        return frozenset((x, y) for x, y in self.cells if abs(x - c) <= 1 and abs(y - c) <= 1)

    def line_length(self, players: int) -> int:
        """L of RULES.md 1.4 (R120)."""
        return 3 if players > 2 and self.name in ("square8", "hex8") else 4

    def victory_rings(self, players: int) -> int:
        """V = round(r (2/3 + (n-1)/3)) (R061)."""
        return round(self.rings_per_player * (2 + players - 1) / 3)

    def territory_minimum(self, players: int) -> int:
        """T = floor(cells / n) + 1 (R062)."""
        return len(self.cells) // players + 1


BOARDS: Final[dict[str, Board]] = {
    b.name: b
    for b in (
        Board("square8", 8, None, 18, 3),
        Board("square19", 19, None, 72, 4),
        Board("hex8", 9, 4, 18, 4),
        Board("hexagonal", 25, 12, 96, 4),
    )
}


def board_named(name: str) -> Board:
    """The board of that name; raises UnknownBoardError naming the four."""
    try:
        return BOARDS[name]
    except KeyError:
        raise UnknownBoardError(f"no board is called {name!r}; there are: {', '.join(BOARDS)}") from None


def _set_words(indices: list[int], words: int) -> list[int]:
    """Bitboard words (as signed int64 values) with these bits set."""
    value = sum(1 << i for i in set(indices))
    out = [(value >> (64 * w)) & 0xFFFFFFFFFFFFFFFF for w in range(words)]
    return [w - (1 << 64) if w >= 1 << 63 else w for w in out]


@cache
def geometry(name: str, players: int) -> Int64Array:
    """The table ``G`` of a config: int64 [~10 to 30 thousand], read-only. Raises UnknownBoardError."""
    board = board_named(name)
    if players not in (2, 3, 4):
        raise UnknownBoardError(f"{name} is played by 2, 3 or 4 players, not {players}")
    n_cells, words = board.index_space, board.words
    directions = list(board.directions)
    wide = [*directions, *WIDE_EXTRA] if name == "hex8" else directions
    on_board = set(board.cells)
    table: list[int] = [0] * H_SIZE

    def add(header: int, values: list[int]) -> None:
        table[header] = len(table)
        table.extend(values)

    capacity = players * board.rings_per_player + SPARE_RINGS
    markers = STATE_HEADER + players * words
    collapsed = markers + players * words
    cell = collapsed + players * words
    ring = cell + n_cells + 1
    for header, value in {
        H_WORDS: words,
        H_CELLS: n_cells,
        H_PLAYERS: players,
        H_RINGS: board.rings_per_player,
        H_DETECT: board.detect,
        H_LENGTH: board.line_length(players),
        H_VICTORY: board.victory_rings(players),
        H_TERRITORY: board.territory_minimum(players),
        H_DIRECTIONS: len(directions),
        H_AXES: 3 if board.is_hex else 4,
        H_TERRITORY_DIRECTIONS: 6 if board.is_hex else 4,
        H_WIDE: 0 if name == "hexagonal" else 8,
        H_ON_BOARD: len(board.cells),
        H_HEX: int(board.is_hex),
        H_MARKERS: markers,
        H_COLLAPSED: collapsed,
        H_CELL: cell,
        H_RING: ring,
        H_STATE: ring + (capacity + 3) // 4,
        H_RING_CAPACITY: capacity,
    }.items():
        table[header] = value
    add(H_LINE_AXES, [0, 5, 4] if board.is_hex else [0, 1, 2, 7])
    add(H_RECOVERY_AXES, [0, 5, 4] if board.is_hex else [0, 2, 1, 7])
    add(H_TERRITORY_AXES, [0, 1, 2, 3, 4, 5] if board.is_hex else [2, 0, 6, 4])
    add(
        H_DIRECTION_OF,
        [directions.index((dx, dy)) if (dx, dy) in directions else -1 for dx in (-1, 0, 1) for dy in (-1, 0, 1)],
    )
    neighbours, arrivals, shifts = [], [], []
    for dx, dy in wide:
        row = [n_cells] * (n_cells + 1)
        reached = []
        for x, y in board.cells:
            if (x + dx, y + dy) in on_board:
                row[board.index((x, y))] = board.index((x + dx, y + dy))
                reached.append(board.index((x + dx, y + dy)))
        neighbours += row
        arrivals += _set_words(reached, words)
        step = (14 * dx + dy) % 61 if name == "hex8" else dx * board.size + dy
        shifts.append(step % 64 if name == "square8" else step)
    add(H_NEIGHBOUR, neighbours)
    add(H_SHIFT, shifts)
    add(H_ARRIVAL, arrivals)
    add(H_BOARD, _set_words([board.index(c) for c in board.cells], words))
    add(H_ORDER, [board.index(c) for c in board.cells])
    rank, xs, ys = [-1] * (n_cells + 1), [0] * (n_cells + 1), [0] * (n_cells + 1)
    for i, c in enumerate(board.cells):
        rank[board.index(c)], xs[board.index(c)], ys[board.index(c)] = i, c[0], c[1]
    add(H_RANK, rank)
    add(H_X, xs)
    add(H_Y, ys)
    add(H_KEY_ORDER, [board.index(c) for c in sorted(board.cells, key=lambda c: board.key(c) + ":")])
    add(H_CENTRE, _set_words([board.index(c) for c in board.centre], words))
    result = np.array(table, dtype=np.int64)
    result.flags.writeable = False
    return result
