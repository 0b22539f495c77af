"""Listings by the page, on both databases."""

from __future__ import annotations

from ringrift_ops.ledger import Outcome
from tests.ledger.conftest import Workbench, sha


def test_trainings_and_datasets_come_by_the_page_newest_first(bench: Workbench) -> None:
    ledger = bench.ledger
    for number in range(3):
        generation, lease = bench.running(f"run{number}")
        job = f"hex8_2p-g{generation.id}-train"
        ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id=job, now=bench.now)
        bench.net(f"net{number}", generation, lease)
        if number < 2:
            ledger.record_stage_error(generation.id, "train", 0, "it broke", lease.token)
            ledger.finish_generation(generation.id, Outcome.ERROR, "over", lease.token, now=bench.now)
        bench.later(60)
    total, page = ledger.stage_page("train", limit=2)
    assert (total, [run.state for _, run in page]) == (3, ["running", "failed"])
    total, page = ledger.stage_page("train", config="hex8_2p", state="failed", limit=1, offset=1)
    assert (total, len(page), page[0][0]) == (2, 1, "hex8_2p")
    assert ledger.stage_page("train", config="hex8_3p", limit=1) == (0, [])
    assert [run.state for _, run in ledger.active_runs()] == ["running"]
    total, found = ledger.artifact_page("dataset", limit=2)
    assert (total, [one.sha for one in found]) == (3, [sha("net2-data"), sha("net1-data")])
    ledger.poison([sha("net1-data")], sha("net1-data"), reason="bad", actor="me")
    assert ledger.artifact_page("dataset", backed_out=False, limit=9)[0] == 2
    assert [one.sha for one in ledger.artifact_page("dataset", backed_out=True, limit=9)[1]] == [sha("net1-data")]


def test_newest_evaluations_deliveries_and_hosts_are_read_at_once(bench: Workbench) -> None:
    ledger = bench.ledger
    generation, lease = bench.running()
    for name in ("a", "b"):
        bench.net(name, generation, lease)
        bench.evaluation(name, generation, lease, None)
    assert {config: one.candidate for config, one in ledger.newest_evaluations().items()} == {"hex8_2p": sha("b")}
    assert ledger.deliveries_of([]) == []
    ledger.host_seen("up", "boot")
    ledger.host_missed("away", "no answer")
    states = ledger.host_states()
    assert (states["up"].away_since, states["away"].reason) == (None, "no answer")


def test_events_and_audit_are_read_backwards(bench: Workbench) -> None:
    ledger = bench.ledger
    for _ in range(5):
        ledger.record_audit("start", actor="me", door="http", config="hex8_2p", reason="why", detail={})
    newest = ledger.audit(limit=2)
    assert [row.id for row in ledger.audit(before=newest[0].id, limit=2)] == [newest[0].id - 2, newest[0].id - 1]
    bench.running()
    events = ledger.events(limit=1)
    assert all(event.id < events[0].id for event in ledger.events(before=events[0].id))
