"""The platform looks after its hosts by itself: nothing runs there that nobody owns, nothing is lost or goes back.

With real sshds; the DAG `hosts` does nothing but this (``operations.tending``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Outcome, Slot
from ringrift_ops.operations import tending
from ringrift_ops.operations.by import By
from ringrift_ops.settings import HOSTS, RETENTION
from ringrift_ops.stages import fleet
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.store import sha256_file
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory
from tests.hosts.test_distribution import LINK, promoted

BY = By("a test", "looking", "python")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(
        update={"connect_seconds": 3.0, "again_seconds": 0.0, "health_seconds": 30.0, "tend_seconds": 30.0}
    )
    for module in (link_module, fleet, tending):
        monkeypatch.setattr(module, "HOSTS", quick)


@pytest.fixture
def place(home: Path) -> Home:
    return Home(home).ensure()


@pytest.fixture
def second(sshds: Sshds) -> Iterator[Sshd]:
    made = sshds.make()
    yield made
    LocalJobs(made.work / "jobs").kill_all()
    made.stop()


def runs(sshd: Sshd, job_id: str, program: str = "import time; time.sleep(600)") -> None:
    job = Job(job_id=job_id, argv=(sys.executable, "-c", program), spec={}, timeout_seconds=60)
    LocalJobs(sshd.work / "jobs").submit_or_adopt(job)


def granted(ledger: Ledger, run: str) -> tuple[int, int]:
    made = ledger.ensure_generation("hex8_2p", None, run, datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(made.id)
    assert lease is not None
    return made.id, lease.token


def tended(place: Home) -> dict[str, dict[str, Any]]:
    return {one.host: {"cause": one.cause} | one.facts for one in tending.tend(place, Ledger.open(), BY)}


def test_a_job_of_a_generation_that_ended_while_its_host_was_away_is_ended_when_it_is_back(
    place: Home, sshd: Sshd, second: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(place, {"one": sshd.host("one"), "two": second.host("two")})
    ledger = Ledger.open()
    number, token = granted(ledger, "first")
    ledger.start_stage(number, "train", 0, {}, token, slots=[Slot("two", 1)])
    job_id = f"hex8_2p-g{number}-train"
    runs(second, job_id)
    second.stop()
    ledger.finish_generation(number, Outcome.ERROR, "given up", token)
    found = tended(place)
    assert found["one"] == {"cause": None, "brought": [], "ended": [], "nets": [], "removed": []}
    assert found["two"] == {"cause": "HostRefusedError"}
    assert LocalJobs(second.work / "jobs").poll(job_id).state is JobState.RUNNING
    second.start()
    assert tended(place)["two"]["ended"] == [job_id]
    assert LocalJobs(second.work / "jobs").all() == []
    (kept,) = (second.work / "jobs" / "_refused").iterdir()
    assert "is finished" in (kept / "reason.json").read_text()
    assert tended(place)["two"]["ended"] == []
    assert main(["cluster", "list", "--json"]) == ExitCode.DONE
    rows = {row["host"]: row for row in json.loads(capsys.readouterr().out)["hosts"]}
    assert (rows["two"]["state"], rows["two"]["did"]["ended"]) == ("up", [])
    assert main(["cluster", "health"]) == ExitCode.DONE
    assert "0 min ago: nothing to do" in capsys.readouterr().out


@pytest.mark.hosts_campaign
def test_a_host_that_hangs_in_the_middle_holds_up_no_other(
    place: Home, sshd: Sshd, second: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inventory(place, {"one": sshd.host("one"), "two": second.host("two")})
    monkeypatch.setattr(tending, "HOSTS", tending.HOSTS.model_copy(update={"tend_seconds": 10.0}))
    sha = promoted(place)
    real = fleet.catch_up

    def stopped(hosting: Hosting, host: str) -> list[str]:
        """The second host answers until here, and then no more."""
        if host == "two":
            for pid in programs(second):
                os.kill(pid, signal.SIGSTOP)
        return real(hosting, host)

    monkeypatch.setattr(fleet, "catch_up", stopped)
    found = tended(place)
    assert (found["one"]["nets"], found["two"]["cause"]) == ([sha], "HostHangsError")
    state = Ledger.open().host_state("two")
    assert state is not None
    assert state.tended is not None
    assert "not done within 10" in state.tended["error"]


def programs(sshd: Sshd) -> list[int]:
    """The processes of this package that answer for a host."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
            if "ringrift_ops.hosts.serve" in words and str(sshd.work) in words:
                found.append(int(entry.name))
    return found


@pytest.mark.hosts_campaign
def test_a_host_that_was_away_for_two_promotions_gets_the_newest_and_never_an_older_one(
    place: Home, sshd: Sshd, second: Sshd
) -> None:
    write_inventory(place, {"one": sshd.host("one"), "two": second.host("two")})
    first = promoted(place)
    assert tended(place)["two"]["nets"] == [first]
    older = (second.work / LINK).resolve()
    second.stop()
    promoted(place)
    tended(place)
    newest = promoted(place)
    second.start()
    assert tended(place)["two"]["nets"] == [newest]
    assert sha256_file(second.work / LINK) == newest
    (second.work / LINK).unlink()
    (second.work / LINK).symlink_to(older)  # a stale one, whoever made it
    assert tended(place)["two"]["nets"] == [newest]
    assert sha256_file(second.work / LINK) == newest


