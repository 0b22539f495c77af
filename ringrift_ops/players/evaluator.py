"""RingRift's heuristic evaluator, TypeScript terms: RULES.md 9.1.

The value of a position for a seat is a weighted sum of *features*. ``features`` counts them from
bitboards and one walk over the seat's stacks; ``evaluate`` weighs them. Nothing is allocated.
On hex8 neighbours and centre are the true hexagonal ones (TypeScript's never match there).
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_once  # isort: skip

from typing import Final

from ringrift_ops.rules.bits import bit_index, both, count, either, empty, load, lowest, same, shift, single, without
from ringrift_ops.rules.boards import (
    H_AXES,
    H_BOARD,
    H_CELL,
    H_CELLS,
    H_CENTRE,
    H_COLLAPSED,
    H_DIRECTIONS,
    H_HEX,
    H_LINE_AXES,
    H_MARKERS,
    H_NEIGHBOUR,
    H_PLAYERS,
    H_TERRITORY,
    H_TERRITORY_AXES,
    H_TERRITORY_DIRECTIONS,
    H_VICTORY,
    H_WORDS,
    H_X,
    H_Y,
)
from ringrift_ops.rules.layout import (
    S_COMPLETED,
    S_CONTROL,
    S_ELIMINATED,
    S_HAND,
    S_MARKER_COUNT,
    S_STACKS,
    S_TERRITORY,
    S_WINNER,
)
from ringrift_ops.rules.stacks import cap_of, height_of, is_free, is_stack, owner_of

FEATURES: Final = (
    "stackControl",
    "stackHeight",
    "stackDiversity",
    "territory",
    "ringsInHand",
    "centerControl",
    "opponentThreats",
    "mobility",
    "eliminatedRings",
    "linePotential",
    "victoryProximity",
    "opponentVictoryThreat",
    "markerCount",
    "vulnerability",
    "overtakePotential",
    "territoryClosure",
    "lineConnectivity",
    "territorySafety",
    "stackMobility",
    "forcedEliminationRisk",
    "lpsActionAdvantage",
    "multiLeaderThreat",
)
"""Order of the features and of every weight vector, in RingRift's words."""

N_FEATURES: Final = len(FEATURES)

WIN_VALUE: Final = 100_000.0
"""Value of a won game; a lost one has the negative, one without winner 0."""

SIGHT: Final = 20
"""Cells along which a stack is visible."""

CLOSURE_MARKERS: Final = 10
"""territoryClosure looks at this many markers."""


@jit
def _distance(G, a, b):
    """|dx| + |dy|, on hexagonal grids + |dz| as well."""
    dx = G[G[H_X] + a] - G[G[H_X] + b]
    dy = G[G[H_Y] + a] - G[G[H_Y] + b]
    d = abs(dx) + abs(dy)
    return d + abs(dx + dy) if G[H_HEX] else d


@jit
def _closeness(total, taken, number):
    """10 over the mean distance of the pairs of ``taken`` markers, and half a point per marker."""
    if taken < 2:
        return 0.0
    return 10.0 / max(1.0, total / (taken * (taken - 1) / 2)) + 0.5 * number


@jit
def _closure(G, markers, number, zero):
    """Return territoryClosure of the first ten markers in order of cell index."""
    total, taken = 0, 0
    seen = zero
    while taken < CLOSURE_MARKERS and not empty(markers):
        cell = lowest(markers)
        markers = without(markers, single(cell, zero))
        others = seen
        while not empty(others):
            other = lowest(others)
            others = without(others, single(other, zero))
            total += _distance(G, cell, other)
        seen = either(seen, single(cell, zero))
        taken += 1
    return _closeness(total, taken, number)


@jit
def closure_in_order(G, order):
    """Return territoryClosure of all of a seat's markers, given as cells in the order they were placed."""
    total = 0
    taken = min(order.size, CLOSURE_MARKERS)
    for j in range(taken):
        for i in range(j):
            total += _distance(G, order[i], order[j])
    return _closeness(total, taken, order.size)


@jit_once
def marker_features(G, markers, number, zero):
    """What depends on one seat's markers alone: (closure, line potential, neighbouring pairs).

    A caller that values many positions with the same markers may keep them.
    """
    pairs, triples, fours = 0, 0, 0
    for axis in range(G[H_AXES]):
        d = G[G[H_LINE_AXES] + axis]
        row = both(markers, shift(G, d, markers))
        pairs += count(row)
        row = both(markers, shift(G, d, row))
        if not empty(row):
            triples += count(row)
            fours += count(both(markers, shift(G, d, row)))
    return (
        _closure(G, markers, number, zero),
        2.0 * (pairs + 2 * triples + 5 * fours),
        2.0 * pairs,
    )


