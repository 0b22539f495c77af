"""Where stages run: a host is given in the transaction that notes the start, so that two who ask get the same one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import GenerationState, HostState, Slot, StageRun


class NoFreeHostError(InfrastructureError):
    """Every host that could do a stage has as many jobs as it may have."""


def choose(connection: Connection, found: StageRun | None, slots: Sequence[Slot], leave: str | None) -> str | None:
    """Return the host for a stage, None (this machine) without ``slots``.

    The one it has (this machine too, while it runs), unless that is to be left or is no host any more. Else, of those
    with a free slot, the one of the lowest rank, and of these the least loaded. Raises :class:`NoFreeHostError`.
    """
    names = {slot.host for slot in slots}
    if found is not None and found.state == "running" and found.host is None:
        return None
    if found is not None and found.host in names and found.host != leave:
        return found.host
    if not slots:
        return None
    running = _running(connection)
    free = [
        (slot.rank, running.get(slot.host, 0) / slot.capacity, number)
        for number, slot in enumerate(slots)
        if slot.host != leave and running.get(slot.host, 0) < slot.capacity
    ]
    if not free:
        asked = ", ".join(f"{slot.host} {running.get(slot.host, 0)} of {slot.capacity}" for slot in slots)
        raise NoFreeHostError(
            f"no host is free ({asked}{f'; {leave} is to be left' if leave else ''}); "
            "wait, or raise max_parallel_jobs in the inventory"
        )
    return slots[min(free)[2]].host


def _running(connection: Connection) -> dict[str, int]:
    runs, generations = schema.stage_runs, schema.generations
    query = (
        sa.select(runs.c.host, sa.func.count())
        .join(generations, generations.c.id == runs.c.generation)
        .where(
            runs.c.state == "running",
            runs.c.host.is_not(None),
            generations.c.state == GenerationState.RUNNING.value,
        )
        .group_by(runs.c.host)
    )
    return {str(host): int(count) for host, count in connection.execute(query)}


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
        """Return how many stages of running generations each host has."""
        with self._reading() as connection:
            return _running(connection)
