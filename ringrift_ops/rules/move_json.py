"""Between a move key and RingRift's move JSON: strings in, strings out, no position needed.

A move key is the string of the conformance traces (``P3,3*1``, ``M0,0>2,0``; RULES.md Appendix A), in its
*expanded* form: ``choose_territory_option`` lists its region cells, ``T0,0/0,1/1,0``, in cell order. Squares
are written ``x,y``; on hex boards the third cube coordinate is left out of keys and present in JSON.

Which JSON fields a move type needs was found by leaving each out and replaying with RingRift's own code
(pipeline-facts 1.3); both of its engines accept what is written here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

from ringrift_ops.errors import UsageError
from ringrift_ops.rules import layout
from ringrift_ops.rules.boards import board_named

PHASES: Final[dict[str, str]] = dict(zip(layout.PHASE_CODES, layout.PHASE_NAMES, strict=True))
"""Two-letter phase of the traces -> RingRift's phase."""

PHASE_CODES: Final[dict[str, str]] = {name: code for code, name in PHASES.items()}

BARE_TYPES: Final[dict[str, str]] = {
    "-P": "skip_placement",
    "0P": "no_placement_action",
    "SW": "swap_sides",
    "-C": "skip_capture",
    "0M": "no_movement_action",
    "-R": "skip_recovery",
    "0L": "no_line_action",
    "-T": "skip_territory_processing",
    "0T": "no_territory_action",
}
"""Whole keys of the moves without a cell."""

LETTER_TYPES: Final[dict[str, str]] = {
    "P": "place_ring",
    "M": "move_stack",
    "C": "overtaking_capture",
    "K": "continue_capture_segment",
    "R": "recovery_slide",
    "L": "process_line",
    "O": "choose_line_option",
    "E": "eliminate_rings_from_stack",
    "T": "choose_territory_option",
    "X": "forced_elimination",
}
"""First letter of every other key."""

MOVE_TYPES: Final[frozenset[str]] = frozenset(BARE_TYPES.values()) | frozenset(LETTER_TYPES.values())
"""The canonical types that have a key. ``resign`` and ``timeout`` are canonical too, but have none."""

KEYLESS_TYPES: Final[frozenset[str]] = frozenset({"resign", "timeout"})

LEGACY_TYPES: Final[dict[str, str]] = {
    "move_ring": "move_stack",
    "build_stack": "move_stack",
    "choose_line_reward": "choose_line_option",
    "process_territory_region": "choose_territory_option",
    "territory_claim": "choose_territory_option",
    "line_formation": "process_line",
}
"""RingRift's former names; non-canonical in a record, understood only when asked for."""

_BARE_KEYS: Final[dict[str, str]] = {name: key for key, name in BARE_TYPES.items()}
_TYPE_LETTERS: Final[dict[str, str]] = {name: letter for letter, name in LETTER_TYPES.items()}
_CONTEXTS: Final[dict[str, str]] = {"l": "line", "t": "territory", "r": "recovery"}
_CONTEXT_LETTERS: Final[dict[str, str]] = {name: letter for letter, name in _CONTEXTS.items()}
_RECOVERY_MODES: Final[dict[str, str]] = {"F": "fallback", "S": "stack_strike"}
_RECOVERY_LETTERS: Final[dict[str, str]] = {name: letter for letter, name in _RECOVERY_MODES.items()}
_SQUARE_AXES: Final = ((1, 0), (1, 1), (0, 1), (1, -1))
_HEX_AXES: Final = ((1, 0), (1, -1), (0, -1))
_CACHE_LIMIT: Final = 200_000
"""Fragments kept per board; about 60 MB at most, reached only by long runs on the large boards."""


class MoveKeyError(UsageError):
    """A move key that is not of the form of RULES.md Appendix A, or names a cell off the board."""


