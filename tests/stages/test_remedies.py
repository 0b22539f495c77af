"""Remedies of a training as its stage shows them: result, heartbeat, events; and the options that set them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from ringrift_ops.cli import main
from ringrift_ops.cli.train import spec_of
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, Ledger, LedgerUnavailableError
from ringrift_ops.network.checkpoints import NAME
from ringrift_ops.operations.remedies import mend
from ringrift_ops.platform.facts import controls
from ringrift_ops.settings import REMEDIES
from ringrift_ops.stages import train
from ringrift_ops.stages.checkpoints import checkpoint_folder
from ringrift_ops.stages.heartbeat import Heartbeat, silent
from ringrift_ops.stages.recording import record_remedy
from ringrift_ops.store import sha256_file
from tests.network.test_remedies import small_memory
from tests.network.test_training import Stopped, stopping_after
from tests.stages.conftest import CONFIG, Made, changed


def remedies_on_record() -> list[tuple[str, dict[str, Any]]]:
    kinds = [EventType.REMEDY_APPLIED, EventType.REMEDY_VERIFIED]
    return [(event.type, event.payload) for event in Ledger.open().events(types=kinds)]


def test_R19_a_remedy_is_in_the_result_the_heartbeat_and_the_ledger(
    made: Made, house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 64, error=torch.OutOfMemoryError)
    beats: list[Heartbeat] = []
    asked = changed(made.train, seed=20)
    result = train.run(asked, beats.append)
    first = result.remedies[0]
    assert (first.kind, first.step, result.micro_batch) == ("out_of_memory", 0, 64)
    assert first.verified[0].ok
    assert any(beat.message.startswith("out_of_memory: the step is done again with 64") for beat in beats)
    assert beats[-1].metrics["micro_batch"] == 64
    assert beats[-1].metrics["remedies"] == len(result.remedies)
    assert {"epoch_train_loss", "epoch_validation_loss", "epochs_without_improvement"} <= beats[-1].metrics.keys()
    told = remedies_on_record()
    assert [kind for kind, _ in told] == ["REMEDY_APPLIED"] * len(result.remedies) + ["REMEDY_VERIFIED"] * len(
        result.remedies
    )
    job = checkpoint_folder(house, asked).name
    assert told[0][1] | {"reason": ""} == {
        "kind": "out_of_memory", "target": job, "step": 0, "tries": 1, "bound": 16, "reason": "",
        "action": "the step is done again with 64 samples at once; the batch stays 128",
    }  # fmt: skip


def test_R19_a_training_goes_on_while_the_ledger_cannot_take_what_it_has_mended(
    made: Made, house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 64, error=torch.OutOfMemoryError)
    tries: list[str] = []

    def away(*arguments: Any) -> None:
        tries.append("told")
        if len(tries) < 3:
            raise LedgerUnavailableError("ledger: disk I/O error")  # as SQLite does without memory for its shared map
        record_remedy(*arguments)

    monkeypatch.setattr(train, "record_remedy", away)
    result = train.run(changed(made.train, seed=23), silent)
    kinds = [kind for kind, _ in remedies_on_record()]
    assert kinds == ["REMEDY_APPLIED"] * len(result.remedies) + ["REMEDY_VERIFIED"] * len(result.remedies)


def interrupted(made: Made, house: Home, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Path:
    """The checkpoint of a training that was killed."""
    asked = changed(made.train, epochs=3, **fields)
    with monkeypatch.context() as patch:
        stopping_after(12, patch)
        with pytest.raises(Stopped):
            train.run(asked, silent)
    return checkpoint_folder(house, asked) / NAME


def test_R22_without_a_good_checkpoint_a_training_from_random_starts_from_the_canonical_net(
    made: Made, house: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    force = ["promote", "--force", "--model", made.trained.weights, "--config", CONFIG, "--reason", "a start"]
    assert main([*force, "--profile", "tiny"]) == ExitCode.DONE
    capsys.readouterr()
    path = interrupted(made, house, monkeypatch, seed=21)
    for one in path.parent.glob("checkpoint*"):
        one.write_bytes(b"nothing")
    broken = path.rename(house.root / "broken.safetensors")
    result = train.run(changed(made.train, seed=22, resume_from=str(broken)), silent)
    assert result.parent == made.trained.weights
    assert f"trained anew from the canonical net {made.trained.weights[:12]}" in result.remedies[0].action
    assert broken.with_name("broken.safetensors.corrupt").exists()
    assert [kind for kind, _ in remedies_on_record()] == ["REMEDY_APPLIED"]


def test_R22_the_corrupt_file_stays_for_whoever_wants_to_know_why(
    made: Made, house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interrupted(made, house, monkeypatch, seed=23)
    path.write_bytes(path.read_bytes()[:1000])
    result = train.run(changed(made.train, seed=23, epochs=3), silent)
    assert result.resumed_from_step == 5
    assert [one.name for one in path.parent.iterdir()] == [f"{NAME}.corrupt"]


def test_R45_the_options_of_the_command_reach_the_spec_and_the_profile_sets_the_others(made: Made, house: Home) -> None:
    house.settings_file.parent.mkdir(exist_ok=True)
    house.settings_file.write_text(
        "profiles:\n  tiny:\n    keep_checkpoints: 2\n    stop_after_epochs: 3\n    remedies: [divergence]\n"
    )
    spec = spec_of(CONFIG, house.resolve(made.exported.path), profile="tiny", seed=1)
    assert (spec.keep_checkpoints, spec.stop_after_epochs, spec.remedies) == (2, 3, ("divergence",))
    given: dict[str, Any] = {
        "data_subset": 0.1, "mixed_precision": True, "cudnn_benchmark": True, "cudnn_deterministic": True,
        "checkpoint_every_steps": 7, "checkpoint_every_epoch": True, "keep_checkpoints": 1, "remedies": [],
    }  # fmt: skip
    spec = spec_of(CONFIG, house.resolve(made.exported.path), profile="tiny", seed=1, **given)
    assert {name: getattr(spec, name) for name in given} == given | {"remedies": ()}


def test_R40_every_setting_of_a_training_is_an_option(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--config", CONFIG, "--data-path", str(house.resolve(made.exported.path)), "--profile", "tiny"]
    options = [
        "--data-subset", "0.5", "--mixed-precision", "--cudnn-benchmark", "--no-cudnn-deterministic",
        "--checkpoint-every-epoch", "--checkpoint-every-steps", "9", "--keep-checkpoints", "2",
        "--stop-after-epochs", "3", "--remedies", "out_of_memory,divergence", "--batch-size", "64", "--epochs", "1",
    ]  # fmt: skip
    assert main([*words, *options]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "micro_batch" in shown
    assert main([*words, "--data-subset", "2"]) == ExitCode.WRONG_USAGE
    assert main([*words, "--remedies", "prayer"]) == ExitCode.WRONG_USAGE


def promoted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    force = ["promote", "--force", "--model", made.trained.weights, "--config", CONFIG, "--reason", "a start"]
    assert main([*force, "--profile", "tiny"]) == ExitCode.DONE
    capsys.readouterr()


def test_R80_wrong_and_missing_links_are_repaired_and_the_bound_holds(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(made, capsys)
    for number in range(REMEDIES.links + 1):
        house.canonical_link(CONFIG).unlink()
        house.best_link(CONFIG).unlink(missing_ok=True)
        house.best_link(CONFIG).symlink_to("nowhere")
        [report] = mend(controls(), CONFIG)
        assert report.state == ("mended" if number < REMEDIES.links else "gave up")
    assert not house.canonical_link(CONFIG).exists()
    ledger = Ledger.open()
    assert ledger.canonical(CONFIG) is not None
    assert {row.actor for row in ledger.audit() if row.action == "remedy links"} == {"remedy"}
    assert main(["diagnose", CONFIG, "--stage", "promote"]) == ExitCode.DONE
    assert "ringrift model links --repair" in capsys.readouterr().out


def test_R80_a_net_that_did_not_arrive_is_delivered_again_within_the_bound(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(made, capsys)
    target = tmp_path / "nets"
    house.settings_file.parent.mkdir(exist_ok=True)
    house.settings_file.write_text(f"destinations: [{target}]\n")
    target.write_text("a file where a folder should be")
    for number in range(REMEDIES.undistributed + 1):
        [report] = mend(controls(), CONFIG)
        assert report.state == ("not mended" if number < REMEDIES.undistributed else "gave up")
    target.unlink()
    later = datetime.now(UTC) + timedelta(seconds=REMEDIES.window_seconds + 60)
    [report] = mend(controls(), CONFIG, now=later)
    assert report.state == "mended"
    assert [line.ok for line in report.verified] == [True]
    assert any(target.iterdir())
    assert mend(controls(), CONFIG) == []
    link, sha = target / f"canonical_{CONFIG}.safetensors", made.trained.weights
    link.unlink()
    Ledger.open().record_delivery(
        sha, str(target), "", verified=True, error="superseded", state="stale", generation=None, token=0
    )
    [report] = mend(controls(), CONFIG, now=later + timedelta(seconds=REMEDIES.window_seconds + 60))
    assert (report.state, sha256_file(link)) == ("mended", sha)
