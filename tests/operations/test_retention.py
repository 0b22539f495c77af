"""Retention shows its plan first, keeps what is needed, and removes only what can be had again."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Outcome, schema
from ringrift_ops.operations import retention
from ringrift_ops.operations.by import By
from ringrift_ops.operations.disk import DiskPressureError
from ringrift_ops.operations.retention import RetentionPlan, retention_plan
from ringrift_ops.settings import CONFIGS, RETENTION
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import Store, replace_symlink
from tests.ledger.conftest import MEMORY, sha

MONTHS = 90 * 86_400.0


class Years:
    """A home in which so many generations of hex8_2p were made: games, dataset and net each, real files."""

    def __init__(self, bench: Any, house: Home, generations: int) -> None:
        self.bench, self.house, self.ledger = bench, house, bench.ledger
        self.games, self.datasets, self.nets = [], [], []
        for number in range(generations):
            generation, lease = bench.running(f"run{number}")
            common = {"config": "hex8_2p", "generation": generation.id, "token": lease.token}
            self.games.append(self._made("games", number, [], common, games=9, moves=90))
            self.datasets.append(self._made("dataset", number, [(self.games[-1], "games")], common, samples=9))
            self.nets.append(self._made("weights", number, [(self.datasets[-1], "dataset")], common))
            if number == 0:
                self.ledger.compare_and_swap_canonical(
                    "hex8_2p", None, self.nets[0], lease.token, generation=generation.id, reason="won", actor="test",
                    kind="forced",
                )  # fmt: skip
            self.ledger.finish_generation(generation.id, Outcome.PASS, "done", lease.token, bench.now)

    def _made(self, kind: str, number: int, parents: Any, common: dict[str, Any], **meta: Any) -> Any:
        content = f"{kind} {number}".encode()
        suffix = {"games": ".db", "dataset": ".npz", "weights": ".safetensors"}[kind]
        sha, path = Store(self.house).put(content, suffix)
        place, now = self.house.relative(path), self.bench.later(1)
        self.ledger.record_artifact(sha, kind, place, len(content), parents=parents, meta=meta, now=now, **common)
        return sha

    def plan(self, now: float | None = None) -> RetentionPlan:
        return retention_plan(self.house, self.ledger, now)

    def delivered(self, net: str) -> Path:
        path = self.house.root / "delivered" / f"{net[:8]}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Store(self.house).get(net).read_bytes())
        self.ledger.record_delivery(net, "delivered", str(path), verified=True, error=None, generation=None, token=0)
        return path


def record_many(home: Home, ledger: Ledger, generations: range) -> None:
    """Rows and files of generations in which the net in force plays, every eighth wins, and batches are used thrice."""
    rows: dict[str, list[dict[str, Any]]] = {"artifacts": [], "artifact_parents": [], "promotions": []}

    def made(kind: str, number: int, *parents: tuple[str, int]) -> None:
        name = sha(f"{kind} {number}")
        (home.root / name).touch()
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        rows["artifacts"].append(
            {"sha": name, "kind": kind, "path": name, "bytes": 0, "config": "hex8_2p", "meta": {}, "created_at": at}
        )  # fmt: skip
        rows["artifact_parents"] += [{"child": name, "parent": sha(f"{of} {n}"), "role": of} for of, n in parents]

    for number in generations:
        in_force = (number - 1) // 8 * 8
        made("games", number, *([("weights", in_force)] if in_force > 0 else []))
        made("dataset", number, *(("games", n) for n in range(number - 2, number + 1) if n > 2))
        made("weights", number, ("dataset", number))
        if number % 8 == 0:
            rows["promotions"].append(
                {"config": "hex8_2p", "kind": "forced", "sha": sha(f"weights {number}"), "token": 0, "counts": {},
                 "reason": "won", "actor": "test", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
            )  # fmt: skip
    with ledger._writing() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(schema.METADATA.tables[table]), values)


def by_a_walk_each(home: Home, ledger: Ledger) -> list[str]:
    """The datasets that may go, each by the whole lineage of its own."""
    nets = {move.sha for move in ledger.promotions("hex8_2p")}
    needed = {one.artifact.sha for net in nets for one in ledger.lineage(net).ancestors}
    found = []
    for dataset in ledger.artifacts(config="hex8_2p", kind="dataset")[RETENTION.datasets :]:
        games = [x.artifact for x in ledger.lineage(dataset.sha).ancestors if x.artifact.kind == "games"]
        if dataset.sha not in needed and games and all(home.resolve(one.path).exists() for one in games):
            found.append(dataset.sha)
    return found


@pytest.fixture
def years(bench: Any, house: Home) -> Years:
    return Years(bench, house, 9)


def removed(plan: RetentionPlan, kind: str) -> list[str | None]:
    return [one.sha for one in plan.removals if one.kind == kind]


def test_F18_datasets_go_that_are_old_and_can_be_made_again_and_no_others(years: Years) -> None:
    gone = removed(years.plan(), "dataset")
    assert sorted(gone, key=str) == sorted(years.datasets[1:4])
    Store(years.house).get(years.games[2]).unlink()
    replace_symlink(years.house.training / "hex8_2p.npz", Store(years.house).get(years.datasets[3]))
    plan = years.plan()
    assert removed(plan, "dataset") == [years.datasets[1]]
    assert plan.kept["dataset"] == {
        f"of the newest {RETENTION.datasets}": RETENTION.datasets, "of a net that was in force": 1,
        "a link leads to it": 1, "the only copy: not all of its games are here": 1,
    }  # fmt: skip


def test_F18_lineage_is_read_once_per_config_however_much_was_made_and_says_what_a_walk_each_says() -> None:
    asked: list[str] = []
    reads, goes = [], []
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        home, ledger = Home(Path(folder)).ensure(), Ledger.open(f"sqlite:///{folder}/ledger.db")
        sa.event.listen(ledger._engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
        for generations in (range(1, 13), range(13, 27)):
            record_many(home, ledger, generations)
            (home.root / sha(f"games {generations[-1] - 7}")).unlink()
            asked.clear()
            plan = retention_plan(home, ledger)
            reads.append(sum("artifact_parents" in one for one in asked))
            goes.append(removed(plan, "dataset"))
            assert goes[-1] == by_a_walk_each(home, ledger)
        asked.clear()
        retention.apply(home, ledger, By("test", "tending", "cli"), kinds=("job", "edge"))
    assert reads == [len(CONFIGS)] * 2
    assert [len(one) for one in goes] == [2, 11]
    assert not any("artifact" in one for one in asked)


def test_F18_a_net_goes_only_when_a_whole_copy_lies_elsewhere_and_never_one_that_was_in_force(years: Years) -> None:
    assert removed(years.plan(), "net") == []
    for net in years.nets[:4]:
        years.delivered(net)
    years.delivered(years.nets[2]).write_bytes(b"damaged")
    plan = years.plan()
    assert sorted(removed(plan, "net"), key=str) == sorted([years.nets[1], years.nets[3]])
    assert plan.kept["net"]["the only copy"] == 1
    assert plan.kept["net"]["was in force, or one that was descends from it"] == 1


def test_F18_a_net_that_only_hosts_have_besides_stays(years: Years, house: Home) -> None:
    """A delivery to a host names its path there, which here is the artifact itself."""
    for net in years.nets[:4]:
        place = house.relative(Store(house).get(net))
        years.ledger.record_delivery(net, "host:box", place, verified=True, error=None, generation=None, token=0)
    plan = years.plan()
    assert removed(plan, "net") == []
    assert plan.kept["net"]["the only copy"] == 3


def test_F18_games_are_never_removed(years: Years) -> None:
    plan = years.plan(time.time() + 10 * MONTHS)
    assert removed(plan, "games") == []
    assert plan.kept["games"] == {"the only copy of games": 8, "of a net that was in force": 1}


def test_F18_what_a_generation_under_way_reads_stays(years: Years) -> None:
    generation, lease = years.bench.running("reads")
    spec = {"dataset": years.datasets[1], "dataset_path": "x"}
    years.ledger.start_stage(generation.id, "train", 0, spec, lease.token)
    plan = years.plan()
    assert years.datasets[1] not in removed(plan, "dataset")
    assert plan.kept["dataset"]["read by a generation under way"] == 1


def test_R31_the_newest_unfinished_trainings_stay_and_those_of_running_generations(years: Years) -> None:
    generation, _ = years.bench.running("trains")
    folder = years.house.training / "checkpoints"
    names = [f"hex8_2p-g{generation.id}-aaaa", *(f"hex8_2p-g{n}-bbbb" for n in range(100, 107)), "hex8_3p-g1-cccc"]
    for age, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "checkpoint.safetensors").write_bytes(b"x" * 1000)
        os.utime(folder / name, (age * 1000, age * 1000))
    found = [one.path.name for one in years.plan().removals if one.kind == "checkpoint"]
    assert sorted(found) == ["hex8_2p-g100-bbbb", "hex8_2p-g101-bbbb"]


def test_old_jobs_and_task_logs_go_and_a_running_job_stays(years: Years, house: Home) -> None:
    jobs = LocalJobs(house.jobs)
    for job_id, script in (("hex8_2p-g900-export", "pass"), ("hex8_2p-g901-train", "import signal; signal.pause()")):
        jobs.submit_or_adopt(Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=60))
    assert jobs.wait("hex8_2p-g900-export", 30).over
    log = house.logs / "airflow" / "dag_id=hex8_2p" / "attempt=1.log"
    log.parent.mkdir(parents=True)
    log.write_text("said")
    try:
        assert [one.kind for one in years.plan().removals if one.kind in ("job", "task log")] == []
        later = years.plan(time.time() + MONTHS)
        assert [(one.kind, one.path.name) for one in later.removals if one.kind in ("job", "task log")] == [
            ("job", "hex8_2p-g900-export"), ("task log", "attempt=1.log"),
        ]  # fmt: skip
    finally:
        jobs.kill("hex8_2p-g901-train")


def test_old_logs_of_hosts_and_components_go_and_a_log_of_events_begins_anew_when_it_is_long(
    years: Years, house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = house.logs / "platform" / "scheduler.log"
    component.parent.mkdir(parents=True)
    for path in (component, house.logs / "selfplay_a1_20260101.log", house.logs / "coordination.log"):
        path.write_text("said\n" * 100)
    assert [one.path.name for one in years.plan().removals if one.kind == "log"] == []
    later = [one.path.name for one in years.plan(time.time() + MONTHS).removals if one.kind == "log"]
    assert later == ["scheduler.log", "selfplay_a1_20260101.log"]
    monkeypatch.setattr(retention, "RETENTION", RETENTION.model_copy(update={"log_bytes": 100}))
    assert [one.path.name for one in years.plan().removals if one.kind == "log"] == ["coordination.log"]


def test_F18_rows_of_airflow_from_before_every_run_that_is_not_over_go_by_the_plan(years: Years) -> None:
    """Airflow's own command counts and removes them; that is in tests/airflow, on a real database."""

    class Counted:
        def __init__(self) -> None:
            self.cleaned: list[datetime] = []

        def old(self, before: datetime) -> dict[str, int]:
            return {"dag_run": 3, "log": 0}

        def clean(self, before: datetime) -> dict[str, int]:
            self.cleaned.append(before)
            return {"dag_run": 3}

    tables, now = Counted(), time.time()
    assert retention_plan(years.house, years.ledger, now).rows == {}
    plan = retention_plan(years.house, years.ledger, now, tables)
    assert plan.rows == {"dag_run": 3}
    assert plan.rows_before == datetime.fromtimestamp(now - RETENTION.airflow_days * 86_400.0, UTC)
    years.bench.now = datetime.fromtimestamp(now, UTC) - timedelta(days=100)
    years.bench.running("very long ago")
    plan = retention.apply(years.house, years.ledger, By("anna", "cleaning up", "cli"), tables=tables)
    assert plan.rows_before == years.bench.now - timedelta(days=1)
    assert tables.cleaned == [plan.rows_before]
    assert [row.detail["rows"] for row in years.ledger.audit() if row.action == "clean airflow"] == [{"dag_run": 3}]


