"""A parity waiver: who and why are on record, it ends by itself, and all that came of it says so."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.stages import export
from ringrift_ops.stages.export import WaiverNotInForceError
from ringrift_ops.stages.heartbeat import silent
from tests.stages.conftest import CONFIG, GAMES, Made, export_spec


@pytest.fixture
def unchecked(house: Home, made: Made) -> Path:
    """The games of this test's home, as if parity had never been looked at; one of them was excluded by somebody."""
    path = house.resolve(made.played.path)
    path.chmod(0o644)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE games SET parity_status = 'failed'")
        first = database.execute("SELECT min(game_id) FROM games").fetchone()
        database.execute("UPDATE games SET excluded_from_training = 1 WHERE game_id = ?", first)
    database.close()
    return path


def test_R14_skipped_parity_is_a_recorded_waiver_stamped_on_all_that_comes_of_it(
    unchecked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--config", CONFIG, "--db", str(unchecked), "--seed", "5"]
    assert main(arguments) == ExitCode.NO_DATA
    monkeypatch.setenv("RINGRIFT_SKIP_PARITY", "1")
    assert main(arguments) == ExitCode.WRONG_USAGE
    assert "set RINGRIFT_WAIVER_REASON" in capsys.readouterr().err
    assert Ledger.open().waivers() == []

    monkeypatch.setenv("RINGRIFT_WAIVER_REASON", "node is broken on this host")
    assert main([*arguments, "--json"]) == ExitCode.DONE
    made = json.loads(capsys.readouterr().out)
    assert made["waived_games"] == GAMES - 1
    assert main([*arguments, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["dataset"] == made["dataset"]
    ledger = Ledger.open()
    [waiver] = ledger.waivers("parity")
    assert waiver.reason == "node is broken on this host"
    assert waiver.expires_at - waiver.created_at == timedelta(hours=24)
    assert [(row.action, row.actor, row.reason) for row in ledger.audit()] == [
        ("waive parity", waiver.actor, waiver.reason)
    ]
    [stamped] = ledger.artifact(made["dataset"]).meta["waivers"]
    assert (stamped["id"], stamped["games"]) == (waiver.id, GAMES - 1)

    path = str(Home.find().resolve(made["path"]))
    small = ["--epochs", "1", "--batch-size", "256", "--json", "--profile", "tiny"]
    assert main(["train", "--config", CONFIG, "--data-path", path, *small]) == ExitCode.DONE
    net = json.loads(capsys.readouterr().out)["weights"]
    assert ledger.artifact(net).meta["waivers"] == [stamped]
    assert main(["lineage", net[:12]]) == ExitCode.DONE
    assert capsys.readouterr().out.count("WAIVED parity") == 2
    assert main(["model", "show", net[:12]]) == ExitCode.DONE
    assert "node is broken on this host" in capsys.readouterr().out
    assert main(["waivers"]) == ExitCode.DONE
    assert "node is broken on this host" in capsys.readouterr().out


def test_R14_an_expired_waiver_and_another_configs_are_refused(unchecked: Path) -> None:
    ledger = Ledger.open()
    yesterday = datetime.now(UTC) - timedelta(hours=25)
    old = ledger.record_waiver("parity", reason="was broken", actor="anna", config=CONFIG, now=yesterday)
    other = ledger.record_waiver("parity", reason="is broken", actor="anna", config="hex8_3p")
    for waiver in (old, other):
        with pytest.raises(WaiverNotInForceError, match=f"parity waiver {waiver.id} is not in force"):
            export.run(export_spec(str(unchecked), waiver=waiver.id), silent)
