"""Paired games of a candidate against a baseline: every opening is played from every seat.

Openings are independent of each other, so threads share them out; the compiled loop does not hold
the interpreter lock. Where a net needs batches, all games go on together instead (``batched.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from ringrift_ops.players.batched import BatchedPlay, GameOrder, PlayedGame, needs_batches
from ringrift_ops.players.play import no_policies
from ringrift_ops.players.roster import Openings, Player, Roster
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


def _nothing() -> None:
    """Nothing is done meanwhile."""


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
    meanwhile: Callable[[], None] = _nothing,
) -> list[OpeningResult]:
    """Play the openings (number, seed) and return their results in the order given.

    ``done`` is called for each in that order, ``meanwhile`` often in between where games go on together,
    both from the calling thread. An error in any game is raised.
    """
    players = (candidate, baseline)
    if any(needs_batches(player) for player in players):
        found = _in_batches(config, players, seeds, decisions, max_moves, meanwhile)
    else:
        found = _in_threads(config, players, seeds, decisions, max_moves, threads)
    results = []
    for result in found:
        done(result)
        results.append(result)
    return results


def _in_threads(
    config: str,
    players: tuple[Player, Player],
    seeds: Sequence[tuple[int, int]],
    decisions: int,
    max_moves: int,
    threads: int,
) -> Iterator[OpeningResult]:
    rules = game(config)
    tables: SimpleQueue[tuple[Roster, Openings]] = SimpleQueue()
    for _ in range(threads):
        tables.put((Roster(rules, players), Openings(rules)))

    def one(numbered: tuple[int, int]) -> OpeningResult:
        roster, openings = tables.get()
        try:
            orders = _orders(openings, 0, *numbered, decisions, max_moves)
            return _result(*numbered, [_ended(_played(roster, order, max_moves)) for order in orders])
        finally:
            tables.put((roster, openings))

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, seeds)


def _in_batches(
    config: str,
    players: tuple[Player, Player],
    seeds: Sequence[tuple[int, int]],
    decisions: int,
    max_moves: int,
    meanwhile: Callable[[], None],
) -> Iterator[OpeningResult]:
    rules = game(config)
    openings, n = Openings(rules), rules.players
    orders = (
        order
        for place, numbered in enumerate(seeds)
        for order in _orders(openings, place * n, *numbered, decisions, max_moves)
    )
    ended: dict[int, _Ended] = {}
    place = 0
    for played in BatchedPlay(rules, players, max_moves, no_policies).games(orders, meanwhile):
        ended[played.order.number] = _ended(played)
        while all(place * n + i in ended for i in range(n)):
            yield _result(*seeds[place], [ended.pop(place * n + i) for i in range(n)])
            place += 1


def _orders(
    openings: Openings, first: int, _number: int, seed: int, decisions: int, max_moves: int
) -> Iterator[GameOrder]:
    """The games of one opening, numbered from ``first``: the candidate in every seat in turn."""
    start = openings.game.initial_state()
    opening = openings.draw(start, decisions, seed)[:max_moves]
    for i in range(openings.game.players):
        seats = np.ones(openings.game.players, dtype=np.int64)
        seats[i] = 0
        yield GameOrder(first + i, start, opening, seats, seed + i + 1)


def _played(roster: Roster, order: GameOrder, max_moves: int) -> PlayedGame:
    record, policies = np.empty(max_moves, dtype=np.int64), no_policies()
    codes = roster.play(order.start, order.opening, order.seats, order.seed, record, policies)
    return PlayedGame(order, codes, policies, roster.state)


class _Ended(NamedTuple):
    winner: int
    finished: bool
    digest: str
    moves: int


def _ended(played: PlayedGame) -> _Ended:
    return _Ended(
        int(played.state[S_WINNER]),
        bool(played.state[S_COMPLETED]),
        hashlib.sha256(played.codes.astype("<i8").tobytes()).hexdigest()[:16],
        len(played.codes),
    )


def _result(number: int, seed: int, games: Sequence[_Ended]) -> OpeningResult:
    return OpeningResult(
        number,
        seed,
        tuple(one.winner for one in games),
        tuple(one.finished for one in games),
        tuple(one.digest for one in games),
        sum(one.moves for one in games),
    )
