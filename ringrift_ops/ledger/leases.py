"""Leases with fencing: who may write, until when, and a token that only ever grows.

An effect carries the token it was allowed under. Once the lease was released, forced, or taken by
somebody else, that token is worth nothing. A lease that ran out but was not taken still counts:
nobody else can have written in between.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.errors import UsageError
from ringrift_ops.ledger import events, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.errors import LeaseHeldError, StaleTokenError
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.records import GenerationState, Lease
from ringrift_ops.settings.tables import LEASES


class MissingReasonError(UsageError):
    """A forced step without a reason."""


def generation_lease(config: str) -> str:
    """Return the name of the lease under which everything of a config is written."""
    return f"generation/{config}"


def config_of(name: str) -> str | None:
    """Return the config that a lease is about, None when it is about none."""
    return name.partition("/")[2] or None


def find(connection: Connection, name: str) -> Lease | None:
    """Return the lease of that name, held or not."""
    row = connection.execute(sa.select(schema.leases).where(schema.leases.c.name == name)).first()
    return None if row is None else Lease(**row._asdict())


def is_held(lease: Lease | None, now: datetime) -> bool:
    """Return whether somebody holds the lease at ``now``."""
    return lease is not None and lease.holder is not None and lease.expires_at > now


def grant(
    connection: Connection, name: str, holder: str, seconds: float, now: datetime, generation: int | None
) -> Lease:
    """Give a free (or expired) lease to ``holder`` with the next token."""
    before = find(connection, name)
    lease = Lease(
        name=name,
        token=1 if before is None else before.token + 1,
        holder=holder,
        generation=generation,
        acquired_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    if before is None:
        connection.execute(sa.insert(schema.leases).values(vars(lease)))
    else:
        connection.execute(sa.update(schema.leases).where(schema.leases.c.name == name).values(vars(lease)))
    events.record(
        connection, EventType.LEASE_GRANTED, config_of(name), generation,
        {"lease": name, "holder": holder, "token": lease.token}, now,
    )  # fmt: skip
    return lease


def check(connection: Connection, name: str, token: int) -> Lease:
    """Return the lease that ``token`` is in force for; raises :class:`StaleTokenError`."""
    lease = find(connection, name)
    if lease is None or lease.holder is None or lease.token != token:
        raise StaleTokenError(name, token, 0 if lease is None else lease.token, lease.holder if lease else None)
    return lease


def check_effect(connection: Connection, config: str, generation: int | None, token: int) -> None:
    """Let an effect pass that carries the token of its generation, or that belongs to none.

    Raises :class:`StaleTokenError`: wrong token, or a lease that another generation holds.
    """
    if generation is None and token == 0:
        return
    lease = check(connection, generation_lease(config), token)
    if lease.generation != generation:
        raise StaleTokenError(lease.name, token, lease.token, lease.holder)


def release(connection: Connection, lease: Lease, now: datetime) -> None:
    """Free a lease, in the caller's transaction."""
    _clear(connection, lease, now)
    events.record(
        connection, EventType.LEASE_RELEASED, config_of(lease.name), lease.generation,
        {"lease": lease.name, "holder": lease.holder, "token": lease.token}, now,
    )  # fmt: skip


def _clear(connection: Connection, lease: Lease, now: datetime) -> None:
    connection.execute(
        sa.update(schema.leases).where(schema.leases.c.name == lease.name).values(holder=None, expires_at=now)
    )


def _wait_again(connection: Connection, lease: Lease) -> None:
    table = schema.generations
    connection.execute(
        sa.update(table)
        .where(table.c.id == lease.generation, table.c.state == GenerationState.RUNNING.value)
        .values(state=GenerationState.WAITING.value)
    )


def extend(connection: Connection, lease: Lease, until: datetime) -> Lease:
    """Let a lease run until ``until``; never shorter than it runs already."""
    longer = max(until, lease.expires_at)
    connection.execute(sa.update(schema.leases).where(schema.leases.c.name == lease.name).values(expires_at=longer))
    return Lease(**{**vars(lease), "expires_at": longer})


class Leases(Connected):
    """Taking, renewing, giving back, and breaking leases."""

    def acquire_lease(
        self, name: str, holder: str, *, seconds: float = LEASES.generation_seconds, now: datetime | None = None
    ) -> Lease:
        """Return the lease, taken with a new token, or as it is when ``holder`` has it already (renewed).

        Raises :class:`LeaseHeldError` with the name of the one who has it. Generations do not use
        this but ``try_grant_generation``, which keeps their order.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            lease = find(connection, name)
            if lease is not None and lease.holder is not None and is_held(lease, moment):
                if lease.holder != holder or lease.generation is not None:
                    raise LeaseHeldError(name, lease.holder, lease.expires_at)
                return extend(connection, lease, moment + timedelta(seconds=seconds))
            return grant(connection, name, holder, seconds, moment, None)

    def renew_lease(
        self, name: str, token: int, *, seconds: float = LEASES.generation_seconds, now: datetime | None = None
    ) -> Lease:
        """Return the lease, kept for another ``seconds``; raises :class:`StaleTokenError`."""
        moment = now or utc_now()
        with self._writing() as connection:
            lease = check(connection, name, token)
            if lease.generation is not None:
                connection.execute(
                    sa.update(schema.generations)
                    .where(schema.generations.c.id == lease.generation)
                    .values(seen_at=moment)
                )
            return extend(connection, lease, moment + timedelta(seconds=seconds))

    def release_lease(self, name: str, token: int, now: datetime | None = None) -> None:
        """Give a lease back; a generation that ran under it and is not finished waits again.

        Repeating it is harmless. Raises :class:`StaleTokenError` for another's lease.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            lease = find(connection, name)
            if lease is not None and lease.holder is None and lease.token == token:
                return
            held = check(connection, name, token)
            release(connection, held, moment)
            _wait_again(connection, held)

    def force_release_lease(self, name: str, *, reason: str, actor: str, now: datetime | None = None) -> Lease | None:
        """Break a lease and return it as it was, or None when nobody held it.

        The token is void from here on; a generation that ran under it waits for the lease again.
        Recorded as LEASE_FORCED. Raises :class:`MissingReasonError`.
        """
        if not reason.strip():
            raise MissingReasonError(f"lease {name} is broken only with a reason; say why")
        moment = now or utc_now()
        with self._writing() as connection:
            lease = find(connection, name)
            if lease is None or lease.holder is None:
                return None
            _clear(connection, lease, moment)
            _wait_again(connection, lease)
            events.record(
                connection, EventType.LEASE_FORCED, config_of(name), lease.generation,
                {"lease": name, "holder": lease.holder, "token": lease.token, "reason": reason, "actor": actor},
                moment,
            )  # fmt: skip
            return lease

    def lease(self, name: str) -> Lease | None:
        """Return the lease of that name, None when it was never taken. ``holder`` None: nobody has it."""
        with self._reading() as connection:
            return find(connection, name)

    def leases(self, now: datetime | None = None) -> list[Lease]:
        """Return every lease that is held, by name."""
        moment = now or utc_now()
        with self._reading() as connection:
            rows = connection.execute(sa.select(schema.leases).order_by(schema.leases.c.name))
            return [lease for row in rows if is_held(lease := Lease(**row._asdict()), moment)]

    def check_token(self, name: str, token: int) -> Lease:
        """Return the lease when ``token`` is in force; raises :class:`StaleTokenError`."""
        with self._reading() as connection:
            return check(connection, name, token)
