"""Stage four: a net from the dataset and its parent. Writes to the store only; the canonical net is never touched.

A training that was killed goes on from its checkpoint when it is asked again with the same spec.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ringrift_ops.errors import InfrastructureError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.ledger import LedgerUnavailableError
from ringrift_ops.network.checkpoints import CORRUPT_SUFFIX, NAME, chain
from ringrift_ops.network.dataset import DamagedDatasetError, Dataset, open_dataset
from ringrift_ops.network.plan import Plan, Progress
from ringrift_ops.network.remedies import CORRUPT_CHECKPOINT
from ringrift_ops.network.training import NoGoodCheckpointError, train
from ringrift_ops.network.weights import Network, load_network, weights_bytes
from ringrift_ops.stages.checkpoints import checkpoint_folder, training_facts
from ringrift_ops.stages.curves import Curves, curves_folder
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.links import WEIGHTS_SUFFIX
from ringrift_ops.stages.recording import ledger_is_elsewhere, open_ledger, record_remedy, record_weights
from ringrift_ops.stages.specs import Remedy, Stage, TrainResult, TrainSpec
from ringrift_ops.store import Store, atomic_write, replace_symlink, sha256_file

SPEC_NAME = "spec.json"
"""What is trained, beside its checkpoint."""


def dataset_of(home: Home, spec: TrainSpec) -> Dataset:
    """Return the dataset that was asked for, by its bytes: a flipped bit may leave samples that look right.

    Raises ``DamagedDatasetError`` when they are others, and what opening it raises.
    """
    path = home.resolve(spec.dataset_path)
    dataset = open_dataset(path, spec.config)
    found = sha256_file(path)
    if found != spec.dataset:
        raise DamagedDatasetError(
            f"{path} has sha256 {found[:12]}, the dataset asked for is {spec.dataset[:12]}: it was changed; "
            "export it again"
        )
    return dataset


def parent_of(home: Home, spec: TrainSpec) -> Network | None:
    """Return the net that a training starts from, None for a random start; raises the errors of strict loading."""
    if spec.parent is None:
        return None
    return load_network(Store(home).get(spec.parent, WEIGHTS_SUFFIX, verify=True), spec.config)


def _checkpoint(path: Path) -> Path:
    """The checkpoint itself, when its folder is named."""
    return path / NAME if path.is_dir() else path


class EpochTimeoutError(InfrastructureError):
    """An epoch took longer than the spec allows."""


class TrainingTimeoutError(InfrastructureError):
    """A training took longer than the spec allows."""


@dataclass
class _EpochClock:
    """Ends a training that is slow; one that hangs is ended by whoever minds its job."""

    spec: TrainSpec
    epoch: int = 0
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)

    def check(self, epoch: int) -> None:
        now, spec = time.monotonic(), self.spec
        if epoch != self.epoch:
            self.epoch, self.since = epoch, now
        if now - self.since > spec.epoch_seconds:
            raise EpochTimeoutError(
                f"epoch {epoch} of {spec.config} took longer than {spec.epoch_seconds:g} s: raise "
                "epoch_timeout_seconds of the profile (--epoch-timeout); it goes on from its checkpoint"
            )
        if now - self.began > spec.total_seconds:
            raise TrainingTimeoutError(
                f"the training of {spec.config} took longer than {spec.total_seconds:g} s: raise "
                "task_timeout_seconds of the profile (--timeout); it goes on from its checkpoint"
            )


@dataclass
class _Told:
    """Puts a training's remedies on record as they happen; what the ledger cannot take now is told again later.

    Memory that runs out may be missing to the ledger's own connection too, and a training that has mended itself must
    not end because it could not say so.
    """

    home: Home
    spec: TrainSpec
    job_id: str
    left: list[Remedy] = field(default_factory=list)

    def notice(self, remedy: Remedy) -> None:
        self.left.append(remedy)
        self.again()

    def again(self) -> None:
        with suppress(LedgerUnavailableError, MemoryError):
            while self.left:
                record_remedy(self.home, self.spec, self.left[0], self.job_id)
                del self.left[0]


def run(spec: TrainSpec, report: Report) -> TrainResult:
    """Train to the end (or go on where a killed training stood) and return the checked net.

    A training that was to go on from a corrupt checkpoint, without a good older one and without a parent, starts from
    the canonical net instead, if there is one. Raises the errors of ``network.training.train`` and of opening the
    dataset and the parent.
    """
    try:
        return _run(spec, report)
    except NoGoodCheckpointError as error:
        home = Home.find()
        canonical = None if ledger_is_elsewhere() else open_ledger(home).canonical(spec.config)
        parent = None if canonical is None else canonical.sha
        anew = spec.model_copy(update={"parent": parent, "resume_from": None})
        words = "at random: there is no canonical net" if parent is None else f"from the canonical net {parent[:12]}"
        remedy = Remedy(
            kind=CORRUPT_CHECKPOINT, step=0, reason=str(error), action=f"trained anew {words}", tries=1, bound=1
        )
        record_remedy(home, anew, remedy, checkpoint_folder(home, anew).name)
        result = _run(anew, report)
        return result.model_copy(update={"remedies": [remedy, *result.remedies]})


def plan_of(spec: TrainSpec) -> Plan:
    """Return what the trainer is told of a spec."""
    return Plan(
        config=spec.config,
        family=spec.family,
        sizes=spec.sizes,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        clip_norm=spec.clip_norm,
        seed=spec.seed,
        device=spec.device,
        # One thread is as fast as two for sparse nets, and does not wait for a core that others use.
        threads=1 if spec.family == "sparse" else 0,
        checkpoint_every_steps=spec.checkpoint_every_steps,
        checkpoint_every_epoch=spec.checkpoint_every_epoch,
        keep_checkpoints=spec.keep_checkpoints,
        remedies=frozenset(spec.remedies),
        data_subset=spec.data_subset,
        stop_after_epochs=spec.stop_after_epochs,
        mixed_precision=spec.mixed_precision,
        cudnn_benchmark=spec.cudnn_benchmark,
        cudnn_deterministic=spec.cudnn_deterministic,
    )


def beat_of(progress: Progress) -> Heartbeat:
    """Return a training's progress as a heartbeat; what is not known yet is left out of its metrics."""
    metrics = {
        "loss": progress.loss,
        "value_loss": progress.value_loss,
        "policy_loss": progress.policy_loss,
        "learning_rate": progress.learning_rate,
        "samples_per_second": progress.samples_per_second,
        "micro_batch": progress.micro_batch,
        "epoch_train_loss": progress.train_loss,
        "epoch_validation_loss": progress.validation_loss,
        "epochs_without_improvement": progress.stale_epochs,
        "remedies": progress.remedies,
    }
    return Heartbeat(
        stage=Stage.TRAIN,
        phase=f"epoch {progress.epoch} of {progress.epochs}" if progress.phase == "train" else "validation",
        done=progress.step,
        total=progress.steps,
        unit="steps",
        message=progress.message,
        metrics={name: value for name, value in metrics.items() if value is not None and math.isfinite(value)},
    )


