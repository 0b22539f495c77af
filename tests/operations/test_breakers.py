"""Breakers count infrastructure errors only, survive the process, open, half-open by themselves, and close."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, GateError, InfrastructureError, NoDataError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Ledger, MissingReasonError
from ringrift_ops.operations import breakers
from ringrift_ops.operations.by import By
from ringrift_ops.runbook import get_circuit_breaker_status, reset_circuit_breaker
from ringrift_ops.settings import OPERATIONS
from ringrift_ops.stages.specs import Stage
from tests.operations.test_status import Why, look, why

BROKEN = InfrastructureError("No space left on device")


def fail(ledger: Ledger, times: int, error: Any = BROKEN, stage: Stage = Stage.EXPORT) -> None:
    for _ in range(times):
        breakers.note(ledger, "hex8_2p", stage, error)


def long_ago(ledger: Ledger) -> None:
    """As if the breaker had opened before its time was up."""
    past = datetime.now(UTC) - timedelta(seconds=OPERATIONS.breaker_seconds + 1)
    ledger.change_breaker("hex8_2p", "export", {"opened_at": past})


def test_R9_status_has_the_runbooks_shape_per_action_and_config(bench: Any, capsys: Any) -> None:
    fail(bench.ledger, OPERATIONS.breaker_failures)
    found = get_circuit_breaker_status()
    assert list(found) == [stage.value for stage in Stage]
    assert (found["export"]["open"], found["export"]["failures"]) == (True, OPERATIONS.breaker_failures)
    assert (found["train"]["open"], found["train"]["failures"]) == (False, 0)
    mine = found["export"]["configs"]["hex8_2p"]
    assert mine["reason"] == "No space left on device"
    assert mine["half_opens_at"] - mine["since"] == timedelta(seconds=OPERATIONS.breaker_seconds)
    assert get_circuit_breaker_status("hex8_3p")["export"]["open"] is False
    assert main(["breakers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["export"]["open"] is True
    assert main(["breakers"]) == 0
    assert "No space left on device" in capsys.readouterr().out


def test_R10_one_or_all_are_reset_with_an_audit_row_and_a_second_time_changes_nothing(bench: Any, capsys: Any) -> None:
    ledger: Ledger = bench.ledger
    fail(ledger, OPERATIONS.breaker_failures)
    fail(ledger, 2, stage=Stage.TRAIN)
    changed = reset_circuit_breaker("export_action", reason="disk was freed")
    assert [(one.action, one.state) for one in changed] == [("export", "open")]
    assert main(["breakers", "reset", "--reason", "all well again"]) == 0
    assert "hex8_2p/train (closed, 2 failures)" in capsys.readouterr().out
    assert reset_circuit_breaker(None) == []
    told = [(one.action, one.reason, one.detail["breakers"]) for one in ledger.audit()]
    assert told == [
        ("reset breakers", "disk was freed", ["hex8_2p/export"]),
        ("reset breakers", "all well again", ["hex8_2p/train"]),
    ]
    assert all(one.failures == 0 for one in ledger.breakers())
    with pytest.raises(UsageError, match="unknown stage 'exprot'"):
        reset_circuit_breaker("exprot")
    fail(ledger, OPERATIONS.breaker_failures)
    with pytest.raises(MissingReasonError, match="needs a reason"):
        breakers.reset(ledger, By("anna", "", "http"), None)
    with pytest.raises(MissingReasonError, match="needs a reason"):
        reset_circuit_breaker(None, reason=" ")
    assert main(["breakers", "reset"]) == ExitCode.WRONG_USAGE
    assert ledger.breaker("hex8_2p", "export").state == "open"
    assert main(["clear-training-state", "hex8_2p"]) == ExitCode.DONE, "as pages print it"


def test_F25_only_infrastructure_errors_count_and_any_answer_starts_the_count_anew(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    fail(ledger, OPERATIONS.breaker_failures - 1)
    for answer in (None, GateError("parity said no"), NoDataError("no games"), UsageError("no such board")):
        breakers.note(ledger, "hex8_2p", Stage.EXPORT, answer)
        assert ledger.breaker("hex8_2p", "export").failures == 0
        fail(ledger, OPERATIONS.breaker_failures - 1)
    breakers.admit(ledger, "hex8_2p", Stage.EXPORT)
    assert ledger.events(types=[EventType.BREAKER_OPENED]) == []


def test_F25_an_open_breaker_refuses_says_until_when_and_lets_a_trial_through_by_itself(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    fail(ledger, OPERATIONS.breaker_failures)
    with pytest.raises(breakers.BreakerOpenError, match=r"No space left on device; its breaker lets .* through at 20"):
        breakers.admit(Ledger.open(), "hex8_2p", Stage.EXPORT)
    breakers.admit(ledger, "hex8_2p", Stage.TRAIN)
    breakers.admit(ledger, "hex8_3p", Stage.EXPORT)
    long_ago(ledger)
    breakers.admit(ledger, "hex8_2p", Stage.EXPORT)
    fail(ledger, 1)
    with pytest.raises(breakers.BreakerOpenError):
        breakers.admit(ledger, "hex8_2p", Stage.EXPORT)
    long_ago(ledger)
    breakers.note(ledger, "hex8_2p", Stage.EXPORT, None)
    assert ledger.breaker("hex8_2p", "export").state == "closed"
    breakers.admit(ledger, "hex8_2p", Stage.EXPORT)
    kinds = [event.type for event in ledger.events()]
    assert kinds == ["BREAKER_OPENED", "BREAKER_OPENED", "BREAKER_CLOSED"]


def test_F25_an_attempt_that_began_before_the_opening_is_not_held_against_it(bench: Any) -> None:
    fail(bench.ledger, OPERATIONS.breaker_failures)
    opened = bench.ledger.breaker("hex8_2p", "export")
    breakers.note(bench.ledger, "hex8_2p", Stage.EXPORT, None)
    fail(bench.ledger, 1)
    assert bench.ledger.breaker("hex8_2p", "export") == opened


def test_F25_an_open_breaker_is_the_reason_in_the_status(bench: Any) -> None:
    bench.running()
    fail(bench.ledger, OPERATIONS.breaker_failures, stage=Stage.SELFPLAY)
    kind, reason, until = why(look(bench), Stage.SELFPLAY)
    assert kind is Why.BREAKER
    assert reason.startswith("breaker open since ")
    assert "No space left on device; half-opens at" in reason
    assert until is not None


def test_a_real_job_that_cannot_write_opens_the_breaker_and_the_next_is_not_started(house: Home) -> None:
    """The last two of the failures are real processes; a file stands where their folder of games should be."""
    house.games.rmdir()
    house.games.write_text("not a folder")
    work = Work.of_run("hex8_2p", None, "run", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    fail(work.ledger, OPERATIONS.breaker_failures - 2, stage=Stage.SELFPLAY)
    for attempt in (1, 2):
        job_id = work.submit(Stage.SELFPLAY, lease.token)
        assert LocalJobs(house.jobs).wait(job_id, 120).over
        with pytest.raises(InfrastructureError):
            work.complete(Stage.SELFPLAY, lease.token)
        assert LocalJobs(house.jobs).poll(job_id).attempt == attempt
    with pytest.raises(breakers.BreakerOpenError, match="failed 5 times in a row"):
        work.submit(Stage.SELFPLAY, lease.token)
    assert LocalJobs(house.jobs).poll(job_id).attempt == 2
    events = [event.type for event in work.ledger.events(config="hex8_2p")]
    assert events.count("SELFPLAY_FAILED") == 2
    assert events[-1] == "BREAKER_OPENED"
