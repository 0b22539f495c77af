"""Training: from a dataset and a parent (or a random start) to a net that is checked before it counts.

loss = mean squared error of the values + cross-entropy over legal moves of the samples that carry a
policy. AdamW, linear warm-up and cosine schedule, clipped gradients. Everything random is a function
of (seed, epoch), so a checkpoint needs no generator but torch's own, and on a CPU with the same
number of threads a resumed training is bit for bit the one that was never interrupted (R18).
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from ringrift_ops.errors import GateError, UsageError
from ringrift_ops.network import encoder
from ringrift_ops.network.augment import Images
from ringrift_ops.network.checkpoints import NAME, Checkpoint, identity_of, load_checkpoint, save_checkpoint
from ringrift_ops.network.dataset import TRAINING, VALIDATION, Dataset
from ringrift_ops.network.probe import probe
from ringrift_ops.network.shapes import Family
from ringrift_ops.network.targets import by_seat
from ringrift_ops.network.trainees import Batch, Trainee, batch_of, trainee
from ringrift_ops.network.watcher import DivergedError, GradientWatcher
from ringrift_ops.network.weights import Network, fresh_network, new_header, with_tensors
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import S_PLAYER
from ringrift_ops.settings.tables import CHECKS, Checks

Array = npt.NDArray[Any]

WARM_UP: Final = 0.03
"""Share of the steps over which the learning rate rises."""
FINAL_RATE: Final = 0.02
"""Learning rate at the end, as a share of its peak."""
HEARTBEAT_SECONDS: Final = 1.0


class ServedDifferentlyError(GateError):
    """What would be served is not what was trained (F5)."""


class WorseThanParentError(GateError):
    """After its first epoch the net is worse than its parent was: it did not start from it (F2)."""


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

    def facts(self) -> dict[str, object]:
        """The fields that change the result."""
        values = asdict(self)
        del values["checkpoint_every_steps"]
        return {**values, "sizes": dict(self.sizes)}


@dataclass(frozen=True)
class Progress:
    """Where a training is; ``loss`` is the mean since the last report."""

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


@dataclass(frozen=True)
class Evaluation:
    """Mean losses over a split; ``policy`` over the samples that carry one (0 if none does)."""

    value: float
    policy: float

    @property
    def loss(self) -> float:
        return self.value + self.policy


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


def _silent(_: Progress) -> None:
    """No progress is shown."""


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step (from 0): linear warm-up, then a cosine down to ``FINAL_RATE`` of the peak."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    part = (step - warm) / max(1, steps - warm)
    return peak * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part)))


def evaluate_split(net: Trainee, dataset: Dataset, samples: Array, batch_size: int = 8192) -> Evaluation:
    """Mean losses of a net over samples (int64 [N])."""
    value, policy, policies = 0.0, 0.0, 0
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            batch = batch_of(dataset, samples[start : start + batch_size])
            losses = net.losses(batch)
            value += float(losses.value)
            policy += float(losses.policy)
            policies += batch.policies
    return Evaluation(value / len(samples), policy / policies if policies else 0.0)


def served_difference(net: Trainee, network: Network, positions: int, seed: int) -> float:
    """Largest difference between the training forward and what is served, over fresh positions (F5).

    Covers values and logits. The training forward reads compact positions, serving reads states.
    """
    p = probe(network.config, positions, seed=seed)
    g = game(network.config).geometry
    rows = np.empty((positions, encoder.row_bytes(g)), dtype=np.uint8)
    encoder.compact_states(g, p.states, rows)
    trained_values, trained_logits = net.predict(rows, p.indptr, p.indices)
    values, logits = network.evaluate_batch(p.states, p.moves, p.counts)
    absolute = np.array(
        [by_seat(v, int(m)) for v, m in zip(trained_values, p.states[:, S_PLAYER], strict=True)], dtype=np.float32
    )
    flat = logits[np.arange(logits.shape[1]) < p.counts[:, None]]
    return float(max(np.abs(absolute - values).max(), np.abs(flat - trained_logits).max()))


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


def train(
    plan: Plan,
    dataset: Dataset,
    parent: Network | None,
    *,
    dataset_sha: str,
    parent_sha: str | None,
    train_spec: str,
    folder: Path,
    resume_from: Path | None = None,
    progress: Callable[[Progress], None] = _silent,
    checks: Checks = CHECKS,
) -> Trained:
    """Train to the end, from the checkpoint in ``folder`` if this training left one there, else from ``resume_from``.

    ``parent`` None starts at random; ``parent_sha`` is the sha256 asked for. Raises DivergedError,
    WorseThanParentError, ServedDifferentlyError, ParentMismatchError, NoSuchDeviceError, EmptyDatasetError, and the
    errors of ``load_checkpoint``. Nothing but the checkpoint is written.
    """
    check_device(plan.device)
    check_parent(plan, parent, parent_sha)
    if plan.threads:
        torch.set_num_threads(plan.threads)
    run = _Training(plan, dataset, parent, dataset_sha, parent_sha, folder, resume_from, progress, checks)
    return run.finish(train_spec)


class _Training:
    def __init__(
        self,
        plan: Plan,
        dataset: Dataset,
        parent: Network | None,
        dataset_sha: str,
        parent_sha: str | None,
        folder: Path,
        resume_from: Path | None,
        progress: Callable[[Progress], None],
        checks: Checks,
    ) -> None:
        self.started = time.monotonic()
        self.plan, self.dataset, self.checks, self.progress = plan, dataset, checks, progress
        self.dataset_sha, self.parent_sha = dataset_sha, parent_sha
        self.samples = dataset.samples_of(TRAINING)
        self.validation = dataset.samples_of(VALIDATION)
        self.per_epoch = math.ceil(len(self.samples) / plan.batch_size)
        self.steps = self.per_epoch * plan.epochs
        self.start = parent or fresh_network(plan.config, plan.family, plan.sizes, plan.seed)
        self.parent_version = int(parent.header.version) if parent else 0
        rules = game(plan.config)
        self.images = Images(rules)
        self.net = trainee(plan.family, rules, plan.sizes, self.start.tensors, plan.device)
        self.optimizer = torch.optim.AdamW(
            self.net.module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self.watcher = GradientWatcher(plan.clip_norm, checks)
        self.step = 0
        self._order = (-1, self.samples)
        self.first_epoch_loss: float | None = None
        self.parent_loss: float | None = None
        self.epoch_sums = [0.0, 0.0, 0.0]  # value loss, policy loss, samples with a policy
        self.path = folder / NAME
        facts = {**plan.facts(), "dataset": dataset_sha, "parent": parent_sha, "torch": torch.__version__}
        self.identity = identity_of(facts)
        self.resumed_from = 0
        given = None if resume_from is None else load_checkpoint(resume_from, self.identity)
        if self.path.exists():
            self._restore(load_checkpoint(self.path, self.identity))
        elif given is not None:
            self._restore(given)
        elif parent is not None:
            self.parent_loss = self._validate("parent").loss
        self._last_report = time.monotonic()
        self._since = [0.0, 0.0, 0.0, 0.0]  # samples, value loss, policy loss, samples with a policy

    # --- checkpoints ---

    def _restore(self, checkpoint: Checkpoint) -> None:
        parameters = dict(self.net.module.named_parameters())
        state: dict[int, dict[str, torch.Tensor]] = {}
        with torch.no_grad():
            for i, (name, parameter) in enumerate(parameters.items()):
                parameter.copy_(torch.from_numpy(np.array(checkpoint.tensors[f"model.{name}"])))
                if f"optimizer.{name}.step" in checkpoint.tensors:
                    state[i] = {
                        key: torch.from_numpy(np.array(checkpoint.tensors[f"optimizer.{name}.{key}"]))
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(torch.from_numpy(np.array(checkpoint.tensors["rng"])))
        position = checkpoint.position
        self.step = self.resumed_from = int(position["step"])
        self.first_epoch_loss = position["first_epoch_loss"]
        self.parent_loss = position["parent_loss"]
        self.epoch_sums = [float(x) for x in position["epoch_sums"]]
        self.watcher.restore(position["watcher"])

    def _save(self) -> None:
        tensors: dict[str, Array] = {"rng": torch.get_rng_state().numpy()}
        for name, parameter in self.net.module.named_parameters():
            tensors[f"model.{name}"] = parameter.detach().cpu().numpy()
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value.detach().cpu().numpy()
        position = {
            "step": self.step,
            "first_epoch_loss": self.first_epoch_loss,
            "parent_loss": self.parent_loss,
            "epoch_sums": self.epoch_sums,
            "watcher": self.watcher.position(),
        }
        save_checkpoint(self.path, self.identity, Checkpoint(tensors, position))

    # --- the loop ---

    def _picked(self) -> Array:
        """Sample numbers of the current step, sorted: a function of seed, epoch and step alone."""
        epoch, place = divmod(self.step, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.plan.seed, epoch]).permutation(self.samples))
        size = self.plan.batch_size
        return np.sort(self._order[1][place * size : (place + 1) * size])

    def _turned(self, batch: Batch) -> Batch:
        """Every sample under a symmetry drawn for this step: a function of seed and step alone."""
        draw = np.random.default_rng([self.plan.seed, self.step, 1])
        choices = draw.integers(len(self.images), size=len(batch.rows))
        rows, indices = self.images.turned(batch.rows, batch.indptr, batch.indices, choices)
        return batch._replace(rows=rows, indices=indices)

    def _one_step(self) -> None:
        batch = self._turned(batch_of(self.dataset, self._picked()))
        rate = learning_rate_at(self.step, self.steps, self.plan.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.net.losses(batch)
        policies = batch.policies
        loss = losses.value / len(batch.rows) + losses.policy / max(1, policies)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        norm = float(torch.nn.utils.clip_grad_norm_(self.net.module.parameters(), self.plan.clip_norm))
        if not math.isfinite(float(loss.detach())):
            norm = math.nan
        self.watcher.saw(norm, self.step)
        if math.isfinite(norm):
            self.optimizer.step()
        value, policy = float(losses.value.detach()), float(losses.policy.detach())
        self.epoch_sums = [self.epoch_sums[0] + value, self.epoch_sums[1] + policy, self.epoch_sums[2] + policies]
        for i, amount in enumerate((len(batch.rows), value, policy, policies)):
            self._since[i] += amount
        self.step += 1

    def _report(self, phase: str, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last_report < HEARTBEAT_SECONDS:
            return
        samples, value, policy, policies = self._since
        value, policy = value / max(1.0, samples), policy / max(1.0, policies)
        self.progress(
            Progress(
                phase=phase,
                step=self.step,
                steps=self.steps,
                epoch=min(self.plan.epochs, self.step // self.per_epoch + 1),
                epochs=self.plan.epochs,
                loss=value + policy,
                value_loss=value,
                policy_loss=policy,
                learning_rate=float(self.optimizer.param_groups[0]["lr"]),
                samples_per_second=samples / max(1e-9, now - self._last_report),
            )
        )
        self._last_report, self._since = now, [0.0, 0.0, 0.0, 0.0]

    def _validate(self, what: str) -> Evaluation:
        result = evaluate_split(self.net, self.dataset, self.validation)
        if not math.isfinite(result.loss):
            raise DivergedError(
                f"the {what} net's validation loss is {result.loss}: its weights or the data are damaged"
            )
        return result

    def _run(self) -> float:
        """All steps that are left; the mean training loss of the last epoch."""
        while self.step < self.steps:
            if self.step % self.per_epoch == 0:
                self.epoch_sums = [0.0, 0.0, 0.0]
            self._one_step()
            self._report("train", force=self.step == self.steps)
            if self.step == self.per_epoch:
                self.first_epoch_loss = self._validate("new").loss
                self._check_first_epoch(self.first_epoch_loss)
            if self.step % self.plan.checkpoint_every_steps == 0 or self.step == self.steps:
                self._save()
        value, policy, policies = self.epoch_sums
        return value / len(self.samples) + policy / max(1.0, policies)

    def _check_first_epoch(self, loss: float) -> None:
        ratio = self.checks.parent_loss_ratio
        if self.parent_loss is not None and loss > self.parent_loss * ratio:
            raise WorseThanParentError(
                f"after the first epoch the validation loss is {loss:.4f}, the parent's was "
                f"{self.parent_loss:.4f}: more than x {ratio}; the training did not start from its parent, or the "
                "learning rate is too high"
            )

    def finish(self, train_spec: str) -> Trained:
        """Run and check."""
        train_loss = self._run()
        validation = self._validate("new")
        tensors = {name: p.detach().cpu().numpy() for name, p in self.net.module.named_parameters()}
        header = new_header(
            self.plan.config,
            self.plan.family,
            self.plan.sizes,
            parent=self.parent_sha or "",
            dataset=self.dataset_sha,
            train_spec=train_spec,
            version=str(self.parent_version + 1),
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            loss=f"{validation.loss:.6f}",
        )
        network = with_tensors(self.start, header, tensors)
        difference = served_difference(self.net, network, self.checks.served_positions, self.plan.seed)
        if not difference <= self.checks.served_tolerance:
            raise ServedDifferentlyError(
                f"over {self.checks.served_positions} positions the served output differs from the training forward by "
                f"{difference:.2e}, allowed are {self.checks.served_tolerance:.0e}; encoder or evaluation is at fault"
            )
        return Trained(
            network=network,
            samples=len(self.samples),
            steps=self.steps,
            first_epoch_loss=self.first_epoch_loss if self.first_epoch_loss is not None else math.nan,
            train_loss=train_loss,
            validation_loss=validation.loss,
            parent_validation_loss=self.parent_loss,
            served_difference=difference,
            resumed_from_step=self.resumed_from,
            seconds=time.monotonic() - self.started,
        )
