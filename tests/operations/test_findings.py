"""What diagnosis says of stages that were not even started, once and not four times; verification after a fix."""

from __future__ import annotations

import re
import shlex
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.facts import facts
from ringrift_ops.hosts.folder import write_json
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Outcome, Slot
from ringrift_ops.ledger.records import Condition
from ringrift_ops.operations.alerts import Rule, firing
from ringrift_ops.operations.by import By
from ringrift_ops.operations.causes import BY_NAME
from ringrift_ops.operations.control import Controls
from ringrift_ops.operations.diagnosing import evidence_of, findings
from ringrift_ops.operations.diagnosis import diagnose, filled
from ringrift_ops.operations.locks import locks, release
from ringrift_ops.operations.observed import observe
from ringrift_ops.operations.traces import Evidence
from ringrift_ops.operations.verification import verify
from ringrift_ops.settings import Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage
from tests.operations.test_status import look

REFUSED = (
    "hex8_2p: selfplay is not started: 0.0 GB free on vm, 0.5 GB are needed in profile tiny; nothing is deleted by "
    "itself: see `ringrift retention plan`"
)


def test_R11_a_stage_that_was_not_even_started_has_its_cause(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    generation, lease = bench.running()
    for shard in range(2):
        bench.ledger.record_stage_error(generation.id, Stage.SELFPLAY.value, shard, REFUSED, lease.token)
    assert main(["diagnose", "hex8_2p", "--stage", "selfplay"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert shown.count("selfplay of hex8_2p: not started") == 1
    assert "disk_full (80%): the disk is full" in shown
    assert "fix: ringrift retention plan" in shown


def test_R11_a_fix_names_the_profile_where_the_settings_mean_another(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    bench.ledger.record_stage_error(generation.id, Stage.TRAIN.value, 0, "training diverged", lease.token)
    (run,) = bench.ledger.stage_runs(generation.id)
    hosting = Hosting(house, bench.ledger)
    rate = "ringrift train --config hex8_2p --data-path FILE --learning-rate R"
    (cause,) = diagnose(evidence_of(hosting, "hex8_2p", run))
    assert cause.fix == f"{rate} --profile {generation.profile}"
    house.settings_file.write_text(f"profile: {generation.profile}\n")
    (cause,) = diagnose(evidence_of(hosting, "hex8_2p", run))
    assert cause.fix == rate


def test_R11_what_ended_a_training_comes_before_how_it_went() -> None:
    figures = {"epochs_without_improvement": 50, "epoch_train_loss": 0.1, "epoch_validation_loss": 9.0}
    went = {"config": "hex8_2p", "heartbeat": {"phase": "epoch 60", "done": 1, "metrics": figures}}
    hung = Evidence("j", "train", state="running", heartbeat_age=10_000.0, **went)
    ended = Evidence("j", "train", state="failed", message="training diverged", **went)
    goes_on = Evidence("j", "train", state="running", heartbeat_age=1.0, **went)
    assert [one.cause for one in diagnose(hung)] == ["hung", "plateau", "overfitting"]
    assert [one.cause for one in diagnose(ended)] == ["diverged", "plateau", "overfitting"]
    assert [one.confidence for one in diagnose(goes_on)] == [0.8, 0.8]


def test_R11_what_was_said_once_is_shown_once() -> None:
    said = "the dataset is no NPZ file"
    tail = [f"ringrift: {said}", f"job hex8_2p-g1-train exited with code 4: {said} (log: log.txt)"]
    evidence = Evidence("hex8_2p-g1-train", "train", state="failed", error="DamagedDatasetError", message=said,
                        log_tail=tail)  # fmt: skip
    (cause,) = diagnose(evidence)
    assert cause.evidence == [f"DamagedDatasetError: {said}", tail[1]], "the log's place is told nowhere else"


def test_R11_the_fix_of_a_failed_parity_names_the_bundle_that_the_failure_names() -> None:
    told = "Parity validation failed: 1 games failed parity check; `ringrift parity diff data/parity/a b.json` shows it"
    evidence = Evidence("hex8_2p-g1-parity", "parity", state="failed", log_tail=[told])
    assert filled("ringrift parity diff {bundle}", evidence) == "ringrift parity diff 'data/parity/a b.json'"


def test_R80_a_fix_is_verified_by_the_last_attempt_and_not_by_those_before_it(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    job_id, jobs = f"hex8_2p-g{generation.id}-train", LocalJobs(house.jobs)
    bench.ledger.start_stage(generation.id, Stage.TRAIN.value, 0, {}, lease.token, job_id=job_id)
    controls = Controls(house, Settings.load(house), bench.ledger, None)
    held = {}
    mended = "kind          out_of_memory, step 9   reason  MemoryError: Unable to allocate 9 MiB"
    for script in (
        "print('filler\\n' * 40_000); raise SystemExit('out of memory')",
        "raise SystemExit('something else')",
        f"print({mended!r}); raise SystemExit('MemoryError')",
        f"print({mended!r})",
    ):
        job = Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=300)
        jobs.submit_or_adopt(job)
        assert jobs.wait(job_id, 300).over
        held[script] = next(one for one in verify("out of memory", controls, "hex8_2p") if one.name.startswith("log"))
    assert [(one.ok, one.evidence) for one in held.values()] == [
        (False, "out of memory"), (True, "none in it"), (False, "MemoryError"),
        (True, "none but what it mended by itself"),
    ]  # fmt: skip


def test_R11_a_fix_about_a_job_names_the_host_it_is_on_and_without_a_job_the_run_is_recovered() -> None:
    job = Evidence("hex8_2p-g7-train", "train", config="hex8_2p", state="failed", log_tail=["xyzzy"])
    looks = {"hung": "--kill", "crashed": "--logs --tail 100"}
    for cause, options in looks.items():
        fix = BY_NAME[cause].fix
        assert filled(fix, job) == f"ringrift jobs hex8_2p-g7-train {options}"
        assert filled(fix, replace(job, host="gpu1")) == f"ringrift jobs hex8_2p-g7-train --host gpu1 {options}"
        assert filled(fix, replace(job, job_id="")) == "ringrift recover hex8_2p"
    (unknown,) = diagnose(replace(job, host="gpu1"))
    assert unknown.fix == "ringrift jobs hex8_2p-g7-train --host gpu1 --logs --tail 100"


def test_every_command_that_is_printed_about_a_job_on_a_host_can_be_typed(
    bench: Any, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    house.inventory.write_text("hosts:\n  box: {role: edge, max_parallel_jobs: 1}\n")
    generation, lease = bench.running()
    job_id = f"hex8_2p-g{generation.id}-train"
    edge = EdgeJobs(Mirror(house, "box"))
    edge.mirror.heard(facts(house))
    edge.submit_or_adopt(Job(job_id=job_id, argv=("true",), spec={}, timeout_seconds=300))
    (edge.mirror.job(job_id) / "log.txt").write_text("its words\n")
    report = edge.mirror.job(job_id) / "report.json"
    begun = bench.now - timedelta(hours=5)
    figures = {"epochs_without_improvement": 9, "epoch_validation_loss": 1.0}
    beat = {"t": begun.isoformat(), "phase": "epoch 3", "done": 1, "unit": "steps", "metrics": figures}
    silent = edge.poll(job_id).model_dump() | {
        "started": begun.isoformat(),
        "heartbeat": beat,
        "heartbeat_age": 17_000.0,
    }
    write_json(report, {"number": 1, "at": time.time(), "status": silent})
    slots = [Slot("box", 1)]
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id=job_id, slots=slots, now=begun)

    told = [idle.change for cell in look(bench).stages if (idle := cell.idle) is not None]
    fixes = [x.fix for one in findings(house, bench.ledger, look(bench)) for x in one.causes if x.cause == "hung"]
    seen = observe(house, Settings.load(house), bench.ledger, None, bench.now)
    told += [one.fix for one in firing(seen)]
    dead = {job_id: seen.jobs[job_id].model_copy(update={"state": JobState.DEAD})}
    told += [one.fix for one in firing(replace(seen, jobs=dead)) if one.rule is Rule.UNEXPECTED_STATUS]
    bench.ledger.record_stage_error(generation.id, "train", 0, "it broke", lease.token)
    told += [idle.change for cell in look(bench).stages if (idle := cell.idle) is not None and "--logs" in idle.change]
    bench.ledger.finish_generation(generation.id, Outcome.ERROR, "it broke", lease.token, bench.now)
    failed = {"job_id": job_id, "attempt": 1, "error": "it broke"}
    bench.ledger.record_event(EventType.TRAINING_FAILED, "hex8_2p", generation.id, failed, bench.now)
    bench.running("the next")
    told += [one.fix for one in firing(observe(house, Settings.load(house), bench.ledger, None, bench.now))]

    printed = [command for words in told for command in re.findall(r"`(ringrift jobs [^`]+)`", words)]
    assert printed == [f"ringrift jobs {job_id} --host box --logs"] * 5
    for command in printed:
        assert main(shlex.split(command)[1:]) == ExitCode.DONE
        assert capsys.readouterr().out == "its words\n"
    # By what its host has said of it, and by what the platform waits for.
    assert fixes == [f"ringrift jobs {job_id} --host box --kill"] * 2
    report.unlink()
    assert main(shlex.split(fixes[0])[1:]) == ExitCode.DONE
    assert edge.poll(job_id).over
    assert main([*shlex.split(fixes[0])[1:], "--reason", "again"]) == ExitCode.DONE
    [row] = [one for one in bench.ledger.audit() if one.action == "end job"]
    assert (row.door, row.config, row.detail) == ("cli", "hex8_2p", {"job_id": job_id, "host": "box"})


def test_R33_the_list_of_jobs_says_what_an_exit_code_means(house: Home, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = LocalJobs(house.jobs)
    for code in (0, 1):
        job = Job(job_id=f"hex8_2p-g{code}-gauntlet", argv=(sys.executable, "-c", f"raise SystemExit({code})"), spec={},
                  timeout_seconds=300)  # fmt: skip
        jobs.submit_or_adopt(job)
        assert jobs.wait(job.job_id, 300).over
    assert main(["jobs"]) == ExitCode.DONE
    none, no = capsys.readouterr().out.splitlines()[1:]
    assert none.endswith("exited")
    assert no.endswith("exited, code 1: a gate said no")


class NoRuns:
    """An Airflow in which no run is under way."""

    def runs(self, dag_id: str, **query: object) -> list[dict[str, Any]]:
        return []


def test_R23_the_lock_of_a_run_that_is_over_is_dead_and_gives_up_its_turn(bench: Any, house: Home) -> None:
    generation, _ = bench.running()
    bench.ledger.note_wait(generation.id, "hex8_2p", Condition.TRAINING)
    airflow: Any = NoRuns()
    assert [one.in_use is None for one in locks(house, bench.ledger)] == [False], "it asked of late"
    assert [one.in_use for one in locks(house, bench.ledger, airflow=airflow)] == [None]
    behind = bench.ledger.ensure_generation("hex8_2p", None, "the next", datetime.now(UTC), "tiny")
    assert bench.ledger.try_grant_generation(behind.id) is None
    freed = release(house, bench.ledger, By.here("", "cli"), "hex8_2p", airflow=airflow)
    assert freed is not None
    assert bench.ledger.try_grant_generation(behind.id) is not None
