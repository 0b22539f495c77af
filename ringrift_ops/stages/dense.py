"""RingRift's whole NPZ key set, for programs that read it; nothing of this platform does.

Names and meanings are RingRift's exporter's; planes, globals and policy index are ours, and
``encoder_type``, ``encoder_version`` and ``policy_encoding`` say so. For N samples, C planes of S x S
and M policy entries::

    features              float32 [N, C, S, S]   index [plane, x, y], one frame (history_length 0)
    globals               float32 [N, G]
    values                float32 [N]            of the mover
    values_mp             float32 [N, 4]         by absolute seat, 0 where nobody sits
    policy_indptr         int64 [N + 1]          CSR rows; an empty row: nothing was searched there
    policy_indices        int32 [M]              moves with a share ...
    policy_values         float32 [M]            ... and the share; a row sums to 1
    num_players, move_numbers, total_game_moves  int32 [N]
    phases, move_types, victory_types, engine_modes, opponent_types    text [N]
    opponent_elo, generator_elo, quality_score   float32 [N], RingRift's neutral values
    and the 0-d descriptions of ``_descriptions``

RingRift stores ``policy_indices`` and ``policy_values`` as object arrays [N], which only pickle can
read: they are written on request, and the CSR arrays are then ``policy_csr_indices`` and
``policy_csr_values``.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import hashlib
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ringrift_ops.network.dataset import EmptyDatasetError
from ringrift_ops.network.encoder import ENCODER_VERSION, global_count, plane_count, planes_of_rows
from ringrift_ops.network.npz import ArrayFile, ArrayStreams, write_members
from ringrift_ops.network.policy import POLICY_ENCODING
from ringrift_ops.network.samples import Samples
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import MOVE_NAMES, PHASE_NAMES
from ringrift_ops.store import CHUNK, atomic_write

Array = npt.NDArray[Any]

EXPORT_VERSION: Final = "2.1"
"""RingRift's, whose keys these are."""
ENCODER_TYPE: Final = "ringrift-ops-planes"
POLICY_SIZE: Final = 1 << 28
"""Policy indices lie below this; most numbers are no move."""
NEUTRAL_ELO: Final = 1500.0
NEUTRAL_QUALITY: Final = 0.5
SEATS: Final = 4
ROWS: Final = 256
"""Samples whose planes are made in one go."""

_PHASES = np.array(PHASE_NAMES)
_MOVES = np.array(MOVE_NAMES)
_VICTORIES: Final = {
    "ring_elimination": "elimination",
    "territory": "territory",
    "last_player_standing": "lps",
    "structural": "stalemate",
}


class GameFacts(NamedTuple):
    """What RingRift wants to know of a game: its words for how it ended and what played it."""

    termination: str
    engine_mode: str | None


def engine_mode_of(label: str | None) -> str:
    """RingRift's engine mode of our label: anything that searched is ``mcts``, a net without search ``policy_only``."""
    words = (label or "").split("_")
    if "mcts" in words:
        return "mcts"
    return {"heuristic": "heuristic", "net": "policy_only"}.get(words[-1], "unknown")


