"""Retention: the one job that removes files, by a plan that is shown first (F18).

Never removed: a net that was ever in force and all it was made from; what a generation under way was asked to read; the
newest of each kind; the only copy of anything that cannot be made again. So games stay, and a net goes only when a
verified copy lies at a destination. A dataset can be made again while its games are here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ringrift_ops.home import Home
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Artifact, Generation, GenerationState, Ledger
from ringrift_ops.operations import edge_leavings as edge
from ringrift_ops.operations.by import By
from ringrift_ops.operations.logs import FILES, write_logs
from ringrift_ops.operations.notify import LOG as ALERTS_LOG
from ringrift_ops.operations.removal import Removal, Tally, size_of
from ringrift_ops.settings import CONFIGS, RETENTION
from ringrift_ops.stages.curves import FOLDER as CURVES
from ringrift_ops.stages.specs import HOST_DESTINATION, Sha256
from ringrift_ops.store import sha256_file

LEASE = "retention"
_DAY = 86_400.0


@dataclass(frozen=True)
class RetentionPlan:
    """What may go, and what stays though it is old: {kind: {why: how many}}."""

    removals: list[Removal]
    kept: dict[str, dict[str, int]]
    rows: dict[str, int] = field(default_factory=dict)
    """{table of Airflow's database: rows} that may go: those from before ``rows_before``"""
    rows_before: datetime | None = None

    @property
    def bytes(self) -> int:
        """How much the plan would free."""
        return sum(one.bytes for one in self.removals)


class Tables(Protocol):
    """Airflow's own database; ``platform.database.AirflowTables`` is it."""

    def old(self, before: datetime) -> dict[str, int]:
        """Return {table: rows} from before that moment, as ``airflow db clean --dry-run`` counts them."""
        ...

    def clean(self, before: datetime) -> dict[str, int]:
        """Remove them, and return how many went."""
        ...


def retention_plan(
    home: Home,
    ledger: Ledger,
    now: float | None = None,
    tables: Tables | None = None,
    kinds: Collection[str] | None = None,
) -> RetentionPlan:
    """Return what may be removed (of ``kinds`` only, and only they are looked at); changes nothing.

    ``now``: seconds since the epoch; ``tables`` None: Airflow's database is left alone.
    """
    tally, moment = Tally(), time.time() if now is None else now
    unfinished = [
        one for state in (GenerationState.RUNNING, GenerationState.WAITING) for one in ledger.generations(state=state)
    ]
    running = {f"{one.config}-g{one.id}" for one in unfinished}
    looks: list[tuple[Collection[str], Callable[[], None]]] = [
        (("dataset", "net", "games"), lambda: _artifacts(home, ledger, unfinished, tally)),
        (("checkpoint",), lambda: _checkpoints(home, running, tally)),
        (("job",), lambda: _jobs(home, running, moment, tally)),
        ((edge.KIND,), lambda: edge.removals(home, running, moment, tally)),
        (("task log",), lambda: _task_logs(home, moment, tally)),
        (("log",), lambda: _other_logs(home, moment, tally)),
    ]
    for found, look in looks:
        if kinds is None or not set(kinds).isdisjoint(found):
            look()
    before = _rows_before(unfinished, moment)
    rows = {} if tables is None else tables.old(before)
    return RetentionPlan(
        [one for one in tally.removals if kinds is None or one.kind in kinds],
        {kind: dict(whys) for kind, whys in tally.kept.items() if kinds is None or kind in kinds},
        {table: count for table, count in rows.items() if count},
        None if tables is None else before,
    )


def _rows_before(unfinished: list[Generation], now: float) -> datetime:
    """Return the moment before which rows of Airflow may go: also older than every run that is not over."""
    begun = [one.created_at.timestamp() - _DAY for one in unfinished]
    return datetime.fromtimestamp(min([now - RETENTION.airflow_days * _DAY, *begun]), UTC)


def apply(
    home: Home, ledger: Ledger, by: By, tables: Tables | None = None, kinds: Collection[str] | None = None
) -> RetentionPlan:
    """Remove what the plan of this moment names (of ``kinds`` only), and return it; every file is in the audit.

    Raises ``LeaseHeldError`` while another retention runs, ``MissingReasonError``.
    """
    by.needs_reason("removing files")
    lease = ledger.acquire_lease(LEASE, by.actor)
    try:
        plan = retention_plan(home, ledger, tables=tables, kinds=kinds)
        for one in plan.removals:
            place = home.relative(one.path)
            by.audited(ledger, "remove", None, kind=one.kind, path=place, sha=one.sha, why=one.why)
            if one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        if plan.rows and tables is not None and plan.rows_before is not None:
            by.audited(ledger, "clean airflow", None, before=plan.rows_before.isoformat(), rows=plan.rows)
            tables.clean(plan.rows_before)
    finally:
        ledger.release_lease(LEASE, lease.token)
    write_logs(home, ledger)
    return plan


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a spec: hashes and paths among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _artifacts(home: Home, ledger: Ledger, unfinished: list[Generation], tally: Tally) -> None:
    """Datasets, nets and games; per config one look at what was made from what, however much was made."""
    in_use = {one.parent for one in unfinished if one.parent is not None}
    in_use |= {
        value
        for one in unfinished
        for run in ledger.stage_runs(one.id)
        for value in (*_texts(run.spec), *_texts(run.result or {}))
    }
    links = (path for folder in (home.training, home.models) if folder.is_dir() for path in folder.iterdir())
    linked = {path.resolve() for path in links if path.is_symlink()}
    for config in CONFIGS:
        descent, games = ledger.descent(config), ledger.artifacts(config=config, kind="games")
        needed = descent.ancestors(move.sha for move in ledger.promotions(config))
        gone = [batch.sha for batch in games if not home.resolve(batch.path).exists()]
        again = descent.descendants(batch.sha for batch in games) - descent.descendants(gone)
        _datasets(home, ledger, config, needed, in_use, linked, again, tally)
        _nets(home, ledger, config, needed, in_use, linked, tally)
        for batch in games:
            lineage = batch.sha in needed
            tally.keep("games", "of a net that was in force" if lineage else "the only copy of games")


def _datasets(
    home: Home, ledger: Ledger, config: str, needed: set[Sha256], in_use: set[str], linked: set[Path],
    again: set[Sha256], tally: Tally,
) -> None:  # fmt: skip
    """``needed``: the nets that were ever in force and all they were made from; ``again``: what games all here gave."""
    for number, one in enumerate(ledger.artifacts(config=config, kind="dataset")):
        path = home.resolve(one.path)
        if number < RETENTION.datasets:
            tally.keep("dataset", f"of the newest {RETENTION.datasets}")
        elif one.sha in needed:
            tally.keep("dataset", "of a net that was in force")
        elif _used(one, in_use):
            tally.keep("dataset", "read by a generation under way")
        elif path.resolve() in linked:
            tally.keep("dataset", "a link leads to it")
        elif one.sha not in again:
            tally.keep("dataset", "the only copy: not all of its games are here")
        elif path.exists():
            why = f"older than the newest {RETENTION.datasets} of {config}; export makes it again"
            tally.removals.append(Removal("dataset", path, path.stat().st_size, why, one.sha))


def _nets(
    home: Home, ledger: Ledger, config: str, needed: set[Sha256], in_use: set[str], linked: set[Path], tally: Tally
) -> None:  # fmt: skip
    for number, one in enumerate(ledger.artifacts(config=config, kind="weights")):
        path = home.resolve(one.path)
        if number < RETENTION.nets:
            tally.keep("net", f"of the newest {RETENTION.nets}")
        elif one.sha in needed:
            tally.keep("net", "was in force, or one that was descends from it")
        elif _used(one, in_use):
            tally.keep("net", "read by a generation under way")
        elif path.resolve() in linked:
            tally.keep("net", "a link leads to it")
        elif path.exists():
            copy = _copy_of(home, ledger, one)
            if copy is None:
                tally.keep("net", "the only copy")
            else:
                why = f"older than the newest {RETENTION.nets} of {config}, never in force; a copy lies at {copy}"
                tally.removals.append(Removal("net", path, path.stat().st_size, why, one.sha))


def _used(artifact: Artifact, in_use: set[str]) -> bool:
    return artifact.sha in in_use or artifact.path in in_use


def _copy_of(home: Home, ledger: Ledger, artifact: Artifact) -> Path | None:
    """Return a delivered copy on this machine whose bytes are right now those of the artifact."""
    here = [one for one in ledger.deliveries(artifact.sha) if not one.destination.startswith(HOST_DESTINATION)]
    for delivery in here:
        path = home.resolve(delivery.path)
        if delivery.verified and path.is_file() and sha256_file(path) == artifact.sha:
            return path
    return None


def _checkpoints(home: Home, running: set[str], tally: Tally) -> None:
    """Folders of trainings that never ended: the newest per config stay, and those of generations under way."""
    folder = home.training / "checkpoints"
    by_config: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        by_config.setdefault(path.name.split("-")[0], []).append(path)
    for config, paths in sorted(by_config.items()):
        newest_first = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
        for number, path in enumerate(newest_first):
            if number < RETENTION.checkpoints:
                tally.keep("checkpoint", f"of the newest {RETENTION.checkpoints}")
            elif path.name.rsplit("-", 1)[0] in running:
                tally.keep("checkpoint", "of a generation under way")
            else:
                why = f"older than the newest {RETENTION.checkpoints} unfinished trainings of {config}"
                tally.removals.append(Removal("checkpoint", path, size_of(path), why))


def _jobs(home: Home, running: set[str], now: float, tally: Tally) -> None:
    jobs = LocalJobs(home.jobs)
    for job_id in jobs.all():
        folder = JobFolder(jobs.folder(job_id))
        age = now - folder.job.stat().st_mtime
        if age < RETENTION.job_days * _DAY:
            tally.keep("job", f"younger than {RETENTION.job_days:g} days")
        elif "-".join(job_id.split("-")[:2]) in running or not jobs.poll(job_id).over:
            tally.keep("job", "of a generation under way")
        else:
            why = f"ended more than {RETENTION.job_days:g} days ago"
            tally.removals.append(Removal("job", folder.path, size_of(folder.path), why))


def _task_logs(home: Home, now: float, tally: Tally) -> None:
    folder = home.logs / "airflow"
    for path in sorted(folder.rglob("*.log")) if folder.is_dir() else ():
        if now - path.stat().st_mtime >= RETENTION.log_days * _DAY:
            why = f"older than {RETENTION.log_days:g} days"
            tally.removals.append(Removal("task log", path, path.stat().st_size, why))
        else:
            tally.keep("task log", f"younger than {RETENTION.log_days:g} days")


def _other_logs(home: Home, now: float, tally: Tally) -> None:
    """Logs of hosts' jobs and of components, and curves, that nobody writes any more; logs of events grown too long."""
    events = {home.logs / name for name in (*FILES, ALERTS_LOG)}
    found = [
        *home.logs.glob("*.log"), *home.logs.glob("platform/*.log*"), *home.logs.glob(f"{CURVES}/*/events.*")
    ]  # fmt: skip
    for path in sorted(found):
        old = now - path.stat().st_mtime >= RETENTION.log_days * _DAY
        if path in events and path.stat().st_size > RETENTION.log_bytes:
            why = f"longer than {RETENTION.log_bytes / 1e6:g} MB; the ledger has its events, and it begins anew"
            tally.removals.append(Removal("log", path, path.stat().st_size, why))
        elif path not in events and old:
            why = f"not written for {RETENTION.log_days:g} days"
            tally.removals.append(Removal("log", path, path.stat().st_size, why))
        else:
            tally.keep("log", "of events" if path in events else f"younger than {RETENTION.log_days:g} days")
