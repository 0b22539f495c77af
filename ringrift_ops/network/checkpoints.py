"""Checkpoints of a training: tensors in safetensors, the rest as JSON in its header, written atomically.

A checkpoint belongs to one training: its ``identity`` is the hash of everything that determines the
result, and a training resumes from no other's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
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
from ringrift_ops.store import WriteError, atomic_write

Array = npt.NDArray[Any]

FORMAT: Final = "ringrift-checkpoint-1"
NAME: Final = "checkpoint.safetensors"
CORRUPT_SUFFIX: Final = ".corrupt"


class DamagedCheckpointError(NoDataError):
    """The checkpoint is truncated or altered; delete it to begin anew."""


class ForeignCheckpointError(UsageError):
    """The checkpoint is another training's."""


class NotACheckpointError(DamagedCheckpointError):
    """The file never was a checkpoint of this project: a pickle, a folder, something else."""


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


def save_checkpoint(path: Path, identity: str, checkpoint: Checkpoint, keep: int = 1) -> None:
    """Write a checkpoint; the previous one stays until this one is whole, and ``keep`` - 1 older ones beside it.

    Raises WriteError.
    """
    position = json.dumps(checkpoint.position, sort_keys=True)
    metadata = {
        "format": FORMAT,
        "identity": identity,
        "position": position,
        "digest": _digest(position, identity, checkpoint.tensors),
    }
    content = safetensors_bytes(metadata, checkpoint.tensors)
    try:
        _move_up(path, keep)
    except OSError as error:
        raise WriteError(path, error) from error
    atomic_write(path, content)


def older(path: Path, number: int) -> Path:
    """The checkpoint that was written ``number`` times before the one at ``path``."""
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path


def chain(path: Path) -> list[Path]:
    """The checkpoints there are of one training, the newest first."""
    numbered = [
        (int(number), found)
        for found in path.parent.glob(f"{path.stem}-*{path.suffix}")
        if (number := found.stem.removeprefix(f"{path.stem}-")).isdecimal()
    ]
    return [one for one in (path, *(found for _, found in sorted(numbered))) if one.exists()]


def _move_up(path: Path, keep: int) -> None:
    """Make place for a new checkpoint; at no moment is there none at ``path``."""
    for number in range(keep - 1, 1, -1):
        if older(path, number - 1).exists():
            older(path, number - 1).replace(older(path, number))
    if keep > 1 and path.exists():
        link = path.with_name(f".{path.name}.previous")
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(older(path, 1))
    for extra in chain(path)[keep:]:
        extra.unlink()


def set_aside(path: Path) -> Path:
    """Move a corrupt checkpoint to ``<name>.corrupt``, in the place of an earlier one, and return where it is."""
    aside = path.with_name(path.name + CORRUPT_SUFFIX)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    return path.replace(aside)


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
    except DamagedWeightsError as error:
        raise DamagedCheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    except ForeignWeightsError as error:
        raise NotACheckpointError(f"checkpoint {path} cannot be read: {error}") from error
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
