"""End of the game: RULES.md 5."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from ringrift_ops.rules.bits import both, count, either, empty, load, shift, without
from ringrift_ops.rules.boards import (
    H_BOARD,
    H_COLLAPSED,
    H_DIRECTIONS,
    H_MARKERS,
    H_PLAYERS,
    H_TERRITORY,
    H_VICTORY,
    H_WORDS,
)
from ringrift_ops.rules.layout import (
    GAME_OVER,
    KIND_RINGS,
    KIND_ROUNDS,
    KIND_SOLE,
    KIND_STALE_ELIMINATED,
    KIND_STALE_LAST,
    KIND_STALE_TERRITORY,
    KIND_TERRITORY,
    REASON_LAST,
    REASON_RINGS,
    REASON_TERRITORY,
    S_CHAIN,
    S_COMPLETED,
    S_ELIMINATED,
    S_HAND,
    S_HAND_COUNTS,
    S_KIND,
    S_LAST_ACTOR,
    S_LPS_EXCLUSIVE,
    S_LPS_FIRST,
    S_LPS_MASK,
    S_LPS_ROUNDS,
    S_MARKER_COUNT,
    S_MUST,
    S_ON_BOARD,
    S_PHASE,
    S_PLAYER,
    S_REASON,
    S_STACKS,
    S_WINNER,
)
from ringrift_ops.rules.movement import any_move
from ringrift_ops.rules.placement import any_placement

LPS_ROUNDS = 3


@jit
def has_rings(s, p):
    """Rings in hand or on the board at any depth; without them a seat is permanently eliminated."""
    return s[S_HAND + p - 1] > 0 or s[S_ON_BOARD + p - 1] > 0


@jit
def collapsed_count(G, s, p, zero):
    return count(load(s, G[H_COLLAPSED] + (p - 1) * G[H_WORDS], zero))


@jit
def _unique_maximum(values, n):
    """1-based place of the only maximum if it is positive, else 0."""
    best, seat = 0, 0
    for i in range(n):
        if values[i] > best:
            best, seat = values[i], i + 1
        elif values[i] == best:
            seat = 0
    return seat


@jit
def _can_place_on_bare_board(G, s, zero):
    """Whether a legal placement exists on a board without stacks (5.2 no. 5)."""
    free = load(G, G[H_BOARD], zero)
    for i in range(G[H_PLAYERS]):
        free = without(free, load(s, G[H_COLLAPSED] + i * G[H_WORDS], zero))
    beside = zero
    for d in range(G[H_DIRECTIONS]):
        beside = either(beside, shift(G, d, free))
    for i in range(G[H_PLAYERS]):
        free = without(free, load(s, G[H_MARKERS] + i * G[H_WORDS], zero))
    return not empty(both(free, beside))


@jit
def _bare_board(G, s, zero):
    """(winner, reason, kind) of a global stalemate, or zeros if somebody can still place."""
    n = G[H_PLAYERS]
    hands = 0
    for i in range(n):
        hands += s[S_HAND + i]
    if hands > 0 and _can_place_on_bare_board(G, s, zero):
        return 0, 0, 0
    s[S_HAND_COUNTS] = 1 if hands > 0 else 0
    territory = (
        collapsed_count(G, s, 1, zero),
        collapsed_count(G, s, 2, zero),
        collapsed_count(G, s, 3, zero) if n > 2 else 0,
        collapsed_count(G, s, 4, zero) if n > 3 else 0,
    )
    seat = _unique_maximum(territory, n)
    if seat > 0:
        return seat, REASON_TERRITORY, KIND_STALE_TERRITORY
    e, h = S_ELIMINATED, S_HAND
    seat = _unique_maximum((s[e] + s[h], s[e + 1] + s[h + 1], s[e + 2] + s[h + 2], s[e + 3] + s[h + 3]), n)
    if seat > 0:
        return seat, REASON_RINGS, KIND_STALE_ELIMINATED
    m = S_MARKER_COUNT
    seat = _unique_maximum((s[m], s[m + 1], s[m + 2], s[m + 3]), n)
    if seat > 0:
        return seat, REASON_LAST, KIND_STALE_LAST
    return max(1, s[S_LAST_ACTOR]), REASON_LAST, KIND_STALE_LAST


@jit
def evaluate_victory(G, s, zero):
    """(winner, reason, kind) by the tests of 5.2 in order; zeros while the game goes on."""
    n = G[H_PLAYERS]
    for p in range(1, n + 1):
        if s[S_ELIMINATED + p - 1] >= G[H_VICTORY]:
            return p, REASON_RINGS, KIND_RINGS
    total = 0
    for p in range(1, n + 1):
        total += collapsed_count(G, s, p, zero)
    for p in range(1, n + 1):
        own = collapsed_count(G, s, p, zero)
        if own >= G[H_TERRITORY] and own > total - own:
            return p, REASON_TERRITORY, KIND_TERRITORY
    controllers, sole, owners = 0, 0, 0
    for p in range(1, n + 1):
        if s[S_STACKS + p - 1] > 0:
            controllers += 1
            sole = p
        if has_rings(s, p):
            owners += 1
    if controllers == 1 and owners == 1:
        return sole, REASON_LAST, KIND_SOLE
    if controllers > 0:
        return 0, 0, 0
    return _bare_board(G, s, zero)


@jit
def complete(s, winner, reason, kind):
    """Close the game in the canonical form of a completed state (T1)."""
    s[S_COMPLETED] = 1
    s[S_WINNER] = winner
    s[S_REASON] = reason
    s[S_KIND] = kind
    s[S_PHASE] = GAME_OVER
    s[S_PLAYER] = 0
    s[S_MUST] = -1
    s[S_CHAIN] = -1


@jit
def real_action(G, s, p, zero):
    """Whether a placement or a move is available (realAction, 2.4); recovery is none."""
    return any_move(G, s, p) or any_placement(G, s, p, zero)


@jit
def track_last_standing(G, s, zero):
    """LPS over rounds (5.4), at a turn start: update the tracker, then test for the seat to move."""
    cur = s[S_PLAYER]
    real = real_action(G, s, cur, zero)
    first, exclusive = s[S_LPS_FIRST], s[S_LPS_EXCLUSIVE]
    if first == 0 or not has_rings(s, first):
        s[S_LPS_FIRST] = cur
        s[S_LPS_MASK] = 0
        if exclusive == 0 or not has_rings(s, exclusive):
            s[S_LPS_ROUNDS] = 0
            s[S_LPS_EXCLUSIVE] = 0
    elif cur == first and s[S_LPS_MASK] != 0:
        able, seat = 0, 0
        for p in range(1, G[H_PLAYERS] + 1):
            if has_rings(s, p) and (s[S_LPS_MASK] >> (2 * (p - 1))) & 3 == 2:
                able += 1
                seat = p
        if able != 1:
            s[S_LPS_ROUNDS] = 0
            s[S_LPS_EXCLUSIVE] = 0
        elif seat == exclusive:
            s[S_LPS_ROUNDS] += 1
        else:
            s[S_LPS_EXCLUSIVE] = seat
            s[S_LPS_ROUNDS] = 1
        s[S_LPS_MASK] = 0
    place = 2 * (cur - 1)
    s[S_LPS_MASK] = (s[S_LPS_MASK] & ~(3 << place)) | ((2 if real else 1) << place)
    if s[S_LPS_ROUNDS] >= LPS_ROUNDS and s[S_LPS_EXCLUSIVE] == cur and real:
        for p in range(1, G[H_PLAYERS] + 1):
            if p != cur and has_rings(s, p) and real_action(G, s, p, zero):
                return
        complete(s, cur, REASON_LAST, KIND_ROUNDS)
