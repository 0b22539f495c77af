"""Remedies around trainings: each has mended its trouble, is on record, and stops at its bound."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.home import Home
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Slot, StaleTokenError, generation_lease
from ringrift_ops.operations.control import Controls
from ringrift_ops.operations.remedies import ACTOR, Report, mend, more_memory, next_hosts, troubles
from ringrift_ops.operations.traces import beat_seconds
from ringrift_ops.platform.facts import controls
from ringrift_ops.settings import HOSTS, REMEDIES, Settings

LEASE = generation_lease("hex8_2p")
INVENTORY = """
hosts:
  small: {ssh_host: 127.0.0.1, role: training, max_parallel_jobs: 1, gpu: {memory_gb: 16}, memory_gb: 32}
  large: {ssh_host: 127.0.0.2, role: training, max_parallel_jobs: 1, gpu: {memory_gb: 80}, memory_gb: 256}
"""
SLOTS = [Slot("small", 1, rank=0), Slot("large", 1, rank=0)]


class Answers:
    """What Airflow answers when it is asked for the runs that are under way."""

    def __init__(self, *runs: str) -> None:
        self._runs = runs

    def runs(self, _dag: str, **query: object) -> list[dict[str, Any]]:
        return [{"dag_run_id": run, "state": "running"} for run in self._runs if query.get("state") == "running"]


def here(*runs: str, **profile: Any) -> Controls:
    """This home, with these runs under way in Airflow and these settings of its profile."""
    found = controls()
    rows = {
        name: {key: row.model_copy(update=profile) for key, row in by.items()}
        for name, by in found.settings.profiles.items()
    }
    return Controls(found.home, found.settings.model_copy(update={"profiles": rows}), found.ledger, Answers(*runs))  # type: ignore[arg-type]


def states(reports: list[Report]) -> list[tuple[str, str]]:
    return [(one.kind, one.state) for one in reports]


def test_R80_a_stale_lease_is_released_on_record_and_one_in_use_is_left_alone(bench: Any, house: Home) -> None:
    _, lease = bench.running("crashed")
    assert troubles(here("crashed")) == [], "its run is under way"
    assert troubles(controls()) == [], "without Airflow nobody can know"
    assert states(mend(here(remedy_mode="observe"))) == [("lease", "observed")]
    assert states(mend(here(remedy_mode="off"))) == []
    assert bench.ledger.audit() == []
    [report] = mend(here())
    assert (report.state, report.tries, report.bound) == ("mended", 1, REMEDIES.lease)
    assert [line.ok for line in report.verified] == [True]
    with pytest.raises(StaleTokenError):
        bench.ledger.check_token(LEASE, lease.token)
    assert [(row.actor, row.action) for row in bench.ledger.audit()] == [
        (ACTOR, "remedy lease"), (ACTOR, "release lock"),
    ]  # fmt: skip
    applied, verified = bench.ledger.events(types=[EventType.REMEDY_APPLIED, EventType.REMEDY_VERIFIED])
    assert applied.payload["action"] == "released the lease of crashed"
    assert verified.payload["ok"] is True
    assert "REMEDY_APPLIED" in (house.logs / "coordination.log").read_text()
    assert mend(here()) == []


def test_R80_a_remedy_gives_up_at_its_bound_and_says_so_once(bench: Any) -> None:
    for number in range(REMEDIES.lease):
        generation, _ = bench.running(f"crashed{number}")
        assert states(mend(here())) == [("lease", "mended")]
        bench.ledger.withdraw_generation(generation.id, "its run is over")
    bench.running("again")
    assert states(mend(here())) == [("lease", "gave up")]
    assert states(mend(here())) == [("lease", "gave up")]
    assert bench.ledger.lease(LEASE).holder == "again"
    [told] = bench.ledger.events(types=[EventType.REMEDY_GAVE_UP])
    assert told.payload["tries"] == REMEDIES.lease
    assert "whose run is over" in told.payload["reason"]


def test_R80_links_are_repaired_of_configs_whose_profile_says_so_and_of_no_other(bench: Any, house: Home) -> None:
    mine, other = house.best_link("hex8_2p"), house.best_link("hex8_3p")
    for link in (mine, other):
        link.symlink_to("nowhere")
    found = here()
    for rows in found.settings.profiles.values():
        rows["hex8_3p"] = rows["hex8_3p"].model_copy(update={"remedy_mode": "off"})
    [report] = mend(found)
    assert (report.kind, report.config, report.state) == ("links", "hex8_2p", "mended")
    assert report.action == f"repaired {mine.name}"
    assert (mine.is_symlink(), other.is_symlink()) == (False, True)


@pytest.fixture
def silent(bench: Any, house: Home) -> Iterator[str]:
    """A real job that made two steps 20 s apart and then none for two minutes."""
    generation, lease = bench.running("run")
    job_id = f"hex8_2p-g{generation.id}-train"
    script = (
        "import json, signal\n"
        "with open('heartbeat.jsonl', 'w') as f:\n"
        "    for n in 1, 2:\n"
        "        beat = {'t': f'2026-11-25T12:00:{n * 20}+00:00', 'phase': 'epoch 1', 'done': n}\n"
        "        print(json.dumps(beat), file=f)\n"
        "signal.pause()\n"
    )
    jobs = LocalJobs(house.jobs)
    jobs.submit_or_adopt(
        Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=600, grace_seconds=0.1)
    )
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id=job_id)
    while jobs.poll(job_id).heartbeat is None:
        assert jobs.poll(job_id).state is JobState.RUNNING
    yield job_id
    jobs.kill(job_id)


def aged(house: Home, job_id: str, seconds: float) -> None:
    beat = JobFolder(LocalJobs(house.jobs).folder(job_id)).heartbeat
    moment = beat.stat().st_mtime - seconds
    os.utime(beat, (moment, moment))


def test_R80_a_stalled_job_is_first_only_observed_and_then_ended_for_its_task_to_start_again(
    silent: str, bench: Any, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mend(here("run")) == []
    aged(house, silent, 55)
    assert mend(here("run")) == [], "three of its steps are 60 s"
    aged(house, silent, 100)
    assert states(mend(here("run"))) == [("stalled_job", "observed")], "the packaged profiles only observe"
    assert LocalJobs(house.jobs).poll(silent).state is JobState.RUNNING
    assert main(["remedies", "hex8_2p", "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)
    assert "phase 'epoch 1', where two signs of life were 20 s apart at most" in shown["reason"]
    [report] = mend(here("run", remedy_stalled="act"))
    assert (report.state, report.action) == ("mended", f"ended job {silent}")
    assert LocalJobs(house.jobs).poll(silent).over
    assert mend(here("run", remedy_stalled="act")) == []


def test_R80_a_job_that_stalls_again_and_again_is_left_to_a_person(silent: str, bench: Any, house: Home) -> None:
    aged(house, silent, 300)
    payload = {"kind": "stalled_job", "target": silent, "reason": "r", "action": "a", "step": None, "bound": 3}
    for number in range(REMEDIES.stalled_job):
        bench.ledger.record_event(EventType.REMEDY_APPLIED, "hex8_2p", None, payload | {"tries": number + 1})
    assert states(mend(here("run", remedy_stalled="act"))) == [("stalled_job", "gave up")]
    assert LocalJobs(house.jobs).poll(silent).state is JobState.RUNNING
    later = bench.now + timedelta(seconds=REMEDIES.window_seconds + 60)
    assert [one.tries for one in mend(here("run", remedy_stalled="observe"), now=later)] == [0]


def test_R39_a_training_that_ran_out_of_memory_moves_to_a_host_with_more_of_it(bench: Any, house: Home) -> None:
    house.inventory.parent.mkdir(exist_ok=True)
    house.inventory.write_text(INVENTORY)
    generation, lease = bench.running("run")
    spec = {"device": "cuda", "batch_size": 512}
    job = {"job_id": f"hex8_2p-g{generation.id}-train", "slots": SLOTS[:1]}
    bench.ledger.start_stage(generation.id, "train", 0, spec, lease.token, **job)
    bench.ledger.record_stage_error(
        generation.id, "train", 0, "training ran out of memory at step 0 (CUDA out of memory)", lease.token
    )
    [run] = bench.ledger.stage_runs(generation.id)
    assert run.host == "small"
    for _ in range(REMEDIES.memory):
        assert [slot.host for slot in more_memory(here(), run, SLOTS)] == ["large"]
    assert more_memory(here(), run, SLOTS) == [], "at its bound"
    assert [event.type for event in bench.ledger.events(types=[EventType.REMEDY_GAVE_UP])] == ["REMEDY_GAVE_UP"]
    other = replace(run, error="training diverged at step 3")
    assert more_memory(here(), other, SLOTS) == [], "memory would not help"
    assert more_memory(here(), replace(run, host="large"), SLOTS) == [], "there is no larger one"
    assert more_memory(here(remedy_mode="observe"), run, SLOTS) == []


def test_R80_a_stage_leaves_a_lost_host_within_its_bound_and_waits_for_its_own_after_it(
    bench: Any, house: Home
) -> None:
    house.inventory.parent.mkdir(exist_ok=True)
    house.inventory.write_text(INVENTORY)
    generation, lease = bench.running("run")
    job = {"job_id": f"hex8_2p-g{generation.id}-selfplay-s0", "slots": SLOTS[:1]}
    run = bench.ledger.start_stage(generation.id, "selfplay", 0, {}, lease.token, **job)
    assert next_hosts(here(), run, SLOTS) == (SLOTS, None), "its host is up"
    away = datetime.now(UTC) - timedelta(seconds=HOSTS.lost_seconds + 60)
    bench.ledger.host_missed("small", "nobody listens", away)
    assert next_hosts(here(remedy_mode="observe"), run, SLOTS) == (SLOTS[:1], None)
    assert next_hosts(here(), run, SLOTS[:1]) == (SLOTS[:1], "small"), "there is no other"
    assert bench.ledger.audit() == []
    for _ in range(REMEDIES.lost_host):
        assert next_hosts(here(), run, SLOTS) == (SLOTS, "small")
    assert next_hosts(here(), run, SLOTS) == (SLOTS[:1], None), "at its bound"
    kinds = (EventType.REMEDY_APPLIED, EventType.REMEDY_VERIFIED, EventType.REMEDY_GAVE_UP)
    told = [len(bench.ledger.events(types=[kind])) for kind in kinds]
    assert told == [REMEDIES.lost_host, REMEDIES.lost_host, 1]


def test_R80_a_phase_is_held_to_its_own_pace(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.jsonl"
    beats = [(0, "epoch 1"), (1, "epoch 1"), (2, "epoch 1"), (3, "validation"), (103, "validation")]
    start = datetime(2026, 11, 25, tzinfo=UTC)
    lines = [{"t": (start + timedelta(seconds=at)).isoformat(), "phase": phase} for at, phase in beats]
    for count, pace in ((2, 1.0), (3, 1.0), (4, None), (5, 100.0)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))
        assert beat_seconds(path) == pace


def test_the_modes_of_remedies_are_settings_of_a_profile(house: Home) -> None:
    house.settings_file.parent.mkdir(exist_ok=True)
    house.settings_file.write_text("profiles:\n  quick:\n    remedy_mode: observe\n    remedy_stalled: act\n")
    row = Settings.load(house).profile("hex8_2p", "quick")
    assert (row.remedy_mode, row.remedy_stalled) == ("observe", "act")
