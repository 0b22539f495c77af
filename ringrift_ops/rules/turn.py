"""The phase machine: what is legal in each phase (RULES.md 6) and what a move leads to (3)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_once  # isort: skip


from ringrift_ops.rules.bits import bit_index
from ringrift_ops.rules.boards import H_LINE_AXES, H_PLAYERS, H_WORDS
from ringrift_ops.rules.layout import (
    BOOKKEEPING,
    CAPTURE,
    CHAIN_CAPTURE,
    CONTINUE_CAPTURE,
    ELIMINATE_LINE,
    ELIMINATE_RECOVERY,
    ELIMINATE_TERRITORY,
    FORCED,
    FORCED_ELIMINATION,
    LINE_PROCESSING,
    MOVE,
    MOVEMENT,
    NO_LINE,
    NO_MOVEMENT,
    NO_PLACEMENT,
    NO_TERRITORY,
    OVERTAKE,
    PLACE,
    PROCESS_LINE,
    RECOVER_FALLBACK,
    RECOVER_WINDOW,
    RING_PLACEMENT,
    S_ACTED,
    S_CHAIN,
    S_COMPLETED,
    S_CONTROL,
    S_ELIMINATED,
    S_HAND,
    S_LAST_ACTOR,
    S_LINE_DEBT,
    S_MUST,
    S_PHASE,
    S_PLAYER,
    S_PLY,
    S_RECOVERED,
    S_REGIONS,
    S_STACKS,
    S_SWAP,
    S_TERRITORY_DEBT,
    SKIP_CAPTURE,
    SKIP_PLACEMENT,
    SKIP_RECOVERY,
    SKIP_TERRITORY,
    SWAP_DONE,
    SWAP_OFFERED,
    SWAP_RULE,
    SWAP_SEAT2_MOVED,
    SWAP_SIDES,
    TERRITORY,
    TERRITORY_PROCESSING,
)
from ringrift_ops.rules.lines import add_line_moves, any_line, collapse_run
from ringrift_ops.rules.movement import (
    add_move,
    add_movements,
    add_segments,
    any_move,
    capture,
    controlled_by,
    has_segment,
    move_stack,
    pack,
)
from ringrift_ops.rules.placement import add_placements, place
from ringrift_ops.rules.recovery import add_recoveries, extract, recover, recovery_eligible
from ringrift_ops.rules.stacks import (
    cap_of,
    cell_word,
    has_ring_below_top,
    put_stack,
    take_stack,
    without_top,
)
from ringrift_ops.rules.territory import add_regions, any_region, claim
from ringrift_ops.rules.victory import complete, evaluate_victory, has_rings, track_last_standing


@jit
def _add_per_stack(G, s, kind, moves, n):
    """One move of this kind for every stack the player to move controls."""
    start = S_CONTROL + (s[S_PLAYER] - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            rest ^= bit
            n = add_move(moves, n, pack(kind, w * 64 + bit_index(bit), 0, 0, 0))
    return n


@jit
def _add_buried_payments(G, s, moves, n):
    """Payments in recovery context: stacks of anybody with a ring of the player below the top."""
    p = s[S_PLAYER]
    for i in range(G[H_PLAYERS]):
        for w in range(G[H_WORDS]):
            rest = s[S_CONTROL + i * G[H_WORDS] + w]
            while rest != 0:
                bit = rest & -rest
                rest ^= bit
                cell = w * 64 + bit_index(bit)
                if has_ring_below_top(G, s, cell_word(G, s, cell), p):
                    n = add_move(moves, n, pack(ELIMINATE_RECOVERY, cell, 0, 0, 0))
    return n


@jit
def may_skip_placement(G, s):
    """skip_placement (3.2): with rings in hand, an own stack that can act, or without any stack a recovery."""
    p = s[S_PLAYER]
    return any_move(G, s, p) if s[S_STACKS + p - 1] > 0 else recovery_eligible(s, p)


@jit
def _placement_phase(G, s, moves, zero):
    p = s[S_PLAYER]
    n = 0
    if s[S_SWAP] & SWAP_OFFERED:
        n = add_move(moves, n, pack(SWAP_SIDES, 0, 0, 0, 0))
    if s[S_HAND + p - 1] == 0:
        return add_move(moves, n, pack(NO_PLACEMENT, 0, 0, 0, 0))
    before = n
    n = add_placements(G, s, moves, n, zero)
    if may_skip_placement(G, s):
        n = add_move(moves, n, pack(SKIP_PLACEMENT, 0, 0, 0, 0))
    if n == before:
        n = add_move(moves, n, pack(NO_PLACEMENT, 0, 0, 0, 0))
    return n


@jit
def _movement_phase(G, s, moves, zero):
    p = s[S_PLAYER]
    n = add_movements(G, s, moves, 0, zero)
    if recovery_eligible(s, p):
        n = add_move(moves, n, pack(SKIP_RECOVERY, 0, 0, 0, 0))
        n = add_recoveries(G, s, p, moves, n)
    if n == 0:
        n = add_move(moves, n, pack(NO_MOVEMENT, 0, 0, 0, 0))
    return n


@jit
def _line_phase(G, s, moves, zero):
    p = s[S_PLAYER]
    n = 0
    if any_line(G, s, p, zero):
        n = add_line_moves(G, s, p, moves, n)
    if s[S_LINE_DEBT]:
        n = _add_per_stack(G, s, ELIMINATE_LINE, moves, n)
    if n == 0:
        n = add_move(moves, n, pack(NO_LINE, 0, 0, 0, 0))
    return n


@jit
def _territory_phase(G, s, moves, zero):
    if s[S_TERRITORY_DEBT]:
        if s[S_RECOVERED]:
            return _add_buried_payments(G, s, moves, 0)
        return _add_per_stack(G, s, ELIMINATE_TERRITORY, moves, 0)
    if s[S_REGIONS]:
        n = add_regions(G, s, moves, 0, False, zero)
        return add_move(moves, n, pack(SKIP_TERRITORY, 0, 0, 0, 0))
    return add_move(moves, 0, pack(NO_TERRITORY, 0, 0, 0, 0))


@jit_once
def legal_moves(G, s, moves, zero):
    """Write the legal moves (RULES.md 6) to ``moves`` (int64 [any]); return how many there are.

    0 only when the game is over. A count above ``moves.size`` means the buffer was too small.
    """
    phase = s[S_PHASE]
    if s[S_COMPLETED]:
        return 0
    if phase == RING_PLACEMENT:
        return _placement_phase(G, s, moves, zero)
    if phase == MOVEMENT:
        return _movement_phase(G, s, moves, zero)
    if phase == CAPTURE:
        n = add_segments(G, s, s[S_CHAIN], OVERTAKE, moves, 0)
        return add_move(moves, n, pack(SKIP_CAPTURE, 0, 0, 0, 0))
    if phase == CHAIN_CAPTURE:
        return add_segments(G, s, s[S_CHAIN], CONTINUE_CAPTURE, moves, 0)
    if phase == LINE_PROCESSING:
        return _line_phase(G, s, moves, zero)
    if phase == TERRITORY_PROCESSING:
        return _territory_phase(G, s, moves, zero)
    return _add_per_stack(G, s, FORCED, moves, 0)


@jit
def _end_turn(G, s, zero):
    """End of turn (3.3): victory, rotation, LPS."""
    winner, reason, kind = evaluate_victory(G, s, zero)
    if reason > 0:
        complete(s, winner, reason, kind)
        return
    p = s[S_PLAYER]
    q = p
    for _ in range(G[H_PLAYERS]):
        q = q + 1 if q < G[H_PLAYERS] else 1
        if has_rings(s, q):
            break
    if q != p:
        s[S_ACTED] = 0
        s[S_RECOVERED] = 0
    s[S_PLAYER] = q
    s[S_PHASE] = RING_PLACEMENT
    s[S_MUST] = -1
    s[S_CHAIN] = -1
    s[S_LINE_DEBT] = 0
    s[S_TERRITORY_DEBT] = 0
    s[S_REGIONS] = 0
    if q == 2 and s[S_SWAP] & SWAP_RULE and not s[S_SWAP] & SWAP_SEAT2_MOVED:
        s[S_SWAP] |= SWAP_OFFERED
    track_last_standing(G, s, zero)


@jit
def _enter_territory(G, s, regions):
    s[S_PHASE] = TERRITORY_PROCESSING
    s[S_MUST] = -1
    s[S_REGIONS] = 1 if regions else 0


@jit
def _to_lines(s):
    s[S_PHASE] = LINE_PROCESSING
    s[S_MUST] = -1
    s[S_CHAIN] = -1


@jit
def _follow_mover(s, origin, to):
    if s[S_MUST] == origin:
        s[S_MUST] = to


@jit
def _after_capture(G, s, origin, to, p):
    _follow_mover(s, origin, to)
    if controlled_by(G, s, to, p) and has_segment(G, s, to):
        s[S_PHASE] = CHAIN_CAPTURE
        s[S_CHAIN] = to
    else:
        _to_lines(s)


@jit
def _after_line_choice(G, s, scratch, zero):
    if not s[S_LINE_DEBT] and not any_line(G, s, s[S_PLAYER], zero):
        _enter_territory(G, s, any_region(G, s, scratch, zero))


@jit
def _leave_without_regions(G, s, p, zero):
    """Forced elimination for a seat that did not act and has stacks; else the turn ends."""
    if not s[S_ACTED] and s[S_STACKS + p - 1] > 0:
        s[S_PHASE] = FORCED_ELIMINATION
    else:
        _end_turn(G, s, zero)


@jit
def _remove_top(G, s, cell, rings, p):
    """Rings from the top of a stack, credited to ``p`` (4.11)."""
    word = take_stack(G, s, cell)
    s[S_ELIMINATED + p - 1] += rings
    put_stack(G, s, cell, without_top(G, s, word, rings))


@jit
def _pay_territory(G, s, scratch, zero):
    s[S_TERRITORY_DEBT] = 0
    if any_region(G, s, scratch, zero):
        s[S_REGIONS] = 1
    else:
        _end_turn(G, s, zero)


@jit
def _apply_placement_phase(G, s, move, kind, p):
    if kind == PLACE:
        place(G, s, (move >> 5) & 1023, move >> 35, p)
        s[S_PHASE] = MOVEMENT
    elif kind == SWAP_SIDES:
        s[S_SWAP] |= SWAP_DONE
    else:
        s[S_PHASE] = MOVEMENT


@jit
def _apply_line_phase(G, s, move, kind, p, scratch, zero):
    if kind == NO_LINE:
        if any_region(G, s, scratch, zero):
            _enter_territory(G, s, True)
        elif not s[S_ACTED] and s[S_STACKS + p - 1] > 0:
            s[S_PHASE] = FORCED_ELIMINATION  # T31: no_territory_action is not recorded in such a turn
            s[S_MUST] = -1
        else:
            _enter_territory(G, s, False)
    elif kind == ELIMINATE_LINE:
        _remove_top(G, s, (move >> 5) & 1023, 1, p)
        s[S_LINE_DEBT] = 0
    else:
        extra = move >> 35
        length = (extra >> 3) & 31
        cells = length if kind == PROCESS_LINE else extra >> 8
        first = (move >> 15) & 1023 if kind == PROCESS_LINE else (move >> 25) & 1023
        collapse_run(G, s, first, G[G[H_LINE_AXES] + (extra & 7)], cells, p)
        s[S_LINE_DEBT] = 1 if cells == length and s[S_STACKS + p - 1] > 0 else 0
        _after_line_choice(G, s, scratch, zero)


@jit_once
def apply_move(G, s, move, scratch, zero):
    """Apply one legal move to ``s`` in place (RULES.md 3.2). Legality is not tested.

    ``scratch`` is an int64 buffer that may be overwritten (the moves buffer will do).
    """
    kind = move & 31
    to, origin, third = (move >> 5) & 1023, (move >> 15) & 1023, (move >> 25) & 1023
    p = s[S_PLAYER]
    s[S_PLY] += 1
    if not (BOOKKEEPING >> kind) & 1:
        s[S_ACTED] = 1
    if p == 2:
        s[S_SWAP] = (s[S_SWAP] & ~SWAP_OFFERED) | SWAP_SEAT2_MOVED
    if kind <= SWAP_SIDES:
        _apply_placement_phase(G, s, move, kind, p)
    elif kind == MOVE:
        move_stack(G, s, origin, to, p)
        _follow_mover(s, origin, to)
        if controlled_by(G, s, to, p) and has_segment(G, s, to):
            s[S_PHASE] = CAPTURE
            s[S_CHAIN] = to
        else:
            _to_lines(s)
    elif kind == OVERTAKE or kind == CONTINUE_CAPTURE:
        capture(G, s, origin, third, to, p)
        _after_capture(G, s, origin, to, p)
    elif kind == SKIP_CAPTURE:
        s[S_PHASE] = LINE_PROCESSING  # mustMoveFrom survives (T23)
        s[S_CHAIN] = -1
    elif kind == NO_MOVEMENT or kind == SKIP_RECOVERY:
        _to_lines(s)
    elif RECOVER_FALLBACK <= kind <= RECOVER_WINDOW:
        recover(G, s, kind, to, origin, third, move >> 35, p)
        s[S_RECOVERED] = 1
        _to_lines(s)
    elif kind <= NO_LINE or kind == ELIMINATE_LINE:
        _apply_line_phase(G, s, move, kind, p, scratch, zero)
    elif kind == ELIMINATE_TERRITORY:
        _remove_top(G, s, to, cap_of(cell_word(G, s, to)), p)
        _pay_territory(G, s, scratch, zero)
    elif kind == ELIMINATE_RECOVERY:
        extract(G, s, to, p)
        _pay_territory(G, s, scratch, zero)
    elif kind == TERRITORY:
        claim(G, s, to, move >> 35, p, zero)
        s[S_TERRITORY_DEBT] = 1
        s[S_REGIONS] = 0
    elif kind == SKIP_TERRITORY or kind == NO_TERRITORY:
        _leave_without_regions(G, s, p, zero)
    else:
        _remove_top(G, s, to, cap_of(cell_word(G, s, to)), p)
        _end_turn(G, s, zero)
    s[S_LAST_ACTOR] = p