@jit
def _loose_pairs(G, markers, free, zero):
    """Own markers two apart whose gap holds neither stack nor collapsed cell nor own marker."""
    gaps = without(free, markers)
    pairs = 0
    for axis in range(G[H_AXES]):
        d = G[G[H_LINE_AXES] + axis]
        pairs += count(both(markers, shift(G, d, both(gaps, shift(G, d, markers)))))
    return pairs


@jit
def _opponents_around(G, markers, opponents, free, zero):
    """(territory safety, free cells adjacent to opponents' stacks)."""
    near, mobility = zero, 0
    if G[H_HEX]:
        for d in range(G[H_DIRECTIONS]):
            step = shift(G, d, opponents)
            near = either(near, step)
            mobility += count(both(step, free))
        return -count(both(near, markers)), mobility
    for d in range(G[H_DIRECTIONS]):
        mobility += count(both(shift(G, d, opponents), free))
    for i in range(G[H_TERRITORY_DIRECTIONS]):
        near = either(near, shift(G, G[G[H_TERRITORY_AXES] + i], opponents))
    far = zero
    for i in range(G[H_TERRITORY_DIRECTIONS]):
        far = either(far, shift(G, G[G[H_TERRITORY_AXES] + i], near))
    return -2 * count(both(near, markers)) - count(without(both(far, markers), near)), mobility


@jit
def effective_height(height):
    """A ring above the fifth counts a tenth."""
    return float(height) if height <= 5 else 5.0 + 0.1 * (height - 5)


@jit
def _height_sum(G, s, stacks, zero):
    total = 0.0
    while not empty(stacks):
        cell = lowest(stacks)
        stacks = without(stacks, single(cell, zero))
        total += effective_height(height_of(s[G[H_CELL] + cell]))
    return total


@jit
def _look_around(G, s, p):
    """One walk over the rays of p's stacks.

    Returns (heights, usable neighbours, stacks without any, threat, answers, weaker, stronger):
    answers = captures by opponents' adjacent stacks, weaker and stronger = sums of cap differences
    to visible opponents' stacks.
    """
    base, stride = G[H_CELL], G[H_CELLS] + 1
    heights = 0.0
    usable, stuck, threat, answers, weaker, stronger = 0, 0, 0, 0, 0, 0
    start = S_CONTROL + (p - 1) * G[H_WORDS]
    for w in range(G[H_WORDS]):
        rest = s[start + w]
        while rest != 0:
            bit = rest & -rest
            rest ^= bit
            cell = w * 64 + bit_index(bit)
            own = s[base + cell]
            cap = cap_of(own)
            heights += effective_height(height_of(own))
            before = usable
            row = G[H_NEIGHBOUR]
            for _ in range(G[H_DIRECTIONS]):
                c = G[row + cell]
                word = s[base + c]
                if is_free(word):
                    usable += 1
                    seen = 1
                    while is_free(word) and seen < SIGHT:
                        c = G[row + c]
                        word = s[base + c]
                        seen += 1
                    if is_stack(word) and owner_of(word) != p:
                        difference = cap_of(word) - cap
                        if difference > 0:
                            weaker += difference
                        else:
                            stronger -= difference
                elif is_stack(word) and owner_of(word) != p:
                    difference = cap_of(word) - cap
                    threat += difference
                    if difference > 0:
                        weaker += difference
                        answers += 1
                    else:
                        stronger -= difference
                        usable += 1
                        if difference == 0:
                            answers += 1
                row += stride
            if usable == before:
                stuck += 1
    return heights, usable, stuck, threat, answers, weaker, stronger


@jit
def _proximity(G, s, q, territory):
    """How near a seat is to winning: 50 over the rings it lacks and 50 over the territory."""
    own = s[S_TERRITORY + q - 1]
    rings = G[H_VICTORY] - s[S_ELIMINATED + q - 1]
    needed = max(G[H_TERRITORY] - own, territory - own + 1 - own)
    if rings <= 0 or needed <= 0:
        return 1000.0
    return 50.0 / rings + 50.0 / needed


@jit
def _can_do_something(G, s, q):
    """Rings in hand, or a stack with a usable neighbour."""
    if s[S_HAND + q - 1] > 0:
        return True
    _, usable, _, _, _, _, _ = _look_around(G, s, q)
    return usable > 0


@jit
def _action_advantage(G, s, p):
    """lpsActionAdvantage: -1 without any action, else the share of opponents without one."""
    if not _can_do_something(G, s, p):
        return -1.0
    idle = 0
    for q in range(1, G[H_PLAYERS] + 1):
        if q != p and not _can_do_something(G, s, q):
            idle += 1
    return idle / (G[H_PLAYERS] - 1)


@jit
def stack_diversity(stacks):
    """Constants for having no stack, one, or more."""
    return -50.0 if stacks == 0 else (-10.0 if stacks == 1 else 2.0 * stacks)


