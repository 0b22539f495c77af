"""The rules as one object per config: the public surface of this room.

``game("hex8_2p")`` gives the functions for one config; states are ``int64 [game.size]`` arrays and
moves ``int64`` codes (``layout.py``). Loops over moves and games belong in compiled code
(``playout.py``); these methods cost a few microseconds per call.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.rules import layout as l
from ringrift_ops.rules import notation, turn
from ringrift_ops.rules.bits import ZERO1, ZERO10
from ringrift_ops.rules.boards import (
    H_CELL,
    H_CELLS,
    H_ON_BOARD,
    H_RANK,
    H_RING,
    H_RING_CAPACITY,
    H_RINGS,
    H_STATE,
    H_WORDS,
    Board,
    Cell,
    board_named,
    geometry,
)
from ringrift_ops.rules.setup import add_stack, finish_setup
from ringrift_ops.rules.stacks import NO_RING
from ringrift_ops.rules.victory import evaluate_victory

State = npt.NDArray[np.int64]
Moves = npt.NDArray[np.int64]


class IllegalMoveError(UsageError):
    """A move that is not in the legal list of its position."""


class StateStringError(UsageError):
    """A state string that does not describe a position of this config."""


@dataclass(frozen=True)
class Result:
    """How a game ended. ``winner`` 0 means none; ``kind`` is the finer label of the trace format."""

    winner: int
    reason: str
    kind: str
    by: str
    hand_counts_as_eliminated: bool


class Game:
    """Rules of one config."""

    def __init__(self, board: Board, players: int) -> None:
        self.board = board
        self.players = players
        self.geometry = geometry(board.name, players)
        self.size = int(self.geometry[H_STATE])
        self.zero: Any = ZERO1 if self.geometry[H_WORDS] == 1 else ZERO10
        self._moves = np.empty(l.MOVE_BUFFER, dtype=np.int64)
        self._text = np.empty(notation.TEXT_BUFFER, dtype=np.uint8)

    @property
    def config(self) -> str:
        return f"{self.board.name}_{self.players}p"

    @cached_property
    def _empty(self) -> State:
        """No rings anywhere, seat 1 to place, border cells closed, all ring nodes unused."""
        g = self.geometry
        s = np.zeros(self.size, dtype=np.int64)
        s[l.S_PHASE], s[l.S_PLAYER] = l.RING_PLACEMENT, 1
        s[l.S_MUST] = s[l.S_CHAIN] = -1
        rank = g[g[H_RANK] : g[H_RANK] + g[H_CELLS] + 1]
        s[g[H_CELL] : g[H_CELL] + g[H_CELLS] + 1][rank < 0] = l.COLLAPSED
        capacity = int(g[H_RING_CAPACITY])
        for ring in range(capacity):
            below = ring + 1 if ring + 1 < capacity else NO_RING
            s[g[H_RING] + ring // 4] |= below << (16 * (ring % 4))
        return s

    def initial_state(self, swap_rule: bool = False) -> State:
        """The start position. ``swap_rule`` switches the pie rule on (2 players only)."""
        s = self._empty.copy()
        s[l.S_HAND : l.S_HAND + self.players] = self.geometry[H_RINGS]
        if swap_rule:
            if self.players != 2:
                raise UsageError(f"the pie rule needs 2 players; {self.config} has {self.players}")
            s[l.S_SWAP] = l.SWAP_RULE
        return s

    def legal_moves(self, state: State) -> Moves:
        """All legal moves in canonical order (phase by phase, ascending cell index), int64 [n]."""
        n = turn.legal_moves(self.geometry, state, self._moves, self.zero)
        while n > self._moves.size:
            self._moves = np.empty(2 * n, dtype=np.int64)
            n = turn.legal_moves(self.geometry, state, self._moves, self.zero)
        return self._moves[:n].copy()

    def apply(self, state: State, move: int) -> State:
        """The position after a legal move; the given one is not changed. Raises IllegalMoveError."""
        if move not in self.legal_moves(state):
            raise IllegalMoveError(f"move {move} is not legal in {self.state_string(state)}")
        return self.apply_unchecked(state, move)

    def apply_unchecked(self, state: State, move: int) -> State:
        """As ``apply`` for a move known to be legal."""
        after = state.copy()
        turn.apply_move(self.geometry, after, np.int64(move), self._moves, self.zero)
        return after

    def is_over(self, state: State) -> bool:
        return bool(state[l.S_COMPLETED])

    def result(self, state: State) -> Result | None:
        """The result of a finished game, else None."""
        if not state[l.S_COMPLETED]:
            return None
        kind = int(state[l.S_KIND])
        return Result(
            winner=int(state[l.S_WINNER]),
            reason=l.REASONS[state[l.S_REASON]],
            kind=l.KINDS[kind],
            by="lps" if kind == l.KIND_ROUNDS else "turn",
            hand_counts_as_eliminated=bool(state[l.S_HAND_COUNTS]),
        )

    def victory_if_tested(self, state: State) -> str | None:
        """``winner:reason`` that the victory tests would report on this active state (trace field ``ev``)."""
        winner, reason, _ = evaluate_victory(self.geometry, state.copy(), self.zero)
        return f"{winner}:{l.REASONS[reason]}" if reason else None

    def standings(self, state: State) -> list[int]:
        """Seats by territory, eliminated rings, markers, seat (RULES.md 5.3, TypeScript's order)."""

        def rank(p: int) -> tuple[int, int, int]:
            i = p - 1
            return (-state[l.S_TERRITORY + i], -state[l.S_ELIMINATED + i], -state[l.S_MARKER_COUNT + i])

        return sorted(range(1, self.players + 1), key=rank)

    def keys(self, state: State, moves: Moves) -> list[str]:
        """Expanded keys of moves that are legal in ``state``."""
        if len(moves) == 0:
            return []
        n = notation.put_keys(self.geometry, state, moves, len(moves), self._text, self.zero)
        while n < 0:
            self._text = np.empty(2 * self._text.size, dtype=np.uint8)
            n = notation.put_keys(self.geometry, state, moves, len(moves), self._text, self.zero)
        return self._text[:n].tobytes().decode().split(" ")

    def key(self, state: State, move: int) -> str:
        """Expanded key of one legal move."""
        return self.keys(state, np.array([move], dtype=np.int64))[0]

    def parse_key(self, state: State, key: str) -> int:
        """The legal move with this key, expanded or recorded form. Raises IllegalMoveError."""
        moves = self.legal_moves(state)
        short = ":" in key and key.startswith("T")
        for move, candidate in zip(moves, self.keys(state, moves), strict=True):
            if (notation.short_key(candidate) if short else candidate) == key:
                return int(move)
        raise IllegalMoveError(
            f"{key} is not among the {len(moves)} legal moves of {self.config} at {self.state_string(state)}"
        )

    def state_string(self, state: State) -> str:
        """The state string of RULES.md Appendix A."""
        n = notation.put_state(self.geometry, state, self._text)
        return self._text[:n].tobytes().decode()

    def fingerprint(self, state: State) -> str:
        """TypeScript's state fingerprint (Appendix B)."""
        n = notation.put_fingerprint(self.geometry, state, self._text)
        return self._text[:n].tobytes().decode()

    def state_hash(self, state: State) -> str:
        """TypeScript's 16-digit hash of the fingerprint."""
        return notation.hex16(notation.state_hash(self.geometry, state, self._text))

    def legal_hash(self, state: State) -> tuple[int, str]:
        """Number of legal moves and the order-free hash of their expanded keys, 16 hex digits."""
        moves = self.legal_moves(state)
        bits = notation.legal_hash(self.geometry, state, moves, len(moves), self._text, self.zero)
        return len(moves), notation.hex16(bits)

    def cell_index(self, cell: Cell) -> int:
        """Index of an on-board cell. Raises StateStringError."""
        if cell not in self._on_board:
            raise StateStringError(f"{cell} is not a cell of {self.board.name} ({self.geometry[H_ON_BOARD]} cells)")
        return self.board.index(cell)

    @cached_property
    def _on_board(self) -> frozenset[Cell]:
        return frozenset(self.board.cells)

    def parse_state(self, text: str) -> State:
        """The position of a state string. Raises StateStringError.

        A string does not hold who moved last, so the last-actor tie-break (5.2) may be unknown.
        """
        fields = text.split(";")
        if len(fields) != len(_PREFIXES):
            raise StateStringError(f"a state string has 15 fields joined by ';', this one has {len(fields)}: {text!r}")
        s = self._empty.copy()
        try:
            for prefix, field in zip(_PREFIXES, fields, strict=True):
                if not field.startswith(prefix):
                    raise ValueError(f"a field begins with {prefix!r}, not {field!r}")
            self._fill_scalars(s, fields)
            self._fill_cells(s, fields[12][1:], fields[13][1:], fields[14][1:])
        except (ValueError, IndexError) as error:
            raise StateStringError(f"not a state string of {self.config}: {text!r} ({error})") from error
        finish_setup(self.geometry, s, self._moves, self.zero)
        return s

    def _fill_scalars(self, s: State, fields: list[str]) -> None:
        """Raises ValueError: compiled code checks no bound, so no number may be out of its range."""
        over = fields[2] != "A"
        player, phase = _number(fields[0][1:], self.players), l.PHASE_CODES.index(fields[1])
        if (player == 0) != over or (phase == l.GAME_OVER) != over:
            raise ValueError(f"seat {player} to move in {fields[1]} with status {fields[2]}")
        s[l.S_PLAYER], s[l.S_PHASE] = player, phase
        if over:
            s[l.S_COMPLETED], s[l.S_WINNER] = 1, _number(fields[2].partition("C")[2], self.players)
        s[l.S_MUST], s[l.S_CHAIN] = self._cell_field(fields[3]), self._cell_field(fields[4])
        if phase in (l.CAPTURE, l.CHAIN_CAPTURE) and s[l.S_CHAIN] < 0:
            raise ValueError(f"nothing captures in {fields[1]}")
        if fields[5] not in ("e-", "eL", "eT", "eR"):
            raise ValueError(f"{fields[5]} is no debt")
        s[l.S_LINE_DEBT] = int(fields[5] == "eL")
        s[l.S_TERRITORY_DEBT] = int(fields[5] in ("eT", "eR"))
        s[l.S_ACTED] = int("a" in fields[6][1:])
        s[l.S_RECOVERED] = int("r" in fields[6][1:] or fields[5] == "eR")
        for offset, field in ((l.S_HAND, fields[7]), (l.S_ELIMINATED, fields[8]), (l.S_TERRITORY, fields[9])):
            values = [_number(v) for v in field[1:].split("/")]
            if len(values) != self.players:
                raise ValueError(f"{field} does not have {self.players} seats")
            s[offset : offset + self.players] = values
        if fields[10] != "l-":
            first, mask, rounds, exclusive = fields[10][1:].split("/")
            if len(mask) != self.players:
                raise ValueError(f"{fields[10]} does not have {self.players} seats")
            s[l.S_LPS_FIRST], s[l.S_LPS_EXCLUSIVE] = _number(first, self.players), _number(exclusive, self.players)
            s[l.S_LPS_ROUNDS] = _number(rounds)
            s[l.S_LPS_MASK] = sum("-01".index(c) << (2 * i) for i, c in enumerate(mask))
        swap = fields[11][1:]
        if swap not in ("-", "12", "12+", "21"):
            raise ValueError(f"{fields[11]} is no state of the pie rule")
        if swap != "-":
            offered = swap.endswith("+")
            moved = not offered and (s[l.S_LPS_FIRST] != 0 or player == 2 or phase == l.GAME_OVER)
            s[l.S_SWAP] = (
                l.SWAP_RULE
                | (l.SWAP_OFFERED if offered else 0)
                | (l.SWAP_DONE if swap.startswith("21") else 0)
                | (l.SWAP_SEAT2_MOVED if moved else 0)
            )
        s[l.S_LAST_ACTOR] = player if phase != l.RING_PLACEMENT else 0

    def _cell_field(self, field: str) -> int:
        return -1 if field[1:] == "-" else self.cell_index(_cell(field[1:]))

    def _fill_cells(self, s: State, stacks: str, markers: str, collapsed: str) -> None:
        g = self.geometry
        territory = s[l.S_TERRITORY : l.S_TERRITORY + self.players].copy()
        for kind, text in ((l.STACK, stacks), (l.MARKER, markers), (l.COLLAPSED, collapsed)):
            for entry in text.split():
                where, what = entry.split(":")
                cell = self.cell_index(_cell(where))
                if s[g[H_CELL] + cell] != 0:
                    raise ValueError(f"two things on {where}")
                owners = np.array([int(c) for c in what], dtype=np.int64)
                if owners.min() < 1 or owners.max() > self.players or (kind != l.STACK and len(owners) > 1):
                    raise ValueError(f"{entry} names a seat that does not exist")
                if not add_stack(g, s, cell, kind, owners):
                    raise ValueError(f"more rings than {self.config} can hold")
        s[l.S_TERRITORY : l.S_TERRITORY + self.players] = territory


_PREFIXES = ("p", "", "", "m", "c", "e", "t", "h", "x", "g", "l", "y", "s", "k", "z")
"""What each field of a state string begins with."""

_MOST = 0xFFFF
"""No counter of a position is larger; the encoder stores sixteen bits."""


def _number(text: str, most: int = _MOST) -> int:
    value = int(text)
    if not 0 <= value <= most:
        raise ValueError(f"{text} is not within 0 to {most}")
    return value


_CELL = re.compile(r"^(-?\d+),(-?\d+)$")


def _cell(text: str) -> Cell:
    match = _CELL.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a cell")
    return int(match[1]), int(match[2])


CONFIG_PATTERN = re.compile(r"^(square8|square19|hex8|hexagonal)_([234])p$")


@cache
def game(config: str) -> Game:
    """The rules of a config such as ``hex8_2p`` (one object per process). Raises UsageError."""
    match = CONFIG_PATTERN.match(config)
    if match is None:
        raise UsageError(f"{config!r} is not a config: BOARD_Np with BOARD square8, square19, hex8 or hexagonal, N 2-4")
    return Game(board_named(match[1]), int(match[2]))
