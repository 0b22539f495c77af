"""A generation's dataset: compact positions, value targets and policies, in one memory-mapped NPZ.

For N samples, M policy entries and n players::

    features         uint8 [N, row bytes]   compact positions (``encoder.py``)
    values           float32 [N, n]         targets relative to the mover (``targets.py``)
    game, ply        int32 [N]              number of the game in this file; plies before the position
    split            uint8 [N]              0 training, 1 validation; one value per game
    policy_indptr    int64 [N + 1]          CSR rows; an empty row: the sample counts for values only
    policy_indices   int32 [M]              *every* legal move of the position (``policy.py``) ...
    policy_values    float32 [M]            ... and its share of the target, 0 where it was not visited
    config, format, encoder_version, encoder_digest, policy_encoding, lineage     text, 0-d
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.network.encoder import ENCODER_VERSION, first_bad_row, row_bytes
from ringrift_ops.network.golden import golden_digest
from ringrift_ops.network.npz import ArrayStreams, DamagedArraysError, map_arrays, write_npz
from ringrift_ops.network.policy import POLICY_ENCODING, first_bad_index
from ringrift_ops.rules.game import game
from ringrift_ops.store import atomic_write

Array = npt.NDArray[Any]

FORMAT: Final = "ringrift-dataset-1"
TRAINING, VALIDATION = 0, 1
SCAN: Final = 1 << 16
"""Rows looked at in one go when a dataset is checked."""
SUM_TOLERANCE: Final = 1e-3


class MissingDatasetError(NoDataError):
    """There is no file of that name."""


class EmptyDatasetError(NoDataError):
    """A dataset without samples, or without any in the split asked for."""


class DamagedDatasetError(NoDataError):
    """The file is truncated or its arrays do not fit each other."""


class ForeignDatasetError(UsageError):
    """A dataset of another config, encoder, policy index or format; or no dataset at all."""


class SampleError(UsageError):
    """Samples that may not enter a dataset."""


def _text(value: str) -> Array:
    return np.array(value, dtype=np.str_)


class DatasetWriter(ArrayStreams):
    """Streams samples into a dataset; the file appears when the block ends without an error.

    ::

        with DatasetWriter(path, "hex8_2p", lineage) as writer:
            writer.add_game(rows, values, plies, VALIDATION, indptr, indices, shares)
    """

    def __init__(self, path: Path, config: str, lineage: Mapping[str, object]) -> None:
        self.config = config
        self.games = 0
        self.samples = 0
        self.policy_samples = 0
        self._rules = game(config)
        self._lineage = json.dumps(lineage, sort_keys=True)
        width = int(row_bytes(self._rules.geometry))
        kinds: dict[str, tuple[str, tuple[int, ...]]] = {
            "features": ("u1", (width,)),
            "values": ("<f4", (self._rules.players,)),
            "game": ("<i4", ()),
            "ply": ("<i4", ()),
            "split": ("u1", ()),
            "policy_indptr": ("<i8", ()),
            "policy_indices": ("<i4", ()),
            "policy_values": ("<f4", ()),
        }
        super().__init__(path, kinds)
        self._streams["policy_indptr"].append(np.zeros(1, dtype=np.int64))

    def add_game(
        self,
        rows: Array,
        values: Array,
        plies: Array,
        split: int,
        policy_indptr: Array | None = None,
        policy_indices: Array | None = None,
        policy_values: Array | None = None,
    ) -> None:
        """Append the samples of one game: rows uint8 [k, row bytes], values float32 [k, n] relative to
        each sample's mover, plies [k]; CSR of its policies over all legal moves, ``policy_indptr`` [k + 1]
        from 0. Raises SampleError.
        """
        k = len(rows)
        if not (len(values) == len(plies) == k) or split not in (TRAINING, VALIDATION):
            raise SampleError(f"game {self.games}: {k} rows, {len(values)} values, {len(plies)} plies, split {split}")
        if not np.isfinite(values).all():
            raise SampleError(f"game {self.games}: a value target is not finite")
        if policy_indptr is None or policy_indices is None or policy_values is None:
            policy_indptr = np.zeros(k + 1, dtype=np.int64)
            policy_indices, policy_values = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
        fault = _csr_fault(policy_indptr, policy_indices, policy_values, k)
        if fault:
            raise SampleError(f"game {self.games}: {fault}")
        streams = self._streams
        base = streams["policy_indices"].rows
        streams["features"].append(rows)
        streams["values"].append(values)
        streams["game"].append(np.full(k, self.games))
        streams["ply"].append(plies)
        streams["split"].append(np.full(k, split))
        streams["policy_indptr"].append(policy_indptr[1:] + base)
        streams["policy_indices"].append(policy_indices)
        streams["policy_values"].append(policy_values)
        self.games += 1
        self.samples += k
        self.policy_samples += int(np.count_nonzero(np.diff(policy_indptr)))

    def _finish(self) -> None:
        if self.samples == 0:
            raise EmptyDatasetError(f"no samples for {self.path}: {self.games} games were added")
        small = {
            "format": _text(FORMAT),
            "config": _text(self.config),
            "encoder_version": _text(ENCODER_VERSION),
            "encoder_digest": _text(golden_digest(self.config)),
            "policy_encoding": _text(POLICY_ENCODING),
            "lineage": _text(self._lineage),
        }
        atomic_write(self.path, lambda file: write_npz(file, self._streams, small))


def _csr_fault(indptr: Array, indices: Array, values: Array, rows: int) -> str:
    """What is wrong with CSR policies, "" if nothing."""
    if indptr.shape != (rows + 1,) or indices.shape != values.shape or indices.ndim != 1:
        return f"policies of shapes {indptr.shape}, {indices.shape}, {values.shape} for {rows} samples"
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or (np.diff(indptr) < 0).any():
        return "policy_indptr does not divide the policy entries"
    return _policy_fault(np.diff(indptr), values)


def _policy_fault(lengths: Array, values: Array) -> str:
    if not np.isfinite(values).all() or (values < 0).any():
        return "policy_values holds a negative number or none"
    owners = np.repeat(np.arange(len(lengths)), lengths)
    sums = np.bincount(owners, weights=values, minlength=len(lengths))
    if (np.abs(sums[lengths > 0] - 1.0) > SUM_TOLERANCE).any():
        return "the policy of a sample does not sum to 1"
    return ""


@dataclass(frozen=True)
class Dataset:
    """An opened dataset; arrays are memory-mapped (module docstring)."""

    path: Path
    config: str
    features: Array
    values: Array
    game: Array
    ply: Array
    split: Array
    policy_indptr: Array
    policy_indices: Array
    policy_values: Array
    lineage: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.features)

    def samples_of(self, split: int) -> npt.NDArray[np.int64]:
        """Numbers of the samples of a split, ascending. Raises EmptyDatasetError when there are none."""
        found = np.flatnonzero(np.asarray(self.split) == split).astype(np.int64)
        if len(found) == 0:
            name = "training" if split == TRAINING else "validation"
            raise EmptyDatasetError(f"{self.path} has {len(self)} samples but none for {name}; export more games")
        return found

    def part_of(self, split: int, share: float, seed: int) -> npt.NDArray[np.int64]:
        """As ``samples_of``, of a share of the split's games (at least one), drawn uniformly by ``seed``."""
        found = self.samples_of(split)
        if share >= 1.0:
            return found
        games = np.unique(np.asarray(self.game)[found])
        count = max(1, round(len(games) * share))
        drawn = np.random.default_rng([seed, split]).choice(games, count, replace=False)
        return found[np.isin(np.asarray(self.game)[found], drawn)]

    @property
    def policy_samples(self) -> int:
        """Samples that carry a policy."""
        return int(np.count_nonzero(np.diff(self.policy_indptr)))


