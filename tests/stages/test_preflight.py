"""Before a training: every wrong field at once, real datasets that are damaged for real, what the machine has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.network.dataset import DatasetWriter, open_dataset
from ringrift_ops.operations.datasets import (
    UnfitDatasetsError,
    require_valid,
    validate_dataset,
    validate_newest,
)
from ringrift_ops.operations.preflight import (
    MissingResourcesError,
    UnfitDatasetError,
    WrongConfigurationError,
    preflight,
    require,
    training_spec,
)
from ringrift_ops.settings import DATA, Settings
from ringrift_ops.stages import export
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.store import sha256_file
from tests.stages.conftest import CONFIG, GAMES, Made, changed, export_spec, spec_file, train_spec


def rewritten(source: Path, target: Path, games: int, repeat: int = 1, value: float | None = None) -> Path:
    """The first so many games of a dataset, each so many times, all values as given."""
    old = open_dataset(source, CONFIG)
    with DatasetWriter(target, CONFIG, {}) as writer:
        for game in range(games):
            of = np.flatnonzero(np.asarray(old.game) == game)
            values = np.asarray(old.values[of])
            if value is not None:
                values = np.full_like(values, value)
            for _ in range(repeat):
                writer.add_game(old.features[of], values, old.ply[of], int(old.split[of[0]]))
    return target


@pytest.fixture
def dataset(made: Made, house: Home) -> Path:
    return house.resolve(made.exported.path)


def checks_of(house: Home, made: Made, **fields: Any) -> dict[str, Any]:
    found = preflight(house, changed(made.train, **fields), Settings.load().profile(CONFIG, "tiny"))
    return {one.name: one for one in found}


def test_R35_every_wrong_field_is_in_one_answer_with_its_valid_range(made: Made, house: Home, capsys: Any) -> None:
    good = made.train.model_dump(mode="json")
    assert training_spec(good) == made.train
    bad = {"batch_size": 0, "learning_rate": 5, "epochs": "many", "device": "tpu", "family": "deep", "sise": {}}
    with pytest.raises(WrongConfigurationError) as told:
        training_spec(good | bad)
    words = str(told.value)
    for line in (
        "batch_size: Input should be greater than 0 (given: 0; valid: more than 0, at most 65536)",
        "learning_rate: more than 1 (given: 5; valid: more than 0, at most 1)",
        "epochs: Input should be a valid integer",
        "device: no such device (given: 'tpu'; valid: cpu or cuda)",
        "family: Input should be 'sparse' or 'convolutional' (given: 'deep'; valid: sparse or convolutional)",
        "sise: Extra inputs are not permitted (given: {}; valid: no such field; fields: config, generation",
    ):
        assert line in words
    arguments = ["preflight", CONFIG, "--set", "batch_size=-1", "--set", "learning_rate=7"]
    assert main(arguments) == ExitCode.WRONG_USAGE
    assert capsys.readouterr().err.count("valid:") == 2


def test_R36_a_whole_dataset_is_described_in_numbers(made: Made, house: Home, dataset: Path, capsys: Any) -> None:
    report = validate_dataset(dataset, CONFIG)
    assert (report.valid, [one for one in report.issues if one.blocking]) == (True, [])
    facts = report.statistics
    assert facts["samples"] == made.exported.samples
    assert facts["games"] == made.exported.games <= GAMES
    assert facts["training_samples"] + facts["validation_samples"] == facts["samples"]
    shares = [facts["mover"][name] for name in ("won", "drawn", "lost")]
    assert sum(shares) == pytest.approx(1.0)
    assert 0 < facts["longest_ply"] < 425
    assert main(["data", "validate", CONFIG, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["statistics"]["samples"] == facts["samples"]
    assert main(["data", "validate", CONFIG]) == ExitCode.DONE
    assert main(["data", "validate", "hex8_3p"]) == ExitCode.NO_DATA


@pytest.mark.parametrize("check", ["exists", "format", "corruption", "quantity", "label distribution", "duplicates"])
def test_R36_what_is_wrong_is_named_with_its_fix(
    made: Made, house: Home, dataset: Path, tmp_path: Path, check: str
) -> None:
    path = tmp_path / "bad.npz"
    config = CONFIG
    match check:
        case "format":
            shutil.copy(dataset, path)
            config = "hex8_3p"
        case "corruption":
            path.write_bytes(dataset.read_bytes()[:-4096])
        case "quantity":
            rewritten(dataset, path, DATA.least_games - 1)
        case "label distribution":
            rewritten(dataset, path, DATA.least_games, value=1.0)
        case "duplicates":
            rewritten(dataset, path, DATA.least_games, repeat=2)
    report = validate_dataset(path, config)
    found = {one.check: one for one in report.issues}
    assert check in found
    assert found[check].fix
    assert report.valid is (check == "duplicates")
    if check == "duplicates":
        assert report.statistics["duplicates"] >= report.statistics["samples"] // 2
        assert "% of the positions are in it before" in found[check].message


def test_R36_a_bit_that_flipped_in_the_values_is_corruption(dataset: Path, tmp_path: Path) -> None:
    old = open_dataset(dataset, CONFIG)
    offset = old.values.offset  # type: ignore[attr-defined]  # a memory map knows where it lies
    content = bytearray(dataset.read_bytes())
    content[offset : offset + 4] = np.float32(9.0).tobytes()
    path = tmp_path / "flipped.npz"
    path.write_bytes(content)
    [issue] = validate_dataset(path, CONFIG).issues
    assert (issue.check, "outside [-1, 1]" in issue.message) == ("corruption", True)


def test_R36_drift_is_measured_against_the_dataset_before(
    made: Made, house: Home, dataset: Path, tmp_path: Path, capsys: Any
) -> None:
    same = validate_dataset(dataset, CONFIG, dataset).statistics["drift"]
    assert same == {"plies": pytest.approx(0.0), "outcomes": pytest.approx(0.0)}
    other = rewritten(dataset, tmp_path / "other.npz", GAMES // 2, value=0.0)
    report = validate_dataset(other, CONFIG, dataset)
    assert report.statistics["drift"]["outcomes"] > DATA.drift
    assert [one.check for one in report.issues if not one.blocking] == ["drift"]
    assert report.valid is True
    newer = export.run(export_spec(made.played.path, max_samples=200), silent)
    assert main(["data", "validate", newer.dataset[:12], "--json"]) == ExitCode.DONE
    assert set(json.loads(capsys.readouterr().out)["statistics"]["drift"]) == {"plies", "outcomes"}
    assert Ledger.open().artifacts(config=CONFIG, kind="dataset")[0].sha == newer.dataset


def test_R36_a_dataset_before_that_cannot_be_used_is_said_and_holds_up_no_good_one(
    dataset: Path, tmp_path: Path
) -> None:
    """After a change of the encoder the last one of before is foreign."""
    foreign, damaged, none = (tmp_path / f"{name}.npz" for name in ("foreign", "damaged", "none"))
    with np.load(dataset) as arrays:
        np.savez(foreign, **(dict(arrays) | {"encoder_version": np.array("0")}))
    damaged.write_bytes(dataset.read_bytes()[:-4096])
    for before, told in ((foreign, "encoder_version is '0'"), (damaged, "no NPZ file, or a truncated one")):
        report = validate_dataset(dataset, CONFIG, before)
        (issue,) = [one for one in report.issues if one.check == "drift"]
        assert (report.valid, issue.blocking) == (True, False)
        assert told in issue.message
        assert "drift" not in report.statistics
    assert validate_dataset(dataset, CONFIG, none).issues == validate_dataset(dataset, CONFIG).issues


def test_R36_the_weekly_look_names_every_unfit_dataset_and_passes_the_others(
    made: Made, house: Home, dataset: Path
) -> None:
    reports = validate_newest(house, Ledger.open())
    assert list(reports) == [CONFIG]
    require_valid(reports)
    path = dataset.resolve()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(UnfitDatasetsError, match="1 of 1 datasets are unfit: hex8_2p: corruption: "):
        require_valid(validate_newest(house, Ledger.open()))


def test_R42_a_training_that_may_begin_passes_all_four_checks(made: Made, house: Home, capsys: Any) -> None:
    found = checks_of(house, made)
    assert list(found) == ["configuration", "dataset", "resources", "permissions"]
    assert [one.found for one in found.values() if not one.passed] == []
    require(list(found.values()))
    assert main(["preflight", CONFIG, "--profile", "tiny"]) == ExitCode.DONE
    assert "samples of" in capsys.readouterr().out


def test_R42_the_failed_check_and_its_fix_are_the_error_of_the_train_process(
    made: Made, house: Home, dataset: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.npz"
    cut.write_bytes(dataset.read_bytes()[:-4096])
    spec = changed(made.train, dataset=sha256_file(cut), dataset_path=str(cut))
    result = tmp_path / "result.json"
    assert main(["train", "--spec", str(spec_file(tmp_path, spec)), "--result", str(result)]) == ExitCode.NO_DATA
    told = json.loads(result.read_text())["error"]
    assert told["type"] == "UnfitDatasetError"
    assert told["message"].startswith("preflight, dataset: corruption: ")
    assert "`ringrift export --use-discovery --config hex8_2p" in told["message"]


def test_R42_resources_and_permissions_are_those_of_this_machine(made: Made, house: Home) -> None:
    house.settings_file.write_text(f"profiles:\n  tiny:\n    disk_free_bytes: {10**18}\n")
    found = checks_of(house, made)
    assert "GB free on" in found["resources"].found
    with pytest.raises(
        MissingResourcesError, match=r"preflight, resources: .* needed in profile tiny; `ringrift retention"
    ):
        require(list(found.values()))
    house.settings_file.unlink()
    shutil.rmtree(house.models)
    house.models.write_text("a file where a folder should be")
    assert checks_of(house, made)["permissions"].found == f"not writable: {house.models}"
    with pytest.raises(UnfitDatasetError, match="there is no dataset"):
        require(list(checks_of(house, made, dataset_path="none.npz").values()))


@pytest.mark.parametrize(("mebibytes", "batch", "fits"), [(8_192, 256, True), (8_192, 512, False), (24_576, 512, True)])
def test_R31_the_batch_that_a_gpu_takes_goes_by_its_memory(
    made: Made, house: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mebibytes: int, batch: int, fits: bool
) -> None:
    """A stand-in for the command ``nvidia-smi``; no machine of the tests has a GPU."""
    command = tmp_path / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\necho {mebibytes}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    check = checks_of(house, made, device="cuda", batch_size=batch)["resources"]
    assert check.passed is fits
    if not fits:
        assert (check.found, check.fix) == ("batch 512 on a GPU with 9 GB, which takes 256", "--batch-size 256")


def test_R31_without_a_gpu_cuda_is_refused_before_anything_starts(made: Made, house: Home) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    check = checks_of(house, made, device="cuda")["resources"]
    assert check.passed is False
    assert "nvidia-smi shows no GPU" in check.found
    assert Settings.load().profile(CONFIG, "standard").disk_free_bytes == 10 * 10**9
    assert train_spec(made.exported).device == "cpu"
