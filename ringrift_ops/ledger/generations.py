"""Generations: one row per run of the pipeline, served one at a time and in order.

A generation is unique by (config, logical date) or, for a run without a date, (config, run id);
its seed is derived from that key. It waits for the config's lease, gets its parent when it is first
granted it, and keeps both for good. A run that finds its row takes it up where it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import events, hosts, leases, schema, waits
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.errors import UnknownGenerationError
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.leases import generation_lease
from ringrift_ops.ledger.records import Condition, Generation, GenerationState, Lease, Outcome, Slot, StageRun
from ringrift_ops.settings.names import config_named, profile_named, stage_named
from ringrift_ops.settings.tables import LEASES


def generation_key(config: str, logical_date: datetime | None, run_id: str) -> str:
    """Return the text that a generation's identity and seed come from."""
    if logical_date is None:
        return f"{config}|run|{run_id}"
    return f"{config}|date|{logical_date.astimezone(UTC).isoformat()}"


def seed_of(key: str) -> int:
    """Return the first 63 bits of the key's sha256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def derived_seed(seed: int, *parts: str | int) -> int:
    """Return the seed (63 bits) of a part of the generation: a stage, a shard, an attempt at an opening."""
    return seed_of("|".join(map(str, (seed, *parts))))


def generation_from(row: sa.Row[Any]) -> Generation:
    """Return a row of the table as a generation."""
    fields = row._asdict()
    fields["state"] = GenerationState(fields["state"])
    fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
    return Generation(**fields)


def find(connection: Connection, generation: int) -> Generation:
    """Return a generation; raises :class:`UnknownGenerationError`."""
    row = connection.execute(sa.select(schema.generations).where(schema.generations.c.id == generation)).first()
    if row is None:
        raise UnknownGenerationError(f"the ledger has no generation {generation}; `ringrift status` lists them")
    return generation_from(row)


def _update(connection: Connection, generation: int, **values: object) -> None:
    connection.execute(sa.update(schema.generations).where(schema.generations.c.id == generation).values(**values))


class Generations(Connected):
    """Making, granting and finishing generations, and the results of their stages."""

    def ensure_generation(
        self,
        config: str,
        logical_date: datetime | None,
        run_id: str,
        run_after: datetime,
        profile: str,
        now: datetime | None = None,
    ) -> Generation:
        """Return the generation of this run, made (waiting) when there is none yet.

        Raises ``UnknownConfigError``, ``UnknownProfileError``.
        """
        key = generation_key(config_named(config).key, logical_date, run_id)
        moment = now or utc_now()
        table = schema.generations
        with self._writing() as connection:
            row = connection.execute(sa.select(table).where(table.c.key == key)).first()
            if row is not None:
                return generation_from(row)
            number = connection.execute(
                sa.insert(table)
                .values(
                    config=config,
                    key=key,
                    logical_date=logical_date,
                    run_id=run_id,
                    run_after=run_after,
                    profile=profile_named(profile),
                    seed=seed_of(key),
                    state=GenerationState.WAITING.value,
                    created_at=moment,
                    seen_at=moment,
                )
                .returning(table.c.id)
            ).scalar_one()
            return find(connection, number)

    def try_grant_generation(
        self,
        generation_id: int,
        now: datetime | None = None,
        *,
        holder: str | None = None,
        seconds: float = LEASES.generation_seconds,
    ) -> Lease | None:
        """Return the config's lease when it is this generation's turn, else None; ask again later.

        Turns go by logical date, else by the run's run_after. ``holder`` defaults to the run id; the
        same holder asking again gets the lease it has, renewed. A generation that asks again after
        its lease ran out or was broken gets a larger token; one that was finished waits like any
        other. Raises :class:`UnknownGenerationError`.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            wanted = find(connection, generation_id)
            name = generation_lease(wanted.config)
            who = holder or wanted.run_id
            lease = leases.find(connection, name)
            if lease is not None and leases.is_held(lease, moment):
                if lease.generation == wanted.id and lease.holder == who:
                    _update(connection, wanted.id, seen_at=moment)
                    return leases.extend(connection, lease, moment + timedelta(seconds=seconds))
                _wait(connection, wanted, moment, keep_running=lease.generation == wanted.id)
                return None
            if lease is not None and lease.generation is not None and lease.generation != wanted.id:
                _back_in_line(connection, lease.generation)
            _wait(connection, wanted, moment)
            if _first_in_line(connection, wanted.config, wanted.id, moment) != wanted.id:
                return None
            return _grant(connection, wanted, who, seconds, moment)

    def finish_generation(
        self, generation_id: int, outcome: Outcome, reason: str, token: int, now: datetime | None = None
    ) -> Generation:
        """Close a generation, free its lease and return it. Repeating it is harmless.

        Raises :class:`StaleTokenError` when ``token`` is not that of the lease it runs under.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            found = find(connection, generation_id)
            if found.state is GenerationState.FINISHED:
                return found
            lease = leases.check(connection, generation_lease(found.config), token)
            leases.check_effect(connection, found.config, found.id, token)
            leases.release(connection, lease, moment)
            _finish(connection, found, outcome, reason, moment)
            return find(connection, generation_id)

    def withdraw_generation(
        self, generation_id: int, reason: str, now: datetime | None = None, *, outcome: Outcome | None = None
    ) -> Generation:
        """Take a waiting generation out of the line (its run was given up) and return it.

        One that was finished before is finished again. With ``outcome`` one that has had its turn since then, and lost
        its lease, is finished with that. One that runs under a live lease is left as it is.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            found = find(connection, generation_id)
            lease = leases.find(connection, generation_lease(found.config))
            held = lease is not None and lease.generation == found.id and leases.is_held(lease, moment)
            if found.state is not GenerationState.WAITING and (found.state is not GenerationState.RUNNING or held):
                return found
            if outcome is not None and _had_its_turn(connection, found):
                _finish(connection, found, outcome, reason, moment)
            else:
                again = GenerationState.WITHDRAWN if found.outcome is None else GenerationState.FINISHED
                why = reason if found.outcome is None else found.reason
                _update(connection, found.id, state=again.value, reason=why)
                waits.end(connection, found.id)
            return find(connection, generation_id)

    def generation(self, generation_id: int) -> Generation:
        """Return a generation; raises :class:`UnknownGenerationError`."""
        with self._reading() as connection:
            return find(connection, generation_id)

    def generations(
        self, config: str | None = None, *, state: GenerationState | None = None, limit: int | None = None
    ) -> list[Generation]:
        """Return generations, the newest row first."""
        table = schema.generations
        query = sa.select(table).order_by(table.c.id.desc())
        if config is not None:
            query = query.where(table.c.config == config)
        if state is not None:
            query = query.where(table.c.state == state.value)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [generation_from(row) for row in connection.execute(query)]

    def waiting_generations(self, config: str) -> list[Generation]:
        """Return those that wait for the config's lease, in the order in which they will be served."""
        with self._reading() as connection:
            return [generation_from(row) for row in connection.execute(_line(config))]

    # --- stages ----------------------------------------------------------------------------------

    def start_stage(
        self,
        generation_id: int,
        stage: str,
        shard: int,
        spec: dict[str, Any] | Callable[[str | None], dict[str, Any]],
        token: int,
        *,
        job_id: str | None = None,
        slots: Sequence[Slot] = (),
        leave: str | None = None,
        waiting: int = 1,
        now: datetime | None = None,
    ) -> StageRun:
        """Note that a stage runs, and return its row; one that is done already stays done.

        With ``slots`` it gets a host, in the same transaction, and keeps it; ``leave``: the host it is to leave, if it
        is still there; ``waiting``: shards that no host has yet, this one among them. ``spec`` may be a function: what
        a host (None: this machine) is asked. Raises :class:`StaleTokenError`, ``NoFreeHostError``, ``BetterHostError``.
        """
        name = stage_named(stage).value
        with self._writing() as connection:
            found = _stage_run(connection, generation_id, name, shard)
            if found is not None and found.state == "done":
                return found
            owner = find(connection, generation_id)
            leases.check_effect(connection, owner.config, generation_id, token)
            host = hosts.choose(connection, found, slots, leave, waiting, now)
            stays = found is not None and found.host == host
            return _write_stage(
                connection, generation_id, name, shard,
                {"state": "running", "job_id": job_id, "token": token, "spec": spec(host) if callable(spec) else spec,
                 "error": None, "host": host,
                 "second": found.second if found and stays else None,
                 "second_at": found.second_at if found and stays else None,
                 "started_at": found.started_at if found else now or utc_now(), "finished_at": None},
            )  # fmt: skip

    def record_stage_result(
        self,
        generation_id: int,
        stage: str,
        shard: int,
        spec: dict[str, Any],
        result: dict[str, Any],
        token: int,
        *,
        job_id: str | None = None,
        now: datetime | None = None,
    ) -> StageRun:
        """Record what a stage made and return the row. The first result stays: repeating is harmless.

        Raises :class:`StaleTokenError`.
        """
        name, moment = stage_named(stage).value, now or utc_now()
        with self._writing() as connection:
            found = _stage_run(connection, generation_id, name, shard)
            if found is not None and found.state == "done":
                return found
            owner = find(connection, generation_id)
            leases.check_effect(connection, owner.config, generation_id, token)
            return _write_stage(
                connection, generation_id, name, shard,
                {"state": "done", "job_id": job_id or (found.job_id if found else None), "token": token, "spec": spec,
                 "result": result, "error": None, "started_at": found.started_at if found else moment,
                 "finished_at": moment},
            )  # fmt: skip

    def record_stage_error(
        self, generation_id: int, stage: str, shard: int, error: str, token: int, now: datetime | None = None
    ) -> StageRun:
        """Note why a stage failed and return its row; a result that exists stays.

        Raises :class:`StaleTokenError`.
        """
        name, moment = stage_named(stage).value, now or utc_now()
        with self._writing() as connection:
            found = _stage_run(connection, generation_id, name, shard)
            if found is not None and found.state == "done":
                return found
            owner = find(connection, generation_id)
            leases.check_effect(connection, owner.config, generation_id, token)
            values: dict[str, Any] = {"state": "failed", "token": token, "error": error, "finished_at": moment}
            if found is None:
                values |= {"spec": {}, "started_at": moment}
            return _write_stage(connection, generation_id, name, shard, values)

    def forget_stage(self, generation_id: int, stage: str, token: int) -> int:
        """Drop the results of a stage (all shards), so that it is done anew (``force``); artifacts stay.

        Returns how many rows were dropped. Raises :class:`StaleTokenError`.
        """
        name, table = stage_named(stage).value, schema.stage_runs
        with self._writing() as connection:
            leases.check_effect(connection, find(connection, generation_id).config, generation_id, token)
            dropped = connection.execute(
                sa.delete(table).where(table.c.generation == generation_id, table.c.stage == name)
            )
            return dropped.rowcount

    def clear_unfinished_stages(self, config: str, stage: str | None = None) -> int:
        """Drop the rows of a config's stages (of one stage) that failed or count as running; what is done stays.

        Returns how many were dropped; events and artifacts stay.
        """
        table, of = schema.stage_runs, schema.generations
        mine = sa.select(of.c.id).where(of.c.config == config_named(config).key)
        query = sa.delete(table).where(table.c.generation.in_(mine), table.c.state != "done")
        if stage is not None:
            query = query.where(table.c.stage == stage_named(stage).value)
        with self._writing() as connection:
            return connection.execute(query).rowcount

    def stage_result(self, generation_id: int, stage: str, shard: int = 0) -> dict[str, Any] | None:
        """Return the result of a stage (of one shard), None when it is not done."""
        with self._reading() as connection:
            found = _stage_run(connection, generation_id, stage_named(stage).value, shard)
            return found.result if found is not None and found.state == "done" else None

    def stage_runs(self, generation_id: int, stage: str | None = None) -> list[StageRun]:
        """Return the stages of a generation, in order of their start."""
        table = schema.stage_runs
        query = sa.select(table).where(table.c.generation == generation_id)
        if stage is not None:
            query = query.where(table.c.stage == stage_named(stage).value)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.c.started_at, table.c.stage, table.c.shard))
            return [StageRun(**row._asdict()) for row in rows]


