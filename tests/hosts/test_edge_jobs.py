"""Jobs on hosts of role edge without Airflow: wanted once, carried by a node, and what comes back is looked at."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.airflow.verifying import WrongResultError
from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.errors import HostHangsError, HostRefusedError, VersionMismatchError
from ringrift_ops.hosts.exchange import Exchange, LeaderAwayError, TokenRefusedError
from ringrift_ops.hosts.jobs import Job, JobConflictError, JobFailedError, JobState, JobStatus
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger
from ringrift_ops.stages.edge import Carrier, kept_folders
from ringrift_ops.stages.hosting import ForeignResultError, Hosting
from ringrift_ops.stages.placement import checkpoints_of, may_make
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import sha256_file
from tests.hosts import edge
from tests.hosts.test_edge import JOB, wanted
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL, training


def test_what_is_wanted_is_wanted_once_and_a_silent_or_other_host_is_not_asked(
    edge_home: Home, edge_url: str, tmp_path: Path
) -> None:
    jobs = EdgeJobs(Mirror(edge_home, "box"))
    assert jobs.poll(JOB).state is JobState.ABSENT
    with pytest.raises(HostRefusedError, match="ever heard of"):
        wanted(edge_home)
    edge.node(edge_url, tmp_path / "node")
    wanted(edge_home)
    first = jobs.run_id(JOB)
    wanted(edge_home)
    assert jobs.run_id(JOB) == first
    assert jobs.poll(JOB).state is JobState.RUNNING
    with pytest.raises(JobConflictError, match="another spec"):
        wanted(edge_home, games=7)
    told = json.loads((edge_home.edge / "box" / "node.json").read_text())
    (edge_home.edge / "box" / "node.json").write_text(json.dumps(told | {"at": 0}))
    with pytest.raises(HostHangsError):
        jobs.poll(JOB)
    told["facts"]["versions"]["code"] = "other"
    (edge_home.edge / "box" / "node.json").write_text(json.dumps(told))
    with pytest.raises(VersionMismatchError, match="nothing is started there"):
        jobs.check_there()


def test_a_job_that_no_worker_has_taken_is_ended_here_and_its_late_task_does_nothing(
    edge_home: Home, edge_url: str, tmp_path: Path
) -> None:
    exchange, node = edge.node(edge_url, tmp_path / "node")
    jobs = wanted(edge_home)
    assert jobs.kill(JOB).state is JobState.FAILED
    with pytest.raises(JobFailedError, match="killed on request"):
        jobs.collect(JOB)
    assert Carrier(exchange, node, JOB, 1, lambda line: None).carry()["state"] == "given up"
    assert LocalJobs(node.jobs).all() == []
    wanted(edge_home)
    assert jobs.number(JOB) == 2
    assert jobs.poll(JOB).state is JobState.RUNNING


def carried(work: Work, exchange: Exchange, node: Home, stage: Stage, token: int, shard: int = 0) -> dict[str, Any]:
    """Do a stage on a node; a thread is its Edge task."""
    job_id = work.submit(stage, token, shard)
    jobs = work.hosting.edge("box")
    assert jobs is not None
    said: list[str] = []
    carrier = Carrier(exchange, node, job_id, jobs.number(job_id), lambda line: None)
    thread = threading.Thread(target=carrier.carry)
    thread.start()
    work.follow(stage, token, said.append, shard)
    result = work.complete(stage, token, shard)
    thread.join(30)
    assert any("== attempt 1" in line for line in said)
    return result


@pytest.mark.hosts_campaign
def test_a_shard_on_an_edge_host_is_the_same_batch_as_here_and_the_ledger_knows_it(
    edge_home: Home, edge_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge_home.settings_file.write_text(SMALL.replace("first_games: 20", "first_games: 2"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    exchange, node = edge.node(edge_url, tmp_path / "node")
    result = carried(work, exchange, node, Stage.SELFPLAY, lease.token)
    assert work.host(Stage.SELFPLAY) == "box"
    assert [one.sha for one in work.ledger.artifacts(config=CONFIG, kind="games")] == [result["batch"]]
    assert sha256_file(edge_home.resolve(result["path"])) == sha256_file(node.resolve(result["path"]))
    assert not any((edge_home.edge / "box" / "files").glob("[0-9a-f]*"))
    assert [path.name for path in edge_home.logs.glob("selfplay_box_*.log")]
    edge_home.inventory.unlink()
    monkeypatch.setenv("RINGRIFT_HOME", str(tmp_path / "alone"))
    alone = Home(tmp_path / "alone").ensure()
    alone.settings_file.write_text(edge_home.settings_file.read_text())
    again = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    own = again.grant()
    assert own is not None
    again.submit(Stage.SELFPLAY, own.token)
    again.follow(Stage.SELFPLAY, own.token, lambda line: None)
    assert again.complete(Stage.SELFPLAY, own.token)["batch"] == result["batch"]


def test_R70_shards_of_the_same_second_keep_a_log_each_whatever_their_names_have_in_common(edge_home: Home) -> None:
    hosting, ids = Hosting(edge_home, Ledger.open()), [f"{CONFIG}-g1-selfplay-s{shard}" for shard in (10, 1)]
    for job_id in ids:
        log = Mirror(edge_home, "box").job(job_id) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"== attempt 1 of {job_id}, 2026-11-25T20:00:00+00:00\n")
        status = JobStatus(
            job_id=job_id, state=JobState.DONE, attempt=1, pid=None, raw_code=0, reason="", heartbeat=None,
            started="2026-11-25T20:00:00+00:00", ended=None, heartbeat_age=None,
        )  # fmt: skip
        hosting.keep_log("box", Stage.SELFPLAY, status)
    kept = [log.read_text().split()[4] for log in edge_home.logs.glob("selfplay_box_*.log")]
    assert sorted(kept) == sorted(f"{job_id}," for job_id in ids)


def test_a_training_that_ends_while_its_checkpoint_is_read_is_left_alone(home: Path) -> None:
    node, spec = Home(home).ensure(), training()
    folder = node.resolve(str(checkpoints_of(node, spec)))
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").symlink_to("gone")  # listed, and not there when it is read
    carrier = Carrier(Exchange("http://127.0.0.1:1", "box", edge.SECRET), node, JOB, 1, lambda line: None)
    carrier._kept = float("-inf")
    carrier._keep(spec)
    assert carrier._kept > 0


def test_checkpoints_and_curves_of_a_running_training_are_copied_and_nothing_else_of_it(
    edge_home: Home, edge_url: str, tmp_path: Path
) -> None:
    exchange, node = edge.node(edge_url, tmp_path / "node")
    spec, job_id = training(), f"{CONFIG}-g1-train"
    argv = ("python", "-m", "ringrift_ops.cli", "train", "--spec", "spec.json")
    asked = spec.model_dump(mode="json")
    EdgeJobs(Mirror(edge_home, "box")).submit_or_adopt(Job(job_id=job_id, argv=argv, spec=asked, timeout_seconds=300))
    carrier = Carrier(exchange, node, job_id, 1, lambda line: None)
    carrier._kept = float("-inf")
    written = {"checkpoints": "checkpoint.safetensors", "curves": "events.out.tfevents.1.box.2.0"}
    for kind, folder in kept_folders(node, spec).items():
        node.resolve(folder).mkdir(parents=True)
        for name in (written[kind], ".half"):
            (node.resolve(folder) / name).write_text(kind)
    carrier._keep(spec)
    for kind, folder in kept_folders(edge_home, spec).items():
        assert {one.name: one.read_text() for one in edge_home.resolve(folder).iterdir()} == {written[kind]: kind}
    body = {"number": 1, "files": {"../up": "0" * 64}}
    with pytest.raises(RingRiftError, match="is not the name of a file of curves"):
        exchange.ask("POST", f"/nodes/box/jobs/{job_id}/curves", body)


def submitted(edge_url: str, tmp_path: Path) -> tuple[Work, int, EdgeJobs, str]:
    """A shard that was given to the Edge host: its work, the lease's token, the host's jobs and the job's id."""
    edge.node(edge_url, tmp_path / "node")
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    job_id = work.submit(Stage.SELFPLAY, lease.token)
    jobs = work.hosting.edge("box")
    assert jobs is not None
    return work, lease.token, jobs, job_id


