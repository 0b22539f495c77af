"""Trainings that only try something out, on a real dataset, and leave nothing behind (R43)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations import trials
from ringrift_ops.settings import TRIALS, Settings
from ringrift_ops.stages.heartbeat import silent
from tests.stages.conftest import Made, changed


def files(house: Home) -> set[Path]:
    folders = (house.store, house.training, house.models)
    return {path for folder in folders for path in folder.rglob("*")}


def asked(house: Home, made: Made, *more: str) -> list[str]:
    path = str(house.resolve(made.exported.path))
    return ["train", "--config", made.train.config, "--data", path, "--profile", "tiny", "--seed", "1", *more]


def test_R43_smoke_trains_one_epoch_on_a_hundredth_and_leaves_nothing_behind(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before, events = files(house), len(Ledger.open().events())
    assert main(asked(house, made, "--smoke", "--json")) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert (TRIALS.smoke_share, found["games"], found["steps"]) == (0.01, 1, 1)
    assert 0 < found["samples"] < made.exported.train_samples
    assert np.isfinite([found["train_loss"], found["validation_loss"]]).all()
    assert (files(house), len(Ledger.open().events())) == (before, events)


def test_R43_smoke_starts_from_the_parent_that_was_asked_for(made: Made, house: Home) -> None:
    row = Settings.load().profile(made.train.config, "tiny")
    fresh = trials.smoke(house, made.train, row, silent)
    taught = trials.smoke(house, changed(made.train, parent=made.trained.weights), row, silent)
    assert taught.validation_loss != fresh.validation_loss


def test_R43_one_batch_is_learnt_by_heart_and_labels_that_say_nothing_are_not(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(asked(house, made, "--overfit-one-batch", "--batch-size", "64", "--json")) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 64
    assert found["fell"] >= TRIALS.overfit_fall
    assert found["last_loss"] < found["first_loss"]
    monkeypatch.setattr(trials, "TRIALS", TRIALS.model_copy(update={"overfit_rate": 1e-9, "overfit_steps": 3}))
    assert main(asked(house, made, "--overfit-one-batch", "--batch-size", "64")) == ExitCode.GATE_SAID_NO
    assert "samples went from" in capsys.readouterr().err


def test_R43_describe_says_what_would_be_trained_and_begins_nothing(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(house)
    assert main(asked(house, made, "--describe", "--json")) == ExitCode.DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["samples"] == made.exported.train_samples
    assert found["steps"] == found["steps_per_epoch"] * found["spec"]["epochs"]
    assert found["parameters"] > 1000
    assert set(found["preflight"]) == {"configuration", "dataset", "resources", "permissions"}
    assert files(house) == before
    assert main(asked(house, made, "--describe", "--smoke")) == ExitCode.WRONG_USAGE


def test_R43_what_a_training_would_refuse_a_smoke_refuses(made: Made, house: Home, capsys: Any) -> None:
    damaged = house.root / "cut.npz"
    damaged.write_bytes(house.resolve(made.exported.path).read_bytes()[:-1000])
    words = ["train", "--config", made.train.config, "--data", str(damaged), "--profile", "tiny", "--smoke"]
    assert main(words) == ExitCode.NO_DATA
    assert "preflight, dataset: corruption" in capsys.readouterr().err
