"""The rules of alerts fire on the facts and the moment they are given, on nothing else, and not a moment too soon."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.ledger import Condition, EventType, Outcome
from ringrift_ops.operations.alerts import Alert, Rule, firing
from ringrift_ops.operations.observed import Observed, Use, observe
from ringrift_ops.operations.surroundings import AirflowFacts
from ringrift_ops.settings import ALERTS, FRESHNESS, Settings
from ringrift_ops.stages.specs import Stage

HOUR = 3600.0


def seen(bench: Any, house: Home, now: datetime, **changes: Any) -> Observed:
    """What is observed on the ledger, this machine left out unless a test puts it in."""
    found = observe(house, Settings.load(house), bench.ledger, None, now)
    return replace(found, **({"uses": []} | changes))


def fires(bench: Any, house: Home, now: datetime, **changes: Any) -> list[Alert]:
    return firing(seen(bench, house, now, **changes))


def rules_of(alerts: list[Alert]) -> list[str]:
    return [one.rule.value for one in alerts]


def fail(bench: Any, kind: EventType, generation: int, count: int, config: str = "hex8_2p") -> None:
    for attempt in range(count):
        payload = {"job_id": f"{config}-g{generation}-x", "attempt": attempt, "error": "disk is gone"}
        bench.ledger.record_event(kind, config, generation, payload, bench.later(60))


def job(job_id: str, state: JobState, now: datetime, age: float, **heartbeat: Any) -> JobStatus:
    started = (now - timedelta(seconds=age)).isoformat()
    beat = {"t": now.isoformat(), "stage": "train", "unit": "steps"} | heartbeat if heartbeat else None
    return JobStatus(
        job_id=job_id, state=state, attempt=1, pid=1, raw_code=None, reason="killed" if state is JobState.DEAD else "",
        started=started, age=age, ended=None, heartbeat=beat, heartbeat_age=0.0,
    )  # fmt: skip


def test_R8_more_than_three_failures_of_stages_within_an_hour_fire_and_end_an_hour_later(
    bench: Any, house: Home
) -> None:
    generation, _ = bench.running()
    fail(bench, EventType.EXPORT_FAILED, generation.id, 3)
    assert rules_of(fires(bench, house, bench.now)) == []
    fail(bench, EventType.SELFPLAY_FAILED, generation.id, 1)
    found = fires(bench, house, bench.now)
    assert [(one.rule, one.config) for one in found] == [(Rule.STAGE_FAILURES, "hex8_2p")]
    assert found[0].summary == "hex8_2p: 4 failures of stages within an hour"
    assert "EXPORT_FAILED, SELFPLAY_FAILED; the last one: disk is gone" in found[0].evidence
    later = bench.now + timedelta(seconds=HOUR - 100)
    assert Rule.STAGE_FAILURES not in rules_of(fires(bench, house, later))


def test_R8_a_breaker_that_opens_twice_within_a_day_fires(bench: Any, house: Home) -> None:
    for _ in range(2):
        assert rules_of(fires(bench, house, bench.now)) == []
        for state in ("open", "closed"):
            values = {"state": state, "reason": "refused", "failures": 5}
            bench.ledger.change_breaker("hex8_2p", "export", values, now=bench.later(HOUR))
    found = fires(bench, house, bench.now)
    assert [one.key for one in found] == ["circuit_breaker_opens/hex8_2p/export"]
    assert rules_of(fires(bench, house, bench.now + timedelta(hours=22, minutes=30))) == []


def test_R8_a_pipeline_that_has_not_moved_for_two_hours_fires_until_it_moves(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    bench.ledger.start_stage(generation.id, "selfplay", 0, {}, lease.token, job_id="job", now=bench.now)
    begun = bench.now
    assert Rule.PIPELINE_STALL.value not in rules_of(fires(bench, house, begun + timedelta(hours=2)))
    late = begun + timedelta(hours=2, seconds=1)
    found = [one for one in fires(bench, house, late) if one.rule is Rule.PIPELINE_STALL]
    assert "nothing has moved since" in found[0].summary
    beating = {"job": job("job", JobState.RUNNING, late, 7200, phase="playing", done=5, total=9)}
    assert rules_of(fires(bench, house, late, jobs=beating)) == []
    bench.ledger.finish_generation(generation.id, Outcome.ERROR, "ended", lease.token, begun)
    assert rules_of(fires(bench, house, late)) == []


def test_R34_a_stage_that_could_begin_for_ten_minutes_and_has_not_fires(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    common = (generation.id, "selfplay", 0, {}, {"games": 1}, lease.token)
    bench.ledger.record_stage_result(*common, now=bench.later(60))
    assert rules_of(fires(bench, house, bench.now + timedelta(seconds=600))) == []
    late = bench.now + timedelta(seconds=601)
    assert [one.key for one in fires(bench, house, late)] == ["job_queued/hex8_2p/what follows selfplay"]
    bench.ledger.note_wait(generation.id, "hex8_2p", Condition.GAMES, bench.now)
    assert rules_of(fires(bench, house, late)) == []


def test_R34_a_run_that_waits_for_a_free_lease_fires_and_one_behind_another_does_not(bench: Any, house: Home) -> None:
    _, lease = bench.running("first")
    bench.generation("second")
    assert rules_of(fires(bench, house, bench.now + timedelta(seconds=601))) == ["job_queued"]
    bench.ledger.release_lease("generation/hex8_2p", lease.token, bench.now)
    late = bench.now + timedelta(seconds=601)
    assert "run " in fires(bench, house, late)[0].subject


def test_R34_a_job_that_is_gone_while_its_task_waits_fires(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id="job", now=bench.now)
    for seconds, state, expected in (
        (120, JobState.DEAD, []), (121, JobState.DEAD, ["unexpected_status"]), (121, JobState.RUNNING, []),
        (121, JobState.ABSENT, []), (601, JobState.ABSENT, ["unexpected_status"]),
    ):  # fmt: skip
        now = bench.now + timedelta(seconds=seconds)
        found = fires(bench, house, now, jobs={"job": job("job", state, now, seconds)})
        assert rules_of(found) == expected, (seconds, state)


def test_R34_a_failed_training_fires_until_one_succeeds(bench: Any, house: Home) -> None:
    generation, _ = bench.running()
    fail(bench, EventType.TRAINING_FAILED, generation.id, 1)
    found = fires(bench, house, bench.now)
    assert rules_of(found) == ["unexpected_status"]
    assert found[0].evidence == "disk is gone"
    done = {("TRAINING_COMPLETED", "hex8_2p"): bench.now + timedelta(seconds=1)}
    assert rules_of(fires(bench, house, bench.now, latest=done)) == []


@pytest.mark.parametrize("what", ["memory", "disk", "gpu0 memory"])
def test_R34_use_of_more_than_nine_tenths_fires(bench: Any, house: Home, what: str) -> None:
    at_limit, over = (Use("here", what, used, 1000e9) for used in (900e9, 901e9))
    assert rules_of(fires(bench, house, bench.now, uses=[at_limit])) == []
    found = fires(bench, house, bench.now, uses=[over])
    assert [one.key for one in found] == [f"resource_use/-/{what} of here"]
    assert found[0].evidence == "901.0 of 1000.0 GB, more than 90%"


def test_R34_this_machines_memory_and_disk_are_measured(bench: Any, house: Home) -> None:
    found = observe(house, Settings.load(house), bench.ledger, None)
    assert {"memory", "disk"} <= {use.what for use in found.uses}
    assert all(0.0 < use.share < 1.0 for use in found.uses)


@pytest.mark.parametrize("epochs", [2, 3])
def test_R21_R44_a_loss_that_has_not_improved_for_three_epochs_fires(bench: Any, house: Home, epochs: int) -> None:
    generation, lease = bench.running()
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id="job", now=bench.now)
    metrics = {"epochs_without_improvement": epochs, "epoch_validation_loss": 0.61}
    status = job("job", JobState.RUNNING, bench.now, 60, phase="epoch 4 of 9", done=4, total=9, metrics=metrics)
    found = fires(bench, house, bench.now, jobs={"job": status})
    assert rules_of(found) == (["loss_not_decreasing"] if epochs == 3 else [])
    assert ALERTS.stale_epochs == 3


def test_R44_an_epoch_of_more_than_half_an_hour_fires(bench: Any, house: Home) -> None:
    generation, lease = bench.running()
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id="job", now=bench.now)
    now = bench.now + timedelta(seconds=3000)
    for done, expected in ((400, ["epoch_timeout"]), (500, [])):  # of 1,200 steps in 4 epochs: 37.5 and 30 minutes each
        status = job("job", JobState.RUNNING, now, 3000, phase="epoch 2 of 4", done=done, total=1200)
        assert rules_of(fires(bench, house, now, jobs={"job": status})) == expected


def test_F15_a_stage_that_only_fails_is_stale_after_its_limit_whatever_else_goes_well(bench: Any, house: Home) -> None:
    generation, _ = bench.running()
    fail(bench, EventType.EXPORT_FAILED, generation.id, 1)
    first = bench.now
    bench.later(FRESHNESS[Stage.EXPORT] - 100)
    fail(bench, EventType.EXPORT_FAILED, generation.id, 1)
    stale = lambda now: [one for one in fires(bench, house, now) if one.rule is Rule.STAGE_STALE]  # noqa: E731
    assert stale(first + timedelta(seconds=FRESHNESS[Stage.EXPORT])) == []
    found = stale(first + timedelta(seconds=FRESHNESS[Stage.EXPORT] + 1))
    assert [one.summary for one in found] == ["hex8_2p: export has never succeeded"]


def test_F15_a_scheduled_config_is_stale_when_a_stage_was_not_even_tried_and_a_paused_one_is_not(
    bench: Any, house: Home
) -> None:
    house.settings_file.write_text("profile: standard\n")
    payload = {"batch": "0" * 64, "path": "x", "shard": 0, "games": 1, "moves": 1}
    bench.ledger.record_event(EventType.SELFPLAY_COMPLETED, "hex8_2p", None, payload, bench.now)
    late = bench.now + timedelta(seconds=FRESHNESS[Stage.SELFPLAY] + 1)
    assert [one.key for one in fires(bench, house, late)] == ["stage_stale/hex8_2p/selfplay"]
    airflow = AirflowFacts("http://x", {}, paused={"hex8_2p": True})
    paused = observe(house, Settings.load(house), bench.ledger, airflow, late)
    assert firing(replace(paused, uses=[])) == []
    assert fires(bench, house, bench.now + timedelta(days=8)) == []


def test_a_quiet_ledger_fires_nothing(bench: Any, house: Home) -> None:
    assert fires(bench, house, bench.now) == []