def _line(config: str) -> sa.Select[Any]:
    table = schema.generations
    return (
        sa.select(table)
        .where(table.c.config == config, table.c.state == GenerationState.WAITING.value)
        .order_by(sa.func.coalesce(table.c.logical_date, table.c.run_after), table.c.run_after, table.c.id)
    )


def _wait(connection: Connection, wanted: Generation, now: datetime, *, keep_running: bool = False) -> None:
    if keep_running:
        return
    _update(connection, wanted.id, state=GenerationState.WAITING.value, seen_at=now)
    waits.note(connection, wanted.id, wanted.config, Condition.LEASE, now)


def _back_in_line(connection: Connection, generation: int) -> None:
    """Put a generation whose holder died (its lease ran out) back among the waiting."""
    table = schema.generations
    connection.execute(
        sa.update(table)
        .where(table.c.id == generation, table.c.state == GenerationState.RUNNING.value)
        .values(state=GenerationState.WAITING.value)
    )


def _first_in_line(connection: Connection, config: str, asking: int, now: datetime) -> int:
    """Return whose turn it is. A waiting run that stopped asking (it died) holds nobody up (F25)."""
    heard_since = now - timedelta(seconds=LEASES.waiting_seconds)
    for row in connection.execute(_line(config)):
        if row.id == asking or row.seen_at >= heard_since:
            return int(row.id)
    return asking


