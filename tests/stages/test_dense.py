"""RingRift's key set: what each array says of the games, streamed and without pickle unless asked for."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import hashlib
import json
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.cli import export as door
from ringrift_ops.cli import main
from ringrift_ops.cli.options import OptionConflictError
from ringrift_ops.errors import ExitCode
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.home import Home
from ringrift_ops.network import encoder
from ringrift_ops.network.dataset import open_dataset
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import MOVE_NAMES, PHASE_NAMES
from ringrift_ops.stages import export
from ringrift_ops.stages.dense import engine_mode_of
from ringrift_ops.stages.heartbeat import silent
from tests.stages.conftest import CONFIG, Made, changed

RINGRIFT_KEYS = {
    "features", "globals", "values", "values_mp", "num_players", "policy_indices", "policy_values", "move_numbers",
    "total_game_moves", "phases", "move_types", "victory_types", "engine_modes", "opponent_elo", "generator_elo",
    "quality_score", "opponent_types", "board_type", "board_size", "history_length", "feature_version",
    "policy_encoding", "encoder_type", "encoder_version", "in_channels", "policy_size", "max_policy_index",
    "policies_normalized", "export_version", "spatial_size", "metadata", "data_checksums",
}  # fmt: skip


@pytest.fixture(scope="module")
def dense(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.stages.conftest import home_at

    path = tmp_path_factory.mktemp("dense") / "ringrift.npz"
    with home_at(made.root):
        again = export.run(changed(made.export, dense=str(path)), silent)
    assert again.dense == str(path)
    assert again.dataset == made.exported.dataset, "the dataset is the same with and without"
    return path


def test_R12_dense_file_has_ringrifts_whole_key_set_and_names_our_encoder(dense: Path) -> None:
    with np.load(dense) as arrays:
        assert set(arrays) == RINGRIFT_KEYS | {"policy_indptr"}
        assert not any(arrays[name].dtype.hasobject for name in arrays)
        assert (str(arrays["encoder_type"]), str(arrays["board_type"])) == ("ringrift-ops-planes", "hex8")
        assert str(arrays["encoder_version"]) == encoder.ENCODER_VERSION
        assert str(arrays["policy_encoding"]).startswith("ringrift-policy")
        assert int(arrays["max_policy_index"]) < int(arrays["policy_size"])


def test_R12_dense_arrays_say_of_the_samples_what_the_dataset_says(made: Made, dense: Path) -> None:
    dataset = open_dataset(Home(made.root).resolve(made.exported.path), CONFIG)
    g, n = game(CONFIG).geometry, len(dataset)
    planes = np.empty((n, encoder.plane_count(g), 9, 9), dtype=np.float32)
    numbers = np.empty((n, encoder.global_count(g)), dtype=np.float32)
    encoder.planes_of_rows(g, np.asarray(dataset.features), planes, numbers)
    with np.load(dense) as arrays:
        assert np.array_equal(arrays["features"], planes)
        assert np.array_equal(arrays["globals"], numbers)
        assert np.array_equal(arrays["values"], dataset.values[:, 0])
        movers = dataset.features[:, 1].astype(int)
        seats = arrays["values_mp"]
        assert seats.shape == (n, 4)
        assert np.array_equal(seats[np.arange(n), movers], dataset.values[:, 0])
        assert np.array_equal(seats[np.arange(n), 1 - movers], dataset.values[:, 1])
        assert not seats[:, 2:].any()
        assert np.array_equal(arrays["move_numbers"], dataset.ply)
        assert (arrays["total_game_moves"] > arrays["move_numbers"]).all()
        indptr, shares = arrays["policy_indptr"], arrays["policy_values"]
        assert (np.diff(indptr) > 0).all()
        assert (shares > 0).all()
        assert np.allclose(np.add.reduceat(shares, indptr[:-1]), 1.0, atol=1e-3)
        assert set(arrays["phases"].tolist()) <= set(PHASE_NAMES)
        assert set(arrays["move_types"].tolist()) <= set(MOVE_NAMES)
        assert set(arrays["engine_modes"].tolist()) == {"mcts"}
        assert set(arrays["victory_types"].tolist()) <= {"elimination", "territory", "lps", "stalemate"}


def test_R12_dense_move_types_are_those_of_the_moves_played(made: Made, dense: Path) -> None:
    with GameDatabase(Home(made.root).resolve(made.played.path), CONFIG) as database:
        first = next(iter(database.games()))
    with np.load(dense) as arrays:
        count = int(np.flatnonzero(np.diff(arrays["move_numbers"]) < 0)[0]) + 1
        plies = arrays["move_numbers"][:count]
        letters = {"place_ring": "P", "move_stack": "M", "overtaking_capture": "C", "continue_capture_segment": "K"}
        for ply, name in zip(plies.tolist(), arrays["move_types"][:count].tolist(), strict=True):
            if name in letters:
                assert first.moves[ply].startswith(letters[name])
        assert set(arrays["total_game_moves"][:count].tolist()) == {len(first.moves)}


def test_R12_dense_checksums_are_ringrifts(dense: Path) -> None:
    with np.load(dense) as arrays:
        sums = json.loads(str(arrays["data_checksums"]))
        assert set(sums) >= {"features", "values", "policy_indices"}
        for name, found in sums.items():
            array = arrays[name]
            text = (str(array.shape) + str(array.dtype)).encode()
            assert hashlib.sha256(text + array.tobytes()).hexdigest() == found, name


def test_R12_pickled_policies_are_written_on_request_only(made: Made, house: Home, tmp_path: Path, dense: Path) -> None:
    path = tmp_path / "objects.npz"
    export.run(changed(made.export, dense=str(path), object_policies=True), silent)
    with np.load(path) as arrays, np.load(dense) as plain:
        assert set(arrays) == RINGRIFT_KEYS | {"policy_indptr", "policy_csr_indices", "policy_csr_values"}
        assert np.array_equal(arrays["policy_csr_indices"], plain["policy_indices"])
        with pytest.raises(ValueError, match="pickle"):
            arrays["policy_indices"]
    with zipfile.ZipFile(path) as archive, archive.open("policy_indices.npy") as member:
        content = member.read()
    pickled = content[content.index(b"\n") + 1 :]
    names = {str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}
    assert names <= {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray",
                     "numpy dtype"}  # fmt: skip


def test_R12_dense_is_a_flag_and_needs_a_file_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database, output = tmp_path / "a.db", tmp_path / "o.npz"
    database.touch()
    spec = door.spec_of(CONFIG, [database], output=output, dense=True, profile="tiny", seed=1)
    assert (spec.output, spec.dense, spec.object_policies) == (None, str(output), False)
    with pytest.raises(OptionConflictError, match="--output"):
        door.spec_of(CONFIG, [database], dense=True, profile="tiny", seed=1)
    assert main(["export", "--db", str(database), "--config", CONFIG, "--object-policies"]) == ExitCode.WRONG_USAGE
    assert "--dense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        ("mcts_net", "mcts"),
        ("gumbel_mcts", "mcts"),
        ("heuristic", "heuristic"),
        ("net", "policy_only"),
        (None, "unknown"),
    ],
)
def test_R12_engine_modes_are_ringrifts_words(label: str | None, mode: str) -> None:
    assert engine_mode_of(label) == mode