def _run(spec: TrainSpec, report: Report) -> TrainResult:
    started = time.monotonic()
    home = Home.find()
    dataset, parent = dataset_of(home, spec), parent_of(home, spec)
    folder = checkpoint_folder(home, spec)
    atomic_write(folder / SPEC_NAME, training_facts(spec).model_dump_json(indent=1).encode())
    clock, told = _EpochClock(spec), _Told(home, spec, folder.name)

    def show(progress: Progress) -> None:
        clock.check(progress.epoch)
        told.again()
        report(beat_of(progress))
        curves.show(progress)

    try:
        with Curves(curves_folder(home, spec)) as curves:
            trained = train(
                plan_of(spec),
                dataset,
                parent,
                dataset_sha=spec.dataset,
                parent_sha=spec.parent,
                train_spec=training_facts(spec).model_dump_json(),
                folder=folder,
                resume_from=None if spec.resume_from is None else _checkpoint(home.resolve(spec.resume_from)),
                progress=show,
                notice=told.notice,
            )
    except RingRiftError:
        told.again()
        if not chain(folder / NAME):
            _forget(folder)
        raise
    sha, path = Store(home).put(weights_bytes(trained.network), WEIGHTS_SUFFIX)
    if spec.output is not None:
        replace_symlink(home.resolve(spec.output), path)
    result = TrainResult(
        weights=sha,
        path=str(home.relative(path)),
        parent=spec.parent,
        dataset=spec.dataset,
        samples=trained.samples,
        steps=trained.steps,
        first_epoch_loss=trained.first_epoch_loss,
        train_loss=trained.train_loss,
        validation_loss=trained.validation_loss,
        parent_validation_loss=trained.parent_validation_loss,
        served_difference=trained.served_difference,
        resumed_from_step=trained.resumed_from_step,
        seconds=time.monotonic() - started,
        micro_batch=trained.micro_batch,
        remedies=list(trained.remedies),
        stopped_early=trained.stopped_early,
    )
    record_weights(home, spec, result, folder.name)
    for remedy in trained.remedies:
        record_remedy(home, spec, remedy, folder.name)
    _forget(folder)
    return result


def _forget(folder: Path) -> None:
    """Remove a training's checkpoints; corrupt ones stay for whoever wants to know why, until retention."""
    for path in list(folder.iterdir()):
        if path.suffix != CORRUPT_SUFFIX:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
