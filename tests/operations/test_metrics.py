"""The figures are read by Prometheus' own tool, and the board and the rules name no figure that is not there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType
from ringrift_ops.operations.incidents import Watch, look
from ringrift_ops.operations.metrics import Metric, exposition
from ringrift_ops.operations.surroundings import AirflowFacts
from ringrift_ops.settings import CONFIGS, Settings
from ringrift_ops.stages.specs import Stage

PAGES = Path(__file__).resolve().parents[2] / "docs" / "monitoring"


@pytest.fixture
def promtool(debian_package: Callable[[str, str], str]) -> str:
    return debian_package("promtool", "prometheus")


def run(*command: str | Path, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def text(bench: Any, house: Home) -> str:
    """The figures of a home in which something of everything has happened."""
    bench.later(-7200)
    generation, lease = bench.running()
    bench.promote("first", generation, lease)
    payload = {"job_id": "x", "attempt": 1, "error": "no"}
    for attempt in range(4):
        event = payload | {"attempt": attempt}
        bench.ledger.record_event(EventType.EXPORT_FAILED, "hex8_2p", generation.id, event, bench.later(1800))
    bench.ledger.change_breaker("hex8_2p", "export", {"state": "open", "reason": 'a "quoted" \\ reason\nof two lines'})
    watch = Watch(house, Settings.load(house), bench.ledger)
    look(watch, None, "test")
    airflow = AirflowFacts("http://x", {"scheduler": "healthy", "triggerer": "unhealthy"})
    return exposition(house, watch.settings, bench.ledger, airflow, bench.now + timedelta(seconds=5))


def value(text: str, series: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(f"{series} ")).rsplit(" ", 1)[1])


def test_R8_the_figures_are_what_the_ledger_says(text: str) -> None:
    assert value(text, 'ringrift_stage_failures{config="hex8_2p",stage="export"}') == 2
    assert value(text, 'ringrift_stage_failures{config="hex8_3p",stage="export"}') == 0
    assert value(text, 'ringrift_circuit_breaker_open{config="hex8_2p",stage="export"}') == 1
    assert value(text, 'ringrift_circuit_breaker_opens{config="hex8_2p",stage="export"}') == 1
    assert value(text, 'ringrift_generation{config="hex8_2p"}') == 1
    assert value(text, 'ringrift_component_healthy{component="triggerer"}') == 0
    assert value(text, "ringrift_alerts_evaluated_timestamp_seconds") > 1.7e9
    assert text.count("\nringrift_circuit_breaker_open{") == len(CONFIGS) * len(Stage)


def test_promtool_reads_the_figures(text: str, promtool: str) -> None:
    assert run(promtool, "check", "metrics", stdin=text) == ""


def test_promtool_refuses_what_it_should_so_the_check_is_one(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "metrics"], input="ringrift_x{a=b} 1\n", capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode != 0


def test_a_label_is_escaped(promtool: str) -> None:
    metric = Metric("x", "of a test")
    metric.add(1.0, what='a "b" \\ c\nd')
    lines = "\n".join(metric.lines()) + "\n"
    assert lines.endswith('ringrift_x{what="a \\"b\\" \\\\ c\\nd"} 1\n')
    run(promtool, "check", "metrics", stdin=lines)


def test_promtool_takes_the_alert_rules_and_they_fire_when_they_should(promtool: str) -> None:
    assert "13 rules found" in run(promtool, "check", "rules", PAGES / "alerts.yml")
    assert "SUCCESS" in run(promtool, "test", "rules", PAGES / "alerts_test.yml")


def test_board_and_rules_are_valid_queries_of_figures_that_exist(text: str, promtool: str, tmp_path: Path) -> None:
    board = json.loads((PAGES / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"board:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "board.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", file)
    named = set(re.findall(r"ringrift_\w+", "\n".join(queries) + (PAGES / "alerts.yml").read_text()))
    there = set(re.findall(r"^# TYPE (ringrift_\w+) gauge$", text, re.MULTILINE))
    assert named - there - {"ringrift_ops"} == set()


def test_the_command_prints_the_same(house: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    assert "ringrift_platform_up 0\n" in capsys.readouterr().out