class MoveJsonError(UsageError):
    """Move JSON that is not a JSON object or lacks a field without which the move cannot be replayed."""

    where = ""

    def at(self, where: str) -> Self:
        """The same error, its message naming the game and move it was found at."""
        self.where = where
        return self

    def __str__(self) -> str:
        return f"{self.where}: {super().__str__()}" if self.where else super().__str__()


class NonCanonicalMoveTypeError(MoveJsonError):
    """A move type outside the canonical list; the message starts with RingRift's reason for it."""

    def __init__(self, move_type: object) -> None:
        self.reason = f"non_canonical_move_type:{move_type}"
        now = LEGACY_TYPES.get(str(move_type).lower())
        hint = f"it is a former name of {now}; re-record the game" if now else "re-record the game with canonical types"
        super().__init__(f"{self.reason}: this move type is not in RingRift's canonical list; {hint}")


class KeylessMoveError(MoveJsonError):
    """``resign`` or ``timeout``: canonical, but never a legal move, so there is nothing to replay."""

    def __init__(self, move_type: str) -> None:
        super().__init__(f"{move_type} ends a game from outside and has no move key; leave the game out")


class ParsedMove(NamedTuple):
    """What a move JSON says: the expanded key, the seat, RingRift's move type, its phase hint or ''."""

    key: str
    player: int
    move_type: str
    phase: str


def move_type_of(key: str) -> str:
    """RingRift's move type of a key (``P0,0*1`` -> ``place_ring``); raises :class:`MoveKeyError`."""
    name = BARE_TYPES.get(key) or LETTER_TYPES.get(key[:1])
    if name is None:
        raise MoveKeyError(f"{key!r} is not a move key: it starts with none of {' '.join(LETTER_TYPES)}")
    return name


@lru_cache(maxsize=4)
def translator(board: str) -> MoveTranslator:
    """The one translator of a board (its fragments are cached between games)."""
    return MoveTranslator(board)


