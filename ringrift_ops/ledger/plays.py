"""Self-play that a command shares out over hosts: one row per command, one per part of its games.

A part is begun by whoever asks first, on the host that the same transaction gives it. A command that was killed finds
its row by what was asked, and every part by its number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import hosts, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import Play, PlayShard, Slot
from ringrift_ops.settings.tables import LEASES
from ringrift_ops.stages.specs import Stage


def asked_key(ask: Mapping[str, Any]) -> str:
    """Return the sha256 of what was asked; two commands that ask the same have the same."""
    return hashlib.sha256(json.dumps(ask, sort_keys=True).encode()).hexdigest()


class Plays(Connected):
    """Writing and reading them."""

    def begin_play(
        self, ask: Mapping[str, Any], spec: Mapping[str, Any], shards: int, now: datetime | None = None
    ) -> Play:
        """Note a new command that plays ``spec`` in ``shards`` parts, and return its row."""
        asked, moment = asked_key(ask), now or utc_now()
        number = hashlib.sha256(f"{asked}|{spec['seed']}|{moment.isoformat()}".encode()).hexdigest()
        values = {
            "id": number, "asked": asked, "config": spec["config"], "spec": dict(spec), "shards": shards,
            "state": "playing", "started_at": moment, "seen_at": moment,
        }  # fmt: skip
        with self._writing() as connection:
            connection.execute(sa.insert(schema.plays).values(values))
            return _find(connection, number)

    def play(self, number: str) -> Play | None:
        """Return a command's row, None when there is none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(schema.plays).where(schema.plays.c.id == number)).first()
        return None if row is None else Play(**row._asdict())

    def plays(
        self,
        *,
        asked: str | None = None,
        prefix: str | None = None,
        config: str | None = None,
        limit: int | None = None,
    ) -> list[Play]:
        """Return the commands that match, the newest first. ``prefix``: how their id begins."""
        table = schema.plays
        query = sa.select(table).order_by(table.c.started_at.desc())
        if asked is not None:
            query = query.where(table.c.asked == asked)
        if prefix is not None:
            query = query.where(table.c.id.startswith(prefix, autoescape=True))
        if config is not None:
            query = query.where(table.c.config == config)
        with self._reading() as connection:
            found = connection.execute(query if limit is None else query.limit(limit))
            return [Play(**row._asdict()) for row in found]

    def play_shards(self, number: str) -> list[PlayShard]:
        """Return the parts that were begun, in their order."""
        table = schema.play_shards
        with self._reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.play == number).order_by(table.c.shard))
            return [PlayShard(**row._asdict()) for row in rows]

    def begin_part(
        self,
        play: Play,
        shard: int,
        job_id: str,
        slots: Sequence[Slot],
        *,
        leave: str | None = None,
        waiting: int = 1,
        now: datetime | None = None,
    ) -> PlayShard:
        """Note that a part is played, and return its row with its host, which stays unless it is ``leave`` or no slot.

        ``waiting``: parts that no host has yet, this one among them. Raises ``NoFreeHostError``, ``BetterHostError``.
        """
        moment, table = now or utc_now(), schema.play_shards
        key = (table.c.play == play.id, table.c.shard == shard)
        with self._writing() as connection:
            row = connection.execute(sa.select(table).where(*key)).first()
            found = None if row is None else PlayShard(**row._asdict())
            if found is not None and found.state == "done":
                return found
            names = {slot.host for slot in slots}
            if found is not None and found.host in names and found.host != leave:
                return found
            host = hosts.free_host(connection, slots, leave, waiting, moment)
            values = {"state": "running", "job_id": job_id, "host": host, "done": 0, "rate": None, "started_at": moment,
                      "second": None, "second_at": None}  # fmt: skip
            if found is None:
                connection.execute(sa.insert(table).values({"play": play.id, "shard": shard} | values))
            else:
                connection.execute(sa.update(table).where(*key).values(values))
            return PlayShard(**connection.execute(sa.select(table).where(*key)).one()._asdict())

    def finish_part(self, number: str, shard: int, result: Mapping[str, Any], now: datetime | None = None) -> None:
        """Note what a part has made; the first result stays."""
        table = schema.play_shards
        with self._writing() as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.play == number, table.c.shard == shard, table.c.state != "done")
                .values(state="done", result=dict(result), done=result["games"], finished_at=now or utc_now())
            )

    def play_seen(
        self, number: str, progress: Mapping[int, tuple[int, float | None]], now: datetime | None = None
    ) -> None:
        """Note that the command lives, and (games, games per second) of parts that are being played."""
        table = schema.play_shards
        with self._writing() as connection:
            connection.execute(
                sa.update(schema.plays).where(schema.plays.c.id == number).values(seen_at=now or utc_now())
            )
            for shard, (done, rate) in progress.items():
                connection.execute(
                    sa.update(table)
                    .where(table.c.play == number, table.c.shard == shard, table.c.state == "running")
                    .values(done=done, rate=rate)
                )

    def finish_play(self, number: str, result: Mapping[str, Any], now: datetime | None = None) -> Play:
        """Note that all games are in the one database, and return the row."""
        table, moment = schema.plays, now or utc_now()
        with self._writing() as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.id == number, table.c.state != "done")
                .values(state="done", result=dict(result), finished_at=moment, seen_at=moment)
            )
            return _find(connection, number)

    def is_played_now(self, play: Play, now: datetime | None = None) -> bool:
        """Return whether a command that lives plays it."""
        age = (now or utc_now()) - play.seen_at
        return play.state == "playing" and age < timedelta(seconds=LEASES.waiting_seconds)

    def play_state(self, play: Play, now: datetime | None = None) -> dict[str, Any]:
        """Return the runbook's state of a command, as plain JSON (R65); ``workers``: {host: {"status", "games"}}."""
        parts, alive = self.play_shards(play.id), self.is_played_now(play, now)
        workers: dict[str, dict[str, Any]] = {}
        for part in parts:
            worker = workers.setdefault(part.host, {"status": "idle", "games": 0})
            worker["games"] += part.done
            if part.state == "running":
                worker["status"] = "active" if alive else "interrupted"
        status = "completed" if play.state == "done" else "running" if alive else "interrupted"
        return {
            "config": play.config,
            "generation": None,
            "current_phase": Stage.SELFPLAY.value,
            "phase_status": status,
            "games_completed": sum(part.done for part in parts),
            "games_target": play.spec["games"],
            "started_at": play.started_at.isoformat(),
            "verdict": None,
            "workers": workers,
            "play": play.id,
        }


def _find(connection: Connection, number: str) -> Play:
    return Play(**connection.execute(sa.select(schema.plays).where(schema.plays.c.id == number)).one()._asdict())
