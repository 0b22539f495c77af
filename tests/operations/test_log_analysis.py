"""Logs of every kind are counted by known patterns in a time, and errors that match none are grouped (R38)."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.operations.log_analysis import KNOWN, analyze, in_common
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.runbook import analyze_logs

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def logs(house: Home) -> Home:
    """Three kinds of log as they are written: a component's, a task's JSON lines, and what a job prints."""
    component = house.logs / "platform" / "scheduler.log"
    component.parent.mkdir(parents=True)
    component.write_text(
        "2026-11-25T09:00:00.000000Z [info     ] all is well\n"
        "2026-11-25T10:00:00.000000Z [error    ] database is locked\n"
        "2026-11-25T11:00:00.000000Z [warning  ] host a1 did not answer within 20 s\n"
    )
    task = house.logs / "airflow" / "dag_id=hex8_2p" / "attempt=1.log"
    task.parent.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"timestamp": "2026-11-25T11:30:00Z", "level": "info", "event": "waiting"},
        {"timestamp": "2026-11-25T11:31:00Z", "level": "error", "event": "Task failed",
         "error_detail": [{"exc_type": "JobFailedError", "exc_value": "flux capacitor 17 broke in /tmp/a/b"}]},
        {"timestamp": "2026-11-25T11:32:00Z", "level": "error", "event": "Task failed",
         "error_detail": [{"exc_type": "JobFailedError", "exc_value": "flux capacitor 18 broke in /tmp/c/d"}]},
    ]  # fmt: skip
    task.write_text("\n".join(map(json.dumps, lines)) + "\n{ no json\n")
    job = house.jobs / "hex8_2p-g1-train" / "log.txt"
    job.parent.mkdir(parents=True)
    job.write_text(
        "epoch 1\ntorch.OutOfMemoryError: CUDA out of memory\nringrift: No space left on device\n"
        "ringrift: FAIL: random: upper_bound_below\n"
    )
    os.utime(job, (NOW.timestamp(), NOW.timestamp()))
    return house


def test_R38_patterns_are_counted_and_unknown_errors_grouped(logs: Home) -> None:
    found = analyze(logs)
    assert {one.name: one.count for one in found.known} == {
        "database": 1, "host unreachable": 1, "out of memory": 1, "disk full": 1,
        "gate said no": 1,
    }  # fmt: skip
    assert [(one.count, one.name) for one in found.unknown] == [
        (2, "Task failed: JobFailedError: flux capacitor N broke in PATH")
    ]
    assert found.unknown[0].example.endswith("18 broke in /tmp/c/d")
    assert found.unknown[0].files == {"logs/airflow/dag_id=hex8_2p/attempt=1.log"}
    assert (found.files, found.lines["error"]) == (3, 6)


@pytest.mark.parametrize(
    ("since", "until", "level", "expected"),
    [
        ("2026-11-25T10:30:00", None, "warning", ["disk full", "gate said no", "host unreachable", "out of memory"]),
        (None, "2026-11-25T10:30:00", "warning", ["database"]),
        ("2026-11-25T10:30:00", "2026-11-25T11:10:00", "warning", ["host unreachable"]),
        ("2026-11-25T10:30:00", "2026-11-25T11:10:00", "error", []),
    ],
)
def test_R38_a_time_and_a_level_can_be_asked_for(
    logs: Home, since: str | None, until: str | None, level: str, expected: list[str], capsys: Any
) -> None:
    words = ["logs", "analyze", "--level", level, "--json"]
    words += ["--since", since] if since else []
    words += ["--until", until] if until else []
    assert main(words) == ExitCode.DONE
    assert sorted(one["name"] for one in json.loads(capsys.readouterr().out)["known"]) == expected


def test_R38_the_platforms_own_events_are_recognised(bench: Any, house: Home, capsys: Any) -> None:
    generation, _ = bench.running()
    payload = {"job_id": "j", "attempt": 1, "error": "the rule engines disagree on 5 of 60 games"}
    bench.ledger.record_event("PARITY_VALIDATION_FAILED", "hex8_2p", generation.id, payload)
    write_logs(house, bench.ledger)
    assert {one.name: one.count for one in analyze_logs(datetime.now(UTC) - timedelta(hours=1)).known} == {"parity": 1}
    assert main(["logs", "analyze", "--since", "1h"]) == ExitCode.DONE
    assert KNOWN["parity"][1] in capsys.readouterr().out


def test_an_unknown_level_or_time_is_wrong_usage_and_lists_the_valid_ones(house: Home, capsys: Any) -> None:
    assert main(["logs", "analyze", "--level", "loud"]) == ExitCode.WRONG_USAGE
    assert "valid: debug, info, warning, error, critical" in capsys.readouterr().err
    assert main(["logs", "analyze", "--since", "yesterday"]) == ExitCode.WRONG_USAGE


def test_what_varies_in_a_line_is_left_out() -> None:
    line = f"job hex8_2p-g12 at /home/x/y.npz has sha {'ab' * 32} after 3.5 s"
    assert in_common(line) == "job hexN_2p-g12 at PATH has sha HASH after N s".replace("hexN_2p-g12", "hexN_Np-gN")
