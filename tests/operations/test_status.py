"""Status, why nothing runs, who waits for what: on a real ledger, real jobs, and an Airflow as it answers."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Condition, EventType, Outcome
from ringrift_ops.operations.control import first_stage, run_id_of
from ringrift_ops.operations.health import health
from ringrift_ops.operations.idle import Facts, Why
from ringrift_ops.operations.status import ConfigStatus, Status, config_status, status
from ringrift_ops.operations.surroundings import AirflowFacts, Machine, Pool
from ringrift_ops.platform.progress import Progress
from ringrift_ops.platform.tables import summary
from ringrift_ops.runbook import get_pipeline_orchestrator, get_router
from ringrift_ops.settings import CONFIGS, PROFILES, Inventory, Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage
from tests.ledger.conftest import sha

HEALTHY = dict.fromkeys(("metadatabase", "scheduler", "dag_processor", "triggerer"), "healthy")
AIRFLOW = AirflowFacts("http://localhost:8080", HEALTHY, dict.fromkeys(CONFIGS, False), {}, {"selfplay": Pool(2, 2)})
RUNBOOK_STAGES = ["selfplay", "parity", "export", "train", "evaluate", "promote", "distribute"]

HOSTS = "hosts:\n  slow: {ssh_host: a, role: training, max_parallel_jobs: 1}\n"


def look(bench: Any, airflow: AirflowFacts | None = AIRFLOW, **machine: Any) -> ConfigStatus:
    """How hex8_2p stands now."""
    here = replace(Machine.here(Home.find()), **({"disk_free": 10**12} | machine))
    facts = Facts(Settings.load(), airflow, here, Inventory.load(Home.find()), bench.now)
    return config_status(bench.ledger.standings("hex8_2p")[0], facts, Hosting(Home.find(), bench.ledger))


def whole(bench: Any, airflow: AirflowFacts | None = AIRFLOW) -> Status:
    return status(Home.find(), Settings.load(), bench.ledger, airflow, now=bench.now)


def done(bench: Any, generation: Any, lease: Any, *stages: Stage, **result: Any) -> None:
    for stage in stages:
        bench.ledger.record_stage_result(
            generation.id, stage.value, 0, {}, {"games": 1, **result}, lease.token, now=bench.now
        )


def why(found: ConfigStatus, stage: Stage) -> tuple[Why, str, datetime | None]:
    idle = found.cell(stage).idle
    assert idle is not None
    assert idle.change
    return idle.why, idle.reason, idle.until


def passed_games(bench: Any, generation: Any, lease: Any, name: str, moves: int) -> None:
    common = {"size": 1, "config": "hex8_2p", "generation": generation.id, "token": lease.token, "now": bench.now}
    meta = {"games": 9, "moves": moves}
    bench.ledger.record_artifact(sha(name), "games", name, parents=[], meta=meta, **common)
    bench.ledger.record_parity(
        sha(name), sha("p"), passed=True, checked=9, failed=0, generation=generation.id, token=lease.token
    )


def test_R67_doubtful_settings_are_told_by_status_once_on_stderr_and_in_the_table_of_a_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Home(home).ensure().pipeline_file.write_text("selfplay: {max_moves: 300}\n")
    assert main(["status", "--json"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    (said,) = json.loads(out)["warnings"]
    assert "all configs: max_moves 300 cuts games short" in said
    assert err.splitlines().count(f"ringrift: warning: {said}") == 1
    assert main(["status"]) == ExitCode.DONE
    assert f"warning: {said}" in capsys.readouterr().out
    table = Console(width=400, record=True, file=io.StringIO())
    table.print(summary(Progress("success", None, [], {}, None), "hex8_2p", [said]))
    assert said in table.export_text()


def test_R1_all_stage_status_has_every_config_and_stage_with_the_runbooks_keys(bench: Any) -> None:
    generation, lease = bench.running("manual__1")
    done(bench, generation, lease, Stage.SELFPLAY, Stage.PARITY)
    bench.ledger.start_stage(generation.id, "export", 0, {}, lease.token)
    bench.ledger.record_stage_error(generation.id, "export", 0, "No games found", lease.token)
    found = get_pipeline_orchestrator().get_all_stage_status()
    assert list(found) == list(CONFIGS)
    assert all(list(stages) == RUNBOOK_STAGES for stages in found.values())
    keys = {"completed", "status", "error", "started_at", "ended_at", "run_id"}
    assert all(keys <= set(cell) for stages in found.values() for cell in stages.values())
    mine = found["hex8_2p"]
    assert mine["selfplay"]["completed"] is True
    assert (mine["export"]["completed"], mine["export"]["status"], mine["export"]["error"]) == (
        False, "failed", "No games found",
    )  # fmt: skip
    assert mine["export"]["run_id"] == "manual__1"
    assert mine["export"]["started_at"] <= mine["export"]["ended_at"]


def test_R1_the_command_says_the_same_for_people_and_programs(bench: Any, capsys: Any) -> None:
    generation, lease = bench.running("manual__1")
    bench.promote("net", generation, lease)
    done(bench, generation, lease, Stage.SELFPLAY)
    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["configs"]["hex8_2p"]["selfplay"]["status"] == "completed"
    assert told["champions"]["hex8_2p"]["sha"] == sha("net")
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "the platform does not run; `ringrift up`" in shown
    assert sha("net")[:12] in shown
    assert main(["status", "hex8_2p"]) == 0
    shown = capsys.readouterr().out
    assert "random 97/100 (gate 1)" in shown
    assert all(stage.value in shown for stage in Stage)


def test_R2_one_cell_under_any_of_its_names_and_unknown_names_list_the_valid_ones(bench: Any) -> None:
    generation, lease = bench.running()
    done(bench, generation, lease, Stage.GAUNTLET, verdict="PASS", candidate=sha("n"))
    orchestrator = get_pipeline_orchestrator()
    assert orchestrator.get_stage_status("hex8_2p", "evaluation")["completed"] is True
    with pytest.raises(UsageError, match=r"unknown config 'hex8_5p'; did you mean .*hex8_2p"):
        orchestrator.get_stage_status("hex8_5p", "export")
    with pytest.raises(UsageError, match=r"unknown stage 'exprot'; did you mean export"):
        orchestrator.get_stage_status("hex8_2p", "exprot")


def test_F25_why_no_generation_is_under_way(bench: Any) -> None:
    assert why(look(bench, None), Stage.TRAIN)[0] is Why.NOT_RUNNING
    paused = replace(AIRFLOW, paused={"hex8_2p": True})
    assert why(look(bench, paused), Stage.TRAIN)[:2] == (Why.PAUSED, "DAG hex8_2p is paused")
    assert why(look(bench), Stage.TRAIN)[:2] == (Why.NO_SCHEDULE, "the profile quick starts no runs by the clock")


def test_F25_a_schedule_says_when_the_next_run_starts(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGRIFT_PROFILE", "standard")
    at = bench.now + timedelta(hours=1)
    found = why(look(bench, replace(AIRFLOW, next_runs={"hex8_2p": at})), Stage.SELFPLAY)
    assert (found[0], found[2]) == (Why.SCHEDULED, at)


def test_F25_a_run_that_waits_for_the_lease_names_holder_and_end(bench: Any) -> None:
    first, lease = bench.running("first")
    second = bench.generation("second", after=60)
    bench.ledger.try_grant_generation(second.id, bench.now)
    bench.ledger.finish_generation(first.id, Outcome.PASS, "won", lease.token, bench.now)
    held = bench.ledger.acquire_lease("generation/hex8_2p", "anna@host1", seconds=60, now=bench.now)
    expected = (Why.LEASE, f"lease held by anna@host1 until {held.expires_at.isoformat(timespec='seconds')}")
    assert why(look(bench), Stage.SELFPLAY) == (*expected, held.expires_at)
    bench.later(3600)
    assert why(look(bench), Stage.SELFPLAY)[0] is Why.STALLED


def test_F25_a_generation_whose_lease_ran_out_is_stalled(bench: Any) -> None:
    bench.running()
    assert why(look(bench), Stage.SELFPLAY)[0] is Why.NEXT
    bench.later(7200)
    kind, reason, _ = why(look(bench), Stage.SELFPLAY)
    assert kind is Why.STALLED
    assert "its lease ran out at" in reason


def test_F25_export_waits_for_so_many_more_games_then_for_new_ones(bench: Any) -> None:
    generation, lease = bench.running()
    done(bench, generation, lease, Stage.SELFPLAY, Stage.PARITY)
    passed_games(bench, generation, lease, "a", 1_500)
    kind, reason, _ = why(look(bench), Stage.EXPORT)
    assert (kind, reason) == (Why.GAMES, "waits for games: 1,500 rows passed parity, 500 more are needed")
    assert why(look(bench), Stage.TRAIN)[:2] == (Why.EARLIER, "waits for export")
    passed_games(bench, generation, lease, "b", 600)
    assert why(look(bench), Stage.EXPORT)[0] is Why.NEXT
    common = {"size": 1, "config": "hex8_2p", "generation": generation.id, "token": lease.token}
    parents = [(sha("a"), "games"), (sha("b"), "games")]
    bench.ledger.record_artifact(sha("d"), "dataset", "d", parents=parents, meta={"samples": 1}, **common)
    bench.ledger.record_artifact(sha("n"), "weights", "n", parents=[(sha("d"), "dataset")], meta={}, **common)
    assert why(look(bench), Stage.EXPORT)[1].endswith("trained on already")


def test_F25_a_cooldown_says_until_when(bench: Any) -> None:
    generation = bench.ledger.ensure_generation("hex8_2p", None, "run", bench.now, "standard", now=bench.now)
    lease = bench.ledger.try_grant_generation(generation.id, bench.now)
    done(bench, generation, lease, Stage.SELFPLAY, Stage.PARITY)
    passed_games(bench, generation, lease, "a", 10**6)
    trained = {"job_id": "j", "weights": sha("n"), "path": "p", "dataset": sha("d"), "parent": None, "samples": 1}
    trained |= {"train_loss": 0.1, "validation_loss": 0.1}
    bench.ledger.record_event(EventType.TRAINING_COMPLETED, "hex8_2p", generation.id, trained, now=bench.now)
    until = bench.now + timedelta(seconds=PROFILES["standard"].cooldown_seconds)
    found = why(look(bench), Stage.EXPORT)
    assert (found[0], found[2]) == (Why.COOLDOWN, until)
    bench.later(PROFILES["standard"].cooldown_seconds + 1)
    assert why(look(bench), Stage.EXPORT)[0] is not Why.COOLDOWN


def test_F25_disk_pool_and_a_missing_gpu_are_named(bench: Any) -> None:
    generation, lease = bench.running()
    assert why(look(bench, disk_free=10**8), Stage.SELFPLAY)[:2] == (
        Why.DISK, f"0.1 GB free on {Machine.here(Home.find()).name}, 0.5 GB are needed in profile tiny",
    )  # fmt: skip
    full = replace(AIRFLOW, pools={"selfplay": Pool(2, 0)})
    assert why(look(bench, full), Stage.SELFPLAY)[:2] == (Why.POOL, "all 2 slots of pool selfplay are taken")
    bench.ledger.finish_generation(generation.id, Outcome.PARTIAL, "enough", lease.token, bench.now)
    other = bench.ledger.ensure_generation("hex8_2p", None, "gpu", bench.now, "standard", now=bench.now)
    lease = bench.ledger.try_grant_generation(other.id, bench.now)
    done(bench, other, lease, Stage.SELFPLAY, Stage.PARITY, Stage.EXPORT)
    kind, reason, _ = why(look(bench, gpu=False), Stage.TRAIN)
    assert (kind, reason.startswith("no host with a GPU")) == (Why.HOST, True)
    assert why(look(bench, gpu=True), Stage.TRAIN)[0] is Why.NEXT
    hosts = Home.find().inventory
    hosts.parent.mkdir(exist_ok=True)
    hosts.write_text(HOSTS)
    assert why(look(bench, gpu=True), Stage.TRAIN)[1].endswith("trains on cuda and slow has none"), "hosts train then"
    hosts.write_text(f"{HOSTS}  fast: {{ssh_host: b, role: mixed, max_parallel_jobs: 1, gpu: {{memory_gb: 80}}}}\n")
    assert why(look(bench, gpu=False), Stage.TRAIN)[0] is Why.NEXT


def test_F25_a_net_that_passed_waits_for_a_person_where_promotion_is_not_automatic(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation, lease = bench.running()
    done(bench, generation, lease, Stage.GAUNTLET, verdict="PASS", candidate=sha("net"))
    done(bench, generation, lease, Stage.PROMOTE, promoted=False)
    assert why(look(bench), Stage.PROMOTE)[0] is Why.DONE
    monkeypatch.setenv("RINGRIFT_AUTO_PROMOTE", "false")
    assert why(look(bench), Stage.PROMOTE)[:2] == (
        Why.APPROVAL, f"{sha('net')[:12]} passed its gate and RINGRIFT_AUTO_PROMOTE is off",
    )  # fmt: skip


def test_a_failed_stage_keeps_its_reason_and_a_passed_over_one_says_so(bench: Any) -> None:
    generation, lease = bench.running()
    done(bench, generation, lease, Stage.EXPORT)
    bench.ledger.record_stage_error(generation.id, "train", 0, "Loss is NaN", lease.token)
    found = look(bench)
    assert why(found, Stage.SELFPLAY)[0] is Why.SKIPPED
    assert why(found, Stage.TRAIN)[:2] == (Why.FAILED, "Loss is NaN")
    assert why(found, Stage.GAUNTLET)[:2] == (Why.EARLIER, "waits for train")


def test_a_run_that_was_asked_for_one_stage_skips_those_before_it(bench: Any) -> None:
    asked = run_id_of("trigger", Stage.EXPORT.value, bench.now)
    generation = bench.ledger.ensure_generation("hex8_2p", None, asked, bench.now, "tiny", now=bench.now)
    bench.ledger.try_grant_generation(generation.id, bench.now)
    found = look(bench)
    assert [why(found, one)[0] for one in (Stage.SELFPLAY, Stage.PARITY)] == [Why.SKIPPED, Why.SKIPPED]
    assert why(found, Stage.EXPORT)[0] is Why.GAMES, "it is the one that waits"
    assert [first_stage(name) for name in (asked, "manual__2026-01-01", "a__b__c")] == [Stage.EXPORT, None, None]


def test_R1_a_failed_stage_points_to_the_log_of_the_job_that_failed_and_to_none_where_none_began(bench: Any) -> None:
    generation, lease = bench.running()
    names = [f"hex8_2p-g{generation.id}-selfplay-s{shard}" for shard in range(2)]
    for shard, name in enumerate(names):
        bench.ledger.start_stage(generation.id, "selfplay", shard, {}, lease.token, job_id=name)
    bench.ledger.record_stage_result(generation.id, "selfplay", 0, {}, {"games": 1}, lease.token)
    bench.ledger.record_stage_error(generation.id, "selfplay", 1, "it broke", lease.token)
    bench.ledger.record_stage_error(generation.id, "export", 0, "the disk is full", lease.token)
    changes = {cell.stage: cell.idle.change for cell in look(bench).stages if cell.idle is not None}
    assert changes[Stage.SELFPLAY] == f"`ringrift jobs {names[1]} --logs`, then `ringrift recover hex8_2p`"
    assert changes[Stage.EXPORT] == "`ringrift recover hex8_2p`"


def test_a_real_job_shows_its_progress_and_a_killed_one_is_stalled(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    beat = json.dumps({"phase": "playing", "done": 30, "total": 120, "unit": "games"})
    script = f"import pathlib, signal; pathlib.Path('heartbeat.jsonl').write_text('{beat}' + chr(10)); signal.pause()"
    job_id = f"hex8_2p-g{generation.id}-selfplay-s0"
    jobs = LocalJobs(house.jobs)
    jobs.submit_or_adopt(Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=60))
    try:
        bench.ledger.start_stage(generation.id, "selfplay", 0, {"games": 120}, lease.token, job_id=job_id)
        while jobs.poll(job_id).heartbeat is None:
            pass
        bench.later(10)
        cell = look(bench).cell(Stage.SELFPLAY)
        assert (cell.status, cell.idle) == ("running", None)
        assert cell.progress is not None
        assert (cell.progress.done, cell.progress.total, cell.progress.unit) == (30, 120, "games")
        assert cell.progress.rate is not None
        pid = jobs.poll(job_id).pid
        assert pid is not None
        subprocess.run(["kill", "-9", str(pid)], check=True)
        while not jobs.poll(job_id).over:
            pass
        kind, reason, _ = why(look(bench), Stage.SELFPLAY)
        assert kind is Why.STALLED
        assert f"job {job_id} is gone" in reason
        found = health(whole(bench))
        assert (found.is_healthy, found.details["active_count"], found.details["stalled_count"]) == (False, 1, 1)
    finally:
        jobs.kill(job_id)


def test_R6_health_has_the_runbooks_shape_its_reasons_and_exit_code_1(bench: Any, capsys: Any) -> None:
    assert health(whole(bench)).is_healthy is True
    ill = replace(AIRFLOW, components=HEALTHY | {"scheduler": "unhealthy"})
    assert health(whole(bench, ill)).reasons == ["scheduler is unhealthy"]
    bench.running()
    bench.later(7200)
    found = health(whole(bench))
    assert (found.is_healthy, found.details["active_count"], found.details["stalled_count"]) == (False, 1, 1)
    assert found.reasons[0].startswith("hex8_2p: its lease ran out at")
    assert get_pipeline_orchestrator().health_check().details.get("active_count", 0) == 1
    assert main(["health", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["is_healthy"] is False


def test_R28_who_waits_for_what_and_what_nobody_waits_for(bench: Any, capsys: Any) -> None:
    first, lease = bench.running("first")
    second = bench.generation("second", after=60)
    bench.ledger.try_grant_generation(second.id, bench.now)
    bench.ledger.start_stage(first.id, "train", 0, {}, lease.token, job_id="hex8_2p-g1-train")
    by_condition = {one.condition: one for one in whole(bench).waiting if one.config == "hex8_2p"}
    assert [one.run_id for one in by_condition[Condition.LEASE].waiters] == ["second"]
    assert by_condition[Condition.GAMES].waiters == []
    assert by_condition[Condition.TRAINING].lost == (
        "hex8_2p-g1-train runs and nobody waits for its end: `ringrift recover hex8_2p`"
    )
    assert "nobody waits for its end" in " ".join(health(whole(bench)).reasons)
    bench.ledger.note_wait(first.id, "hex8_2p", Condition.TRAINING, bench.now)
    assert [one.run_id for one in get_router().get_subscribers("TRAINING_COMPLETED")] == ["first"]
    assert get_router().get_subscribers("MODEL_PROMOTED") == []
    with pytest.raises(UsageError, match="unknown event 'TRAINING_DONE'; valid: SELFPLAY_COMPLETED"):
        get_router().get_subscribers("TRAINING_DONE")
    assert main(["waiting", "hex8_2p"]) == 0
    shown = capsys.readouterr().out
    assert "second" in shown
    assert "nobody" in shown
    bench.later(3600)
    assert {one.condition for one in whole(bench).waiting if one.silent} == {Condition.LEASE, Condition.TRAINING}


def test_status_watched_shows_again_until_it_is_interrupted(home: Any) -> None:
    program = "import sys; from ringrift_ops.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "status", "hex8_2p", "--watch"]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job has it ignored
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=heeding
    ) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += line.startswith("distribute")
            if seen == 2:
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130
