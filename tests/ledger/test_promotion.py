"""The canonical pointer moves on evidence, under a live token, and only from where it stood."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ringrift_ops.ledger import (
    ArtifactConflictError,
    CanonicalMovedError,
    EventType,
    Ledger,
    MissingReasonError,
    NeverInForceError,
    NoEvidenceForPromotionError,
    Outcome,
    PoisonedArtifactError,
    StaleTokenError,
    UnknownArtifactError,
)
from ringrift_ops.ledger.promotion import WaiverTooLongError
from ringrift_ops.stages.specs import Verdict


def swap(bench: Any, owner: Any, lease: Any, expected: str | None, new: str, **other: Any) -> Any:
    arguments = {"generation": owner.id, "reason": "won", "actor": "test", "token": lease.token} | other
    return bench.ledger.compare_and_swap_canonical("hex8_2p", expected, new, **arguments)


def test_a_promotion_stores_its_evidence_and_is_made_once(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    net = bench.net("net", one, lease)
    evaluation = bench.evaluation("net", one, lease, None)
    assert ledger.canonical("hex8_2p") is None
    made = swap(bench, one, lease, None, net, evaluation=evaluation)
    assert (made.gate_version, made.counts) == ("1", [{"opponent": "random", "games": 100, "wins": 97}])
    found = ledger.canonical("hex8_2p")
    assert found is not None
    assert (found.sha, found.previous, found.promotion, found.token) == (net, None, made.id, lease.token)
    ledger.finish_generation(one.id, Outcome.PASS, "won", lease.token)
    assert swap(bench, one, lease, None, net, evaluation=evaluation) == made
    assert ledger.promotions("hex8_2p") == [made]
    event = ledger.events(types=[EventType.MODEL_PROMOTED])
    assert [one_event.payload["sha"] for one_event in event] == [net]
    assert ledger.canonical("hex8_3p") is None


def test_F10_nothing_is_promoted_without_a_pass_of_that_net_against_the_one_in_force(bench: Any) -> None:
    one, lease = bench.running("one")
    for name in ("good", "bad", "other"):
        bench.net(name, one, lease)
    good, bad, other = (bench.evaluation("good", one, lease, None),
                        bench.evaluation("bad", one, lease, None, Verdict.FAIL),
                        bench.evaluation("other", one, lease, "0" * 64))  # fmt: skip
    names = {row.id: row.candidate for row in bench.ledger.evaluations()}
    for candidate, evaluation, message in (
        (names[good], None, "no evaluation"),
        (names[bad], bad, "judged FAIL: inconclusive"),
        (names[bad], good, "is about"),
        (names[other], other, "measured against 000"),
        (names[good], 999, "no evaluation"),
    ):
        with pytest.raises(NoEvidenceForPromotionError, match=message):
            swap(bench, one, lease, None, candidate, evaluation=evaluation)
    assert bench.ledger.canonical("hex8_2p") is None
    assert bench.ledger.events(types=[EventType.MODEL_PROMOTED]) == []


def test_the_pointer_moves_only_from_where_the_caller_saw_it(bench: Any) -> None:
    one, lease = bench.running("one")
    bench.promote("net1", one, lease)
    net2 = bench.net("net2", one, lease)
    evaluation = bench.evaluation("net2", one, lease, None)
    with pytest.raises(CanonicalMovedError, match="not none as expected"):
        swap(bench, one, lease, None, net2, evaluation=evaluation)
    with pytest.raises(CanonicalMovedError):
        swap(bench, one, lease, net2, net2, evaluation=evaluation)


def test_F24_an_old_token_moves_nothing(bench: Any) -> None:
    one, lease = bench.running("one")
    net = bench.net("net", one, lease)
    evaluation = bench.evaluation("net", one, lease, None)
    bench.ledger.force_release_lease(lease.name, reason="stuck", actor="anna")
    with pytest.raises(StaleTokenError):
        swap(bench, one, lease, None, net, evaluation=evaluation)
    bench.ledger.withdraw_generation(one.id, "given up", bench.now)
    two, newer = bench.running("two")
    with pytest.raises(StaleTokenError):
        swap(bench, one, lease, None, net, evaluation=evaluation)
    with pytest.raises(StaleTokenError):
        swap(bench, one, newer, None, net, evaluation=evaluation)
    assert bench.ledger.canonical("hex8_2p") is None
    assert two.id != one.id


def test_only_weights_of_that_config_become_canonical(bench: Any) -> None:
    one, lease = bench.running("one")
    bench.net("net", one, lease)
    games = next(row.sha for row in bench.ledger.artifacts(kind="games"))
    with pytest.raises(ArtifactConflictError, match="not weights of hex8_2p"):
        swap(bench, one, lease, None, games)
    with pytest.raises(UnknownArtifactError):
        swap(bench, one, lease, None, "f" * 64)


def test_rolling_back_needs_the_lease_and_a_reason_but_no_new_evidence(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    bench.promote("net1", one, lease)
    first = ledger.canonical("hex8_2p")
    assert first is not None
    bench.promote("net2", one, lease, expected=first.sha)
    second = ledger.canonical("hex8_2p")
    assert second is not None
    ledger.finish_generation(one.id, Outcome.PASS, "won", lease.token)
    own = ledger.acquire_lease(lease.name, "anna", now=bench.now)
    with pytest.raises(MissingReasonError):
        swap(bench, one, own, second.sha, first.sha, generation=None, kind="rollback", reason="")
    back = swap(bench, one, own, second.sha, first.sha, generation=None, kind="rollback", reason="plays worse")
    assert (back.kind, back.previous, back.evaluation) == ("rollback", second.sha, None)
    assert [row.kind for row in ledger.promotions("hex8_2p", limit=2)] == ["rollback", "promote"]
    with pytest.raises(NoEvidenceForPromotionError):
        swap(bench, one, own, first.sha, second.sha, generation=None)


def test_R56_the_way_back_leads_only_to_nets_that_were_in_force_for_that_config(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    judged_bad, nets = bench.net("judged bad", one, lease), []
    bench.evaluation("judged bad", one, lease, None, Verdict.FAIL)
    back = {"generation": None, "reason": "plays worse"}
    for name in ("first", "second", "third"):
        bench.promote(name, one, lease, expected=nets[-1] if nets else None)
        nets.append(ledger.canonical("hex8_2p").sha)  # type: ignore[union-attr]  # it was promoted
    first, second, third = nets
    ledger.finish_generation(one.id, Outcome.PASS, "won", lease.token)
    own = ledger.acquire_lease(lease.name, "anna", now=bench.now)
    were = f"those that were, newest first: {second[:12]}, {first[:12]};"
    for kind in ("rollback", "back_out"):
        with pytest.raises(NeverInForceError, match=f"{judged_bad[:12]} was never in force, .*{were}"):
            swap(bench, one, own, third, judged_bad, kind=kind, **back)
    with pytest.raises(NeverInForceError):
        ledger.check_way_back("hex8_2p", judged_bad)
    assert ledger.canonical("hex8_2p").sha == third  # type: ignore[union-attr]
    ledger.poison([second], second, reason="bad games", actor="anna")
    with pytest.raises(PoisonedArtifactError):
        ledger.check_way_back("hex8_2p", second)
    with pytest.raises(NeverInForceError, match=f"newest first: {first[:12]};"):
        ledger.check_way_back("hex8_2p", judged_bad)
    swap(bench, one, own, third, first, kind="rollback", **back)
    swap(bench, one, own, first, third, kind="rollback", **back)


def test_a_delivery_recorded_twice_is_one_and_a_verified_one_stays(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    net = bench.net("net", one, lease)

    def deliver(*, verified: bool, error: str | None) -> Any:
        return ledger.record_delivery(
            net, "host1", "/models/net", verified=verified, error=error, generation=one.id, token=lease.token,
            now=bench.later(1),
        )  # fmt: skip

    assert not deliver(verified=False, error="disk full").verified
    good = deliver(verified=True, error=None)
    assert deliver(verified=True, error=None) == good
    assert ledger.deliveries(net) == [good]
    assert len(ledger.events(types=[EventType.MODEL_DISTRIBUTED])) == 2


def test_a_waiver_has_a_reason_and_an_end(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    with pytest.raises(MissingReasonError):
        ledger.record_waiver("parity", reason="", actor="anna")
    with pytest.raises(WaiverTooLongError):
        ledger.record_waiver("parity", reason="node is broken", actor="anna", seconds=10**6)
    waiver = ledger.record_waiver("parity", reason="node is broken", actor="anna", config="hex8_2p", now=bench.now)
    everywhere = ledger.record_waiver("parity", reason="all", actor="anna", seconds=60, now=bench.now)
    assert ledger.waivers("parity", config="hex8_2p", now=bench.now) == [everywhere, waiver]
    assert ledger.waivers("parity", config="hex8_3p", now=bench.now) == [everywhere]
    assert ledger.waivers("parity", now=bench.now + timedelta(hours=23)) == [waiver]
    assert ledger.waivers(now=bench.now + timedelta(hours=24)) == []
