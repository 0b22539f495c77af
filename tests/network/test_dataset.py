"""Datasets: written as a stream, mapped when read, and refused by name when something is wrong."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.errors import RingRiftError
from ringrift_ops.network import encoder
from ringrift_ops.network.dataset import (
    TRAINING,
    VALIDATION,
    DamagedDatasetError,
    DatasetWriter,
    EmptyDatasetError,
    ForeignDatasetError,
    MissingDatasetError,
    SampleError,
    open_dataset,
)
from ringrift_ops.network.npz import DamagedArraysError, map_arrays
from ringrift_ops.rules.game import game
from tests.network.samples import LINEAGE, write_random_games

CONFIG = "hex8_2p"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_games(tmp_path_factory.mktemp("data") / "d.npz", CONFIG, 10, policies=True)


def rewritten(source: Path, target: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    """The same dataset with something changed, written by NumPy."""
    with np.load(source) as opened:
        arrays = {name: opened[name] for name in opened.files}
    change(arrays)
    np.savez(target, **arrays)
    return target


def test_numpy_reads_a_dataset_without_pickle_and_mapping_gives_the_same(whole: Path) -> None:
    dataset = open_dataset(whole, CONFIG)
    with np.load(whole, allow_pickle=False) as plain:
        for name in ("features", "values", "game", "ply", "split", "policy_indptr", "policy_indices", "policy_values"):
            mapped = getattr(dataset, name)
            assert isinstance(mapped, np.memmap)
            assert mapped.ctypes.data % 64 == mapped.offset % 64 == 0 or mapped.flags.aligned
            assert (plain[name] == mapped).all()
            assert plain[name].dtype == mapped.dtype
    assert dataset.lineage == LINEAGE


def test_the_same_games_give_the_same_bytes(tmp_path: Path, whole: Path) -> None:
    again = write_random_games(tmp_path / "again.npz", CONFIG, 10, policies=True)
    assert again.read_bytes() == whole.read_bytes()


def test_R15_a_game_is_in_one_split_only(whole: Path) -> None:
    dataset = open_dataset(whole, CONFIG)
    sides = {(int(g), int(s)) for g, s in zip(dataset.game, dataset.split, strict=True)}
    assert len(sides) == 10
    assert len(dataset.samples_of(TRAINING)) + len(dataset.samples_of(VALIDATION)) == len(dataset)


def test_samples_say_who_won_and_carry_every_legal_move(whole: Path) -> None:
    dataset = open_dataset(whole, CONFIG)
    assert dataset.policy_samples == len(dataset)
    assert (np.diff(dataset.policy_indptr) >= 2).all()
    for number in range(10):
        own = dataset.game == number
        movers = dataset.features[own, 1]
        winners = {int(m) if v[0] == 1.0 else 1 - int(m) for m, v in zip(movers, dataset.values[own], strict=True)}
        assert len(winners) == 1
        assert (np.diff(dataset.ply[own]) > 0).all()


def test_games_without_policies_are_samples_for_values(tmp_path: Path) -> None:
    dataset = open_dataset(write_random_games(tmp_path / "d.npz", "square8_3p", 5, policies=False), "square8_3p")
    assert dataset.policy_samples == 0
    assert len(dataset) > 100


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("features", lambda a: a.update(features=a["features"][:, :-1]), DamagedDatasetError),
        ("features", lambda a: a.update(features=a["features"].astype(np.int16)), DamagedDatasetError),
        ("features row 3", lambda a: a["features"].__setitem__((3, 60), 63), DamagedDatasetError),
        ("features row 5", lambda a: a["features"].__setitem__((5, 1), 2), DamagedDatasetError),
        ("values", lambda a: a["values"].__setitem__((3, 1), np.nan), DamagedDatasetError),
        ("values", lambda a: a["values"].__setitem__((3, 1), 7), DamagedDatasetError),
        ("values", lambda a: a.update(values=np.c_[a["values"], a["values"]]), DamagedDatasetError),
        ("split", lambda a: a["split"].__setitem__(0, 9), DamagedDatasetError),
        ("policy_indptr", lambda a: a["policy_indptr"].__setitem__(1, 10**9), DamagedDatasetError),
        ("policy_indices", lambda a: a["policy_indices"].__setitem__(9, 2**30), DamagedDatasetError),
        ("policy_indices", lambda a: a["policy_indices"].__setitem__(9, 511 << 5), DamagedDatasetError),
        ("policy_values", lambda a: a["policy_values"].__setitem__(9, -1), DamagedDatasetError),
        ("sum to 1", lambda a: a["policy_values"].__setitem__(9, 0.9), DamagedDatasetError),
        ("ply", lambda a: a.pop("ply"), ForeignDatasetError),
        ("encoder_version", lambda a: a.update(encoder_version=np.array("0")), ForeignDatasetError),
        ("encoder_digest", lambda a: a.update(encoder_digest=np.array("0" * 64)), ForeignDatasetError),
        ("policy_encoding", lambda a: a.update(policy_encoding=np.array("legacy")), ForeignDatasetError),
        ("config", lambda a: a.update(config=np.array("hex8_3p")), ForeignDatasetError),
        ("lineage", lambda a: a.update(lineage=np.array("{")), DamagedDatasetError),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_by_array(
    tmp_path: Path, whole: Path, name: str, change: Callable[[dict[str, np.ndarray]], None], error: type[Exception]
) -> None:
    path = rewritten(whole, tmp_path / "bad.npz", change)
    with pytest.raises(error, match=name):
        open_dataset(path, CONFIG)


def test_a_dataset_of_another_config_is_refused(whole: Path) -> None:
    with pytest.raises(ForeignDatasetError, match="config is 'hex8_2p'"):
        open_dataset(whole, "hex8_3p")


def test_every_truncation_is_found(tmp_path: Path, whole: Path) -> None:
    content = whole.read_bytes()
    path = tmp_path / "cut.npz"
    for length in (*range(0, len(content), max(4096, len(content) // 60)), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedDatasetError, match=r"cut\.npz"):
            open_dataset(path, CONFIG)


def test_a_missing_file_a_folder_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(MissingDatasetError):
            open_dataset(path, CONFIG)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ForeignDatasetError, match="lacks"):
        open_dataset(tmp_path / "other.npz", CONFIG)
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros(3))
    with pytest.raises(RingRiftError, match="compressed"):
        open_dataset(tmp_path / "small.npz", CONFIG)


def test_arrays_that_need_pickle_are_never_opened(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object))
    with zipfile.ZipFile(tmp_path / "o.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(DamagedArraysError, match="objects"):
        map_arrays(tmp_path / "o.npz")


def test_F2_no_samples_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError), DatasetWriter(tmp_path / "d.npz", CONFIG, LINEAGE):
        pass
    assert list(tmp_path.glob("*")) == [tmp_path / "home"] or list(tmp_path.glob("*")) == []


def test_F19_a_failure_leaves_the_old_dataset_and_no_temporary_files(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "folder" / "d.npz"
    path.parent.mkdir()
    path.write_bytes(whole.read_bytes())
    width = encoder.row_bytes(game(CONFIG).geometry)
    with pytest.raises(SampleError, match="finite"), DatasetWriter(path, CONFIG, LINEAGE) as writer:
        writer.add_game(np.zeros((2, width), np.uint8), np.full((2, 2), np.nan), np.arange(2), TRAINING)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("csr", "message"),
    [
        (([0, 2, 3], [1, 2], [0.5, 0.5]), "divide"),
        (([0, 2], [1, 2], [0.5, 0.5]), "shapes"),
        (([0, 2, 2], [1, 2], [0.5, 0.4]), "sum to 1"),
        (([0, 2, 2], [1, 2], [1.5, -0.5]), "negative"),
    ],
)
def test_F1_policies_that_do_not_fit_are_refused(tmp_path: Path, csr: tuple[list, ...], message: str) -> None:
    width = encoder.row_bytes(game(CONFIG).geometry)
    arrays = (np.array(csr[0]), np.array(csr[1], np.int32), np.array(csr[2], np.float32))
    with pytest.raises(SampleError, match=message), DatasetWriter(tmp_path / "d.npz", CONFIG, LINEAGE) as writer:
        writer.add_game(np.zeros((2, width), np.uint8), np.zeros((2, 2)), np.arange(2), TRAINING, *arrays)
