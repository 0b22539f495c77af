"""Which move types belong to which phase, and RingRift's words for what does not (pipeline-facts 1.4)."""

from __future__ import annotations

from typing import Final

from ringrift_ops.errors import UsageError
from ringrift_ops.rules.move_json import LEGACY_TYPES, MOVE_TYPES, PHASE_CODES, PHASES, move_type_of

CONTRACT: Final[dict[str, tuple[str, ...]]] = {
    "ring_placement": ("place_ring", "skip_placement", "no_placement_action", "swap_sides"),
    "movement": ("move_stack", "overtaking_capture", "recovery_slide", "skip_recovery", "no_movement_action"),
    "capture": ("overtaking_capture", "skip_capture"),
    "chain_capture": ("continue_capture_segment",),
    "line_processing": ("process_line", "choose_line_option", "no_line_action", "eliminate_rings_from_stack"),
    "territory_processing": (
        "choose_territory_option",
        "eliminate_rings_from_stack",
        "skip_territory_processing",
        "no_territory_action",
    ),
    "forced_elimination": ("forced_elimination",),
}
"""Phase -> the move types allowed in it. Earlier phases win where a type without a phase is ambiguous."""

_INFERRED: Final[dict[str, str]] = {
    move_type: phase for phase, types in reversed(CONTRACT.items()) for move_type in types
}


class NonCanonicalError(UsageError):
    """A recorded phase or move type breaks the contract; ``reason`` is RingRift's code for it."""

    def __init__(self, reason: str, where: str, advice: str) -> None:
        self.reason = reason
        super().__init__(f"{reason} at {where}: {advice}")


def phase_of(phase: str, move_type: str, where: str) -> str:
    """The canonical phase under which RingRift stores a move of ``move_type`` recorded in ``phase``.

    A blank phase, and ``game_over``, are replaced by the phase inferred from the type. Raises
    :class:`NonCanonicalError` with ``missing_phase_for_meta_move:T``, ``non_canonical_move_type:T``,
    ``non_canonical_phase:P`` or ``phase_move_mismatch:P:T``. ``where`` names game and move in the message.
    """
    if move_type in ("resign", "timeout"):
        if phase not in CONTRACT:
            raise NonCanonicalError(f"missing_phase_for_meta_move:{move_type}", where, "record the phase it came in")
        return phase
    if move_type not in MOVE_TYPES:
        now = LEGACY_TYPES.get(move_type.lower())
        advice = f"a former name of {now}; record the game anew" if now else "not one of RingRift's move types"
        raise NonCanonicalError(f"non_canonical_move_type:{move_type}", where, advice)
    if phase in ("", "game_over"):
        return _INFERRED[move_type]
    if phase not in CONTRACT:
        raise NonCanonicalError(f"non_canonical_phase:{phase}", where, f"the phases are {', '.join(CONTRACT)}")
    if move_type not in CONTRACT[phase]:
        advice = f"{phase} allows {', '.join(CONTRACT[phase])}; the phase must be the one before the move"
        raise NonCanonicalError(f"phase_move_mismatch:{phase}:{move_type}", where, advice)
    return phase


def check_key(phase_code: str, key: str, where: str) -> tuple[str, str]:
    """RingRift's (phase, move type) of a move key in a two-letter phase; strict, nothing is inferred.

    Raises :class:`NonCanonicalError`, or MoveKeyError for a key that is none.
    """
    move_type = move_type_of(key)
    phase = PHASES.get(phase_code, phase_code)
    if phase not in CONTRACT:
        raise NonCanonicalError(
            f"non_canonical_phase:{phase}", where, f"the phase codes are {', '.join(sorted(PHASE_CODES.values()))}"
        )
    return phase_of(phase, move_type, where), move_type
