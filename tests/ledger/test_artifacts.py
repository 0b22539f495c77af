"""Artifacts know what they were made from, and are recorded once."""

from __future__ import annotations

from typing import Any

import pytest

from ringrift_ops.ledger import (
    ArtifactConflictError,
    GamePair,
    Ledger,
    StaleTokenError,
    UnknownArtifactError,
)
from ringrift_ops.ledger.artifacts import UnknownKindError
from ringrift_ops.stages.specs import Verdict


def sha(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def record(ledger: Ledger, name: str, kind: str, parents: list[tuple[str, str]] | None = None, **other: Any) -> Any:
    meta = {"games": {"games": 10, "moves": 1000}, "dataset": {"samples": 5}}.get(kind, {})
    arguments: dict[str, Any] = {"meta": meta, "token": 0} | other
    return ledger.record_artifact(
        sha(name), kind, f"store/{name}", 123, "hex8_2p", arguments.pop("generation", None),  # type: ignore[arg-type]
        parents=[(sha(parent), role) for parent, role in parents or []], **arguments,
    )  # fmt: skip


def test_recorded_twice_is_recorded_once(ledger: Ledger) -> None:
    first = record(ledger, "games", "games")
    again = ledger.record_artifact(
        sha("games"), "games", "elsewhere", 5, "hex8_2p", None, parents=[], meta={"games": 1, "moves": 1}, token=0
    )
    assert again == first
    assert ledger.artifacts() == [first] == [ledger.artifact(sha("games"))]
    assert ledger.artifact_named(sha("games")[:8]) == first


def test_one_sha_is_one_thing(ledger: Ledger) -> None:
    record(ledger, "games", "games")
    with pytest.raises(ArtifactConflictError, match="recorded as games of hex8_2p"):
        record(ledger, "games", "weights")
    with pytest.raises(UnknownKindError, match="valid: games"):
        record(ledger, "x", "picture")
    with pytest.raises(UnknownKindError, match="games, moves"):
        record(ledger, "x", "games", meta={})


def test_F2_a_parent_that_was_never_recorded_is_refused(ledger: Ledger) -> None:
    with pytest.raises(UnknownArtifactError, match=sha("unseen")):
        record(ledger, "data", "dataset", [("unseen", "games")])
    assert ledger.artifacts() == []
    for start in ("ff", ""):
        with pytest.raises(UnknownArtifactError):
            ledger.artifact_named(start)


def test_F24_a_late_result_is_refused(bench: Any) -> None:
    one, lease = bench.running("one")
    bench.ledger.force_release_lease(lease.name, reason="gone", actor="anna")
    with pytest.raises(StaleTokenError):
        record(bench.ledger, "late", "games", generation=one.id, token=lease.token)
    two, lease = bench.running("one")
    with pytest.raises(StaleTokenError):
        record(bench.ledger, "foreign", "games", generation=None, token=lease.token)
    record(bench.ledger, "good", "games", generation=two.id, token=lease.token)


def test_lineage_goes_from_a_net_to_its_games_and_back(ledger: Ledger) -> None:
    for batch in ("b1", "b2", "b3"):
        record(ledger, batch, "games")
    record(ledger, "data1", "dataset", [("b1", "games"), ("b2", "games")])
    record(ledger, "net1", "weights", [("data1", "dataset")])
    record(ledger, "data2", "dataset", [("b2", "games"), ("b3", "games")])
    record(ledger, "net2", "weights", [("data2", "dataset"), ("net1", "parent")])
    record(ledger, "report", "gauntlet_report", [("net2", "candidate"), ("net1", "previous")])
    up = ledger.lineage(sha("net2"))
    assert {step.artifact.sha: step.depth for step in up.ancestors} == {
        sha("data2"): 1, sha("net1"): 1, sha("b2"): 2, sha("b3"): 2, sha("data1"): 2, sha("b1"): 3,
    }  # fmt: skip
    assert {step.role for step in up.ancestors if step.depth == 1} == {"dataset", "parent"}
    assert [step.artifact.sha for step in up.descendants] == [sha("report")]
    down = ledger.lineage(sha("b1"))
    assert down.ancestors == []
    assert {step.artifact.sha for step in down.descendants} == {sha(n) for n in ("data1", "net1", "net2", "report")}
    descent = ledger.descent("hex8_2p")
    for one in ledger.artifacts():
        walked = ledger.lineage(one.sha)
        assert descent.ancestors([one.sha]) - {one.sha} == {step.artifact.sha for step in walked.ancestors}
        assert descent.descendants([one.sha]) - {one.sha} == {step.artifact.sha for step in walked.descendants}
    assert descent.ancestors([sha("data1"), sha("data2")]) == {sha(n) for n in ("data1", "data2", "b1", "b2", "b3")}
    assert ledger.descent("hex8_3p").ancestors([sha("net2")]) == {sha("net2")}
    with pytest.raises(UnknownArtifactError):
        ledger.lineage(sha("nothing"))


def test_F17_only_games_whose_parity_passed_are_in_the_window(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    for name in ("old", "failed", "unchecked", "new"):
        record(ledger, name, "games", now=bench.later(1))
    for name in ("old", "failed", "new"):
        ledger.record_parity(
            sha(name), sha("report"), passed=name != "failed", checked=10, failed=int(name == "failed"),
            generation=None, token=0,
        )  # fmt: skip
    window = ledger.games_in_window("hex8_2p")
    assert [batch.sha for batch in window] == [sha("new"), sha("old")]
    assert [(batch.games, batch.rows) for batch in window] == [(10, 1000)] * 2
    assert [batch.sha for batch in ledger.games_in_window("hex8_2p", rows=1)] == [sha("new")]
    assert ledger.games_in_window("hex8_3p") == []
    ledger.record_parity(
        sha("failed"), sha("later"), passed=True, checked=10, failed=3, generation=None, token=0
    )  # fmt: skip
    assert {batch.sha: batch.games for batch in ledger.games_in_window("hex8_2p")}[sha("failed")] == 7
    with pytest.raises(UnknownArtifactError):
        ledger.record_parity(sha("x"), sha("r"), passed=True, checked=1, failed=0, generation=None, token=0)


def test_new_rows_are_those_that_no_net_was_trained_on(ledger: Ledger) -> None:
    for name in ("b1", "b2"):
        record(ledger, name, "games")
        ledger.record_parity(sha(name), sha("r"), passed=True, checked=1, failed=0, generation=None, token=0)
    assert ledger.new_rows("hex8_2p") == 2000
    record(ledger, "data", "dataset", [("b1", "games")])
    assert ledger.new_rows("hex8_2p") == 2000
    record(ledger, "net", "weights", [("data", "dataset")])
    assert ledger.new_rows("hex8_2p") == 1000


def test_F12_an_evaluation_keeps_every_pair_its_counts_and_the_gate_version(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, lease = bench.running("one")
    net = bench.net("net", one, lease)
    pairs = [GamePair("heuristic", opening, 7 * opening, [1.0, 0.5], ["a", "b"]) for opening in range(60)]
    arguments: dict[str, Any] = {
        "config": "hex8_2p", "generation": one.id, "candidate": net, "previous": None, "gate_version": "1+random=0.8",
        "verdict": Verdict.FAIL, "reason": "inconclusive", "opponents": [{"opponent": "heuristic", "games": 120}],
        "token": lease.token,
    }  # fmt: skip
    first = ledger.record_evaluation(sha("report"), pairs=pairs, **arguments)
    assert ledger.record_evaluation(sha("report"), pairs=[], **arguments) == first
    assert ledger.evaluation_of(sha("report")) == first == ledger.evaluations("hex8_2p", candidate=net, limit=5)[0]
    assert ledger.game_pairs(first.id, "heuristic") == pairs
    assert ledger.game_pairs(first.id, "random") == []
    assert first.opponents == [{"opponent": "heuristic", "games": 120}]
    with pytest.raises(UnknownArtifactError):
        ledger.record_evaluation(sha("other"), pairs=[], **(arguments | {"candidate": sha("unseen")}))
    with pytest.raises(StaleTokenError):
        ledger.record_evaluation(sha("other"), pairs=[], **(arguments | {"token": 99}))
