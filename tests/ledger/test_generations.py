"""Generations are served one at a time and in order, whoever asks first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringrift_ops.ledger import (
    EventType,
    GenerationState,
    Ledger,
    Outcome,
    StaleTokenError,
    UnknownGenerationError,
    derived_seed,
    generation_key,
    generation_lease,
    seed_of,
)
from ringrift_ops.settings import UnknownConfigError, UnknownProfileError
from ringrift_ops.settings.tables import LEASES

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_run_finds_its_generation_again(ledger: Ledger) -> None:
    first = ledger.ensure_generation("hex8_2p", DAY, "scheduled__1", DAY, "quick")
    again = ledger.ensure_generation("hex8_2p", DAY, "backfill__9", DAY + timedelta(days=9), "tiny")
    assert again == first
    manual = ledger.ensure_generation("hex8_2p", None, "manual__1", DAY, "quick")
    assert ledger.ensure_generation("hex8_2p", None, "manual__1", DAY, "quick") == manual
    assert len({first.id, manual.id, ledger.ensure_generation("hex8_3p", DAY, "scheduled__1", DAY, "quick").id}) == 3


def test_a_logical_date_is_a_moment_not_a_text(ledger: Ledger) -> None:
    elsewhere = DAY.astimezone(timezone(timedelta(hours=5)))
    first = ledger.ensure_generation("hex8_2p", DAY, "a", DAY, "quick")
    assert ledger.ensure_generation("hex8_2p", elsewhere, "b", DAY, "quick") == first
    assert first.logical_date == DAY


def test_every_seed_comes_from_the_key(ledger: Ledger) -> None:
    generation = ledger.ensure_generation("hex8_2p", DAY, "a", DAY, "quick")
    assert generation.key == generation_key("hex8_2p", DAY, "whatever")
    assert generation.seed == seed_of(generation.key)
    assert 0 <= generation.seed < 2**63
    shards = {derived_seed(generation.seed, "selfplay", shard) for shard in range(100)}
    assert len(shards) == 100
    assert all(0 <= seed < 2**63 for seed in shards)


def test_unknown_names_make_no_generation(ledger: Ledger) -> None:
    with pytest.raises(UnknownConfigError):
        ledger.ensure_generation("hex9_2p", None, "a", DAY, "quick")
    with pytest.raises(UnknownProfileError):
        ledger.ensure_generation("hex8_2p", None, "a", DAY, "fast")
    with pytest.raises(UnknownGenerationError, match="no generation 7"):
        ledger.try_grant_generation(7)
    assert ledger.generations() == []


def test_one_generation_of_a_config_at_a_time(bench: Any) -> None:
    one, lease = bench.running("one")
    two = bench.generation("two")
    assert bench.ledger.try_grant_generation(two.id, bench.now) is None
    other, _ = bench.running("one", config="square8_2p")
    assert other.id != one.id
    bench.ledger.finish_generation(one.id, Outcome.FAIL, "inconclusive", lease.token, bench.later(1))
    second = bench.ledger.try_grant_generation(two.id, bench.now)
    assert second is not None
    assert second.token == lease.token + 1
    assert [bench.ledger.generation(g.id).number for g in (one, two)] == [1, 2]


def test_asking_again_keeps_the_lease(bench: Any) -> None:
    one, lease = bench.running("one")
    again = bench.ledger.try_grant_generation(one.id, bench.later(60))
    assert again is not None
    assert again.token == lease.token
    assert again.expires_at == lease.expires_at + timedelta(seconds=60)
    assert bench.ledger.try_grant_generation(one.id, bench.now, holder="another run of the same date") is None
    assert bench.ledger.generation(one.id).state is GenerationState.RUNNING


def test_the_earlier_logical_date_is_served_first_though_it_came_last(bench: Any) -> None:
    _, lease = bench.running("now")
    ledger: Ledger = bench.ledger
    manual = ledger.ensure_generation("hex8_2p", None, "manual", DAY, "tiny", now=bench.now)
    late = ledger.ensure_generation("hex8_2p", DAY + timedelta(days=2), "b2", DAY, "tiny", now=bench.now)
    early = ledger.ensure_generation("hex8_2p", DAY - timedelta(days=2), "b1", DAY, "tiny", now=bench.now)
    assert [g.id for g in ledger.waiting_generations("hex8_2p")] == [early.id, manual.id, late.id]
    ledger.release_lease(generation_lease("hex8_2p"), lease.token, bench.now)
    ledger.withdraw_generation(bench.generation("now").id, "given up")
    for waiting in (late, manual):
        assert ledger.try_grant_generation(waiting.id, bench.now) is None
    assert ledger.try_grant_generation(early.id, bench.now) is not None


moments = st.integers(0, 525_600).map(lambda minutes: DAY + timedelta(minutes=minutes))
runs_of_a_config = st.lists(
    st.tuples(st.one_of(st.none(), moments), moments), min_size=1, max_size=6, unique_by=lambda run: run[0] or run[1]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=runs_of_a_config, asking=st.randoms(use_true_random=False))
def test_any_set_of_dates_is_served_in_order_whoever_asks_first(
    sqlite_bench: Any, runs: list[tuple[datetime | None, datetime]], asking: Any
) -> None:
    ledger: Ledger = sqlite_bench.ledger
    now = sqlite_bench.now
    for old in ledger.generations(state=GenerationState.WAITING):
        ledger.withdraw_generation(old.id, "left over by an example that failed")
    sqlite_bench.examples = getattr(sqlite_bench, "examples", 0) + 1
    shift = timedelta(days=1000 * sqlite_bench.examples)
    ids = {}
    for number, (logical, after) in enumerate(runs):
        when = None if logical is None else logical + shift
        run = f"{sqlite_bench.examples}-{number}"
        ids[ledger.ensure_generation("hex8_2p", when, run, after + shift, "tiny", now=now).id] = when or after + shift
    served = []
    while len(served) < len(ids):
        order = [number for number in ids if number not in served]
        asking.shuffle(order)
        granted = [(number, lease) for number in order if (lease := ledger.try_grant_generation(number, now))]
        assert len(granted) == 1
        number, lease = granted[0]
        ledger.finish_generation(number, Outcome.PARTIAL, "done", lease.token, now)
        served.append(number)
    assert [ids[number] for number in served] == sorted(ids.values())


def test_F25_a_waiting_run_that_died_holds_nobody_up(bench: Any) -> None:
    dead, alive = bench.generation("dead", after=0), bench.generation("alive", after=10)
    assert bench.ledger.try_grant_generation(alive.id, bench.later(LEASES.waiting_seconds)) is None
    assert bench.ledger.try_grant_generation(alive.id, bench.later(1)) is not None
    assert bench.ledger.generation(dead.id).state is GenerationState.WAITING


def test_the_parent_is_the_canonical_of_the_first_grant_and_stays(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    assert ledger.generation(one.id).parent is None
    bench.promote("net1", one, lease)
    first = ledger.canonical("hex8_2p")
    assert first is not None
    assert ledger.try_grant_generation(one.id, bench.now) is not None
    assert ledger.generation(one.id).parent is None
    ledger.finish_generation(one.id, Outcome.PASS, "won", lease.token)
    two, lease = bench.running("two")
    assert ledger.generation(two.id).parent == first.sha
    bench.promote("net2", two, lease, expected=first.sha)
    bench.later(LEASES.generation_seconds + 1)
    assert ledger.try_grant_generation(two.id, bench.now).token == lease.token + 1  # type: ignore[union-attr]
    assert ledger.generation(two.id).parent == first.sha


def test_a_generation_whose_holder_died_is_taken_up_again_with_a_larger_token(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    again = ledger.try_grant_generation(one.id, bench.later(LEASES.generation_seconds + 1), holder="retry")
    assert again is not None
    assert again.token == lease.token + 1
    with pytest.raises(StaleTokenError, match=r"token 1 is not in force, it is held by retry with token 2"):
        ledger.record_stage_result(one.id, "selfplay", 0, {}, {"games": 1}, lease.token)
    assert [event.type for event in ledger.events(types=[EventType.GENERATION_STARTED])] == ["GENERATION_STARTED"]


def test_after_expiry_the_next_in_line_gets_the_lease_and_the_dead_one_waits(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    two = bench.generation("two", after=10)
    assert ledger.try_grant_generation(two.id, bench.later(LEASES.generation_seconds - 1)) is None
    taken = ledger.try_grant_generation(two.id, bench.later(2))
    assert taken is not None
    assert ledger.generation(one.id).state is GenerationState.WAITING
    with pytest.raises(StaleTokenError):
        ledger.finish_generation(one.id, Outcome.PASS, "too late", lease.token)
    assert ledger.try_grant_generation(one.id, bench.now) is None


def test_finishing_frees_the_lease_and_twice_is_once(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    done = ledger.finish_generation(one.id, Outcome.ERROR, "selfplay failed", lease.token, bench.later(5))
    assert (done.state, done.outcome, done.finished_at) == (GenerationState.FINISHED, Outcome.ERROR, bench.now)
    assert ledger.finish_generation(one.id, Outcome.PASS, "again", lease.token, bench.later(5)) == done
    assert ledger.leases(bench.now) == []
    assert len(ledger.events(types=[EventType.GENERATION_FINISHED])) == 1
    with pytest.raises(StaleTokenError, match="held by nobody"):
        ledger.record_stage_result(one.id, "train", 0, {}, {}, lease.token)


def test_a_finished_generation_can_be_run_again_and_keeps_its_number_and_parent(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    ledger.finish_generation(one.id, Outcome.ERROR, "power", lease.token, bench.now)
    again = ledger.try_grant_generation(one.id, bench.later(1))
    assert again is not None
    assert again.token > lease.token
    found = ledger.generation(one.id)
    assert (found.state, found.number) == (GenerationState.RUNNING, 1)
    ledger.finish_generation(one.id, Outcome.PASS, "won", again.token, bench.now)
    assert ledger.generation(one.id).outcome is Outcome.PASS


def test_a_withdrawn_generation_leaves_the_line_and_may_come_back(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    first, second = bench.generation("first"), bench.generation("second", after=5)
    assert ledger.withdraw_generation(first.id, "run deleted").state is GenerationState.WITHDRAWN
    assert [g.id for g in ledger.waiting_generations("hex8_2p")] == [second.id]
    assert ledger.try_grant_generation(first.id, bench.now) is not None
    assert ledger.withdraw_generation(first.id, "no", bench.now).state is GenerationState.RUNNING


def test_work_that_exists_is_returned_not_repeated(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    assert ledger.stage_result(one.id, "selfplay", 1) is None
    started = ledger.start_stage(one.id, "selfplay", 1, {"games": 10}, lease.token, job_id="j", now=bench.now)
    assert started.state == "running"
    assert ledger.stage_result(one.id, "selfplay", 1) is None
    done = ledger.record_stage_result(
        one.id, "canonical_selfplay", 1, {"games": 10}, {"games": 10}, lease.token, now=bench.later(9)
    )
    assert (done.started_at, done.finished_at, done.job_id) == (started.started_at, bench.now, "j")
    ledger.finish_generation(one.id, Outcome.FAIL, "x", lease.token)
    repeated = ledger.record_stage_result(one.id, "selfplay", 1, {}, {"games": 99}, lease.token)
    assert repeated == done
    assert ledger.start_stage(one.id, "selfplay", 1, {}, lease.token) == done
    assert ledger.record_stage_error(one.id, "selfplay", 1, "late error", lease.token) == done
    assert ledger.stage_result(one.id, "selfplay", 1) == {"games": 10}
    assert ledger.stage_runs(one.id, "selfplay") == [done]


def test_a_failed_stage_says_why_and_may_succeed_later(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    failed = ledger.record_stage_error(one.id, "train", 0, "loss is not finite", lease.token)
    assert (failed.state, failed.error) == ("failed", "loss is not finite")
    assert ledger.start_stage(one.id, "train", 0, {"a": 1}, lease.token).error is None
    done = ledger.record_stage_result(one.id, "train", 0, {"a": 1}, {"weights": "x"}, lease.token)
    assert done.state == "done"
    assert ledger.forget_stage(one.id, "train", lease.token) == 1
    assert ledger.stage_result(one.id, "train") is None
    with pytest.raises(StaleTokenError):
        ledger.forget_stage(one.id, "train", lease.token - 1)


def test_a_failure_whose_last_line_a_power_cut_tore_is_on_record_wherever_it_is_told(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    torn, shown = "lost: step 7\0\0", "lost: step 7␀␀"
    ledger.start_stage(one.id, "train", 0, {}, lease.token)
    failed = ledger.record_stage_error(one.id, "train", 0, torn, lease.token)
    assert (failed.state, failed.error) == ("failed", shown)
    ledger.record_event("TRAINING_FAILED", "hex8_2p", one.id, {"job_id": "j", "attempt": 1, "error": torn})
    [told] = ledger.events(types=[EventType.TRAINING_FAILED])
    assert told.payload["error"] == torn
    ledger.change_breaker("hex8_2p", "train", {"reason": torn})
    assert ledger.breaker("hex8_2p", "train").reason == shown
    assert ledger.finish_generation(one.id, Outcome.ERROR, f"train: {torn}", lease.token).reason == f"train: {shown}"


def test_R65_the_pipeline_state_has_the_runbooks_keys(bench: Any, tmp_path: Any) -> None:
    ledger: Ledger = bench.ledger
    assert ledger.pipeline_state()["phase_status"] == "idle"
    one, lease = bench.running("one")
    bench.generation("two")
    for shard in (0, 1):
        ledger.start_stage(one.id, "selfplay", shard, {"games": 30}, lease.token, job_id=f"j{shard}")
    ledger.record_stage_result(one.id, "selfplay", 0, {"games": 30}, {"games": 30}, lease.token)
    state = ledger.pipeline_state("hex8_2p")
    assert {key: state[key] for key in ("current_phase", "phase_status", "games_completed", "games_target")} == {
        "current_phase": "selfplay", "phase_status": "running", "games_completed": 30, "games_target": 60,
    }  # fmt: skip
    assert state["workers"] == {"j0": "done", "j1": "running"}
    assert state["started_at"] == bench.now.isoformat()
    ledger.record_stage_result(one.id, "selfplay", 1, {"games": 30}, {"games": 30}, lease.token)
    ledger.start_stage(one.id, "train", 0, {}, lease.token)
    assert ledger.pipeline_state()["configs"]["hex8_2p"]["phase_status"] == "waiting_for_training"
    ledger.record_stage_error(one.id, "train", 0, "x", lease.token)
    assert ledger.pipeline_state()["phase_status"] == "failed"
    ledger.finish_generation(one.id, Outcome.ERROR, "x", lease.token)
    assert ledger.pipeline_state()["phase_status"] == "waiting_for_lease"
    assert ledger.write_pipeline_state(tmp_path / "state.json").read_text().startswith("{")
