"""An alert becomes one incident, is told once and once at its end, climbs by the clock, and is closed by a person."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops import runbook
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import ClosedIncidentError, EventType, Incident, Ledger, MissingReasonError
from ringrift_ops.operations import incidents
from ringrift_ops.operations.alerts import Alert, Rule
from ringrift_ops.operations.by import By
from ringrift_ops.operations.incidents import Watch, answer_by, follow, look
from ringrift_ops.operations.notify import target_of
from ringrift_ops.settings import ALERTS, LEVELS, Settings
from tests.ledger.conftest import MEMORY, Workbench

ANNA = By("anna@host1", "mended", "cli")


def alert(config: str | None = "hex8_2p", rule: Rule = Rule.STAGE_FAILURES, evidence: str = "disk is gone") -> Alert:
    return Alert(rule, config, "stages", f"{config}: 4 failures", evidence, "`ringrift status`")


@pytest.fixture
def bench(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """As everywhere here, on a ledger in memory: these tests look hundreds of times."""
    Home(home).ensure()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        monkeypatch.setenv("RINGRIFT_LEDGER_URL", f"sqlite:///{folder}/ledger.db")
        bench = Workbench(Ledger.open())
        bench.now = datetime.now(UTC)
        yield bench


@pytest.fixture
def watch(bench: Any, house: Home) -> Watch:
    return Watch(house, Settings.load(house), bench.ledger)


def told(house: Home) -> list[str]:
    path = house.logs / "alerts.log"
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()] if path.exists() else []


def newest(watch: Watch) -> Incident:
    return watch.ledger.incidents(limit=1)[0]


def later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def keep(watch: Watch, alerts: list[Alert], begin: datetime, end: datetime) -> None:
    """Look again and again, as the DAG does; just often enough for an alert not to end in between."""
    while begin <= end:
        follow(watch, alerts, begin)
        begin = later(begin, ALERTS.settle_seconds - 10)


@contextmanager
def listener(port: int = 0) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A real service that takes Apprise's JSON: yields its port and what it was told."""
    heard: list[dict[str, Any]] = []

    class Heard(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Heard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, heard
        finally:
            server.shutdown()
            thread.join()


def test_R8_an_alert_is_told_once_while_it_fires_and_once_when_it_is_over(watch: Watch, bench: Any) -> None:
    begin = bench.now
    keep(watch, [alert()], begin, later(begin, 600))
    assert [one.state for one in watch.ledger.incidents()] == ["open"]
    assert len(told(watch.home)) == 1
    assert told(watch.home)[0].startswith("ALERT stage_failures: hex8_2p: 4 failures | disk is gone; level 1: ML Ops")
    keep(watch, [], later(begin, 720), later(begin, 1600))
    assert [line.split(":")[0] for line in told(watch.home)] == ["ALERT stage_failures", "OVER stage_failures"]
    assert newest(watch).state == "ended"
    keep(watch, [], later(begin, 1720), later(begin, 3_000))
    assert len(told(watch.home)) == 2
    kinds = [one.type for one in watch.ledger.events(types=[EventType.INCIDENT_OPENED, EventType.INCIDENT_ENDED])]
    assert kinds == ["INCIDENT_OPENED", "INCIDENT_ENDED"]


def test_a_real_service_is_told_through_apprise_and_one_that_fails_is_recorded_and_tried_again(
    watch: Watch, bench: Any
) -> None:
    with listener() as (port, _):
        pass
    url = f"json://anna:secret@127.0.0.1:{port}/"
    watch = replace(watch, settings=watch.settings.model_copy(update={"notify": [url]}))
    found = follow(watch, [alert()], bench.now)
    assert [one.key for one in found.firing] == ["stage_failures/hex8_2p/stages"]
    failed = watch.ledger.notifications(unsent=True)
    assert [(one.target, one.tries) for one in failed] == [(target_of(url), 1)]
    assert "secret" not in json.dumps([vars(one) for one in watch.ledger.notifications()], default=str)
    assert len(told(watch.home)) == 1
    assert follow(watch, [alert()], later(bench.now, 10)).notifications == []
    with listener(port) as (_, heard):
        follow(watch, [alert()], later(bench.now, 10 + ALERTS.notify_again_seconds))
        follow(watch, [alert()], later(bench.now, 400))
        assert [one["title"] for one in heard] == ["ALERT stage_failures: hex8_2p: 4 failures"]
        assert heard[0]["message"].startswith("disk is gone; level 1: ML Ops Team answers within 15 min")
    assert watch.ledger.notifications(unsent=True) == []
    assert len(told(watch.home)) == 1


def test_R46_R80_an_incident_that_nobody_takes_on_climbs_after_15_minutes_1_2_and_4_hours(
    watch: Watch, bench: Any
) -> None:
    begin = bench.now
    climbed = [0.0]
    for level, (_, seconds) in LEVELS.items():
        climbed.append(climbed[-1] + seconds)
        if level == 1:
            follow(watch, [alert()], begin)
        watch.ledger.see_incident(newest(watch).id, "4 failures", "it went on", later(begin, climbed[-1] - 60))
        found = follow(watch, [alert()], later(begin, climbed[-1] - 1))
        assert newest(watch).level == level
        assert answer_by(newest(watch)) == later(begin, climbed[-1])
        found = follow(watch, [alert()], later(begin, climbed[-1]))
        assert [one.level for one in found.escalated] == [min(level + 1, 4)]
    assert climbed[1:] == [900, 4500, 11_700, 26_100]
    assert newest(watch).overdue_at is not None
    keep(watch, [alert()], later(begin, 26_200), later(begin, 27_000))
    lines = told(watch.home)
    assert [line.split(":")[0] for line in lines] == [
        "ALERT stage_failures", "ESCALATED to level 2, Senior ML Engineer",
        "ESCALATED to level 3, Platform Engineering", "ESCALATED to level 4, VP Engineering",
        "ESCALATED to nobody above",
    ]  # fmt: skip
    assert "ML Ops Team has not answered within 15 min" in lines[1]


def test_R46_taking_an_incident_on_stops_its_clock_and_one_that_is_closed_cannot_be_taken_on(
    watch: Watch, bench: Any
) -> None:
    follow(watch, [alert()], bench.now)
    number = newest(watch).id
    taken = incidents.acknowledge(watch, ANNA, number, later(bench.now, 60))
    assert (taken.state, taken.acknowledged_by) == ("acknowledged", "anna@host1")
    again = incidents.acknowledge(watch, By("ben@host2", "", "cli"), number, later(bench.now, 70))
    assert again == taken
    keep(watch, [alert()], later(bench.now, 120), later(bench.now, 1500))
    assert newest(watch).level == 1
    incidents.note(watch, ANNA, number, "the disk was full of core files")
    with pytest.raises(MissingReasonError):
        incidents.close(watch, replace(ANNA, reason=""), number, "full disk")
    closed = incidents.close(watch, ANNA, number, "full disk", later(bench.now, 1600))
    assert (closed.state, closed.cause, closed.resolution) == ("closed", "full disk", "mended")
    for change in (
        lambda: incidents.acknowledge(watch, ANNA, number),
        lambda: incidents.close(watch, ANNA, number, None),
    ):
        with pytest.raises(ClosedIncidentError, match=f"incident {number} was closed by anna@host1 at .*incident note"):
            change()
    assert [row.action for row in watch.ledger.audit()] == [
        "acknowledge incident", "note incident", "close incident",
    ]  # fmt: skip


def test_R80_an_alert_that_outlives_its_closing_opens_a_new_incident_higher_up(watch: Watch, bench: Any) -> None:
    begin = bench.now
    follow(watch, [alert()], begin)
    incidents.close(watch, ANNA, newest(watch).id, None, later(begin, 60))
    keep(watch, [alert()], later(begin, 120), later(begin, 7000))
    assert len(watch.ledger.incidents()) == 1
    keep(watch, [alert()], later(begin, 7120), later(begin, 7500))
    second, first = watch.ledger.incidents()
    assert (second.level, first.level) == (2, 1)
    assert second.criteria == [
        f"it persists: incident {first.id} was closed at {first.closed_at:%Y-%m-%dT%H:%M:%S}+00:00"
    ]
    assert [line.split(":")[0] for line in told(watch.home)] == ["ALERT stage_failures"] * 2


@pytest.mark.parametrize(
    ("alerts", "why"),
    [
        ([alert(), alert("hex8_3p")], "2 configs at once: hex8_2p, hex8_3p"),
        ([alert(evidence="dataset cut.npz is truncated")], "data may be corrupt"),
        ([alert(None, Rule.RESOURCE_USE)], "the whole machine is short of it"),
        ([alert()], None),
    ],
)
def test_R80_when_to_escalate_is_a_rule_on_what_fires(
    watch: Watch, bench: Any, alerts: list[Alert], why: str | None
) -> None:
    follow(watch, alerts, bench.now)
    found = newest(watch)
    assert (found.level, found.criteria) == ((1, []) if why is None else (2, [why]))


def test_R46_R80_template_and_review_are_filled_from_the_record(
    watch: Watch, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.later(-60)
    generation, _ = bench.running()
    payload = {"job_id": "hex8_2p-g1-export", "attempt": 1, "error": "no space left on device"}
    for attempt in range(4):
        bench.ledger.record_event(
            EventType.EXPORT_FAILED, "hex8_2p", generation.id, payload | {"attempt": attempt}, bench.later(1)
        )
    found = look(watch, None, "test", bench.later(1))
    assert [one.rule for one in found.firing] == [Rule.STAGE_FAILURES]
    assert main(["alerts"]) == ExitCode.GATE_SAID_NO
    assert "hex8_2p: 4 failures of stages within an hour" in capsys.readouterr().out
    number = str(newest(watch).id)
    assert main(["incident", "list"]) == ExitCode.DONE
    assert "L1     open" in capsys.readouterr().out
    assert main(["incident", "note", number, "looked at | the disk"]) == ExitCode.DONE
    assert main(["incident", "template", number]) == ExitCode.DONE
    page = capsys.readouterr().out
    for line in (
        "Subject: Training Failure Escalation - stages", "Severity: High (level 1, ML Ops Team)",
        "Affected Agent: hex8_2p", "- hex8_2p: 4 failures of stages within an hour",
    ):  # fmt: skip
        assert line in page.splitlines()
    assert "1. looked at | the disk (" in page
    assert "EXPORT_FAILED [hex8_2p g1] job_id=hex8_2p-g1-export" in page
    assert main(["incident", "ack", number]) == ExitCode.DONE
    assert main(["incident", "close", number]) == ExitCode.WRONG_USAGE
    assert main(["incident", "close", number, "--reason", "freed the disk"]) == ExitCode.DONE
    assert "is not known: when it is found, add a row" in capsys.readouterr().out
    assert main(["incident", "ack", number]) == ExitCode.GATE_SAID_NO
    assert main(["incident", "review", number, "--output", str(watch.home.root / "review.md")]) == ExitCode.DONE
    review = (watch.home.root / "review.md").read_text()
    assert "- [ ] a new row of `ringrift diagnose`" in review
    assert "- closed with: freed the disk" in review
    timeline = [line for line in review.splitlines() if line.startswith("| 20")]
    assert sum("| ERROR EXPORT_FAILED" in line for line in timeline) == 4
    assert all(line.count("|") - line.count("\\|") == 3 for line in timeline)
    assert [word in review for word in ("INCIDENT_OPENED", "INCIDENT_ACKNOWLEDGED")] == [True, True]
    assert main(["incident", "show", number]) == ExitCode.DONE
    assert "alerts.log" in capsys.readouterr().out
    assert main(["incident", "show", "99"]) == ExitCode.NO_DATA


def test_two_looks_at_once_open_one_incident_and_tell_once(watch: Watch, bench: Any) -> None:
    held = watch.ledger.acquire_lease(incidents.LEASE, "other", seconds=60, now=bench.now)
    assert main(["alerts", "--evaluate"]) == ExitCode.GATE_SAID_NO
    watch.ledger.release_lease(incidents.LEASE, held.token, bench.now)
    follow(watch, [alert()], bench.now)
    one = watch.ledger.open_incident(
        alert().key, rule="stage_failures", config="hex8_2p", subject="stages", summary="s", evidence="e", criteria=[],
        level=1, targets={"alerts.log": "x"},
    )  # fmt: skip
    assert one == newest(watch)
    assert len(watch.ledger.notifications()) == 1


def test_an_open_incident_is_in_the_status(watch: Watch, bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    follow(watch, [alert()], bench.now)
    assert main(["status"]) == ExitCode.DONE
    assert "  1 L1 open since " in capsys.readouterr().out
    assert main(["status", "hex8_3p"]) == ExitCode.DONE
    assert "incidents:" not in capsys.readouterr().out
    assert main(["status", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["incidents"][0]["state"] == "open"


def test_an_address_that_nobody_knows_is_said_in_the_record_and_breaks_nothing(house: Home, bench: Any) -> None:
    house.settings_file.write_text("notify: ['nosuch://x']\nnotify_levels: {2: ['nosuch://y']}\n")
    watch = Watch(house, Settings.load(house), Ledger.open())
    follow(watch, [alert()], bench.now)
    errors = [one.error for one in watch.ledger.notifications(unsent=True)]
    assert errors == [f"{target_of('nosuch://x')}: not an address that Apprise knows; correct `notify` in the settings"]
    house.settings_file.write_text("notify_levels: {7: ['nosuch://y']}\n")
    assert main(["incident", "list"]) == ExitCode.WRONG_USAGE


def test_R46_the_runbooks_python_names_do_the_same(watch: Watch, bench: Any) -> None:
    follow(watch, [alert()], bench.now)
    [found] = runbook.get_incidents()
    assert runbook.acknowledge_incident(found.id).state == "acknowledged"
    assert runbook.note_incident(found.id, "looked").text == "looked"
    assert "1. looked" in runbook.escalation_template(found.id)
    assert runbook.close_incident(found.id, "mended", cause="full disk").cause == "full disk"
    assert "full disk" in runbook.post_incident_review(found.id)
    assert (runbook.get_incidents(), len(runbook.get_incidents(unclosed=False))) == ([], 1)
    with pytest.raises(ClosedIncidentError):
        runbook.acknowledge_incident(found.id)
    assert runbook.get_alerts() == []
    assert [row.door for row in watch.ledger.audit()] == ["python"] * 3
