"""How fast status answers with years on record: a ledger of 12 configs, 300 generations each, a million games."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import sqlalchemy as sa

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, schema
from ringrift_ops.ledger.engine import make_engine
from ringrift_ops.operations.overview import overview
from ringrift_ops.operations.status import status as status_of
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import Installation
from ringrift_ops.settings import CONFIGS, Settings
from ringrift_ops.stages.specs import Stage
from tests.bench.figures import Row, Sheet
from tests.bench.hops import platform_up
from tests.bench.machine import temporary_home
from tests.bench.scale import Scale

P95_SECONDS: Final = 0.1
GENERATIONS, SHARDS, GAMES = 300, 8, 1_000_000
"""Per config: generations; per generation: shards of self-play; in all: games."""

BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOT_MANY: Final = 10
"""Generations of the small scale."""


def standing(scale: Scale) -> list[Row]:
    """Seconds of the function, of the command (beside one that does nothing) and of `GET /status`."""
    sheet = Sheet("standing")
    generations = GENERATIONS if scale.many_games >= 1_000 else NOT_MANY
    with temporary_home() as home:
        seed(home, generations)
        settings, ledger = Settings.load(home), Ledger.open(home.ledger_url)
        looks = []
        for _ in range(20 * scale.runs + 1):
            began = time.perf_counter()
            overview(home, ledger, status_of(home, settings, ledger, None))
            looks.append(time.perf_counter() - began)
        note = f"{len(looks) - 1} looks, {len(CONFIGS)} configs x {generations} generations, {GAMES:,} games on record"
        sheet.add("status p95", float(np.percentile(looks[1:], 95)), "s", target=P95_SECONDS, better="lower", note=note)
        sheet.add("status p50", float(np.percentile(looks[1:], 50)), "s", better="lower")
        nothing = sheet.add("ringrift --version", _commands(scale.runs, "--version"), "s", better="lower")
        sheet.add(
            "ringrift status --json", _commands(scale.runs, "status", "--json"), "s", better="lower", peer=nothing.name
        )
        with platform_up(home) as api:
            asked = _asked(home, api, 40 * scale.runs, scale.seconds)
        note = f"{len(asked)} requests, one every {scale.seconds} s, on the platform of `make up` with its own work"
        sheet.add(
            "GET /status p95", float(np.percentile(asked, 95)), "s", target=P95_SECONDS, better="lower", note=note
        )
        sheet.add("GET /status p50", float(np.percentile(asked, 50)), "s", better="lower")
    return sheet.rows


def _asked(home: Home, api: Api, times: int, every: float) -> list[float]:
    """Seconds of each request but the first, one begun every so many seconds: the platform's own work comes between."""
    found = []
    headers = {"authorization": f"Bearer {api.token()}"}
    with httpx.Client(base_url=f"{Installation(home).url()}/ringrift", headers=headers, timeout=60.0) as client:
        for _ in range(times):
            began = time.perf_counter()
            client.get("/status").raise_for_status()
            found.append(time.perf_counter() - began)
            time.sleep(max(0.0, every - found[-1]))
    return found[1:]


def _commands(runs: int, *words: str) -> list[float]:
    found = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ringrift_ops.cli", *words], check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    return found[1:]