def test_job_folders_go_when_their_generation_ended_long_ago_and_never_one_that_may_be_resumed(
    place: Home, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inventory(place, {"one": sshd.host("one")})
    ledger = Ledger.open()
    over, token = granted(ledger, "first")
    ledger.finish_generation(over, Outcome.FAIL, "a test", token)
    under_way, token = granted(ledger, "second")
    ledger.start_stage(under_way, "train", 0, {}, token, slots=[Slot("one", 9)])
    old, dead, unknown = f"hex8_2p-g{over}-train", f"hex8_2p-g{under_way}-train", "hex8_2p-g99-train"
    local = LocalJobs(place.jobs)
    for job_id in (old, dead, unknown):
        runs(sshd, job_id, "raise SystemExit(4)")
    job = Job(job_id=f"hex8_2p-g{over}-export", argv=("true",), spec={}, timeout_seconds=60)
    local.submit_or_adopt(job)
    there = LocalJobs(sshd.work / "jobs")
    until(lambda: all(there.poll(one).over for one in there.all()) and local.poll(job.job_id).over, "their ends")
    runs(sshd, f"hex8_2p-g{over}-gauntlet")
    assert tended(place)["one"]["removed"] == []
    (aside,) = (sshd.work / "jobs" / "_refused").iterdir()

    later = datetime.now(UTC) + timedelta(days=RETENTION.job_days + 1)
    monkeypatch.setattr(fleet, "utc_now", lambda: later)
    month_ago = (later - 2 * (later - datetime.now(UTC))).timestamp()
    for path in (aside, local.folder(job.job_id) / "job.json"):
        os.utime(path, (month_ago, month_ago))
    assert tended(place)["one"]["removed"] == [old, aside.name]
    assert there.all() == sorted([dead, unknown])
    assert local.all() == []
    audits = [row for row in ledger.audit() if row.action == "remove"]
    assert {row.detail["path"].rpartition("/")[2] for row in audits} == {old, job.job_id}


def test_with_an_old_job_its_games_and_dataset_leave_the_host_when_they_are_here_and_nobody_reads_them(
    place: Home, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inventory(place, {"one": sshd.host("one")})
    ledger, slots = Ledger.open(), [Slot("one", 9)]
    names = {"made": "data/games/made.db", "read": "store/aa/read.npz", "wanted": "store/aa/wanted.npz"}
    names["only_there"] = "data/games/only_there.db"
    for name, path in names.items():
        for home in (place.root, sshd.work) if name != "only_there" else (sshd.work,):
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(name)
    for shard, (name, dataset) in enumerate((("made", "read"), ("only_there", "wanted"))):
        number, token = granted(ledger, name)
        for stage, spec, result in (
            ("selfplay", {}, {"path": names[name]}), ("train", {"dataset_path": names[dataset]}, {"path": "store/net"}),
        ):  # fmt: skip
            job_id = f"hex8_2p-g{number}-{stage}"
            ledger.start_stage(number, stage, 0, spec, token, job_id=job_id, slots=slots)
            runs(sshd, job_id, "raise SystemExit(4)")
            ledger.record_stage_result(number, stage, 0, spec, result, token)
        ledger.finish_generation(number, Outcome.FAIL, f"a test {shard}", token)
    under_way, token = granted(ledger, "under way")
    ledger.start_stage(under_way, "train", 0, {"dataset_path": names["wanted"]}, token, slots=slots)
    there = LocalJobs(sshd.work / "jobs")
    until(lambda: all(there.poll(one).over for one in there.all()), "their ends")
    monkeypatch.setattr(fleet, "utc_now", lambda: datetime.now(UTC) + timedelta(days=RETENTION.job_days + 1))
    (sshd.work / "airflow").mkdir()
    jobs = there.all()
    assert tended(place)["one"]["removed"] == jobs, "and no file, for this looks like the home of a controller"
    assert all((sshd.work / path).exists() for path in names.values())

    (sshd.work / "airflow").rmdir()
    for job_id in jobs:
        runs(sshd, job_id, "raise SystemExit(4)")
    until(lambda: all(there.poll(one).over for one in there.all()), "their ends")
    assert tended(place)["one"]["removed"] == [*jobs, names["made"], names["read"]]
    assert {name for name, path in names.items() if (sshd.work / path).exists()} == {"wanted", "only_there"}
    assert all((place.root / path).exists() for name, path in names.items() if name != "only_there")
    audited = {row.detail["path"] for row in ledger.audit() if row.detail.get("kind") == "file of a job"}
    assert audited == {f"one:{sshd.work}/{names[name]}" for name in ("made", "read")}
