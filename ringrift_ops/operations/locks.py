"""The training lock of a config: the lease under which a generation of it writes (R23, R76)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ringrift_ops.errors import GateError
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.ledger import Lease, Ledger, generation_lease
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Airflow, under_way
from ringrift_ops.settings import CONFIGS, LEASES, config_named
from ringrift_ops.stages.hosting import Hosting


class LockInUseError(GateError):
    """A lock whose holder is alive is to be released, without a reason."""


@dataclass(frozen=True)
class Lock:
    """A lock that is held. ``in_use``: by what that is alive; None when its holder shows no sign of life."""

    config: str
    holder: str
    since: datetime
    until: datetime
    generation: int | None
    in_use: str | None


def locks(
    home: Home,
    ledger: Ledger,
    config: str | None = None,
    now: datetime | None = None,
    airflow: Airflow | None = None,
) -> list[Lock]:
    """Return the locks that are held (of one config); raises ``UnknownConfigError``.

    With ``airflow`` a lock is in use while its holder's run is under way there, whatever its tasks do; without, while
    the run asked of late.
    """
    moment = now or datetime.now(UTC)
    found = []
    for key in CONFIGS if config is None else [config_named(config).key]:
        lease = ledger.lease(generation_lease(key))
        if lease is None or lease.holder is None:
            continue
        in_use = _in_use(home, ledger, key, lease, moment, airflow)
        if in_use is not None or lease.expires_at > moment:
            found.append(Lock(key, lease.holder, lease.acquired_at, lease.expires_at, lease.generation, in_use))
    return found


def _in_use(
    home: Home, ledger: Ledger, config: str, lease: Lease, now: datetime, airflow: Airflow | None
) -> str | None:
    if lease.generation is None:
        return lease.holder if lease.expires_at > now else None
    hosting = Hosting(home, ledger)
    for run in ledger.stage_runs(lease.generation):
        if run.job_id is None or run.state != "running":
            continue
        if hosting.look(run.host, run.job_id).state is JobState.RUNNING:
            return f"job {run.job_id}" + ("" if run.host is None else f" on host {run.host}")
    heard = now - timedelta(seconds=LEASES.waiting_seconds)
    mine = [one for one in ledger.waits(config) if one.generation == lease.generation and one.seen_at >= heard]
    does = [f"waits for {one.condition.value}" for one in mine]
    if airflow is not None:
        states = [run["state"] for run in under_way(airflow, config) if run["dag_run_id"] == lease.holder]
        does = [*does, *(f"is {state}" for state in states)] if states else []
    return f"run {lease.holder}, which {does[0]}" if does else None


def release(
    home: Home,
    ledger: Ledger,
    by: By,
    config: str,
    now: datetime | None = None,
    airflow: Airflow | None = None,
) -> Lock | None:
    """Release the lock of a config and return it as it was; None when nobody held it.

    The holder's token is void from here on. A lock in use is released only with a reason: :class:`LockInUseError`
    names who uses it. Raises ``UnknownConfigError``.
    """
    key = config_named(config).key
    held = locks(home, ledger, key, now, airflow)
    if not held:
        return None
    lock = held[0]
    if lock.in_use is not None and not by.reason:
        raise LockInUseError(
            f"the lock of {key} is in use by {lock.in_use} (held by {lock.holder} until "
            f"{lock.until.isoformat(timespec='seconds')}); what it makes would be refused: wait for it, or say "
            "why with --reason"
        )
    reason = by.reason or f"{lock.holder} shows no sign of life"
    by.audited(ledger, "release lock", key, holder=lock.holder, generation=lock.generation, in_use=lock.in_use)
    ledger.force_release_lease(generation_lease(key), reason=reason, actor=by.actor, now=now)
    if lock.in_use is None and airflow is not None and lock.generation is not None:
        # Its run is over; else its generation would keep its turn until it has been silent for long enough.
        ledger.withdraw_generation(lock.generation, f"lock released by {by.actor}: {reason}")
    return lock