def seed(home: Home, generations: int = GENERATIONS, games: int = GAMES) -> None:
    """Fill the ledger of ``home`` as so many generations would have; the last one of each config is under way."""
    Ledger.open(home.ledger_url)
    engine = make_engine(home.ledger_url)
    with engine.begin() as connection:
        for number, config in enumerate(CONFIGS):
            _seed_config(connection, config, number * generations, generations, games // (len(CONFIGS) * generations))
    engine.dispose()


def _sha(*parts: object) -> str:
    return "".join(f"{part}-" for part in parts).encode().hex()[:64].ljust(64, "0")


def _seed_config(connection: sa.Connection, config: str, before: int, generations: int, games: int) -> None:
    rows: dict[sa.Table, list[dict[str, Any]]] = {}

    def add(table: sa.Table, **values: Any) -> None:
        rows.setdefault(table, []).append(values)

    champion = None
    for number in range(1, generations + 1):
        one, at = before + number, BEGUN + timedelta(hours=6 * number)
        last = number == generations
        net, dataset, report = _sha(one, "net"), _sha(one, "dataset"), _sha(one, "report")
        common = {"config": config, "generation": one, "created_at": at}
        add(
            schema.generations, id=one, config=config, key=f"{config}|{number}", logical_date=at, run_id=f"run_{one}",
            run_after=at, profile="standard", seed=number, state="running" if last else "finished",
            outcome=None if last else "PASS", reason=None if last else "all gates", number=number, parent=champion,
            created_at=at, seen_at=at, granted_at=at, finished_at=None if last else at + timedelta(hours=5),
        )  # fmt: skip
        for shard in range(SHARDS):
            batch = _sha(one, "games", shard)
            counts = {"games": max(1, games // SHARDS), "moves": 60 * max(1, games // SHARDS), "policy_games": 0}
            add(schema.artifacts, sha=batch, kind="games", path=f"data/games/{batch}", bytes=1, meta=counts, **common)
            add(
                schema.parity_verdicts, batch=batch, report=_sha(one, "parity"), passed=True, checked=counts["games"],
                failed=0, recorded_at=at, config=config, games=counts["games"], rows=counts["moves"],
                trained=not last, poisoned=False,
            )  # fmt: skip
            add(schema.artifact_parents, child=dataset, parent=batch, role="games")
            _run(add, one, Stage.SELFPLAY, shard, at, {"batch": batch, **counts})
            told = {"batch": batch, "path": "p", "shard": shard, "games": counts["games"], "moves": counts["moves"]}
            _event(add, "SELFPLAY_COMPLETED", config, one, at, told)
        _run(add, one, Stage.PARITY, 0, at, {"report": _sha(one, "parity"), "checked": games, "failed": 0})
        add(schema.artifacts, sha=dataset, kind="dataset", path="d", bytes=1, meta={"samples": 9}, **common)
        if last:
            continue
        add(schema.artifacts, sha=net, kind="weights", path="w", bytes=1, meta={}, **common)
        add(schema.artifact_parents, child=net, parent=dataset, role="dataset")
        for stage in (Stage.EXPORT, Stage.TRAIN, Stage.GAUNTLET, Stage.PROMOTE, Stage.DISTRIBUTE):
            _run(add, one, stage, 0, at, {"verdict": "PASS", "candidate": net, "promoted": True})
        for kind in ("TRAINING_STARTED", "TRAINING_COMPLETED", "EVALUATION_COMPLETED", "GENERATION_FINISHED"):
            _event(add, kind, config, one, at, {"candidate": net, "reason": "all gates"})
        counts = [{"opponent": "random", "wins": 97, "games": 100}]
        add(
            schema.evaluations, id=one, report=report, candidate=net, previous=champion, gate_version="1",
            verdict="PASS", reason="all gates", opponents=counts, **common,
        )  # fmt: skip
        add(
            schema.promotions, id=one, kind="promote", sha=net, previous=champion, token=number, evaluation=one,
            gate_version="1", counts=counts, reason="all gates", actor="pipeline", **common,
        )  # fmt: skip
        champion = net
    for table in (
        schema.generations, schema.artifacts, schema.artifact_parents, schema.parity_verdicts, schema.stage_runs,
        schema.events, schema.evaluations, schema.promotions,
    ):  # fmt: skip
        connection.execute(sa.insert(table), rows[table])
    moved = {"config": config, "sha": champion, "previous": None, "promotion": before + generations - 1}
    connection.execute(sa.insert(schema.canonical).values(**moved, token=generations, moved_at=at))
    held = {"name": f"generation/{config}", "token": generations, "holder": f"run_{before + generations}"}
    until = datetime.now(UTC) + timedelta(hours=1)
    connection.execute(
        sa.insert(schema.leases).values(**held, generation=before + generations, acquired_at=at, expires_at=until)
    )


def _run(add: Any, generation: int, stage: Stage, shard: int, at: datetime, result: dict[str, Any]) -> None:
    add(
        schema.stage_runs, generation=generation, stage=stage.value, shard=shard, state="done",
        job_id=f"g{generation}-{stage.value}-{shard}", token=1, spec={"games": 1, "seed": 2}, result=result, error=None,
        started_at=at, finished_at=at + timedelta(minutes=5),
    )  # fmt: skip


def _event(add: Any, kind: str, config: str, generation: int, at: datetime, payload: dict[str, Any]) -> None:
    digest = _sha(generation, kind, payload.get("shard"))
    add(schema.events, type=kind, config=config, generation=generation, payload=payload, digest=digest, at=at)


def main(arguments: list[str]) -> int:
    """``python -m tests.bench.standing HOME``: seed the ledger of an empty home, to look at it by hand."""
    home = Home(Path(arguments[0]).absolute()).ensure()
    seed(home)
    print(json.dumps({"ledger": str(home.ledger_file), "bytes": home.ledger_file.stat().st_size}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
