"""What a training is asked, what it shows on the way, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import torch

from ringrift_ops.errors import UsageError
from ringrift_ops.network.remedies import Calmed
from ringrift_ops.network.shapes import Family
from ringrift_ops.network.weights import Network
from ringrift_ops.stages.specs import Remedy

WARM_UP: Final = 0.03
"""Share of the steps over which the learning rate rises."""
FINAL_RATE: Final = 0.02
"""Learning rate at the end, as a share of its peak."""


class ParentMismatchError(UsageError):
    """The parent is not the one asked for, or of another family or size (F2, F3)."""


class NoSuchDeviceError(UsageError):
    """The device to train on is none, or not on this machine."""


@dataclass(frozen=True)
class Plan:
    """What determines a training, together with dataset and parent."""

    config: str
    family: Family
    sizes: Mapping[str, int]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    seed: int
    device: str
    threads: int
    """of torch; 0 leaves torch's own choice"""
    checkpoint_every_steps: int
    checkpoint_every_epoch: bool = False
    """besides"""
    keep_checkpoints: int = 3
    remedies: frozenset[str] = frozenset()
    """what the training may mend by itself (``network.remedies``)"""
    data_subset: float = 1.0
    """share of the games of both splits"""
    stop_after_epochs: int = 0
    """epochs in a row without improvement that end it; 0: none do"""
    mixed_precision: bool = False
    cudnn_benchmark: bool = False
    cudnn_deterministic: bool = False

    def facts(self) -> dict[str, object]:
        """The fields that change the result."""
        values = asdict(self)
        for name in ("checkpoint_every_steps", "checkpoint_every_epoch", "keep_checkpoints", "remedies"):
            del values[name]
        return {**values, "sizes": dict(self.sizes)}


STEP: Final = "step"
VALIDATION: Final = "validation"
"""What is done in batches that may have to be smaller."""


@dataclass
class State:
    """Where a training stands: what a checkpoint holds besides tensors and watcher.

    ``epoch_sums``: value loss, policy loss, samples with a policy, of the epoch under way. ``train_loss``,
    ``validation_loss``: of the last whole epoch. ``calmed``: the rate after a divergence.
    """

    step: int = 0
    first_epoch_loss: float | None = None
    parent_loss: float | None = None
    epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    train_loss: float | None = None
    validation_loss: float | None = None
    best_loss: float | None = None
    stale_epochs: int = 0
    stopped: str = ""
    halvings: dict[str, int] = field(default_factory=lambda: {STEP: 0, VALIDATION: 0})
    calmed: Calmed | None = None
    remedies: list[Remedy] = field(default_factory=list)

    def position(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self) | {"remedies": [one.model_dump() for one in self.remedies]}

    @classmethod
    def of(cls, position: Mapping[str, Any]) -> State:
        """Return what ``position`` was taken of; other keys are another's."""
        known = {one.name: position[one.name] for one in fields(cls)}
        calmed = None if known["calmed"] is None else Calmed(**known["calmed"])
        return cls(**known | {"calmed": calmed, "remedies": [Remedy(**one) for one in known["remedies"]]})


@dataclass(frozen=True)
class Progress:
    """Where a training is; losses are means since the last report, NaN (and so the rate) when no step was since."""

    phase: str
    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    value_loss: float
    policy_loss: float
    learning_rate: float
    samples_per_second: float
    micro_batch: int
    train_loss: float | None
    """mean over the last whole epoch"""
    validation_loss: float | None
    """after the last whole epoch"""
    stale_epochs: int
    """epochs in a row without improvement"""
    remedies: int
    message: str = ""


@dataclass(frozen=True)
class Trained:
    """A training's result. ``first_epoch_loss`` and the two validation losses are over the validation split."""

    network: Network
    samples: int
    steps: int
    first_epoch_loss: float
    train_loss: float
    validation_loss: float
    parent_validation_loss: float | None
    served_difference: float
    resumed_from_step: int
    seconds: float
    micro_batch: int
    """samples that were computed at once in the end"""
    remedies: tuple[Remedy, ...]
    stopped_early: str
    """why it ended before its last epoch; empty when it did not"""


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step (from 0): linear warm-up, then a cosine down to ``FINAL_RATE`` of the peak."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    part = (step - warm) / max(1, steps - warm)
    return peak * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part)))


def check_parent(plan: Plan, parent: Network | None, parent_sha: str | None) -> None:
    """Raise ParentMismatchError unless the parent is the one asked for, of this family and these sizes."""
    if (parent is None) != (parent_sha is None):
        raise ParentMismatchError(f"parent asked for: {parent_sha}, given: {parent.sha256 if parent else None}")
    if parent is None:
        return
    if parent.sha256 != parent_sha:
        raise ParentMismatchError(f"parent asked for: {parent_sha}, but the file holds {parent.sha256 or 'no hash'}")
    for name, have, want in (
        ("config", parent.config, plan.config),
        ("family", parent.family, plan.family),
        ("sizes", dict(parent.sizes), dict(plan.sizes)),
    ):
        if have != want:
            raise ParentMismatchError(f"parent {parent_sha}: its {name} is {have!r}, the training wants {want!r}")


def check_device(name: str) -> None:
    """Raise NoSuchDeviceError unless ``name`` is ``cpu``, ``cuda`` or ``cuda:N`` and this machine has it."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise NoSuchDeviceError(f"there is no device {name!r}: cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise NoSuchDeviceError(
            f"device {name!r} is not here: torch finds {torch.cuda.device_count()} GPUs on this machine; train with "
            "--device cpu, or set `device` of the profile"
        )
