"""Who takes the next part of divided work: by measured rates, never waiting for what hangs or is away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ringrift_ops.ledger import BetterHostError, Ledger, NoFreeHostError, Slot, divided
from ringrift_ops.ledger.shares import first_shares, seconds_on

FAST, SLOW = Slot("fast", 2, seconds=10.0), Slot("slow", 1, seconds=100.0)


def test_hosts_share_by_rate_and_an_unmeasured_one_counts_as_the_median() -> None:
    assert divided([FAST, SLOW], 21) == {"fast": 20, "slow": 1}
    assert divided([Slot("a", 1), Slot("b", 3)], 8) == {"a": 2, "b": 6}
    three = [Slot("a", 1, seconds=5.0), Slot("b", 1, seconds=50.0), Slot("c", 1, seconds=20.0), Slot("new", 1)]
    assert seconds_on(three) == [5.0, 50.0, 20.0, 20.0]
    assert divided([], 3) == {}


def test_the_last_part_waits_for_a_fast_host_that_is_done_sooner() -> None:
    assert first_shares([FAST, SLOW], {}, 1) == {"fast": 1}
    assert first_shares([FAST, SLOW], {"fast": [3.0, 4.0]}, 1) == {}
    assert first_shares([FAST, SLOW], {"fast": [3.0, 4.0]}, 40) == {"slow": 1}


@pytest.mark.parametrize("running", [[400.0, 500.0], [200.0, 190.0]])
def test_nobody_waits_for_a_host_that_hangs(running: list[float]) -> None:
    assert first_shares([FAST, SLOW], {"fast": running}, 1) == {"slow": 1}


def test_nobody_waits_for_a_host_that_is_away() -> None:
    assert first_shares([FAST, SLOW], {"fast": [3.0, 4.0]}, 1, away={"fast"}) == {"slow": 1}


def test_without_measures_every_free_slot_is_used_gpu_hosts_last(ledger: Ledger) -> None:
    slots = [Slot("gpu", 1, rank=1), Slot("a", 2), Slot("b", 1)]
    play = ledger.begin_play({"x": 1}, {"seed": 1, "config": "hex8_2p", "games": 60}, 6)
    hosts = [ledger.begin_part(play, shard, f"job{shard}", slots, waiting=6 - shard).host for shard in range(4)]
    assert hosts == ["a", "b", "a", "gpu"]
    with pytest.raises(NoFreeHostError, match="a 2 of 2, b 1 of 1"):
        ledger.begin_part(play, 4, "job4", slots)
    assert ledger.begin_part(play, 1, "job1", slots).host == "b"
    moved = ledger.begin_part(play, 1, "job1", [Slot("gpu", 2, rank=1)])
    assert (moved.host, ledger.jobs_per_host()) == ("gpu", {"a": 2, "gpu": 2})


def test_rates_decide_in_the_transaction_that_begins_a_part(ledger: Ledger) -> None:
    play = ledger.begin_play({"x": 1}, {"seed": 1, "config": "hex8_2p", "games": 60}, 3)
    assert ledger.begin_part(play, 0, "job0", [FAST], waiting=3).host == "fast"
    assert ledger.begin_part(play, 1, "job1", [FAST, SLOW], waiting=2).host == "fast"
    with pytest.raises(BetterHostError, match="a busy host will be done sooner"):
        ledger.begin_part(play, 2, "job2", [FAST, SLOW], waiting=1)
    ledger.host_missed("fast", "nobody listens")
    assert ledger.begin_part(play, 2, "job2", [FAST, SLOW], waiting=1).host == "slow"


def test_a_rate_is_kept_per_host_config_and_player(ledger: Ledger) -> None:
    for rate in (3.0, 4.0):
        ledger.note_rate("a", "hex8_2p", "net, 64 simulations", rate)
    ledger.note_rate("a", "hex8_2p", "heuristic, 0 simulations", 400.0)
    ledger.note_rate("b", "hex8_3p", "net, 64 simulations", 5.0)
    assert ledger.host_rates("hex8_2p", "net, 64 simulations") == {"a": 4.0}


def test_R65_a_command_that_died_is_found_by_what_it_asked_and_shows_as_interrupted(ledger: Ledger) -> None:
    play = ledger.begin_play({"games": 60}, {"seed": 1, "config": "hex8_2p", "games": 60}, 2)
    ledger.begin_part(play, 0, "job0", [FAST])
    ledger.play_seen(play.id, {0: (12, 3.5)})
    (found,) = ledger.plays(prefix=play.id[:12])
    state = ledger.play_state(found)
    assert (state["phase_status"], state["games_completed"], state["games_target"]) == ("running", 12, 60)
    assert state["workers"] == {"fast": {"status": "active", "games": 12}}
    assert ledger.pipeline_state()["play"] == play.id
    assert ledger.pipeline_state("hex8_3p")["phase_status"] == "idle"
    later = found.seen_at + timedelta(hours=1)
    assert ledger.play_state(found, later)["workers"]["fast"]["status"] == "interrupted"
    assert ledger.play_state(found, later)["phase_status"] == "interrupted"
    ledger.finish_part(play.id, 0, {"games": 30})
    ledger.finish_part(play.id, 0, {"games": 31})
    assert [row.result for row in ledger.play_shards(play.id)] == [{"games": 30}]
    assert ledger.finish_play(play.id, {"games": 60}).state == "done"