@jit
def own_markers(G, s, p, zero):
    """The markers of a seat, as a bitboard."""
    return load(s, G[H_MARKERS] + (p - 1) * G[H_WORDS], zero)


@jit_once
def features_with(G, s, p, of_markers, zero):
    """The features of ``p``, as a tuple in the order of ``FEATURES``.

    ``of_markers`` is the result of ``marker_features`` for this seat.
    """
    n, words = G[H_PLAYERS], G[H_WORDS]
    own = load(s, S_CONTROL + (p - 1) * words, zero)
    markers = own_markers(G, s, p, zero)
    centre = load(G, G[H_CENTRE], zero)
    opponents, collapsed = zero, zero
    opponent_stacks, opponent_territory, territory = 0, 0, 0
    for q in range(1, n + 1):
        collapsed = either(collapsed, load(s, G[H_COLLAPSED] + (q - 1) * words, zero))
        territory += s[S_TERRITORY + q - 1]
        if q != p:
            opponents = either(opponents, load(s, S_CONTROL + (q - 1) * words, zero))
            opponent_stacks += s[S_STACKS + q - 1]
            opponent_territory = max(opponent_territory, s[S_TERRITORY + q - 1])
    free = without(load(G, G[H_BOARD], zero), either(collapsed, either(own, opponents)))
    heights, usable, stuck, threat, answers, weaker, stronger = _look_around(G, s, p)
    safety, opponent_mobility = _opponents_around(G, markers, opponents, free, zero)

    mine = _proximity(G, s, p, territory)
    best, second = 0.0, 0.0
    for q in range(1, n + 1):
        if q != p:
            theirs = _proximity(G, s, q, territory)
            if theirs > best:
                best, second = theirs, best
            elif theirs > second:
                second = theirs
    stacks, hand = s[S_STACKS + p - 1], s[S_HAND + p - 1]
    risk = 0.0
    if stacks > 0:
        outlets = stacks - stuck + (1 if hand > 0 and not empty(free) else 0)
        risk = max(0.0, 2.0 - outlets / stacks)
    return (
        float(stacks - opponent_stacks),
        heights - _height_sum(G, s, opponents, zero),
        stack_diversity(stacks),
        float(s[S_TERRITORY + p - 1] - opponent_territory),
        float(hand),
        count(both(own, centre)) - 0.5 * count(both(opponents, centre)),
        -0.5 * threat,
        float(usable - opponent_mobility - answers),
        float(s[S_ELIMINATED + p - 1]),
        of_markers[1],
        mine,
        -max(0.0, best - mine),
        float(s[S_MARKER_COUNT + p - 1]),
        float(-weaker),
        float(stronger),
        of_markers[0],
        of_markers[2] + _loose_pairs(G, markers, free, zero),
        float(safety),
        usable - 5.0 * stuck,
        -risk,
        _action_advantage(G, s, p) if n > 2 else 0.0,
        second - best if n > 2 else 0.0,
    )


@jit
def weigh(values, weights):
    """The weighted sum of a tuple of features."""
    total = 0.0
    for i, value in enumerate(values):
        total += value * weights[i]
    return total


@jit
def terminal_value(s, p):
    """Value of a finished game for ``p``."""
    if s[S_WINNER] == 0:
        return 0.0
    return WIN_VALUE if s[S_WINNER] == p else -WIN_VALUE


@jit
def features(G, s, p, out, zero):
    """Write the features of ``p`` in any state, finished or not, to ``out`` (float64 [N_FEATURES])."""
    of_markers = marker_features(G, own_markers(G, s, p, zero), s[S_MARKER_COUNT + p - 1], zero)
    values = features_with(G, s, p, of_markers, zero)
    for i, value in enumerate(values):
        out[i] = value


@jit
def evaluate(G, s, p, weights, zero):
    """Value of a state for seat ``p``: float64; ``weights`` is float64 [N_FEATURES]."""
    if s[S_COMPLETED]:
        return terminal_value(s, p)
    markers = own_markers(G, s, p, zero)
    of_markers = marker_features(G, markers, s[S_MARKER_COUNT + p - 1], zero)
    return weigh(features_with(G, s, p, of_markers, zero), weights)


@jit
def evaluate_keeping(G, s, p, weights, kept_markers, kept, zero):
    """As ``evaluate`` with memory: (value, markers, their features), to pass in again next time."""
    if s[S_COMPLETED]:
        return terminal_value(s, p), kept_markers, kept
    markers = own_markers(G, s, p, zero)
    if not same(markers, kept_markers):
        kept_markers = markers
        kept = marker_features(G, markers, s[S_MARKER_COUNT + p - 1], zero)
    return weigh(features_with(G, s, p, kept, zero), weights), kept_markers, kept