class DenseWriter(ArrayStreams):
    """Streams samples into RingRift's NPZ; the file appears when the block ends without an error.

    Memory does not grow with the samples, unless ``object_policies`` asks for RingRift's object arrays.
    """

    def __init__(self, path: Path, config: str, *, object_policies: bool) -> None:
        self.config, self.object_policies = config, object_policies
        self._rules = game(config)
        g = self._rules.geometry
        self._planes, self._globals, self._side = int(plane_count(g)), int(global_count(g)), self._rules.board.size
        self._games = 0
        kinds: dict[str, tuple[str, tuple[int, ...]]] = {
            "features": ("<f4", (self._planes, self._side, self._side)),
            "globals": ("<f4", (self._globals,)),
            "values": ("<f4", ()),
            "values_mp": ("<f4", (SEATS,)),
            "num_players": ("<i4", ()),
            "policy_indptr": ("<i8", ()),
            "policy_indices": ("<i4", ()),
            "policy_values": ("<f4", ()),
            "move_numbers": ("<i4", ()),
            "total_game_moves": ("<i4", ()),
            "phases": (_PHASES.dtype.str, ()),
            "move_types": (_MOVES.dtype.str, ()),
            "victory_types": ("<U16", ()),
            "engine_modes": ("<U16", ()),
            "opponent_types": ("<U16", ()),
            "opponent_elo": ("<f4", ()),
            "generator_elo": ("<f4", ()),
            "quality_score": ("<f4", ()),
        }
        super().__init__(path, kinds)
        self._streams["policy_indptr"].append(np.zeros(1, dtype=np.int64))

    def add_game(self, facts: GameFacts, samples: Samples, codes: npt.NDArray[np.int64]) -> None:
        """Append the samples of one game with the move codes int64 [moves] it was played with."""
        streams, n, k = self._streams, self._rules.players, len(samples)
        for start in range(0, k, ROWS):
            self._add_planes(samples.rows[start : start + ROWS])
        movers = samples.rows[:, 1].astype(np.int64)
        seats = np.zeros((k, SEATS), dtype=np.float32)
        places = (movers[:, None] + np.arange(n)[None, :]) % n
        np.put_along_axis(seats, places, samples.values, axis=1)
        visited = samples.policy_values > 0
        kept = np.concatenate([[0], np.cumsum(visited)])[samples.policy_indptr]
        streams["policy_indptr"].append(kept[1:] + streams["policy_indices"].rows)
        streams["policy_indices"].append(samples.policy_indices[visited])
        streams["policy_values"].append(samples.policy_values[visited])
        columns: dict[str, object] = {
            "values": samples.values[:, 0],
            "values_mp": seats,
            "num_players": n,
            "move_numbers": samples.plies,
            "total_game_moves": len(codes),
            "phases": _PHASES[samples.rows[:, 0]],
            "move_types": _MOVES[codes[samples.plies] & 31],
            "victory_types": _VICTORIES.get(facts.termination, "other"),
            "engine_modes": engine_mode_of(facts.engine_mode),
            "opponent_types": "selfplay",
            "opponent_elo": NEUTRAL_ELO,
            "generator_elo": NEUTRAL_ELO,
            "quality_score": NEUTRAL_QUALITY,
        }
        for name, column in columns.items():
            streams[name].append(column if isinstance(column, np.ndarray) else np.full(k, column))
        self._games += 1

    def _add_planes(self, rows: Array) -> None:
        planes = np.empty((len(rows), self._planes, self._side, self._side), dtype=np.float32)
        numbers = np.empty((len(rows), self._globals), dtype=np.float32)
        planes_of_rows(self._rules.geometry, rows, planes, numbers)
        self._streams["features"].append(planes)
        self._streams["globals"].append(numbers)

    def _finish(self) -> None:
        if self._streams["features"].rows == 0:
            raise EmptyDatasetError(f"no samples for {self.path}: {self._games} games were added")
        small = self._descriptions()
        streams = dict(self._streams)
        objects: dict[str, Array] = {}
        if self.object_policies:
            indptr = _column(streams["policy_indptr"])
            for name in ("policy_indices", "policy_values"):
                objects[name] = _rows(indptr, _column(streams[name]))
                streams[name.replace("policy", "policy_csr")] = streams.pop(name)

        def write(target: BinaryIO) -> None:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                write_members(archive, target, streams, small)
                for name, rows in objects.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, rows)  # pickled: RingRift's own form, and only on request

        atomic_write(self.path, write)

    def _descriptions(self) -> dict[str, Array]:
        largest = 0
        indices = _column(self._streams["policy_indices"])
        for start in range(0, len(indices), CHUNK):
            largest = max(largest, int(indices[start : start + CHUNK].max()))
        board = self._rules.board
        numbers = {
            "board_size": board.size,
            "history_length": 0,
            "feature_version": 0,
            "in_channels": self._planes,
            "policy_size": POLICY_SIZE,
            "max_policy_index": largest,
            "spatial_size": self._side,
        }
        texts = {
            "board_type": board.name,
            "policy_encoding": POLICY_ENCODING,
            "encoder_type": ENCODER_TYPE,
            "encoder_version": ENCODER_VERSION,
            "export_version": EXPORT_VERSION,
            "metadata": json.dumps(
                {
                    "export_time": datetime.now(UTC).isoformat(timespec="seconds"),
                    "game_count": self._games,
                    "sample_count": self._streams["features"].rows,
                }
            ),
            "data_checksums": json.dumps({name: _checksum(stream) for name, stream in self._streams.items()}),
        }
        return {
            **{name: np.array(value, dtype=np.int64) for name, value in numbers.items()},
            **{name: np.array(value, dtype=np.str_) for name, value in texts.items()},
            "policies_normalized": np.array(True),
        }


def _column(stream: ArrayFile) -> Array:
    """A closed stream's array, mapped."""
    if stream.rows == 0:
        return np.zeros(0, dtype=stream.dtype)
    return np.memmap(stream.path, dtype=stream.dtype, mode="r", shape=(stream.rows,))


def _rows(indptr: Array, entries: Array) -> Array:
    """The rows of a CSR array as an object array [N]."""
    rows = np.empty(len(indptr) - 1, dtype=object)
    for i in range(len(rows)):
        rows[i] = np.array(entries[indptr[i] : indptr[i + 1]])
    return rows


def _checksum(stream: ArrayFile) -> str:
    """RingRift's checksum of an array: sha256 of its shape and type as text, then its bytes."""
    digest = hashlib.sha256(f"{(stream.rows, *stream.row_shape)}{stream.dtype}".encode())
    with stream.path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
