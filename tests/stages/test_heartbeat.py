"""Progress as lines that others read while they are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringrift_ops.cli.progress import PlainLines, line_of
from ringrift_ops.stages.heartbeat import Heartbeat, HeartbeatFile, last_heartbeat
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import WriteError


def beat(done: int, total: int | None = 100) -> Heartbeat:
    return Heartbeat(
        t=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        stage=Stage.TRAIN,
        phase="epoch 1",
        done=done,
        total=total,
        unit="steps",
        metrics={"loss": 0.25},
    )


def test_every_line_is_whole_and_readable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "job" / "heartbeat.jsonl"
    with HeartbeatFile(path) as report:
        for done in range(3):
            report(beat(done))
            assert last_heartbeat(path) == beat(done)
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "t": "2026-01-02T03:04:05Z", "stage": "train", "phase": "epoch 1", "done": 0, "total": 100, "unit": "steps",
        "message": "", "metrics": {"loss": 0.25},
    }  # fmt: skip


def test_next_attempt_goes_on_after_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.jsonl"
    with HeartbeatFile(path) as report:
        report(beat(1))
    with path.open("a") as stream:
        stream.write('{"t": "2026-')
    assert last_heartbeat(path) == beat(1)
    with HeartbeatFile(path) as report:
        report(beat(2))
    assert last_heartbeat(path) == beat(2)
    assert len(path.read_text().splitlines()) == 3


def test_there_is_no_heartbeat_before_the_first(tmp_path: Path) -> None:
    assert last_heartbeat(tmp_path / "none") is None
    (tmp_path / "empty").touch()
    assert last_heartbeat(tmp_path / "empty") is None


def test_heartbeat_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        HeartbeatFile(tmp_path / "file" / "heartbeat.jsonl")


def test_line_for_people_has_rate_time_left_and_figures() -> None:
    assert line_of(beat(40), 20.0) == "train epoch 1: 40/100 steps, 2.0 steps/s, 0:30 left, loss 0.25"
    assert line_of(beat(0), 0.0) == "train epoch 1: 0/100 steps, loss 0.25"
    assert line_of(beat(7, None), 7.0) == "train epoch 1: 7 steps, 1.0 steps/s, loss 0.25"
    assert line_of(beat(1), 100.0).split(", ")[2] == "2:45:00 left"


def test_R53_live_win_rate_is_shown_with_its_interval() -> None:
    rate = {"win_rate": 0.625, "lower": 0.551, "upper": 0.693, "games": 200}
    shown = line_of(beat(0).model_copy(update={"metrics": {"random": rate}}), 0.0)
    assert shown == "train epoch 1: 0/100 steps, random 62.5 % [55.1, 69.3] in 200 games"


def test_plain_progress_shows_the_first_and_the_last_of_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    report = PlainLines()
    for done in range(101):
        report(beat(done))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["train epoch 1: 0/100 steps", "train epoch 1: 100/100 steps"]
