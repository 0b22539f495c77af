"""Where work runs: a host is given in the transaction that notes the start, so that two who ask get the same one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import HERE, GenerationState, HostState, Slot, StageRun
from ringrift_ops.ledger.shares import first_shares
from ringrift_ops.settings.tables import LEASES


class NoFreeHostError(InfrastructureError):
    """Every host that could do a stage has as many jobs as it may have."""


class BetterHostError(NoFreeHostError):
    """Hosts are free, but the work would be over sooner on one that is still busy; ask again."""


def choose(
    connection: Connection,
    found: StageRun | None,
    slots: Sequence[Slot],
    leave: str | None,
    waiting: int = 1,
    now: datetime | None = None,
) -> str | None:
    """Return the host for a stage, None (this machine) without ``slots``.

    The one it has (this machine too, while it runs), unless that is to be left or is no host any more. Else the one
    that :func:`free_host` gives. Raises :class:`NoFreeHostError`, :class:`BetterHostError`.
    """
    names = {slot.host for slot in slots}
    if found is not None and found.state == "running" and found.host is None:
        return None
    if found is not None and found.host in names and found.host != leave:
        return found.host
    return free_host(connection, slots, leave, waiting, now or utc_now()) if slots else None


def free_host(connection: Connection, slots: Sequence[Slot], leave: str | None, waiting: int, now: datetime) -> str:
    """Return the host on which one of ``waiting`` equal pieces of work is to begin now: of those that would begin one
    (see ``shares``) the one of the lowest rank, and of these the least loaded.

    Raises :class:`NoFreeHostError`, :class:`BetterHostError`.
    """
    running, open_slots = _running(connection, now), [slot for slot in slots if slot.host != leave]
    asked = ", ".join(f"{slot.host} {len(running.get(slot.host, ()))} of {slot.capacity}" for slot in slots)
    if all(len(running.get(slot.host, ())) >= slot.capacity for slot in open_slots):
        raise NoFreeHostError(
            f"no host is free ({asked}{f'; {leave} is to be left' if leave else ''}); "
            "wait, or raise max_parallel_jobs in the inventory"
        )
    table = schema.hosts
    away = {row.name for row in connection.execute(sa.select(table.c.name).where(table.c.away_since.is_not(None)))}
    first = first_shares(open_slots, running, waiting, away)
    if not first:
        raise BetterHostError(f"a busy host will be done sooner than a free one ({asked}); ask again")
    ranked = [
        (slot.rank, len(running.get(slot.host, ())) / slot.capacity, number)
        for number, slot in enumerate(open_slots)
        if slot.host in first
    ]
    return open_slots[min(ranked)[2]].host


def _running(connection: Connection, now: datetime) -> dict[str, list[float]]:
    """Return the seconds since the start of everything that runs, by host."""
    runs, generations = schema.stage_runs, schema.generations
    parts, plays = schema.play_shards, schema.plays
    of_generations = (
        sa.select(runs.c.host, runs.c.started_at)
        .join(generations, generations.c.id == runs.c.generation)
        .where(
            runs.c.state == "running",
            runs.c.host.is_not(None),
            generations.c.state == GenerationState.RUNNING.value,
        )
    )
    of_plays = (
        sa.select(parts.c.host, parts.c.started_at)
        .join(plays, plays.c.id == parts.c.play)
        .where(
            parts.c.state == "running",
            parts.c.host != HERE,
            plays.c.state == "playing",
            plays.c.seen_at >= now - timedelta(seconds=LEASES.waiting_seconds),
        )
    )
    found: dict[str, list[float]] = {}
    again = of_generations.with_only_columns(runs.c.second, runs.c.second_at).where(runs.c.second.is_not(None))
    parts_again = of_plays.with_only_columns(parts.c.second, parts.c.second_at).where(parts.c.second.is_not(None))
    for query in (of_generations, of_plays, again, parts_again):
        for host, started in connection.execute(query):
            found.setdefault(str(host), []).append(max(0.0, (now - started).total_seconds()))
    return found


class Hosts(Connected):
    """How the hosts are, and what runs on them."""

    def host_seen(self, name: str, boot_id: str | None = None, now: datetime | None = None) -> None:
        """Note that a host was reached."""
        self._note(name, seen_at=now or utc_now(), away_since=None, reason=None, boot_id=boot_id)

    def host_missed(self, name: str, reason: str, now: datetime | None = None) -> HostState:
        """Note that a host was not reached, and return its state: ``away_since`` stays at the first time."""
        before = self.host_state(name)
        since = now or utc_now()
        if before is not None and before.away_since is not None:
            since = before.away_since
        self._note(name, away_since=since, reason=reason)
        return HostState(name, before.seen_at if before else None, since, reason, before.boot_id if before else None)

    def host_tended(self, name: str, done: dict[str, Any], now: datetime | None = None) -> None:
        """Note what a look after a host came to, see :class:`HostState`."""
        self._note(name, tended_at=now or utc_now(), tended=done)

    def _note(self, name: str, **values: object) -> None:
        table = schema.hosts
        with self._writing() as connection:
            known = {key: value for key, value in values.items() if key != "boot_id" or value is not None}
            if connection.execute(sa.update(table).where(table.c.name == name).values(known)).rowcount == 0:
                connection.execute(sa.insert(table).values({"name": name} | known))

    def host_state(self, name: str) -> HostState | None:
        """Return the state of a host, None when nobody ever asked it."""
        table = schema.hosts
        with self._reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.name == name)).first()
        return None if row is None else HostState(**row._asdict())

    def jobs_per_host(self) -> dict[str, int]:
        """Return how many jobs of running generations and of commands each host has."""
        with self._reading() as connection:
            return {host: len(jobs) for host, jobs in _running(connection, utc_now()).items()}

    def note_rate(self, host: str, config: str, work: str, per_second: float, now: datetime | None = None) -> None:
        """Note how many games per second one job of ``work`` (the player and its search) has just made on a host."""
        table = schema.host_rates
        values = {"per_second": per_second, "measured_at": now or utc_now()}
        where = (table.c.host == host, table.c.config == config, table.c.work == work)
        with self._writing() as connection:
            if connection.execute(sa.update(table).where(*where).values(values)).rowcount == 0:
                connection.execute(sa.insert(table).values({"host": host, "config": config, "work": work} | values))

    def host_rates(self, config: str, work: str) -> dict[str, float]:
        """Return the last measured games per second of one such job by host; hosts without a measure are left out."""
        table = schema.host_rates
        query = sa.select(table.c.host, table.c.per_second).where(table.c.config == config, table.c.work == work)
        with self._reading() as connection:
            return {str(host): float(rate) for host, rate in connection.execute(query)}