def test_F24_a_result_with_a_place_of_its_own_choice_is_refused(edge_home: Home, edge_url: str, tmp_path: Path) -> None:
    work, token, jobs, job_id = submitted(edge_url, tmp_path)
    content = b"not games"
    sha = hashlib.sha256(content).hexdigest()
    jobs.mirror.file(sha).parent.mkdir(parents=True)
    jobs.mirror.file(sha).write_bytes(content)
    status = jobs.poll(job_id).model_copy(update={"state": JobState.DONE, "raw_code": 0}).model_dump(mode="json")
    result = {
        "batch": sha, "path": "ledger.db", "games": 10, "moves": 1, "distinct_fraction": 1.0, "policy_games": 0,
        "seconds": 1.0,
    }  # fmt: skip
    fields = work.plan.spec(Stage.SELFPLAY, token)
    assert fields.generation == 1
    end = {"status": status, "result": result, "error": None, "effects": [], "files": {"ledger.db": sha}}
    assert jobs.mirror.ended(job_id, jobs.number(job_id), end)
    with pytest.raises(ForeignResultError, match=r"cannot have made 'ledger\.db'"):
        work.complete(Stage.SELFPLAY, token)
    assert work.ledger.artifacts(config=CONFIG, kind="games") == []


def test_a_batch_may_lie_where_its_command_wants_it_and_nowhere_else(edge_home: Home) -> None:
    planned = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny").plan.spec(Stage.SELFPLAY, 0)
    spec = planned.model_copy(update={"output": "/elsewhere/games.db"})
    assert may_make(edge_home, spec, "/elsewhere/games.db", None)
    assert not may_make(edge_home, planned, "/elsewhere/games.db", None)
    assert not may_make(edge_home, spec, f"data/games/selfplay_{CONFIG}_g1_s0.db", None)