_TYPES: Final = {
    "features": ("uint8", 2),
    "values": ("float32", 2),
    "game": ("int32", 1),
    "ply": ("int32", 1),
    "split": ("uint8", 1),
    "policy_indptr": ("int64", 1),
    "policy_indices": ("int32", 1),
    "policy_values": ("float32", 1),
}
_TEXTS: Final = ("format", "config", "encoder_version", "encoder_digest", "policy_encoding", "lineage")


def open_dataset(path: Path, config: str, *, check: bool = True) -> Dataset:
    """The dataset of a file, if it is one of this config that the running encoder can read.

    ``check`` reads every value and policy once, in bounded memory. Raises MissingDatasetError,
    EmptyDatasetError, DamagedDatasetError, ForeignDatasetError; each names file and array.
    """
    if not path.is_file():
        raise MissingDatasetError(f"there is no dataset {path}")
    if not zipfile.is_zipfile(path):
        raise DamagedDatasetError(f"{path} is no NPZ file, or a truncated one; export it again")
    try:
        arrays = map_arrays(path)
    except DamagedArraysError as error:
        raise DamagedDatasetError(f"{error}; export it again") from error
    missing = sorted((set(_TYPES) | set(_TEXTS)) - set(arrays))
    if missing:
        raise ForeignDatasetError(f"{path} is no dataset of a generation: it lacks {', '.join(missing)}")
    _check_texts(path, config, arrays)
    _check_shapes(path, config, arrays)
    try:
        lineage = json.loads(str(arrays["lineage"]))
    except (ValueError, RecursionError) as error:
        raise DamagedDatasetError(f"{path}: array lineage is no JSON") from error
    dataset = Dataset(path=path, config=config, lineage=lineage, **{name: arrays[name] for name in _TYPES})
    if check:
        _check_contents(dataset)
    return dataset


