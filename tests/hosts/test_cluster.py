"""``ringrift cluster``: all hosts side by side, one that is down or hangs holds up no other."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.folder import JobFolder, write_json
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Outcome, Slot, generation_lease
from ringrift_ops.settings import HOSTS
from ringrift_ops.stages import fleet
from ringrift_ops.stages.hosting import Hosting
from tests.hosts.sshd import Sshd, Sshds, write_inventory

GPU = """#!/bin/sh
case "$*" in
*--query-gpu=name,memory.total,memory.used,utilization.gpu*) echo "Tesla T4, 15360, 1024, 37" ;;
*) exit 9 ;;
esac
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(update={"connect_seconds": 3.0, "again_seconds": 0.0, "health_seconds": 4.0})
    monkeypatch.setattr(link_module, "HOSTS", quick)
    monkeypatch.setattr(fleet, "HOSTS", quick)


@pytest.fixture
def place(home: Path) -> Home:
    return Home(home).ensure()


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of something that accepts connections and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["cluster", *words, "--json"])
    rows = json.loads(capsys.readouterr().out)["hosts"]
    return code, {row["host"]: row for row in rows}


def test_R66_R72_health_asks_all_side_by_side_and_names_what_is_wrong_with_each(
    place: Home, sshds: Sshds, mute: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nvidia-smi").write_text(GPU)
    (tmp_path / "nvidia-smi").chmod(0o755)
    up = sshds.make(options=[f"SetEnv PATH={tmp_path}:/usr/bin:/bin RINGRIFT_NUMBA_CACHE=/nowhere"])
    down = sshds.make()
    down.stop()
    write_inventory(place, {
        "up": up.host("up"), "down": down.host("down"), "mute": up.host("mute", ssh_port=mute, work_dir="/x"),
        "stranger": up.host("stranger", work_dir="/y").model_copy(update={"host_key": None}),
    })  # fmt: skip
    job = Job(job_id="hex8_2p-g1-train", argv=(sys.executable, "-c", "import time; time.sleep(600)"), spec={},
              timeout_seconds=60)  # fmt: skip
    up.jobs().submit_or_adopt(job)
    code, rows = answered(capsys, "health")
    assert code == ExitCode.INFRASTRUCTURE
    assert {name: row["cause"] for name, row in rows.items()} == {
        "up": None, "down": "HostRefusedError", "mute": "HostHangsError", "stranger": "UntrustedHostError",
    }  # fmt: skip
    facts = rows["up"]["facts"]
    assert (facts["same_version"], facts["running"]) == (True, ["hex8_2p-g1-train"])
    assert facts["gpus"] == [{"name": "Tesla T4", "memory_total": 15360.0, "memory_used": 1024.0, "utilization": 37.0}]
    assert abs(facts["clock_offset"]) < 2.0
    assert facts["disk_free"] > 0
    state = Ledger.open().host_state("down")
    assert state is not None
    assert state.away_since is not None
    assert main(["cluster", "health", "up"]) == ExitCode.DONE
    assert "Tesla T4 1024 of 15360 MiB" in capsys.readouterr().out
    assert main(["cluster", "health", "nobody"]) == ExitCode.WRONG_USAGE
    assert main(["jobs", "--host", "up", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)[0]["job_id"] == "hex8_2p-g1-train"
    assert main(["jobs", "hex8_2p-g1-train", "--host", "up", "--kill"]) == ExitCode.DONE
    assert "killed on request" in capsys.readouterr().out
    LocalJobs(up.work / "jobs").kill_all()


def test_R66_sync_ends_what_no_generation_owns_and_nothing_else(
    place: Home, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(place, {"one": sshd.host("one"), "two": sshd.host("two", work_dir=str(sshd.folder / "two"))})
    ledger = Ledger.open()
    jobs = sshd.jobs()

    def running(job_id: str) -> None:
        jobs.submit_or_adopt(
            Job(job_id=job_id, argv=(sys.executable, "-c", "import time; time.sleep(600)"), spec={}, timeout_seconds=60)
        )

    def generation(run: str) -> tuple[int, int]:
        made = ledger.ensure_generation("hex8_2p", None, run, datetime.now(UTC), "tiny")
        lease = ledger.try_grant_generation(made.id)
        assert lease is not None
        return made.id, lease.token

    first, token = generation("first")
    ledger.finish_generation(first, Outcome.ERROR, "a test", token)
    second, token = generation("second")
    for shard, host in enumerate(("one", "two")):
        ledger.start_stage(second, "selfplay", shard, {}, token, slots=[Slot(host, 9)])
    owned, moved = f"hex8_2p-g{second}-selfplay-s0", f"hex8_2p-g{second}-selfplay-s1"
    over, unknown, foreign = f"hex8_2p-g{first}-train", "hex8_2p-g99-train", "somebody-elses"
    for job_id in (owned, moved, over, unknown, foreign):
        running(job_id)
    code, rows = answered(capsys, "sync")
    assert code == ExitCode.DONE
    assert sorted(rows["one"]["facts"]["ended"]) == sorted([moved, over])
    assert {job_id: jobs.poll(job_id).state for job_id in (owned, unknown, foreign)} == dict.fromkeys(
        (owned, unknown, foreign), JobState.RUNNING
    )
    kept = {
        path.name.rpartition("-")[0]: (path / "reason.json").read_text()
        for path in (sshd.work / "jobs" / "_refused").iterdir()
    }
    assert "went on on two" in kept[moved]
    assert "is finished" in kept[over]
    assert answered(capsys, "sync")[1]["one"]["facts"]["ended"] == []
    ledger.release_lease(generation_lease("hex8_2p"), token)


def test_R66_sync_brings_back_what_was_made_and_not_fetched(
    place: Home, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(place, {"one": sshd.host("one")})
    path = "data/games/selfplay_hex8_2p_g7_s0.db"
    made = sshd.work / path
    result = {
        "batch": "0" * 64, "path": path, "games": 1, "moves": 1, "distinct_fraction": 1.0,
        "policy_games": 0, "seconds": 0.1,
    }  # fmt: skip
    program = (
        f"import json, pathlib; p = pathlib.Path({str(made)!r})\n"
        "p.parent.mkdir(parents=True); p.write_bytes(b'games')\n"
        f"json.dump({result!r}, open('result.json', 'w'))"
    )
    jobs = sshd.jobs()
    job = Job(job_id="hex8_2p-g7-selfplay-s0", argv=(sys.executable, "-c", program), spec={}, timeout_seconds=60)
    jobs.submit_or_adopt(job)
    LocalJobs(sshd.work / "jobs").wait(job.job_id, 30.0)
    assert answered(capsys, "sync", "one")[1]["one"]["facts"]["brought"] == [path]
    assert (place.root / path).read_bytes() == b"games"
    assert answered(capsys, "sync", "one")[1]["one"]["facts"]["brought"] == []
    assert Hosting(place, Ledger.open()).is_lost("one") is False
    write_json(JobFolder(sshd.work / "jobs" / job.job_id).result, result | {"path": "data/games/x.db"})
    made.rename(made.with_name("x.db"))
    assert "cannot have made 'data/games/x.db'" in answered(capsys, "sync", "one")[1]["one"]["error"]
    assert not (place.games / "x.db").exists()
