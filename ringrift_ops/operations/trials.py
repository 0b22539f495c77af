"""Trainings that only try something out: they leave no net, no event and no checkpoint behind (R43)."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ringrift_ops.errors import GateError
from ringrift_ops.home import Home
from ringrift_ops.network.dataset import TRAINING, VALIDATION, Dataset
from ringrift_ops.network.plan import Progress, Trained
from ringrift_ops.network.training import train
from ringrift_ops.network.weights import Network, fresh_network
from ringrift_ops.operations.preflight import preflight, require
from ringrift_ops.settings import CHECKS, TRIALS, ProfileRow
from ringrift_ops.stages.heartbeat import Report
from ringrift_ops.stages.specs import TrainSpec
from ringrift_ops.stages.train import beat_of, dataset_of, parent_of, plan_of

_OUT = 2
"""A split that no training reads."""
_VALIDATED = 256
"""Samples that a trial on one batch is validated on."""


class NotLearningError(GateError):
    """A net could not learn one batch by heart: model, loss or labels are at fault."""


@dataclass(frozen=True)
class Smoke:
    """What one epoch on a hundredth came to; ``samples`` that were trained on."""

    samples: int
    games: int
    steps: int
    train_loss: float
    validation_loss: float
    served_difference: float
    seconds: float


@dataclass(frozen=True)
class Overfit:
    """Losses of one batch before its first step and after the last."""

    samples: int
    steps: int
    first_loss: float
    last_loss: float
    fell: float
    seconds: float


def smoke(home: Home, spec: TrainSpec, profile: ProfileRow, report: Report) -> Smoke:
    """Train one epoch on 1 % of the games of the dataset that was asked for, from the parent that was asked for.

    All checks of a training are made, but the one against the parent's loss: a hundredth tells too little. Raises what
    a training raises, and the failed check of the preflight.
    """
    require(preflight(home, spec, profile))
    dataset, parent = dataset_of(home, spec), parent_of(home, spec)
    part = _share(dataset, TRIALS.smoke_share, spec.seed)
    found = _trained(replace(plan_of(spec), epochs=1), part, parent, spec, report)
    games = len(np.unique(np.asarray(part.game)[part.samples_of(TRAINING)]))
    return Smoke(
        found.samples, games, found.steps, found.train_loss, found.validation_loss, found.served_difference,
        found.seconds,
    )  # fmt: skip


def overfit_one_batch(home: Home, spec: TrainSpec, profile: ProfileRow, report: Report) -> Overfit:
    """Train on the first batch alone until it is known by heart; raises :class:`NotLearningError` when it is not.

    From a random start: what a net has learnt before hides what it cannot learn.
    """
    require(preflight(home, spec, profile))
    dataset = dataset_of(home, spec)
    batch = np.random.default_rng(spec.seed).permutation(dataset.samples_of(TRAINING))[: spec.batch_size]
    split = np.full(len(dataset), _OUT, dtype=np.uint8)
    split[dataset.samples_of(VALIDATION)[:_VALIDATED]] = VALIDATION
    split[batch] = TRAINING
    part = replace(dataset, split=split)
    plan = replace(plan_of(spec), learning_rate=TRIALS.overfit_rate, weight_decay=0.0)
    fresh = spec.model_copy(update={"parent": None})
    before = _trained(replace(plan, epochs=1), part, None, fresh, report)
    after = _trained(replace(plan, epochs=TRIALS.overfit_steps), part, None, fresh, report)
    fell = 1.0 - after.train_loss / before.train_loss
    found = Overfit(len(batch), after.steps, before.train_loss, after.train_loss, fell, before.seconds + after.seconds)
    if not fell >= TRIALS.overfit_fall:
        raise NotLearningError(
            f"the loss of one batch of {found.samples} samples went from {found.first_loss:.4f} to "
            f"{found.last_loss:.4f} in {found.steps} steps; {TRIALS.overfit_fall:.0%} of it should be gone: look at "
            f"the labels (`ringrift data validate`), the net's sizes, the rate"
        )
    return found


def describe(home: Home, spec: TrainSpec, profile: ProfileRow) -> dict[str, Any]:
    """Return what a training would be, in numbers, without beginning it: data, steps, net, checks.

    Raises what opening the dataset and the parent raises.
    """
    dataset, parent = dataset_of(home, spec), parent_of(home, spec)
    samples = len(dataset.samples_of(TRAINING))
    per_epoch = math.ceil(samples / spec.batch_size)
    net = parent or fresh_network(spec.config, spec.family, spec.sizes, spec.seed)
    checks = preflight(home, spec, profile)
    return {
        "spec": spec.model_dump(mode="json"),
        "samples": samples,
        "validation_samples": len(dataset.samples_of(VALIDATION)),
        "policy_samples": dataset.policy_samples,
        "steps_per_epoch": per_epoch,
        "steps": per_epoch * spec.epochs,
        "checkpoints": per_epoch * spec.epochs // spec.checkpoint_every_steps + 1,
        "parameters": sum(int(np.prod(tensor.shape)) for tensor in net.tensors.values()),
        "starts_from": "a random net" if parent is None else f"{spec.parent}",
        "preflight": {one.name: one.found if one.passed else f"NO: {one.found}; {one.fix}" for one in checks},
    }


def _share(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the dataset with a share of each split's games (at least one), drawn by ``seed``; the rest left out."""
    game, split = np.asarray(dataset.game), np.asarray(dataset.split)
    kept = np.zeros(len(dataset), dtype=bool)
    for one in (TRAINING, VALIDATION):
        games = np.unique(game[split == one])
        count = max(1, round(len(games) * share)) if len(games) else 0
        kept |= np.isin(game, np.random.default_rng([seed, one]).choice(games, count, replace=False))
    return replace(dataset, split=np.where(kept, split, _OUT).astype(np.uint8))


def _trained(plan: Any, dataset: Dataset, parent: Network | None, spec: TrainSpec, report: Report) -> Trained:
    def show(progress: Progress) -> None:
        beat = beat_of(progress)
        report(beat.model_copy(update={"phase": f"trial, {beat.phase}"}))

    with tempfile.TemporaryDirectory(prefix="ringrift-trial-") as folder:
        return train(
            plan,
            dataset,
            parent,
            dataset_sha=spec.dataset,
            parent_sha=spec.parent,
            train_spec="",
            folder=Path(folder),
            progress=show,
            checks=CHECKS.model_copy(update={"parent_loss_ratio": math.inf}),
        )