class MoveTranslator:
    """Translates the moves of one board; :func:`translator` makes them.

    ``cells`` maps a key's cell (``x,y``) to its place in cell order.
    """

    def __init__(self, board: str) -> None:
        shape = board_named(board)
        self.board = board
        self.is_hex = shape.is_hex
        coordinates = shape.cells
        self.cells: Final[dict[str, int]] = {f"{x},{y}": i for i, (x, y) in enumerate(coordinates)}
        self._coordinates = coordinates
        self._positions = {cell: self._position_text(*coordinates[i]) for cell, i in self.cells.items()}
        self._fragments: dict[tuple[int, str], tuple[str, str]] = {}
        self._parsed: dict[str, ParsedMove] = {}
        self._writers: Final[dict[str, Callable[[str, int], str]]] = {
            "P": self._write_placement,
            "M": self._write_movement,
            "C": self._write_capture,
            "K": self._write_capture,
            "R": self._write_recovery,
            "L": self._write_line,
            "O": self._write_line_option,
            "E": self._write_elimination,
            "T": self._write_territory,
            "X": self._write_forced,
        }
        self._readers: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
            "P": self._read_placement,
            "M": self._read_movement,
            "C": self._read_capture,
            "K": self._read_capture,
            "R": self._read_recovery,
            "L": self._read_line,
            "O": self._read_line_option,
            "E": self._read_elimination,
            "T": self._read_territory,
            "X": self._read_forced,
        }

    # ---- key -> JSON ------------------------------------------------------------------------------------------

    def fragment(self, player: int, key: str) -> tuple[str, str]:
        """RingRift's move type and the part of the JSON text that depends on nothing else, cached.

        The text runs from ``"type"`` to the last geometric field. Raises :class:`MoveKeyError`.
        """
        known = self._fragments.get((player, key))
        if known is not None:
            return known
        move_type = move_type_of(key)
        if not 1 <= player <= 4:
            raise MoveKeyError(f"move key {key!r}: player {player} is not a seat 1..4")
        body = '"from":null,"to":null' if key in BARE_TYPES else self._writers[key[0]](key, player)
        text = f'"type":"{move_type}","player":{player},{body}'
        if len(self._fragments) >= _CACHE_LIMIT:
            self._fragments.clear()
        self._fragments[(player, key)] = (move_type, text)
        return move_type, text

    def to_json(
        self,
        key: str,
        player: int,
        *,
        game_id: str,
        move_number: int,
        phase: str | None = None,
        placed_on_stack: bool | None = None,
        cap: int | None = None,
        think_ms: int | None = None,
        timestamp: str | None = None,
    ) -> str:
        """The move as RingRift's JSON text; fields that are None are left out.

        ``move_number`` is 0-based as in ``game_moves`` (``moveNumber`` in the JSON is one more), ``phase`` the
        two-letter code, ``cap`` the number of rings that a whole-cap elimination removes, where the caller knows
        it. Raises :class:`MoveKeyError`.
        """
        extra = ""
        if phase is not None:
            extra += f',"phase":"{PHASES[phase]}"'
        if placed_on_stack is not None:
            extra += f',"placedOnStack":{"true" if placed_on_stack else "false"}'
        if cap is not None:
            extra += f',"eliminatedRings":[{{"player":{player},"count":{cap}}}]'
        if timestamp is not None:
            extra += f',"timestamp":{json.dumps(timestamp)}'
        if think_ms is not None:
            extra += f',"thinkTime":{think_ms}'
        name = json.dumps(f"{game_id}-m{move_number}")
        return f'{{"id":{name},{self.fragment(player, key)[1]}{extra},"moveNumber":{move_number + 1}}}'

    def _position_text(self, x: int, y: int) -> str:
        return f'{{"x":{x},"y":{y},"z":{-x - y}}}' if self.is_hex else f'{{"x":{x},"y":{y}}}'

    def _position(self, cell: str, key: str) -> str:
        text = self._positions.get(cell)
        if text is None:
            raise MoveKeyError(f"move key {key!r}: {cell!r} is not a cell of {self.board}")
        return text

    def _position_list(self, cells: list[str], key: str) -> str:
        return "[" + ",".join([self._position(cell, key) for cell in cells]) + "]"

    def _in_order(self, cells: list[str], key: str) -> list[str]:
        places = [self.cells.get(cell, -1) for cell in cells]
        if -1 in places:
            raise MoveKeyError(f"move key {key!r}: {cells[places.index(-1)]!r} is not a cell of {self.board}")
        if any(a >= b for a, b in pairwise(places)):
            raise MoveKeyError(f"move key {key!r}: its cells are not in cell order (by x, then y), each once")
        return cells

    def _parts(self, key: str, separator: str, count: int) -> list[str]:
        parts = key[1:].split(separator)
        if len(parts) != count:
            raise MoveKeyError(f"move key {key!r}: {count} parts separated by {separator!r} expected")
        return parts

    def _position_key(self, cell: str, key: str) -> str:
        if cell not in self.cells:
            raise MoveKeyError(f"move key {key!r}: {cell!r} is not a cell of {self.board}")
        x, y = self._coordinates[self.cells[cell]]
        return f'"{x},{y},{-x - y}"' if self.is_hex else f'"{cell}"'

    def _write_placement(self, key: str, player: int) -> str:
        cell, count = self._parts(key, "*", 2)
        if count not in ("1", "2", "3"):
            raise MoveKeyError(f"move key {key!r}: a placement is of 1, 2 or 3 rings")
        return f'"from":null,"to":{self._position(cell, key)},"placementCount":{count}'

    def _write_movement(self, key: str, player: int) -> str:
        origin, landing = self._parts(key, ">", 2)
        return f'"from":{self._position(origin, key)},"to":{self._position(landing, key)}'

    def _write_capture(self, key: str, player: int) -> str:
        origin, target, landing = (self._position(cell, key) for cell in self._parts(key, ">", 3))
        return f'"from":{origin},"to":{landing},"captureTarget":{target}'

    def _write_recovery(self, key: str, player: int) -> str:
        slide, mode, rest = self._parts(key, ":", 3)
        origin, _, landing = slide.partition(">")
        body = f'"from":{self._position(origin, key)},"to":{self._position(landing, key)}'
        if mode in _RECOVERY_MODES:
            return (
                f'{body},"recoveryMode":"{_RECOVERY_MODES[mode]}","extractionStacks":[{self._position_key(rest, key)}]'
            )
        if mode == "1":
            return (
                f'{body},"recoveryMode":"line","recoveryOption":1,"extractionStacks":[{self._position_key(rest, key)}]'
            )
        if mode == "2":
            window = self._position_list(self._in_order(rest.split("/"), key), key)
            return f'{body},"recoveryMode":"line","recoveryOption":2,"collapsePositions":{window},"extractionStacks":[]'
        raise MoveKeyError(f"move key {key!r}: recovery mode {mode!r} is none of 1 2 F S")

    def _formed_line(self, cells: list[str], key: str, player: int) -> str:
        """``to`` and ``formedLines``; cells run along the engine's axis vector (RULES.md 1.3, 4.6)."""
        if len(self._in_order(cells, key)) < 2:
            raise MoveKeyError(f"move key {key!r}: a line has at least two cells")
        points = [self._coordinates[self.cells[cell]] for cell in cells]
        dx, dy = points[1][0] - points[0][0], points[1][1] - points[0][1]
        steps = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(points)}
        axes = _HEX_AXES if self.is_hex else _SQUARE_AXES
        first = self._position(cells[0], key)
        if (-dx, -dy) in axes:
            dx, dy, cells = -dx, -dy, cells[::-1]
        if len(steps) != 1 or (dx, dy) not in axes:
            raise MoveKeyError(f"move key {key!r}: its cells are not consecutive on one axis of {self.board}")
        positions = self._position_list(cells, key)
        return (
            f'"from":null,"to":{first},"formedLines":[{{"positions":{positions},'
            f'"player":{player},"length":{len(cells)},"direction":{self._position_text(dx, dy)}}}]'
        )

    def _write_line(self, key: str, player: int) -> str:
        return self._formed_line(key[1:].split("/"), key, player)

    def _write_line_option(self, key: str, player: int) -> str:
        line, chosen = (part.split("/") for part in self._parts(key, "=", 2))
        if not set(chosen) <= set(line):
            raise MoveKeyError(f"move key {key!r}: it collapses cells that are not on its line")
        collapsed = self._position_list(self._in_order(chosen, key), key)
        return f'{self._formed_line(line, key, player)},"collapsedMarkers":{collapsed}'

    def _write_elimination(self, key: str, player: int) -> str:
        cell, letter = self._parts(key, ":", 2)
        context = _CONTEXTS.get(letter)
        if context is None:
            raise MoveKeyError(f"move key {key!r}: elimination context {letter!r} is none of l t r")
        body = f'"from":null,"to":{self._position(cell, key)},"eliminationContext":"{context}"'
        return body if letter == "t" else f'{body},"eliminatedRings":[{{"player":{player},"count":1}}]'

    def _write_territory(self, key: str, player: int) -> str:
        if ":" in key:
            raise MoveKeyError(f"move key {key!r} is not expanded: list the region's cells instead of count and hash")
        cells = self._in_order(key[1:].split("/"), key)
        return (
            f'"from":null,"to":{self._position(cells[0], key)},"disconnectedRegions":[{{"spaces":'
            f'{self._position_list(cells, key)},"controllingPlayer":{player},"isDisconnected":true}}]'
        )

    def _write_forced(self, key: str, player: int) -> str:
        return f'"from":null,"to":{self._position(key[1:], key)},"eliminationContext":"forced"'

    # ---- JSON -> key ------------------------------------------------------------------------------------------

    def to_key(self, text: str | bytes, *, legacy: bool = False) -> ParsedMove:
        """The move of a JSON text. ``legacy`` also accepts RingRift's former type names.

        Raises :class:`MoveJsonError` (not JSON, field missing), :class:`NonCanonicalMoveTypeError`,
        :class:`KeylessMoveError`. Texts of our own layout are looked up instead of parsed.
        """
        own = _OWN_LAYOUT.fullmatch(text) if isinstance(text, str) else None
        if own is not None:
            known = self._parsed.get(own[1])
            if known is not None:
                return known
        try:
            move = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise MoveJsonError(f"move JSON cannot be parsed ({error}): {text!r:.80}") from error
        parsed = self.read(move, legacy=legacy)
        if own is not None and self.fragment(parsed.player, parsed.key)[1] == own[1]:
            if len(self._parsed) >= _CACHE_LIMIT:
                self._parsed.clear()
            self._parsed[own[1]] = parsed
        return parsed

    def read(self, move: object, *, legacy: bool = False) -> ParsedMove:
        """The same for JSON that is already a dict."""
        if not isinstance(move, dict):
            raise MoveJsonError(f"move JSON is {type(move).__name__}, not an object")
        move_type, player, phase = move.get("type"), move.get("player"), move.get("phase")
        if legacy:
            move_type = LEGACY_TYPES.get(str(move_type).lower(), move_type)
        if not isinstance(move_type, str) or move_type not in MOVE_TYPES | KEYLESS_TYPES:
            raise NonCanonicalMoveTypeError(move_type)
        if move_type in KEYLESS_TYPES:
            raise KeylessMoveError(move_type)
        if type(player) is not int or not 1 <= player <= 4:
            raise MoveJsonError(f"{move_type}: player {player!r} is not a seat 1..4")
        key = _BARE_KEYS.get(move_type)
        if key is None:
            letter = _TYPE_LETTERS[move_type]
            key = letter + self._readers[letter](move)
        return ParsedMove(key, player, move_type, phase if isinstance(phase, str) else "")

    def _cell(self, position: object, name: str, move: Mapping[str, Any]) -> str:
        if not isinstance(position, dict):
            raise MoveJsonError(f"{move['type']}: {name} is missing (a position {{x, y{', z' * self.is_hex}}})")
        x, y, z = position.get("x"), position.get("y"), position.get("z")
        cell = f"{x},{y}"
        wanted = -x - y if self.is_hex and type(x) is int and type(y) is int else None
        if cell not in self.cells or z != wanted:
            raise MoveJsonError(f"{move['type']}: {name} {position} is not a cell of {self.board}")
        return cell

    def _sorted_cells(self, positions: object, name: str, move: Mapping[str, Any]) -> str:
        if not isinstance(positions, list) or not positions:
            raise MoveJsonError(f"{move['type']}: {name} is missing (a list of positions)")
        cells = {self._cell(position, name, move) for position in positions}
        return "/".join(sorted(cells, key=self.cells.__getitem__))

    def _first(self, name: str, move: Mapping[str, Any]) -> Mapping[str, Any]:
        items = move.get(name)
        if not isinstance(items, list) or not items or not isinstance(items[0], dict):
            raise MoveJsonError(f"{move['type']}: {name}[0] is missing")
        return items[0]

    def _read_placement(self, move: Mapping[str, Any]) -> str:
        count = move.get("placementCount")
        count = 1 if count is None else count
        if type(count) is not int or not 1 <= count <= 3:
            raise MoveJsonError(f"place_ring: placementCount {count!r} is none of 1 2 3")
        return f"{self._cell(move.get('to'), 'to', move)}*{count}"

    def _read_movement(self, move: Mapping[str, Any]) -> str:
        return f"{self._cell(move.get('from'), 'from', move)}>{self._cell(move.get('to'), 'to', move)}"

    def _read_capture(self, move: Mapping[str, Any]) -> str:
        target = self._cell(move.get("captureTarget"), "captureTarget", move)
        return f"{self._cell(move.get('from'), 'from', move)}>{target}>{self._cell(move.get('to'), 'to', move)}"

    def _read_recovery(self, move: Mapping[str, Any]) -> str:
        slide = self._read_movement(move)
        mode = move.get("recoveryMode")
        if mode == "line" and move.get("recoveryOption") == 2:
            return f"{slide}:2:{self._sorted_cells(move.get('collapsePositions'), 'collapsePositions', move)}"
        letter = "1" if mode == "line" and move.get("recoveryOption") == 1 else _RECOVERY_LETTERS.get(str(mode))
        if letter is None:
            raise MoveJsonError(
                f"recovery_slide: recoveryMode {mode!r} with recoveryOption {move.get('recoveryOption')!r} is none of "
                "line 1, line 2, fallback, stack_strike"
            )
        stacks = move.get("extractionStacks")
        if not isinstance(stacks, list) or len(stacks) != 1 or not isinstance(stacks[0], str):
            raise MoveJsonError(f"recovery_slide: extractionStacks {stacks!r} is not one position key such as '3,1'")
        cell = ",".join(stacks[0].split(",")[:2])
        if cell not in self.cells or self._position_key(cell, cell)[1:-1] != stacks[0]:
            raise MoveJsonError(f"recovery_slide: extraction stack {stacks[0]!r} is not a position key of {self.board}")
        return f"{slide}:{letter}:{cell}"

    def _read_line(self, move: Mapping[str, Any]) -> str:
        return self._sorted_cells(self._first("formedLines", move).get("positions"), "formedLines[0].positions", move)

    def _read_line_option(self, move: Mapping[str, Any]) -> str:
        return f"{self._read_line(move)}={self._sorted_cells(move.get('collapsedMarkers'), 'collapsedMarkers', move)}"

    def _read_elimination(self, move: Mapping[str, Any]) -> str:
        context = move.get("eliminationContext")
        letter = "t" if context is None else _CONTEXT_LETTERS.get(str(context))
        if letter is None:
            raise MoveJsonError(f"eliminate_rings_from_stack: eliminationContext {context!r} is unknown here")
        return f"{self._cell(move.get('to'), 'to', move)}:{letter}"

    def _read_territory(self, move: Mapping[str, Any]) -> str:
        region = self._first("disconnectedRegions", move)
        if region.get("controllingPlayer") in (None, 0):
            raise MoveJsonError("choose_territory_option: controllingPlayer is missing (the mover's seat)")
        return self._sorted_cells(region.get("spaces"), "disconnectedRegions[0].spaces", move)

    def _read_forced(self, move: Mapping[str, Any]) -> str:
        return self._cell(move.get("to"), "to", move)


_OWN_LAYOUT: Final = re.compile(r'\{"id":"[^"\\]*",("type":.*),"moveNumber":\d+\}')
"""Text as :meth:`MoveTranslator.to_json` writes it without options; group 1 is the fragment."""


@lru_cache(maxsize=_CACHE_LIMIT)
def short_key(key: str) -> str:
    """RingRift's key of a move in ``move_probs``: ``{type}[_{fx},{fy}][_{tx},{ty}]`` (pipeline-facts 3.1).

    It leaves out counts, capture targets and regions, so different moves share one; add up their probabilities.
    """
    move_type = move_type_of(key)
    if key in BARE_TYPES:
        return move_type
    letter, rest = key[0], key[1:]
    if letter in "MCKR":
        ends = rest.partition(":")[0].split(">")
        return f"{move_type}_{ends[0]}_{ends[-1]}"
    cell = re.split(r"[*/:=]", rest, maxsplit=1)[0]
    return f"{move_type}_{cell}"
