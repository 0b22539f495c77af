"""Checkpoints of a training: tensors in safetensors, the rest as JSON in its header, written atomically.

A checkpoint belongs to one training: its ``identity`` is the hash of everything that determines the
result, and a training resumes from no other's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.network.weights import (
    DamagedWeightsError,
    ForeignWeightsError,
    MissingWeightsError,
    read_tensors,
    safetensors_bytes,
)
from ringrift_ops.store import atomic_write

Array = npt.NDArray[Any]

FORMAT: Final = "ringrift-checkpoint-1"
NAME: Final = "checkpoint.safetensors"


class DamagedCheckpointError(NoDataError):
    """The checkpoint is truncated or altered; delete it to begin anew."""


class ForeignCheckpointError(UsageError):
    """The checkpoint is another training's."""


class MissingCheckpointError(NoDataError):
    """A checkpoint was asked for that does not exist."""


class Checkpoint(NamedTuple):
    """Tensors by name, and the position: plain JSON."""

    tensors: Mapping[str, Array]
    position: Mapping[str, Any]


def identity_of(facts: Mapping[str, object]) -> str:
    """sha256 of what determines a training."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest(position: str, identity: str, tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(f"{FORMAT}\0{identity}\0{position}".encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the previous one stays until this one is whole. Raises WriteError."""
    position = json.dumps(checkpoint.position, sort_keys=True)
    metadata = {
        "format": FORMAT,
        "identity": identity,
        "position": position,
        "digest": _digest(position, identity, checkpoint.tensors),
    }
    atomic_write(path, safetensors_bytes(metadata, checkpoint.tensors))


def load_checkpoint(path: Path, identity: str) -> Checkpoint:
    """The checkpoint of this training.

    Raises MissingCheckpointError, DamagedCheckpointError, ForeignCheckpointError.
    """
    try:
        metadata, tensors, _ = read_tensors(path)
    except MissingWeightsError as error:
        raise MissingCheckpointError(
            f"there is no checkpoint {path}; check the name, or train without resuming from it"
        ) from error
    except (DamagedWeightsError, ForeignWeightsError) as error:
        raise DamagedCheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ForeignCheckpointError(f"{path} is no checkpoint: its format is {metadata.get('format')!r}")
    position = metadata.get("position", "")
    if metadata.get("digest") != _digest(position, metadata.get("identity", ""), tensors):
        raise DamagedCheckpointError(f"checkpoint {path} was altered: its digest does not fit; delete it to begin anew")
    if metadata["identity"] != identity:
        raise ForeignCheckpointError(
            f"checkpoint {path} belongs to another training (other data, parent, net or settings); "
            "delete it to begin anew"
        )
    return Checkpoint(tensors, json.loads(position))
