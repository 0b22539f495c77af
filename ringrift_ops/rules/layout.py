"""One position as one flat ``int64`` array, and the words a move is packed into.

A state of a config has ``G[H_STATE]`` words::

    0 .. 47      scalars, named below
    48 ..        bitboards: stacks by controller [n][W], markers [n][W], collapsed [n][W]
    H_CELL ..    one word per cell, the border cell last
    H_RING ..    rings of all stacks as linked nodes, four to a word

It is copied with one call and two equal positions need not have equal ring nodes; compare state
strings (``notation.py``). Readonly ``G`` is the table of ``boards.py``.

A cell word is 0 when the cell is empty, else::

    bits 0-1    1 marker, 2 collapsed (also the border), 3 stack
    bits 2-4    owner or controller, 1..4
    bits 8-19   height      bits 20-31  cap
    bits 32-43  top ring    bits 44-55  bottom ring        (node numbers)

so ``word & 2 == 0`` means *free*: on board, not collapsed, no stack (RULES.md 2.4).
"""

from __future__ import annotations

from typing import Final

RULES_VERSION: Final = "1"
"""Of the rule book: nets, datasets and reports say under which one they were made; another one is another game."""

CODES_VERSION: Final = "1"
"""Of move codes and state arrays: named by every file that holds them; changes when either changes its meaning."""

(
    S_PHASE,
    S_PLAYER,  # seat to move, 1..n; 0 when completed
    S_COMPLETED,
    S_WINNER,  # 0 = none
    S_REASON,
    S_MUST,  # mustMoveFrom: cell, or -1
    S_CHAIN,  # attacker cell (capture, chain_capture), or -1
    S_LINE_DEBT,  # pendingLineElimination
    S_TERRITORY_DEBT,  # a chosen region is not yet paid for
    S_ACTED,  # RULES.md 2.3
    S_RECOVERED,  # RULES.md 2.3
    S_LPS_FIRST,
    S_LPS_MASK,  # two bits per seat: 0 not seen, 1 seen without real action, 2 with
    S_LPS_ROUNDS,
    S_LPS_EXCLUSIVE,
    S_SWAP,  # bits of SWAP_*
    S_LAST_ACTOR,  # mover of the previous step, 0 at the start
    S_PLY,  # moves made
    S_REGIONS,  # territory_processing only: 1 if a region is processable
    S_FREE_RING,  # head of the list of unused ring nodes
    S_KIND,  # finer label of the result, KIND_*
    S_HAND_COUNTS,  # stalemate in which rings in hand counted as eliminated
) = range(22)
S_HAND: Final = 24
S_ELIMINATED: Final = 28
S_TERRITORY: Final = 32
S_ON_BOARD: Final = 36
"""Rings of a seat in stacks, at any depth."""
S_STACKS: Final = 40
"""Stacks a seat controls."""
S_MARKER_COUNT: Final = 44
S_CONTROL: Final = 48
"""First bitboard; seat p's words start at S_CONTROL + (p-1) W."""

SWAP_RULE, SWAP_OFFERED, SWAP_DONE, SWAP_SEAT2_MOVED = 1, 2, 4, 8

(
    RING_PLACEMENT,
    MOVEMENT,
    CAPTURE,
    CHAIN_CAPTURE,
    LINE_PROCESSING,
    TERRITORY_PROCESSING,
    FORCED_ELIMINATION,
    GAME_OVER,
) = range(8)
PHASE_CODES: Final = ("RP", "MV", "CA", "CC", "LP", "TP", "FE", "GO")
PHASE_NAMES: Final = (
    "ring_placement",
    "movement",
    "capture",
    "chain_capture",
    "line_processing",
    "territory_processing",
    "forced_elimination",
    "game_over",
)

REASONS: Final = ("", "ring_elimination", "territory_control", "last_player_standing")
REASON_RINGS, REASON_TERRITORY, REASON_LAST = 1, 2, 3
KINDS: Final = (
    "",
    "ring_threshold",
    "territory_threshold",
    "lps_sole_material",
    "lps_rounds",
    "stalemate_territory",
    "stalemate_elim",
    "stalemate_markers_or_lastactor",
)
KIND_RINGS, KIND_TERRITORY, KIND_SOLE, KIND_ROUNDS, KIND_STALE_TERRITORY, KIND_STALE_ELIMINATED, KIND_STALE_LAST = (
    range(1, 8)
)

EMPTY, MARKER, COLLAPSED, STACK = 0, 1, 2, 3

# Move types. A move is one int64: bits 0-4 type, 5-14 to, 15-24 from, 25-34 third cell, 35-.. extra.
(
    PLACE,  # to, extra = count
    SKIP_PLACEMENT,
    NO_PLACEMENT,
    SWAP_SIDES,
    MOVE,  # from, to
    OVERTAKE,  # from, third = target, to
    CONTINUE_CAPTURE,  # from, third = target, to
    SKIP_CAPTURE,
    NO_MOVEMENT,
    SKIP_RECOVERY,
    RECOVER_FALLBACK,  # from, to, third = extraction stack
    RECOVER_STRIKE,  # from, to, third = extraction stack
    RECOVER_LINE,  # option 1: from, to, third = extraction stack
    RECOVER_WINDOW,  # option 2: from, to, third = first cell of the window, extra = axis
    PROCESS_LINE,  # from = first cell, extra = axis | length << 3
    LINE_OPTION,  # from = first cell, third = first collapsed cell, extra = axis | length << 3 | collapsed << 8
    NO_LINE,
    ELIMINATE_LINE,  # to
    ELIMINATE_TERRITORY,  # to
    ELIMINATE_RECOVERY,  # to
    TERRITORY,  # to = a cell of the region (its lowest index), extra = border colour, 0 = collapsed cells only
    SKIP_TERRITORY,
    NO_TERRITORY,
    FORCED,  # to
) = range(24)

MOVE_NAMES: Final = (
    "place_ring",
    "skip_placement",
    "no_placement_action",
    "swap_sides",
    "move_stack",
    "overtaking_capture",
    "continue_capture_segment",
    "skip_capture",
    "no_movement_action",
    "skip_recovery",
    "recovery_slide",
    "recovery_slide",
    "recovery_slide",
    "recovery_slide",
    "process_line",
    "choose_line_option",
    "no_line_action",
    "eliminate_rings_from_stack",
    "eliminate_rings_from_stack",
    "eliminate_rings_from_stack",
    "choose_territory_option",
    "skip_territory_processing",
    "no_territory_action",
    "forced_elimination",
)
BOOKKEEPING: Final = (
    1 << SKIP_PLACEMENT
    | 1 << NO_PLACEMENT
    | 1 << SKIP_CAPTURE
    | 1 << NO_MOVEMENT
    | 1 << SKIP_RECOVERY
    | 1 << NO_LINE
    | 1 << SKIP_TERRITORY
    | 1 << NO_TERRITORY
)
"""Bit set of move types that are not actions (RULES.md 2.3)."""

MOVE_BUFFER: Final = 16_384
"""Legal moves a buffer holds. The longest list seen is 1,548; recoveries bound it from above."""