def _grant(connection: Connection, wanted: Generation, holder: str, seconds: float, now: datetime) -> Lease:
    lease = leases.grant(connection, generation_lease(wanted.config), holder, seconds, now, wanted.id)
    values: dict[str, object] = {"state": GenerationState.RUNNING.value, "seen_at": now}
    if wanted.granted_at is None:
        table = schema.generations
        parent = connection.scalar(sa.select(schema.canonical.c.sha).where(schema.canonical.c.config == wanted.config))
        before = connection.scalar(sa.select(sa.func.max(table.c.number)).where(table.c.config == wanted.config))
        number = (before or 0) + 1
        values |= {"parent": parent, "granted_at": now, "number": number}
        events.record(
            connection, EventType.GENERATION_STARTED, wanted.config, wanted.id,
            {"key": wanted.key, "number": number, "profile": wanted.profile, "parent": parent}, now,
        )  # fmt: skip
    _update(connection, wanted.id, **values)
    waits.end(connection, wanted.id, Condition.LEASE)
    return lease


def _had_its_turn(connection: Connection, found: Generation) -> bool:
    """Return whether a generation was granted its lease, since it was finished if it was finished before."""
    if found.finished_at is None:
        return found.granted_at is not None
    table = schema.events
    since = (
        table.c.type == EventType.LEASE_GRANTED.value, table.c.generation == found.id, table.c.at > found.finished_at,
    )  # fmt: skip
    return connection.execute(sa.select(table.c.id).where(*since)).first() is not None


def _finish(connection: Connection, found: Generation, outcome: Outcome, reason: str, now: datetime) -> None:
    values = {"outcome": outcome.value, "reason": reason}
    _update(connection, found.id, state=GenerationState.FINISHED.value, finished_at=now, **values)
    waits.end(connection, found.id)
    events.record(connection, EventType.GENERATION_FINISHED, found.config, found.id, values, now)


def _stage_run(connection: Connection, generation: int, stage: str, shard: int) -> StageRun | None:
    table = schema.stage_runs
    row = connection.execute(
        sa.select(table).where(table.c.generation == generation, table.c.stage == stage, table.c.shard == shard)
    ).first()
    return None if row is None else StageRun(**row._asdict())


def _write_stage(connection: Connection, generation: int, stage: str, shard: int, values: dict[str, Any]) -> StageRun:
    table = schema.stage_runs
    where = (table.c.generation == generation, table.c.stage == stage, table.c.shard == shard)
    if connection.execute(sa.update(table).where(*where).values(**values)).rowcount == 0:
        connection.execute(sa.insert(table).values(generation=generation, stage=stage, shard=shard, **values))
    written = _stage_run(connection, generation, stage, shard)
    assert written is not None
    return written
