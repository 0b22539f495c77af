"""Positions drawn as text, for tests.

A square board: one line per y, one word per cell, x to the right. A hexagonal board: one line per
y from -R to R, the cells of that y from the smallest x on; indent as you like::

    .          empty                 112        stack, rings written TOP to bottom as in RULES.md 8
    m1 m2 ..   marker of a seat      z1 z2 ..   collapsed for a seat

Words may be joined by any number of spaces. On larger boards only the corner that is drawn is
filled: the rest is empty.
"""

from __future__ import annotations

from ringrift_ops.rules.boards import Cell
from ringrift_ops.rules.game import Game, State


def cells_of(rules: Game, picture: str) -> dict[Cell, str]:
    """Cell -> word, empty cells left out."""
    board = rules.board
    rows = [line.split() for line in picture.strip("\n").splitlines() if line.strip()]
    found: dict[Cell, str] = {}
    for i, row in enumerate(rows):
        y = i - (board.radius or 0)
        xs = sorted(x for x, cell_y in board.cells if cell_y == y)
        assert len(row) <= len(xs), f"row {y} of {board.name} has {len(xs)} cells: {row}"
        for x, word in zip(xs, row, strict=False):
            if word != ".":
                found[x, y] = word
    return found


def position(
    rules: Game, picture: str, *, player: int = 1, phase: str = "MV", hands: tuple[int, ...] | None = None,
    eliminated: tuple[int, ...] | None = None, territory: tuple[int, ...] | None = None, must: str = "-",
    memory: str = "-", owed: str = "-",
) -> State:  # fmt: skip
    """The position of a picture. The territory counters are those of the picture unless given."""
    cells = cells_of(rules, picture)
    seats = range(1, rules.players + 1)

    def field(values: tuple[int, ...] | None, default: list[int]) -> str:
        return "/".join(map(str, values or default))

    collapsed = [sum(word == f"z{p}" for word in cells.values()) for p in seats]
    lists = {"s": [], "k": [], "z": []}  # type: dict[str, list[str]]
    for (x, y), word in sorted(cells.items()):
        kind, what = {"m": ("k", word[1:]), "z": ("z", word[1:])}.get(word[0], ("s", word[::-1]))
        lists[kind].append(f"{x},{y}:{what}")
    text = ";".join(
        [
            f"p{player}", phase, "A", f"m{must}", "c-", f"e{owed}", f"t{memory}",
            "h" + field(hands, [0 if phase != "RP" else 5] * rules.players),
            "x" + field(eliminated, [0] * rules.players),
            "g" + field(territory, collapsed),
            f"l0/{'-' * rules.players}/0/0", "y-",
            *(name + " ".join(entries) for name, entries in lists.items()),
        ]
    )  # fmt: skip
    return rules.parse_state(text)


def words(rules: Game, state: State) -> dict[Cell, str]:
    """The cells of a position in the words of the pictures."""
    fields = rules.state_string(state).split(";")
    found: dict[Cell, str] = {}
    for field in fields[12:]:
        for entry in field[1:].split():
            where, what = entry.split(":")
            x, y = (int(v) for v in where.split(","))
            found[x, y] = what[::-1] if field[0] == "s" else {"k": "m", "z": "z"}[field[0]] + what
    return found


def legal(rules: Game, state: State) -> set[str]:
    """Expanded keys of the legal moves."""
    keys = rules.keys(state, rules.legal_moves(state))
    assert len(keys) == len(set(keys))
    return set(keys)


def play(rules: Game, state: State, *keys: str) -> State:
    """The position after these moves, each of which must be legal."""
    for key in keys:
        state = rules.apply(state, rules.parse_key(state, key))
    return state


def seats(state_string: str, field: str) -> tuple[int, ...]:
    """Per-seat numbers of a field of a state string: h, x or g."""
    index = {"h": 7, "x": 8, "g": 9}[field]
    return tuple(int(v) for v in state_string.split(";")[index][1:].split("/"))
