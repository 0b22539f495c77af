"""One writer at a time, and a late one is told so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.ledger import (
    EventType,
    GenerationState,
    LeaseHeldError,
    Ledger,
    MissingReasonError,
    StaleTokenError,
    generation_lease,
)


def test_a_second_writer_is_refused_with_the_holders_name(bench: Any) -> None:
    lease = bench.ledger.acquire_lease("retention", "anna@host1", seconds=60, now=bench.now)
    with pytest.raises(LeaseHeldError, match="lease retention is held by anna@host1 until 2026-01-01T00:01:00") as held:
        bench.ledger.acquire_lease("retention", "ben@host2", seconds=60, now=bench.now)
    assert held.value.holder == "anna@host1"
    assert held.value.exit_code is ExitCode.GATE_SAID_NO
    assert bench.ledger.acquire_lease("retention", "anna@host1", seconds=60, now=bench.later(5)).token == lease.token


def test_a_person_cannot_take_the_lease_of_a_running_generation(bench: Any) -> None:
    bench.running("scheduled__1")
    with pytest.raises(LeaseHeldError, match="held by scheduled__1"):
        bench.ledger.acquire_lease(generation_lease("hex8_2p"), "scheduled__1", now=bench.now)


def test_F24_tokens_only_grow_and_an_old_one_is_refused(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    tokens = []
    for turn in range(4):
        lease = ledger.acquire_lease("x", f"holder{turn}", seconds=10, now=bench.later(11))
        tokens.append(lease.token)
    assert tokens == [1, 2, 3, 4]
    assert ledger.check_token("x", 4).holder == "holder3"
    for stale in (0, 1, 3, 5):
        with pytest.raises(StaleTokenError, match=f"token {stale} is not in force"):
            ledger.check_token("x", stale)
    with pytest.raises(StaleTokenError):
        ledger.check_token("never taken", 1)


def test_an_expired_lease_still_counts_until_somebody_takes_it(bench: Any) -> None:
    lease = bench.ledger.acquire_lease("x", "slow", seconds=10, now=bench.now)
    bench.later(1000)
    assert bench.ledger.check_token("x", lease.token)
    assert bench.ledger.renew_lease("x", lease.token, seconds=10, now=bench.now).expires_at == bench.now + timedelta(
        seconds=10
    )


def test_renewing_never_shortens(bench: Any) -> None:
    lease = bench.ledger.acquire_lease("x", "a", seconds=100, now=bench.now)
    assert bench.ledger.renew_lease("x", lease.token, seconds=1, now=bench.now).expires_at == lease.expires_at


def test_giving_back_twice_is_once_and_anothers_is_refused(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    lease = ledger.acquire_lease("x", "a", seconds=10, now=bench.now)
    ledger.release_lease("x", lease.token, bench.now)
    ledger.release_lease("x", lease.token, bench.now)
    assert len(ledger.events(types=[EventType.LEASE_RELEASED])) == 1
    ledger.acquire_lease("x", "b", seconds=10, now=bench.now)
    with pytest.raises(StaleTokenError, match="held by b"):
        ledger.release_lease("x", lease.token, bench.now)


def test_a_lease_is_broken_with_a_recorded_reason_only(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    name = generation_lease("hex8_2p")
    with pytest.raises(MissingReasonError):
        ledger.force_release_lease(name, reason="  ", actor="anna")
    broken = ledger.force_release_lease(name, reason="host is gone", actor="anna", now=bench.now)
    assert broken is not None
    assert broken.holder == "one"
    event = ledger.events(types=[EventType.LEASE_FORCED])[0]
    assert (event.config, event.generation) == ("hex8_2p", one.id)
    assert event.payload["reason"] == "host is gone"
    assert event.payload["actor"] == "anna"
    with pytest.raises(StaleTokenError, match="held by nobody"):
        ledger.record_stage_result(one.id, "train", 0, {}, {}, lease.token)
    assert ledger.generation(one.id).state is GenerationState.WAITING
    assert ledger.force_release_lease(name, reason="again", actor="anna") is None
    again = ledger.try_grant_generation(one.id, bench.now)
    assert again is not None
    assert again.token == lease.token + 1


def test_held_leases_are_listed(bench: Any) -> None:
    bench.running("one")
    bench.ledger.acquire_lease("retention", "anna", seconds=5, now=bench.now)
    assert [lease.name for lease in bench.ledger.leases(bench.now)] == ["generation/hex8_2p", "retention"]
    assert [lease.name for lease in bench.ledger.leases(bench.later(6))] == ["generation/hex8_2p"]
    assert bench.ledger.lease("retention").holder == "anna"
    assert bench.ledger.lease("nothing") is None
