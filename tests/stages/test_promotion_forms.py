"""Promotion in the runbooks' forms, and back: real nets, real gauntlets, a real ledger."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, Ledger, NoEvidenceForPromotionError, generation_lease
from ringrift_ops.runbook import PromotionController
from ringrift_ops.settings import Settings
from ringrift_ops.stages import promote, train
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.recording import record_gauntlet
from ringrift_ops.stages.specs import Verdict
from ringrift_ops.store import Store, sha256_file
from tests.stages.conftest import CONFIG, Made, changed, home_at

BOARD = ["--board-type", "hex8", "--num-players", "2"]
SMALL = ["--profile", "tiny", "--seed", "7", "--json"]


@pytest.fixture
def outside(made: Made, tmp_path: Path) -> Path:
    """A net that was trained elsewhere: a file that this home's ledger knows nothing of."""
    shutil.copytree(made.root, tmp_path / "elsewhere", symlinks=True)
    with home_at(tmp_path / "elsewhere") as other:
        trained = train.run(changed(made.train, seed=12), silent)
        return shutil.copy(other.resolve(trained.path), tmp_path / "my_model.safetensors")


def everything(home: Home) -> dict[str, str]:
    """Every file of the home by name and content, the ledger as its rows."""
    files = {
        str(path.relative_to(home.root)): sha256_file(path)
        for path in sorted(home.root.rglob("*"))
        if path.is_file() and not path.name.startswith("ledger.db")
    }
    ledger = Ledger.open()
    rows = [ledger.events(), ledger.artifacts(), ledger.evaluations(), ledger.promotions(), ledger.audit()]
    return files | {"ledger": repr(rows)}


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]  # an object, as every answer


