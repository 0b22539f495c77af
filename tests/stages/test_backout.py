"""Poisoned games found later: they and all that came of them go out of use, and the loop goes on from a clean net."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, PoisonedArtifactError
from ringrift_ops.settings import Settings
from ringrift_ops.stages import export, gauntlet, parity, selfplay, train
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.plan import Plan
from ringrift_ops.stages.specs import SelfplayResult
from ringrift_ops.store import Store, sha256_file
from tests.stages.conftest import (
    CONFIG,
    Made,
    changed,
    export_spec,
    gauntlet_spec,
    parity_spec,
    selfplay_spec,
    train_spec,
)
from tests.stages.test_promotion_forms import BOARD, passed_over

REASON = ["--reason", "the host's memory was bad"]


@pytest.fixture
def bad(made: Made, house: Home) -> SelfplayResult:
    """A second batch of games; the net that was trained on it is in force after the first one's."""
    played = selfplay.run(changed(selfplay_spec(), seed=99, games=20), silent)
    parity.run(parity_spec(played.path), silent)
    exported = export.run(export_spec(played.path), silent)
    second = train.run(changed(train_spec(exported), seed=14), silent)
    gauntlet.run(gauntlet_spec(second), silent)
    previous = None
    for net in (made.trained.weights, second.weights):
        passed_over(house, net, previous, net)
        assert main(["promote", "--model", net, *BOARD]) == ExitCode.DONE
        previous = net
    return played


def test_backed_out_games_take_everything_made_from_them_out_of_use_and_the_canonical_back(
    made: Made, house: Home, bad: SelfplayResult, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open()
    before = ledger.usable_rows(CONFIG)
    second = ledger.canonical(CONFIG).sha  # type: ignore[union-attr]  # there is one
    capsys.readouterr()
    assert main(["backout", "games", bad.batch[:12], "--dry-run", "--json"]) == ExitCode.DONE
    planned = json.loads(capsys.readouterr().out)
    kinds = sorted(one["kind"] for one in planned["made_from_it"])
    assert kinds == ["dataset", "gauntlet_report", "gauntlet_report", "parity_report", "weights"]
    assert (planned["canonical"], planned["back_to"], planned["done"]) == (second, made.trained.weights, False)
    assert ledger.poisoned([bad.batch]) == {}
    assert ledger.audit()[-1].action == "promote"

    assert main(["backout", "games", bad.batch[:12]]) == ExitCode.WRONG_USAGE
    assert main(["backout", "games", bad.batch[:12], *REASON]) == ExitCode.DONE
    assert ledger.canonical(CONFIG).sha == made.trained.weights  # type: ignore[union-attr]
    assert sha256_file(house.canonical_link(CONFIG)) == made.trained.weights
    assert ledger.promotions(CONFIG)[0].kind == "back_out"
    assert [batch.sha for batch in ledger.games_in_window(CONFIG)] == [made.played.batch]
    assert ledger.usable_rows(CONFIG) == before - bad.moves
    assert all(Store(house).holds(one["sha"]) for one in planned["made_from_it"])
    capsys.readouterr()
    assert main(["lineage", second[:12]]) == ExitCode.DONE
    assert capsys.readouterr().out.count("BACKED OUT") >= 3
    assert main(["rollback", CONFIG, "--reason", "once more"]) == ExitCode.NO_DATA

    rows = (len(ledger.audit()), len(ledger.promotions(CONFIG)))
    assert main(["backout", "games", bad.batch, *REASON]) == ExitCode.DONE
    assert (len(ledger.audit()), len(ledger.promotions(CONFIG))) == rows


def test_what_was_backed_out_is_neither_exported_nor_promoted_nor_taken_by_the_next_generation(
    made: Made, house: Home, bad: SelfplayResult, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open()
    second = ledger.canonical(CONFIG).sha  # type: ignore[union-attr]  # there is one
    dataset = ledger.artifacts(config=CONFIG, kind="dataset")[0]
    assert main(["backout", "dataset", dataset.sha, *REASON]) == ExitCode.DONE
    assert ledger.poisoned([bad.batch]) == {}, "the games are good, the dataset is not"
    assert main(["backout", "games", bad.batch, *REASON]) == ExitCode.DONE
    with pytest.raises(PoisonedArtifactError, match=r"was backed out by .*the host's memory was bad"):
        export.run(export_spec(bad.path), silent)
    capsys.readouterr()
    assert main(["export", "--config", CONFIG, "--use-discovery", "--json"]) == ExitCode.DONE
    assert f"{house.resolve(bad.path)}: left out: backed out: the host's memory was bad" in capsys.readouterr().err
    made_from = ledger.lineage(ledger.artifacts(config=CONFIG, kind="dataset")[0].sha).ancestors
    assert [one.artifact.sha for one in made_from if one.artifact.kind == "games"] == [made.played.batch]
    with closing(sqlite3.connect(house.resolve(bad.path))) as database, database:
        database.execute("UPDATE games SET parity_status = 'pending'")
    assert main(["parity", "--config", CONFIG]) == ExitCode.NO_DATA, "nothing unchecked but what was backed out"
    passed_over(house, second, made.trained.weights, "again")
    capsys.readouterr()
    assert main(["promote", "--model", second, *BOARD]) == ExitCode.GATE_SAID_NO
    assert "was backed out by" in capsys.readouterr().err
    generation = ledger.ensure_generation(CONFIG, None, "next", datetime.now(UTC), "tiny")
    plan = Plan(ledger, Settings.load(), generation)
    assert [batch.sha for batch in plan.window()] == [made.played.batch]
    parity.run(parity_spec(bad.path), silent)
    assert [batch.sha for batch in ledger.games_in_window(CONFIG)] == [made.played.batch]


def test_a_net_that_is_made_later_from_a_bad_one_is_bad_too(house: Home, bad: SelfplayResult) -> None:
    ledger = Ledger.open()
    assert main(["backout", "games", bad.batch, *REASON]) == ExitCode.DONE
    common = {"size": 1, "config": CONFIG, "generation": None, "token": 0, "meta": {"samples": 1}}
    ledger.record_artifact("c" * 64, "dataset", "d", parents=[(bad.batch, "games")], **common)
    ledger.record_artifact("d" * 64, "weights", "w", parents=[("c" * 64, "dataset")], **common)
    assert set(ledger.poisoned(["c" * 64, "d" * 64])) == {"c" * 64, "d" * 64}


def test_a_back_out_that_would_leave_no_canonical_is_refused_and_changes_nothing(
    made: Made, house: Home, bad: SelfplayResult, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open()
    assert main(["backout", "games", bad.batch, *REASON]) == ExitCode.DONE
    capsys.readouterr()
    assert main(["backout", "games", made.played.batch, *REASON]) == ExitCode.GATE_SAID_NO
    assert "would leave none: promote a clean net first" in capsys.readouterr().err
    assert ledger.poisoned([made.played.batch]) == {}
    assert ledger.canonical(CONFIG).sha == made.trained.weights  # type: ignore[union-attr]  # there is one
    assert main(["backout", "dataset", made.played.batch, *REASON]) == ExitCode.WRONG_USAGE
    assert "is games of hex8_2p, not dataset" in capsys.readouterr().err
    assert main(["backout", "games", "0123456789ab", *REASON]) == ExitCode.NO_DATA