def test_F24_a_result_that_is_none_is_the_stages_error(edge_home: Home, edge_url: str, tmp_path: Path) -> None:
    work, token, jobs, job_id = submitted(edge_url, tmp_path)
    status = jobs.poll(job_id).model_copy(update={"state": JobState.DONE, "raw_code": 0}).model_dump(mode="json")
    end = {"status": status, "result": {"games": "many"}, "error": None, "effects": [], "files": {}}
    assert jobs.mirror.ended(job_id, jobs.number(job_id), end)
    with pytest.raises(WrongResultError, match=r"left no result of a selfplay: .*games"):
        work.complete(Stage.SELFPLAY, token)
    (run,) = work.ledger.stage_runs(work.generation.id, "selfplay")
    assert run.state == "failed"


def test_a_refused_token_ends_a_task_at_once_and_an_absent_leader_is_waited_for(
    edge_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edge.leader(edge_home) as url:
        exchange, node = edge.node(url, tmp_path / "node")
        wanted(edge_home)
        stranger = Exchange(url, "box", "s" * 40)
        with pytest.raises(TokenRefusedError):
            Carrier(stranger, node, JOB, 1, lambda line: None).carry()
    begun = time.monotonic()
    with pytest.raises(LeaderAwayError):
        exchange.ask("GET", f"/nodes/box/jobs/{JOB}", patience=0.6)
    assert time.monotonic() - begun >= 0.6


def test_R11_a_job_on_an_edge_host_is_diagnosed_by_what_its_host_has_sent(
    edge_home: Home, edge_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, token, jobs, job_id = submitted(edge_url, tmp_path)
    jobs.mirror.append_log(job_id, 0, b"== attempt 1\nMemoryError: Unable to allocate 9 GiB\n")
    status = jobs.poll(job_id).model_copy(update={"state": JobState.FAILED, "raw_code": 1}).model_dump(mode="json")
    failed = {"type": "MemoryError", "message": "Unable to allocate 9 GiB", "code": 4}
    assert jobs.mirror.ended(job_id, jobs.number(job_id), {"status": status, "error": failed})
    with pytest.raises(RingRiftError):
        work.complete(Stage.SELFPLAY, token)
    assert main(["diagnose", CONFIG, "--stage", "selfplay", "--json"]) == ExitCode.DONE
    causes = [cause["cause"] for one in json.loads(capsys.readouterr().out) for cause in one["causes"]]
    assert causes[0] == "stage_memory"
    assert main(["evidence", CONFIG, "--stage", "selfplay", "--json"]) == ExitCode.DONE
    (seen,) = json.loads(capsys.readouterr().out)["evidence"]
    assert seen["unreachable"] is None
    assert seen["machine"]["log"]["lines"][-1] == "MemoryError: Unable to allocate 9 GiB"
    assert seen["machine"]["memory_total"] > 0
