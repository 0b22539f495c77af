"""The Python side of parity: a whole game replayed in one compiled call, the same facts per step as TypeScript's.

A recorded move is found in the legal list by its expanded key, byte by byte, so what is proved is the record.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.rules import layout as l
from ringrift_ops.rules.game import Game, State
from ringrift_ops.rules.notation import TEXT_BUFFER, hash_lanes, put_key, state_hash
from ringrift_ops.rules.turn import apply_move, legal_moves

LEGAL_COUNT, LEGAL_HASH, PHASE, PLAYER, PHASE_AFTER, PLAYER_AFTER, STATE_HASH = range(7)
"""Columns of the facts: before the move number and order-free hash of the legal moves, phase, seat; after it phase,
seat (0 = over), state hash. Hashes are 64-bit patterns."""

FACTS: Final = 7

Facts = npt.NDArray[np.int64]

_FULL: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A game as one engine saw it.

    ``facts`` int64 [steps, 7]; ``steps`` is less than the moves given when one was not legal, and its index then.
    ``final_count`` and ``final_hash`` describe the legal list after the last step. ``winner`` and ``kind`` are 0
    and "" while the game is not over. ``state`` and the move codes int64 [steps] are Python's, else None.
    """

    facts: Facts
    final_count: int
    final_hash: int
    winner: int
    kind: str
    state: State | None = None
    codes: Facts | None = None

    @property
    def steps(self) -> int:
        """Moves that were legal and played."""
        return len(self.facts)

    @property
    def over(self) -> bool:
        """Whether the game has ended."""
        return self.kind != ""


@jit
def _legal_facts(G, s, moves, count, text, zero, key, start, end):
    """The order-free hash of a list, and the move whose key is ``key[start:end]`` (-1: none)."""
    low = np.int64(0xFFFFFFFF)
    high_sum, low_sum = np.int64(0), np.int64(0)
    found = np.int64(-1)
    for i in range(count):
        n = put_key(G, s, moves[i], text, 0, zero)
        b, a = hash_lanes(text, 0, n)
        high_sum = (high_sum + b) & low
        low_sum = (low_sum + a) & low
        if n == end - start:
            k = 0
            while k < n and text[k] == key[start + k]:
                k += 1
            if k == n:
                found = moves[i]
    return high_sum << 32 | low_sum, found


@jit
def _replay(G, s, keys, ends, facts, codes, moves, text, zero):
    """Play the keys on ``s``, their codes into ``codes``.

    Returns (steps made or _FULL, legal count, legal hash) of the last position.
    """
    start = 0
    for i in range(ends.size):
        count = legal_moves(G, s, moves, zero)
        if count > moves.size:
            return _FULL, count, np.int64(0)
        listed, move = _legal_facts(G, s, moves, count, text, zero, keys, start, ends[i])
        if move < 0:
            return i, count, listed
        facts[i, LEGAL_COUNT], facts[i, LEGAL_HASH] = count, listed
        facts[i, PHASE], facts[i, PLAYER] = s[l.S_PHASE], s[l.S_PLAYER]
        codes[i] = move
        apply_move(G, s, move, moves, zero)
        facts[i, PHASE_AFTER], facts[i, PLAYER_AFTER] = s[l.S_PHASE], s[l.S_PLAYER]
        facts[i, STATE_HASH] = state_hash(G, s, text)
        start = ends[i]
    count = legal_moves(G, s, moves, zero)
    if count > moves.size:
        return _FULL, count, np.int64(0)
    listed, _ = _legal_facts(G, s, moves, count, text, zero, keys, 0, 0)
    return ends.size, count, listed


class Replayer:
    """Replays games of one config; buffers are reused."""

    def __init__(self, rules: Game) -> None:
        self.rules = rules
        self._moves = np.empty(l.MOVE_BUFFER, dtype=np.int64)
        self._text = np.empty(TEXT_BUFFER, dtype=np.uint8)

    def replay(self, keys: Sequence[str], *, swap_rule: bool) -> Replay:
        """Replay expanded keys from the empty board; it ends early at the first that is not legal."""
        text = np.array(bytearray("".join(keys).encode()), dtype=np.uint8)
        ends = np.cumsum([len(key) for key in keys], dtype=np.int64)
        facts, codes = np.empty((len(keys), FACTS), dtype=np.int64), np.empty(len(keys), dtype=np.int64)
        rules = self.rules
        while True:
            state = rules.initial_state(swap_rule)
            steps, count, listed = _replay(
                rules.geometry, state, text, ends, facts, codes, self._moves, self._text, rules.zero
            )
            if steps != _FULL:
                break
            self._moves = np.empty(2 * count, dtype=np.int64)
        result = rules.result(state)
        return Replay(
            facts[:steps],
            count,
            int(listed),
            result.winner if result else 0,
            result.kind if result else "",
            state,
            codes[:steps],
        )