def test_F18_applying_needs_a_reason_removes_what_the_plan_named_and_audits_each(years: Years, capsys: Any) -> None:
    before = sorted(years.house.store.rglob("*"))
    assert main(["retention", "plan", "--json"]) == ExitCode.DONE
    planned = json.loads(capsys.readouterr().out)
    assert sorted(years.house.store.rglob("*")) == before
    assert main(["retention", "apply"]) == ExitCode.WRONG_USAGE
    assert sorted(years.house.store.rglob("*")) == before
    assert main(["retention", "apply", "--reason", "disk is getting full"]) == ExitCode.DONE
    assert all(not Path(one["path"]).exists() for one in planned["removals"])
    assert len(planned["removals"]) == 3
    told = [(row.action, row.reason, row.detail["sha"]) for row in years.ledger.audit()]
    assert told == [("remove", "disk is getting full", one["sha"]) for one in planned["removals"]]
    assert all(Store(years.house).holds(sha) for sha in (*years.games, *years.nets, years.datasets[0]))
    assert main(["retention", "apply", "--reason", "again"]) == ExitCode.DONE
    assert len(years.ledger.audit()) == 3


def test_a_second_retention_at_once_is_refused(years: Years) -> None:
    years.ledger.acquire_lease("retention", "anna@host1")
    assert main(["retention", "apply", "--reason", "me too"]) == ExitCode.GATE_SAID_NO


def test_F18_disk_pressure_stops_producers_with_a_reason_and_deletes_nothing(house: Home) -> None:
    """The disk is real; the profile asks for more than any disk has."""
    house.settings_file.write_text(f"profiles:\n  tiny:\n    disk_free_bytes: {10**18}\n")
    before = sorted(house.root.rglob("*"))
    work = Work.of_run("hex8_2p", None, "run", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    with pytest.raises(DiskPressureError, match=r"selfplay is not started: .* GB free on .*, 1e\+09 GB are needed"):
        work.submit(Stage.SELFPLAY, lease.token)
    assert set(before) <= set(house.root.rglob("*"))
    outcome, reason = work.outcome(list(Stage))
    assert outcome is Outcome.ERROR
    assert reason.startswith("selfplay: hex8_2p: selfplay is not started: ")
    assert LocalJobs(house.jobs).all() == []
    assert Ledger.open().breakers() == []
