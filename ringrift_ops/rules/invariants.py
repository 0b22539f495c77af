"""What must hold in every position of play (RULES.md 2.2), checked in compiled code over random games.

``ringrift rules check`` runs it over as many games as one has patience for.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_allocating  # isort: skip

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.rules.bits import both, copy_state, count, either, empty, has, load
from ringrift_ops.rules.boards import (
    H_BOARD,
    H_CELL,
    H_CELLS,
    H_COLLAPSED,
    H_MARKERS,
    H_PLAYERS,
    H_RINGS,
    H_WORDS,
)
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import (
    CAPTURE,
    CHAIN_CAPTURE,
    COLLAPSED,
    MARKER,
    MOVE_BUFFER,
    S_CHAIN,
    S_COMPLETED,
    S_CONTROL,
    S_ELIMINATED,
    S_HAND,
    S_MARKER_COUNT,
    S_MUST,
    S_ON_BOARD,
    S_PHASE,
    S_PLAYER,
    S_STACKS,
    S_TERRITORY,
    S_WINNER,
    STACK,
)
from ringrift_ops.rules.playout import next_random, random_below
from ringrift_ops.rules.stacks import (
    NO_RING,
    bottom_ring,
    cap_of,
    count_cap,
    height_of,
    owner_of,
    ring_below,
    ring_owner,
    top_ring,
)
from ringrift_ops.rules.turn import apply_move, legal_moves

BROKEN: Final = (
    "",
    "territory counter differs from the collapsed cells",
    "rings in hand, on the board and eliminated do not add up",
    "markers + collapsed + eliminated decreased",
    "a cell word and the bitboards disagree",
    "a counter of stacks, markers or rings on the board is wrong",
    "a stack's height, cap or bottom ring is wrong",
    "two things on one cell",
    "no legal move in an unfinished game",
    "a move is listed twice",
    "the seat to move, must-move or chain cell is impossible",
    "the legal list overflowed its buffer",
    "a finished game has legal moves, a seat to move, or no winner",
)
(
    _FINE,
    TERRITORY_COUNT,
    RING_SUM,
    PROGRESS,
    BITBOARDS,
    COUNTERS,
    STACK_WORD,
    OVERLAP,
    NO_MOVE,
    REPEATED_MOVE,
    IMPOSSIBLE,
    OVERFLOW,
    BAD_END,
) = range(len(BROKEN))


@jit
def _broken_cells(G, s, zero):
    """Cell words against bitboards, and the whole of each stack against its word."""
    n, words = G[H_PLAYERS], G[H_WORDS]
    seen = zero
    for kind in range(3):
        offset = S_CONTROL if kind == 0 else (G[H_MARKERS] if kind == 1 else G[H_COLLAPSED])
        for i in range(n):
            cells = load(s, offset + i * words, zero)
            if not empty(both(seen, cells)):
                return OVERLAP
            seen = either(seen, cells)
    board = load(G, G[H_BOARD], zero)
    for cell in range(G[H_CELLS]):
        word = s[G[H_CELL] + cell]
        if not has(board, cell):
            if word != COLLAPSED:
                return BITBOARDS
            continue
        if word == 0:
            if has(seen, cell):
                return BITBOARDS
            continue
        kind, p = word & 3, owner_of(word)
        if p < 1 or p > n:
            return BITBOARDS
        offset = S_CONTROL if kind == STACK else (G[H_MARKERS] if kind == MARKER else G[H_COLLAPSED])
        if not has(load(s, offset + (p - 1) * words, zero), cell):
            return BITBOARDS
        if kind == STACK:
            top, ring, last, height = top_ring(word), top_ring(word), NO_RING, 0
            while ring != NO_RING:
                last = ring
                height += 1
                ring = ring_below(G, s, ring)
            if (
                height != height_of(word)
                or last != bottom_ring(word)
                or ring_owner(G, s, top) != p
                or count_cap(G, s, top) != cap_of(word)
            ):
                return STACK_WORD
    if s[G[H_CELL] + G[H_CELLS]] != COLLAPSED:
        return BITBOARDS
    return _FINE


@jit_allocating
def _broken_counts(G, s, zero):
    """Counters against bitboards and rings."""
    words = G[H_WORDS]
    rings = np.zeros(5, dtype=np.int64)
    for cell in range(G[H_CELLS]):
        word = s[G[H_CELL] + cell]
        if word & 3 == STACK:
            ring = top_ring(word)
            while ring != NO_RING:
                rings[ring_owner(G, s, ring)] += 1
                ring = ring_below(G, s, ring)
    total = 0
    for i in range(G[H_PLAYERS]):
        if count(load(s, G[H_COLLAPSED] + i * words, zero)) != s[S_TERRITORY + i]:
            return TERRITORY_COUNT
        if count(load(s, S_CONTROL + i * words, zero)) != s[S_STACKS + i]:
            return COUNTERS
        if count(load(s, G[H_MARKERS] + i * words, zero)) != s[S_MARKER_COUNT + i] or rings[i + 1] != s[S_ON_BOARD + i]:
            return COUNTERS
        if s[S_HAND + i] < 0 or s[S_ELIMINATED + i] < 0:
            return COUNTERS
        total += s[S_HAND + i] + s[S_ELIMINATED + i] + s[S_ON_BOARD + i]
    return _FINE if total == G[H_PLAYERS] * G[H_RINGS] else RING_SUM


@jit
def _broken_turn(G, s):
    """Seat to move, must-move and chain cells."""
    if s[S_COMPLETED]:
        return _FINE if s[S_PLAYER] == 0 and 1 <= s[S_WINNER] <= G[H_PLAYERS] else BAD_END
    if s[S_PLAYER] < 1 or s[S_PLAYER] > G[H_PLAYERS]:
        return IMPOSSIBLE
    chaining = s[S_PHASE] == CAPTURE or s[S_PHASE] == CHAIN_CAPTURE
    cell = s[S_CHAIN] if chaining else s[S_MUST]
    if cell < 0:
        return IMPOSSIBLE if chaining else _FINE
    word = s[G[H_CELL] + cell]
    if chaining and (word & 3 != STACK or owner_of(word) != s[S_PLAYER]):
        return IMPOSSIBLE
    return _FINE


@jit
def broken_invariant(G, s, zero):
    """0, or the index into ``BROKEN`` of an invariant that a position of play violates."""
    broken = _broken_cells(G, s, zero)
    if broken == _FINE:
        broken = _broken_counts(G, s, zero)
    return broken if broken != _FINE else _broken_turn(G, s)


@jit
def progress(G, s):
    """Markers + collapsed cells + eliminated rings: never decreases, which is why games end."""
    total = 0
    for i in range(G[H_PLAYERS]):
        total += s[S_MARKER_COUNT + i] + s[S_TERRITORY + i] + s[S_ELIMINATED + i]
    return total


@jit_allocating
def _broken_list(s, moves, n):
    """The legal list: not empty unless the game is over, no move twice (regions and windows included)."""
    if s[S_COMPLETED]:
        return _FINE if n == 0 else BAD_END
    if n == 0:
        return NO_MOVE
    if n > moves.size:
        return OVERFLOW
    ordered = np.sort(moves[:n])
    for i in range(1, n):
        if ordered[i] == ordered[i - 1]:
            return REPEATED_MOVE
    return _FINE


@jit_allocating
def check_random_games(G, start, seeds, max_moves, every, zero):
    """Play one uniform game per seed (uint64 [games]) and check every ``every``-th position and all ends.

    Returns (index into ``BROKEN``, game, move, steps, games cut at ``max_moves``, wins int64 [5],
    longest game, longest legal list); the first is 0 when all held.
    """
    s = start.copy()
    moves = np.empty(MOVE_BUFFER, dtype=np.int64)
    rng = np.empty(1, dtype=np.uint64)
    wins = np.zeros(5, dtype=np.int64)
    steps, cut, longest, widest = 0, 0, 0, 0
    for game in range(seeds.size):
        rng[0] = seeds[game]
        next_random(rng)
        copy_state(s, start)
        made = 0
        before = progress(G, s)
        while made < max_moves:
            n = legal_moves(G, s, moves, zero)
            widest = max(widest, n)
            broken = _FINE
            if made % every == 0 or s[S_COMPLETED]:
                broken = broken_invariant(G, s, zero)
                if broken == _FINE:
                    broken = _broken_list(s, moves, n)
            after = progress(G, s)
            if after < before:
                broken = PROGRESS
            before = after
            if broken != _FINE:
                return broken, game, made, steps, cut, wins, longest, widest
            if s[S_COMPLETED]:
                break
            apply_move(G, s, moves[random_below(rng, n)], moves, zero)
            made += 1
        steps += made
        cut += 0 if s[S_COMPLETED] else 1
        wins[s[S_WINNER]] += 1
        longest = max(longest, made)
    return _FINE, seeds.size, 0, steps, cut, wins, longest, widest


@dataclass(frozen=True)
class Campaign:
    """Random games of one config. ``broken`` names the invariant that failed, in ``game`` (a seed) at ``move``."""

    config: str
    games: int
    steps: int
    unfinished: int
    wins: tuple[int, ...]
    longest_game: int
    longest_list: int
    broken: str | None = None
    game: int | None = None
    move: int | None = None


def check_games(
    rules: Game, games: int, seed: int, *, every: int = 1, max_moves: int = 10_000, swap_rule: bool = False
) -> Campaign:
    """Random games with seeds ``seed``, ``seed`` + 1, ...; stops at the first broken invariant."""
    seeds = np.arange(games, dtype=np.uint64) + np.uint64(seed)
    found: tuple[int, int, int, int, int, npt.NDArray[np.int64], int, int] = check_random_games(
        rules.geometry, rules.initial_state(swap_rule), seeds, max_moves, every, rules.zero
    )
    broken, game, move, steps, cut, wins, longest, widest = found
    return Campaign(
        config=rules.config,
        games=game,
        steps=steps,
        unfinished=cut,
        wins=tuple(int(w) for w in wins[1 : rules.players + 1]),
        longest_game=longest,
        longest_list=widest,
        broken=BROKEN[broken] if broken else None,
        game=int(seeds[game]) if broken else None,
        move=move if broken else None,
    )
