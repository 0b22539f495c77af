"""The logs that the runbooks grep: a view of the events, whole after a kill, never twice."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, InvalidEventError, Ledger
from ringrift_ops.ledger.events import SCHEMAS
from ringrift_ops.operations.logs import FILES, write_logs
from ringrift_ops.stages.specs import Stage

A, B = "a" * 64, "b" * 64


def happen(ledger: Ledger, generation: int | None = None) -> None:
    """One of each kind that the runbooks' greps look for, and their failures."""
    failed = {"job_id": "hex8_2p-g1-x", "attempt": 1}
    for kind, payload in (
        (EventType.EXPORT_COMPLETED, {"dataset": A, "path": "d", "games": 9, "samples": 90}),
        (EventType.EXPORT_FAILED, failed | {"error": "Parity validation failed\nfor 3 games"}),
        (EventType.TRAINING_STARTED, failed | {"dataset": A, "parent": None}),
        (EventType.TRAINING_FAILED, failed | {"error": "CUDA out of memory. Tried to allocate 20 MiB"}),
        (EventType.TRAINING_COMPLETED, {"job_id": "j", "weights": B, "path": "w", "dataset": A, "parent": None,
                                        "samples": 90, "train_loss": 0.5, "validation_loss": 0.6}),
        (EventType.EVALUATION_STARTED, failed | {"candidate": B, "previous": None}),
        (EventType.EVALUATION_FAILED, failed | {"error": "All games crashed"}),
        (EventType.EVALUATION_COMPLETED, {"candidate": B, "report": A, "verdict": "FAIL", "reason": "inconclusive",
                                          "gate_version": "1"}),
        (EventType.MODEL_PROMOTED, {"promotion": 1, "kind": "promote", "sha": B, "previous": None, "reason": "won",
                                    "actor": "pipeline"}),
        (EventType.MODEL_PROMOTION_FAILED, {"candidate": B, "report": A, "verdict": "FAIL", "reason": "below"}),
        (EventType.MODEL_DISTRIBUTED, {"weights": B, "destination": "x", "path": "p", "verified": True, "error": None}),
        (EventType.MODEL_DISTRIBUTED, {"weights": B, "destination": "y", "path": "p", "verified": False,
                                       "error": "no route to host"}),
    ):  # fmt: skip
        ledger.record_event(kind, "hex8_2p", generation, payload)


def grep(home: Home, pipe: str) -> list[str]:
    """What a shell finds with a runbook's own line, in the folder that has ``logs/``."""
    done = subprocess.run(["bash", "-c", pipe], cwd=home.root, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def names(lines: list[str]) -> list[str]:
    return [line.split()[2] for line in lines]


def test_R7_the_greps_of_stage_events_find_what_they_look_for(bench: Any, house: Home, capsys: Any) -> None:
    happen(bench.ledger)
    write_logs(house, bench.ledger)
    found = grep(
        house, r'grep -E "(EXPORT|TRAIN|EVALUATE|PROMOTE)_(COMPLETED|FAILED)" logs/coordination.log | tail -30'
    )
    assert names(found) == [
        "EXPORT_COMPLETED", "EXPORT_FAILED", "TRAINING_FAILED", "TRAINING_COMPLETED", "EVALUATION_FAILED",
        "EVALUATION_COMPLETED", "MODEL_PROMOTED", "MODEL_PROMOTION_FAILED",
    ]  # fmt: skip
    assert "Parity validation failed | for 3 games" in found[1]
    assert main(["events", "--type", "EXPORT_FAILED", "--since", "1h"]) == 0
    assert "Parity validation failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pipe", "expected"),
    [
        ('grep "PROMOTION" logs/coordination.log', ["MODEL_PROMOTED", "MODEL_PROMOTION_FAILED"]),
        ('grep "run_gauntlet" logs/coordination.log', ["EVALUATION_STARTED"]),
        (r'grep -i "gauntlet.*exception\|gauntlet.*error" logs/coordination.log', ["EVALUATION_FAILED"]),
        (r'grep -i "distribution" logs/coordination.log | grep -i "error\|fail"', ["MODEL_DISTRIBUTED"]),
        (r'grep -i "training\|train" logs/training.log | grep -i "error\|failed"', ["TRAINING_FAILED"]),
        ('grep -i "cuda out of memory" logs/training.log', ["TRAINING_FAILED"]),
        ("tail -50 logs/training.log", ["TRAINING_STARTED", "TRAINING_FAILED", "TRAINING_COMPLETED"]),
        ("cat logs/pipeline_orchestrator.log", ["EXPORT_COMPLETED", "EXPORT_FAILED"]),
    ],
)
def test_R79_the_other_greps_find_their_lines_and_no_others(
    bench: Any, house: Home, pipe: str, expected: list[str]
) -> None:
    happen(bench.ledger)
    write_logs(house, bench.ledger)
    assert names(grep(house, pipe)) == expected


def test_R32_training_events_have_one_schema_each_that_knows_no_other_keys() -> None:
    for kind in (EventType.TRAINING_STARTED, EventType.TRAINING_COMPLETED, EventType.TRAINING_FAILED):
        assert SCHEMAS[kind].model_config["extra"] == "forbid"
        with pytest.raises(InvalidEventError, match="config_key: Extra inputs"):
            Ledger.open().record_event(kind, "hex8_2p", None, {"job_id": "j", "config_key": "hex8_2p"})


def test_F19_a_line_torn_by_a_kill_is_written_whole_and_nothing_twice(bench: Any, house: Home) -> None:
    happen(bench.ledger)
    write_logs(house, bench.ledger)
    log = house.logs / "coordination.log"
    whole = log.read_text()
    log.write_bytes(whole.encode()[:-20])
    write_logs(house, bench.ledger)
    write_logs(house, bench.ledger)
    assert log.read_text() == whole


def test_many_writers_at_once_write_each_event_once_and_in_order(bench: Any, house: Home) -> None:
    def work() -> None:
        happen(Ledger.open())
        write_logs(house, Ledger.open())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = (house.logs / "coordination.log").read_text().splitlines()
    numbers = [int(re.search(r"#(\d+)$", line)[1]) for line in lines]  # type: ignore[index]  # every line has one
    assert numbers == [event.id for event in bench.ledger.events()]


def test_R79_the_files_exist_before_anything_has_happened(home: Path) -> None:
    assert main(["events"]) == 0
    assert {path.name for path in (home / "logs").glob("*.log")} == set(FILES)


def test_R70_a_task_that_was_deferred_shows_the_end_of_a_long_log_too(house: Home) -> None:
    work, jobs = Work.of_run("hex8_2p", None, "run", datetime.now(UTC), "tiny"), LocalJobs(house.jobs)
    script = "print(*(f'line {n} ' + 'x' * 90 for n in range(2_000)), 'the error', sep='\\n')"
    job_id = work.job_id(Stage.TRAIN)
    jobs.submit_or_adopt(Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=60))
    jobs.wait(job_id, 60.0)
    said = work.said(Stage.TRAIN)
    assert len("".join(said)) > 1 << 17
    assert [line for line in said if line.startswith(("line 0 ", "line 1999 ", "the error"))][-1] == "the error"
    assert sum(line.startswith("line ") for line in said) == 2_000
