"""When a part of self-play counts as crawling, and with whom it stays: figures only; real hosts are in tests/hosts."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.ledger import HERE, Ledger, Play, PlayShard, Slot, StageRun, StaleTokenError
from ringrift_ops.settings import MOVING
from ringrift_ops.stages.moving import crawls, left_seconds

CONFIG = "hex8_2p"
FAST, SLOW, THIRD = Slot("fast", 1, seconds=100.0), Slot("slow", 2), Slot("third", 1, seconds=100.0)


def status(age: float, done: int, rate: float, *, silent: float = 0.0, reason: str = "") -> JobStatus:
    """A job of 100 games that has run for ``age`` seconds and said ``rate`` games per second ``silent`` seconds ago."""
    beat = {"done": done, "total": 100, "metrics": {"games_per_second": rate}} if done else None
    return JobStatus(
        job_id="x", state=JobState.RUNNING, attempt=1, pid=1, raw_code=None, reason=reason, started=None, age=age,
        ended=None, heartbeat=beat, heartbeat_age=silent if beat else None,
    )  # fmt: skip


def test_what_is_left_is_told_by_what_was_played_up_to_the_last_heartbeat() -> None:
    assert left_seconds(status(100.0, 50, 0.5)) == 100.0
    assert left_seconds(status(200.0, 50, 0.5, silent=100.0)) == 200.0  # frozen half the time
    assert left_seconds(status(100.0, 90, 0.1)) == 100.0  # 80 of them in an earlier attempt
    assert left_seconds(status(100.0, 0, 0.0)) == math.inf
    assert left_seconds(status(100.0, 50, 0.5, reason="its host is away")) is None
    assert left_seconds(status(100.0, 50, 0.5).model_copy(update={"state": JobState.DONE})) is None


@pytest.mark.parametrize(
    ("job", "elsewhere", "moves"),
    [
        (status(300.0, 10, 10 / 300), 100.0, True),  # 2,700 s left against 100 s
        (status(300.0, 50, 50 / 300), 100.0, False),  # 300 s left: not more than three times as long
        (status(119.0, 1, 1 / 119), 100.0, False),  # too early
        (status(300.0, 10, 10 / 300), 400.0, False),  # the other one would not be done by now
        (status(130.0, 60, 60 / 130), 10.0, False),  # 87 s left: not worth it
        (status(299.0, 0, 0.0), 100.0, False),  # no game yet: games end side by side
        (status(301.0, 0, 0.0), 100.0, True),
        (status(900.0, 50, 1.0, silent=850.0), 100.0, True),  # frozen
    ],
)
def test_a_part_crawls_only_when_it_is_far_slower_and_another_host_would_be_done(
    job: JobStatus, elsewhere: float, moves: bool
) -> None:
    assert (MOVING.least_seconds, MOVING.factor, MOVING.gain_seconds) == (120.0, 3.0, 120.0)
    assert crawls(job, elsewhere) is moves


def generation(ledger: Ledger, slots: list[Slot]) -> tuple[StageRun, int]:
    made = ledger.ensure_generation(CONFIG, None, "run", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(made.id)
    assert lease is not None
    return ledger.start_stage(made.id, "selfplay", 0, {}, lease.token, job_id="j", slots=slots), lease.token


def part(ledger: Ledger, slots: list[Slot]) -> tuple[PlayShard, int]:
    play: Play = ledger.begin_play({"x": 1}, {"seed": 1, "config": CONFIG, "games": 60}, 1)
    return ledger.begin_part(play, 0, "j", slots), 0


@pytest.mark.parametrize("begun", [generation, part])
def test_a_second_host_counts_as_taken_until_it_is_settled(ledger: Ledger, begun: object) -> None:
    assert callable(begun)
    run, token = begun(ledger, [SLOW])
    run = ledger.begin_second(run, [FAST], token)
    assert (run.host, run.second, run.hosts) == ("slow", "fast", ["slow", "fast"])
    assert ledger.jobs_per_host() == {"slow": 1, "fast": 1}
    assert ledger.begin_second(run, [THIRD], token).second == "fast"  # one is enough
    run = ledger.settle(run, "fast", token)
    assert (run.host, run.second, run.second_at) == ("fast", None, None)
    assert ledger.jobs_per_host() == {"fast": 1}
    assert ledger.settle(run, "slow", token).host == "fast"  # decided already
    assert ledger.begin_second(run, [FAST], token).second is None  # no free host but its own
    assert ledger.begin_second(run, [], token).second is None


def test_a_host_that_is_full_takes_nothing_a_second_time(ledger: Ledger) -> None:
    run, token = generation(ledger, [SLOW])
    play = ledger.begin_play({"x": 1}, {"seed": 1, "config": CONFIG, "games": 60}, 1)
    ledger.begin_part(play, 0, "j", [FAST])
    assert ledger.begin_second(run, [FAST], token).second is None


def test_F24_an_old_token_moves_nothing(ledger: Ledger) -> None:
    run, token = generation(ledger, [SLOW])
    with pytest.raises(StaleTokenError):
        ledger.begin_second(run, [FAST], token - 1)
    run = ledger.begin_second(run, [FAST], token)
    with pytest.raises(StaleTokenError):
        ledger.settle(run, "fast", token - 1)


def test_a_part_that_gets_another_host_has_no_second_one(ledger: Ledger) -> None:
    run, token = generation(ledger, [SLOW, FAST])
    assert run.host == "fast" or run.host == "slow"
    other = SLOW if run.host == "fast" else FAST
    run = ledger.begin_second(run, [THIRD], token)
    moved = ledger.start_stage(run.generation, "selfplay", 0, {}, token, job_id="j", slots=[SLOW, FAST], leave=run.host)
    assert (moved.host, moved.second) == (other.host, None)
    assert HERE not in ledger.jobs_per_host()