def test_R49_a_gauntlet_is_played_and_its_no_is_an_answer_on_record(
    house: Home, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["promote", "--gauntlet", "--model", str(outside), *BOARD, "--games", "8", "--sync-to-cluster", *SMALL]
    assert main(arguments) == ExitCode.GATE_SAID_NO
    told = answered(capsys)
    assert (told["promoted"], told["canonical_path"], told["deliveries"]) == (False, None, [])
    assert told["failure_reason"].startswith("FAIL: ")
    ledger = Ledger.open()
    [judged] = ledger.evaluations(CONFIG, candidate=told["sha"])
    assert judged.report == told["evaluation"]["report"]
    assert len(ledger.events(types=[EventType.MODEL_PROMOTION_FAILED])) == 1
    assert ledger.canonical(CONFIG) is None
    assert not house.canonical_link(CONFIG).exists()


def test_R49_a_dry_run_writes_nothing_whatever_it_is_asked(
    made: Made, house: Home, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(house)
    dry = ["promote", "--model", str(outside), *BOARD, "--dry-run", *SMALL]
    assert main([*dry, "--gauntlet", "--games", "8"]) == ExitCode.GATE_SAID_NO
    assert answered(capsys)["failure_reason"].startswith("dry run: it would not be promoted: FAIL: ")
    assert main([*dry, "--force", "--reason", "tried"]) == ExitCode.DONE
    assert answered(capsys)["failure_reason"] == "dry run: it would be promoted by force"
    assert main(["promote", "--model", made.trained.weights, *BOARD, "--dry-run", *SMALL]) == ExitCode.DONE
    assert "it would not be promoted: FAIL" in answered(capsys)["failure_reason"]
    assert everything(house) == before


def test_R49_force_needs_a_reason_is_audited_and_delivers(
    house: Home, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.settings_file.write_text("destinations: [delivered]\n")
    arguments = ["promote", "--model", str(outside), *BOARD, "--force-promote", "--sync-to-cluster", *SMALL]
    assert main(arguments) == ExitCode.WRONG_USAGE
    assert "needs a reason" in capsys.readouterr().out
    ledger = Ledger.open()
    assert (ledger.canonical(CONFIG), ledger.audit(), ledger.waivers()) == (None, [], [])
    assert main([*arguments, "--reason", "demo tomorrow"]) == ExitCode.DONE
    told = answered(capsys)
    assert told["promoted"] is True
    assert sha256_file(Path(told["canonical_path"])) == told["sha"] == sha256_file(outside)
    assert [(one["destination"], one["verified"]) for one in told["deliveries"]] == [
        (str(house.root / "delivered"), True)
    ]
    [move] = ledger.promotions(CONFIG)
    assert (move.kind, move.reason) == ("forced", "gauntlet waived: demo tomorrow")
    assert [(row.action, row.reason) for row in ledger.audit()] == [
        ("waive gauntlet", "demo tomorrow"), ("promote", "demo tomorrow"),
    ]  # fmt: skip
    assert ledger.lease(generation_lease(CONFIG)).holder is None  # type: ignore[union-attr]  # it was taken once
    assert main([*arguments, "--reason", "demo tomorrow"]) == ExitCode.DONE
    assert len(ledger.promotions(CONFIG)) == 1


def test_R49_a_net_of_another_config_and_a_damaged_one_are_not_forced(
    house: Home, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    force = ["--force", "--reason", "try", *SMALL]
    assert main(["promote", "--model", str(outside), "--config", "hex8_3p", *force]) != ExitCode.DONE
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(outside.read_bytes()[:-1000])
    assert main(["promote", "--model", str(cut), *BOARD, *force]) != ExitCode.DONE
    capsys.readouterr()
    assert Ledger.open().promotions() == []


@pytest.mark.parametrize(
    "more", [["--gauntlet", "--force"], ["--games", "8"], ["--gauntlet", "--report", "r"], ["--result", "r"]]
)
def test_F16_options_that_exclude_each_other_are_refused(house: Home, outside: Path, more: list[str]) -> None:
    assert main(["promote", "--model", str(outside), *BOARD, *more]) == ExitCode.WRONG_USAGE


def test_R48_the_environment_says_the_same_and_a_skipped_gauntlet_is_a_waiver(
    house: Home, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Settings.load().profile(CONFIG).games_per_look == 50
    assert (Settings.load().auto_promote, Settings.load().distribution_timeout) == (True, 300)
    for name, value in (("AUTO_PROMOTE", "false"), ("GAUNTLET_GAMES", "24"), ("DISTRIBUTION_TIMEOUT", "60")):
        monkeypatch.setenv(f"RINGRIFT_{name}", value)
    settings = Settings.load()
    assert (settings.auto_promote, settings.profile(CONFIG).games_per_look, settings.distribution_timeout) == (
        False, 24, 60,
    )  # fmt: skip
    monkeypatch.setenv("RINGRIFT_SKIP_GAUNTLET", "true")
    arguments = ["promote", "--model", str(outside), *BOARD, *SMALL]
    assert main(arguments) == ExitCode.WRONG_USAGE
    assert "set RINGRIFT_WAIVER_REASON" in capsys.readouterr().out
    monkeypatch.setenv("RINGRIFT_WAIVER_REASON", "hand-picked")
    assert main(arguments) == ExitCode.DONE
    ledger = Ledger.open()
    [waiver] = ledger.waivers("gauntlet", config=CONFIG)
    assert waiver.reason == "hand-picked"
    assert ledger.promotions(CONFIG)[0].kind == "forced"
    with pytest.raises(promote.GauntletWaiverError, match="is not in force"):
        promote.run(changed_promotion(ledger, waiver=waiver.id + 1), silent)


def changed_promotion(ledger: Ledger, waiver: int) -> Any:
    net = ledger.promotions(CONFIG)[0].sha
    return promote.PromoteSpec(
        config=CONFIG, generation=None, token=0, seed=0, candidate=net, candidate_path="", report=None,
        report_path=None, auto_promote=True, waiver=waiver,
    )  # fmt: skip


def test_R50_evaluate_and_promote_answers_with_the_runbooks_names(
    house: Home, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")
    controller = PromotionController()
    asked = {"model_path": str(outside), "board_type": "hex8", "num_players": 2, "gauntlet_games": 8}
    result = asyncio.run(controller.evaluate_and_promote(**asked))
    assert (result.promoted, result.canonical_path) == (False, None)
    assert result.failure_reason is not None
    assert result.failure_reason.startswith("FAIL: ")


def test_R76_the_controller_of_this_home_knows_the_last_evaluation(made: Made, house: Home) -> None:
    last = PromotionController.get_instance().last_evaluation
    assert last is not None
    assert (last.candidate, last.report) == (made.trained.weights, made.judged.report)


# --- back -----------------------------------------------------------------------------------------


def passed_over(home: Home, net: str, previous: str | None, name: str) -> str:
    """An evaluation of ``net`` against ``previous`` as it would stand in the ledger had it passed."""
    sha, path = Store(home).put(json.dumps({"verdict": "PASS", "name": name}).encode(), ".json")
    spec = gauntlet_spec_of(net, previous)
    result = {
        "report": sha, "path": str(home.relative(path)), "candidate": net, "gate_version": "1", "verdict": "PASS",
        "reason": "all gates", "opponents": [], "mirror": None, "seconds": 1.0,
    }  # fmt: skip
    record_gauntlet(home, spec, promote_result(result), [])
    return sha


def gauntlet_spec_of(net: str, previous: str | None) -> Any:
    from tests.stages.conftest import COMMON, GauntletSpec, SearchSettings

    return GauntletSpec(
        **COMMON, candidate=net, candidate_path="", previous=previous, previous_path=None, opponents=["random"],
        search=SearchSettings(simulations=0, temperature=0.0), games_per_look=1, cap=1, cap_previous=1, mirror_games=0,
        max_moves=10,
    )  # fmt: skip


def promote_result(fields: dict[str, Any]) -> Any:
    from ringrift_ops.stages.specs import GauntletResult

    return GauntletResult.model_validate(fields)


@pytest.fixture
def two(made: Made, house: Home) -> tuple[str, str]:
    """Two nets of hex8_2p that were promoted one after the other, on evidence; the second is in force."""
    house.settings_file.write_text("destinations: [delivered]\n")
    first, second = made.trained.weights, train.run(changed(made.train, seed=13), silent).weights
    ledger = Ledger.open()
    for net, previous in ((first, None), (second, first)):
        passed_over(house, net, previous, net)
        assert main(["promote", "--model", net, *BOARD]) == ExitCode.DONE
    canonical = ledger.canonical(CONFIG)
    assert canonical is not None
    assert canonical.sha == second
    return first, second


def test_R56_a_wrong_net_is_taken_back_with_links_hosts_and_an_audit_row(
    house: Home, two: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    ledger = Ledger.open()
    assert main(["rollback", CONFIG]) == ExitCode.WRONG_USAGE
    capsys.readouterr()
    arguments = ["rollback", CONFIG, "--reason", "plays worse than before", "--json"]
    assert main(arguments) == ExitCode.DONE
    told = answered(capsys)
    assert (told["sha"], told["previous"]) == (first, second)
    assert ledger.canonical(CONFIG).sha == first  # type: ignore[union-attr]  # there is one
    for link in (house.canonical_link(CONFIG), house.best_link(CONFIG)):
        assert sha256_file(link) == first
    assert sha256_file(house.root / "delivered" / f"canonical_{CONFIG}.safetensors") == first
    assert [row.action for row in ledger.audit()][-1] == "rollback"
    assert main(arguments) == ExitCode.DONE
    assert answered(capsys)["sha"] == first
    assert [move.kind for move in ledger.promotions(CONFIG)] == ["rollback", "promote", "promote"]


def test_R56_what_was_taken_back_needs_new_evidence(
    house: Home, two: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    assert main(["rollback", CONFIG, "--reason", "plays worse"]) == ExitCode.DONE
    capsys.readouterr()
    assert main(["promote", "--model", second, *BOARD]) == ExitCode.GATE_SAID_NO
    assert "was taken back by" in capsys.readouterr().err
    passed_over(house, second, first, "again")
    assert main(["promote", "--model", second, *BOARD]) == ExitCode.DONE


def test_R56_rollback_to_a_named_net_and_what_is_refused(
    made: Made, house: Home, two: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    ledger = Ledger.open()
    ledger.record_artifact("f" * 64, "weights", "w", 1, "hex8_3p", None, parents=[], meta={}, token=0)
    reason = ["--reason", "wrong one"]
    assert main(["rollback", CONFIG, "--to", "f" * 64, *reason]) != ExitCode.DONE
    assert main(["rollback", CONFIG, "--to", "0123456789", *reason]) == ExitCode.NO_DATA
    assert main(["rollback", "hex8_3p", *reason]) == ExitCode.NO_DATA
    assert ledger.canonical(CONFIG).sha == second  # type: ignore[union-attr]  # there is one
    assert main(["rollback", CONFIG, "--to", first[:12], *reason]) == ExitCode.DONE
    assert main(["rollback", CONFIG, "--reason", "further back"]) == ExitCode.DONE
    capsys.readouterr()
    assert ledger.canonical(CONFIG).sha == first  # type: ignore[union-attr]  # there is none before it


def test_R56_a_rollback_that_is_refused_changes_nothing_and_says_where_it_may_go(
    house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, store = Ledger.open(), Store(house)
    first, second, never = (store.put(name, ".safetensors")[0] for name in (b"first", b"second", b"never judged"))
    for net in (first, second, never):
        ledger.record_artifact(net, "weights", net, 1, CONFIG, None, parents=[], meta={}, token=0)
    own = ledger.acquire_lease(generation_lease(CONFIG), "test")
    for net, expected in ((first, None), (second, first)):
        ledger.compare_and_swap_canonical(
            CONFIG, expected, net, own.token, generation=None, reason="won", actor="a", kind="forced"
        )
    ledger.release_lease(own.name, own.token)
    run = ledger.ensure_generation(CONFIG, None, "running", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(run.id)
    assert lease is not None
    before = everything(house)
    assert main(["rollback", CONFIG, "--to", never, "--reason", "x"]) == ExitCode.GATE_SAID_NO
    assert f"{never[:12]} was never in force" in (said := capsys.readouterr().err)
    assert f"newest first: {first[:12]};" in said
    assert everything(house) == before
    damaged = store.get(first)
    damaged.chmod(0o644)
    damaged.write_bytes(b"half a net")
    before = everything(house)
    assert main(["rollback", CONFIG, "--reason", "plays worse"]) == ExitCode.NO_DATA
    assert everything(house) == before
    assert ledger.canonical(CONFIG).sha == second  # type: ignore[union-attr]  # there is one
    assert ledger.check_token(lease.name, lease.token).holder == "running"


def test_R56_a_running_generation_is_fenced_and_asks_again(house: Home, two: tuple[str, str]) -> None:
    ledger = Ledger.open()
    run = ledger.ensure_generation(CONFIG, None, "running", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(run.id)
    assert lease is not None
    assert main(["rollback", CONFIG, "--reason", "poisoned"]) == ExitCode.DONE
    again = ledger.try_grant_generation(run.id)
    assert again is not None
    assert again.token > lease.token


def test_the_ledger_itself_refuses_old_evidence(house: Home, two: tuple[str, str]) -> None:
    first, second = two
    assert main(["rollback", CONFIG, "--reason", "plays worse"]) == ExitCode.DONE
    ledger = Ledger.open()
    old = ledger.evaluations(CONFIG, candidate=second)[-1]
    lease = ledger.acquire_lease(generation_lease(CONFIG), "test")
    with pytest.raises(NoEvidenceForPromotionError, match="run its gauntlet again"):
        ledger.compare_and_swap_canonical(
            CONFIG, first, second, lease.token, generation=None, reason="r", actor="a", evaluation=old.id
        )
    assert old.verdict is Verdict.PASS
