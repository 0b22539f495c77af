"""Paired games of a candidate against a baseline: every opening is played from every seat.

Openings are independent of each other, so threads share them out; the compiled loop does not hold
the interpreter lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from ringrift_ops.players.play import no_policies
from ringrift_ops.players.roster import Player, Roster
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import S_COMPLETED, S_WINNER


@dataclass(frozen=True)
class OpeningResult:
    """One opening from seat 1..n: ``winners`` (0 = nobody), move-list ``digests``, ``moves`` in all.

    ``finished`` is False per seat where the game stood at the move cap.
    """

    number: int
    seed: int
    winners: tuple[int, ...]
    finished: tuple[bool, ...]
    digests: tuple[str, ...]
    moves: int


def play_openings(
    config: str,
    candidate: Player,
    baseline: Player,
    seeds: Sequence[tuple[int, int]],
    *,
    decisions: int,
    max_moves: int,
    threads: int,
    done: Callable[[OpeningResult], None],
) -> list[OpeningResult]:
    """Play the openings (number, seed) and return their results in the order given.

    ``done`` is called for each as it ends, from the calling thread. An error in any game is raised.
    """
    rules = game(config)
    rosters: SimpleQueue[Roster] = SimpleQueue()
    for _ in range(threads):
        rosters.put(Roster(rules, [candidate, baseline]))

    def one(numbered: tuple[int, int]) -> OpeningResult:
        roster = rosters.get()
        try:
            return _play_opening(roster, *numbered, decisions, max_moves)
        finally:
            rosters.put(roster)

    results = []
    with ThreadPoolExecutor(threads) as pool:
        for result in _in_order(pool, one, seeds):
            done(result)
            results.append(result)
    return results


def _in_order(
    pool: ThreadPoolExecutor, one: Callable[[tuple[int, int]], OpeningResult], seeds: Sequence[tuple[int, int]]
) -> Iterator[OpeningResult]:
    yield from pool.map(one, seeds)


def _play_opening(roster: Roster, number: int, seed: int, decisions: int, max_moves: int) -> OpeningResult:
    rules = roster.game
    start = rules.initial_state()
    opening = roster.opening(start, decisions, seed)[:max_moves]
    record, policies = np.empty(max_moves, dtype=np.int64), no_policies()
    winners, finished, digests, moves = [], [], [], 0
    for seat in range(1, rules.players + 1):
        seats = np.array([0 if s == seat else 1 for s in range(1, rules.players + 1)], dtype=np.int64)
        codes = roster.play(start, opening, seats, seed + seat, record, policies)
        winners.append(int(roster.state[S_WINNER]))
        finished.append(bool(roster.state[S_COMPLETED]))
        digests.append(hashlib.sha256(codes.astype("<i8").tobytes()).hexdigest()[:16])
        moves += len(codes)
    return OpeningResult(number, seed, tuple(winners), tuple(finished), tuple(digests), moves)