def _check_texts(path: Path, config: str, arrays: Mapping[str, Array]) -> None:
    expected = {
        "format": FORMAT,
        "config": config,
        "encoder_version": ENCODER_VERSION,
        "encoder_digest": golden_digest(config),
        "policy_encoding": POLICY_ENCODING,
    }
    for name, value in expected.items():
        if arrays[name].dtype.kind != "U" or arrays[name].shape != () or str(arrays[name]) != value:
            raise ForeignDatasetError(
                f"{path}: {name} is {str(arrays[name])[:80]!r}, this code needs {value!r}; export the games again"
            )


def _check_shapes(path: Path, config: str, arrays: Mapping[str, Array]) -> None:
    for name, (dtype, dimensions) in _TYPES.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != dimensions:
            raise DamagedDatasetError(
                f"{path}: array {name} is {arrays[name].dtype} of {arrays[name].ndim} dimensions, "
                f"not {dtype} of {dimensions}"
            )
    rules = game(config)
    n = len(arrays["features"])
    if n == 0:
        raise EmptyDatasetError(f"{path} holds no samples; play or export more games")
    entries = len(arrays["policy_indices"])
    shapes = {
        "features": (n, int(row_bytes(rules.geometry))),
        "values": (n, rules.players),
        "game": (n,),
        "ply": (n,),
        "split": (n,),
        "policy_indptr": (n + 1,),
        "policy_values": (entries,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DamagedDatasetError(f"{path}: array {name} has shape {arrays[name].shape}, not {shape}")
    indptr = arrays["policy_indptr"]
    if int(indptr[0]) != 0 or int(indptr[-1]) != entries or (np.diff(indptr) < 0).any():
        raise DamagedDatasetError(f"{path}: array policy_indptr does not divide the {entries} policy entries")


def _check_contents(dataset: Dataset) -> None:
    geometry = game(dataset.config).geometry
    for start in range(0, len(dataset), SCAN):
        part = slice(start, min(start + SCAN, len(dataset)))
        values = dataset.values[part]
        if not np.isfinite(values).all() or np.abs(values).max() > 1.0:
            raise DamagedDatasetError(f"{dataset.path}: array values holds targets outside [-1, 1] after row {start}")
        if int(dataset.split[part].max()) > VALIDATION:
            raise DamagedDatasetError(f"{dataset.path}: array split holds other numbers than 0 and 1")
        indptr = dataset.policy_indptr[start : part.stop + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        bad = first_bad_row(geometry, dataset.features[part])
        if bad >= 0:
            raise DamagedDatasetError(f"{dataset.path}: features row {start + bad} is no position of {dataset.config}")
        bad = first_bad_index(geometry, dataset.policy_indices[entries])
        if bad >= 0:
            at = entries.start + bad
            raise DamagedDatasetError(
                f"{dataset.path}: policy_indices holds {dataset.policy_indices[at]} at {at}: "
                f"no policy index of {dataset.config}"
            )
        fault = _policy_fault(np.diff(indptr), dataset.policy_values[entries])
        if fault:
            raise DamagedDatasetError(f"{dataset.path}: {fault} after row {start}")
