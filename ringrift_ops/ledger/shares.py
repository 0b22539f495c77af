"""Which host takes the next part of divided work: the one on whose slot it would be over first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from ringrift_ops.ledger.records import Slot

UNKNOWN_SECONDS = 1.0
"""What every host is taken to need when none was measured: all are alike then."""


def seconds_on(slots: Sequence[Slot]) -> list[float]:
    """Return the seconds that a part takes on each host; one without a measure counts as the median of the others."""
    known = sorted(slot.seconds for slot in slots if slot.seconds is not None)
    usual = known[len(known) // 2] if known else UNKNOWN_SECONDS
    return [usual if slot.seconds is None else slot.seconds for slot in slots]


def first_shares(
    slots: Sequence[Slot], running: Mapping[str, Sequence[float]], waiting: int, away: Collection[str] = ()
) -> dict[str, int]:
    """Return how many of ``waiting`` equal parts would begin at once on each host, were each given to the slot on
    which it is over first. Empty: it is better to wait for a busy host than to begin on a free one.

    ``running``: seconds since each job on a host began; one that takes longer than it should is taken to need half as
    long again as it has had, so nobody waits for a host that hangs. Nobody waits for one that is ``away`` either.
    """
    return _divided(slots, running, waiting, away)[1]


def divided(slots: Sequence[Slot], parts: int) -> dict[str, int]:
    """Return how many of ``parts`` equal parts each host would take, were all of them free now."""
    return _divided(slots, {}, parts, ())[0]


def _divided(
    slots: Sequence[Slot], running: Mapping[str, Sequence[float]], waiting: int, away: Collection[str]
) -> tuple[dict[str, int], dict[str, int]]:
    takes = seconds_on(slots)
    queue: list[tuple[float, int, float, int, float]] = []
    load = [len(running.get(slot.host, ())) / slot.capacity for slot in slots]
    for number, slot in enumerate(slots):
        for ready in _ready(slot, running.get(slot.host, ()), takes[number], slot.host in away):
            queue.append((ready + takes[number], slot.rank, load[number], number, ready))
            load[number] += 1 / slot.capacity if ready == 0.0 else 0.0
    heapq.heapify(queue)
    taken, first = {slot.host: 0 for slot in slots}, dict[str, int]()
    for _ in range(waiting if queue else 0):
        over, rank, share, number, ready = queue[0]
        host = slots[number].host
        taken[host] += 1
        if ready == 0.0:
            first[host] = first.get(host, 0) + 1
        heapq.heapreplace(queue, (over + takes[number], rank, share, number, over))
    return taken, first


def _ready(slot: Slot, running: Sequence[float], takes: float, away: bool) -> list[float]:
    """Return in how many seconds each slot of a host is free; 0: it is."""
    left = sorted(takes - had if had < takes else had / 2 for had in running)
    busy = [] if away else [max(one, 1e-6) for one in left[max(0, len(left) - slot.capacity) :]]
    return [*[0.0] * (slot.capacity - len(running)), *busy]
