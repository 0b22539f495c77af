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
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ringrift_ops.network import dataset as splits
from ringrift_ops.network import snapshot
from ringrift_ops.network.augment import Images
from ringrift_ops.network.checkpoints import (
    NAME,
    Checkpoint,
    DamagedCheckpointError,
    NotACheckpointError,
    chain,
    identity_of,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from ringrift_ops.network.dataset import Dataset
from ringrift_ops.network.epochs import end_epoch
from ringrift_ops.network.plan import (
    STEP,
    VALIDATION,
    WARM_UP,
    Plan,
    Progress,
    State,
    Trained,
    check_device,
    check_parent,
    learning_rate_at,
)
from ringrift_ops.network.remedies import (
    CORRUPT_CHECKPOINT,
    DIVERGENCE,
    OUT_OF_MEMORY,
    Calmed,
    Notice,
    Outcome,
    TrainingMemoryError,
    in_one_line,
    is_out_of_memory,
    verified,
)
from ringrift_ops.network.trainees import Batch, batch_of, policies_of, trainee
from ringrift_ops.network.validation import VALIDATION_BATCH, Evaluation, check_served, evaluate_split
from ringrift_ops.network.watcher import DivergedError, GradientWatcher
from ringrift_ops.network.weights import Network, fresh_network, new_header, with_tensors
from ringrift_ops.rules.game import game
from ringrift_ops.settings.tables import CHECKS, Checks
from ringrift_ops.stages.specs import Remedy

Array = npt.NDArray[Any]
T = TypeVar("T")

HEARTBEAT_SECONDS: Final = 1.0


class NoGoodCheckpointError(DamagedCheckpointError):
    """The checkpoint to go on from was corrupt, and no older one of its training is good."""


def _silent(_: Progress) -> None:
    """No progress is shown."""


def _unnoticed(_: Remedy) -> None:
    """Nobody is told."""


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
    notice: Notice = _unnoticed,
    checks: Checks = CHECKS,
) -> Trained:
    """Train to the end, from the checkpoint in ``folder`` if this training left one there, else from ``resume_from``.

    ``parent`` None starts at random; ``parent_sha`` is the sha256 asked for; ``notice`` is told of every remedy. Raises
    DivergedError, WorseThanParentError, ServedDifferentlyError, ParentMismatchError, NoSuchDeviceError,
    EmptyDatasetError, TrainingMemoryError, NoGoodCheckpointError, and the errors of ``load_checkpoint``. Nothing but
    checkpoints is written.
    """
    check_device(plan.device)
    check_parent(plan, parent, parent_sha)
    if plan.threads:
        torch.set_num_threads(plan.threads)
    torch.backends.cudnn.benchmark = plan.cudnn_benchmark
    torch.backends.cudnn.deterministic = plan.cudnn_deterministic
    try:
        run = _Training(plan, dataset, parent, dataset_sha, parent_sha, folder, resume_from, progress, notice, checks)
        return run.finish(train_spec)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingMemoryError(
            f"a training of batch {plan.batch_size} ran out of memory outside its steps, where nothing can be made "
            f"smaller: {in_one_line(error)}; end other work, or train on a host with more memory"
        ) from error


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
        notice: Notice,
        checks: Checks,
    ) -> None:
        self.started = time.monotonic()
        self.plan, self.dataset, self.checks, self.progress, self.notice = plan, dataset, checks, progress, notice
        self.dataset_sha, self.parent_sha = dataset_sha, parent_sha
        self.samples = dataset.part_of(splits.TRAINING, plan.data_subset, plan.seed)
        self.validation = dataset.part_of(splits.VALIDATION, plan.data_subset, plan.seed)
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
        self._order = (-1, self.samples)
        self.state = State()
        self.watcher, self.good = GradientWatcher(plan.clip_norm, checks), True
        snapshot.begin(self.net.module, self.optimizer, self.start.tensors)
        self.path = folder / NAME
        facts = {**plan.facts(), "dataset": dataset_sha, "parent": parent_sha, "torch": torch.__version__}
        self.identity = identity_of(facts)
        self._last_report = time.monotonic()
        self._since = [0.0, 0.0, 0.0, 0.0]  # samples, value loss, policy loss, samples with a policy
        self._take_up(resume_from)
        self.resumed_from = self.state.step
        if self.state.step == 0 and parent is not None and self.state.parent_loss is None:
            self.state.parent_loss = self._validate("parent").loss

    # --- checkpoints ---

    def _take_up(self, resume_from: Path | None) -> None:
        """Go on from this training's own newest good checkpoint, else from the given one's, else begin."""
        corrupt: list[tuple[str, Path]] = []
        given = None if resume_from is None else self._good(chain(resume_from) or [resume_from], corrupt)
        own = self._good(chain(self.path), corrupt)
        found = own or given
        if found is not None:
            self._restore(found)
        elif resume_from is not None and self.start.sha256 == "":
            raise NoGoodCheckpointError(
                f"checkpoint {resume_from} was corrupt and is now {resume_from.name}.corrupt, no older one is good, "
                "and this training began at random; train with --init-from canonical"
            )
        start = "its parent" if self.start.sha256 else "its random start"
        goes_on = f"on from step {self.state.step}" if found is not None else f"no other is good: anew from {start}"
        for reason, aside in corrupt:
            self._mended(CORRUPT_CHECKPOINT, reason, f"set aside as {aside}; {goes_on}", self.plan.keep_checkpoints)

    def _good(self, paths: list[Path], corrupt: list[tuple[str, Path]]) -> Checkpoint | None:
        """The first of them that is whole; those before it are set aside and appended with the reason."""
        for path in paths:
            try:
                return load_checkpoint(path, self.identity)
            except DamagedCheckpointError as error:
                foreign = isinstance(error, NotACheckpointError) and path.parent != self.path.parent
                if foreign or CORRUPT_CHECKPOINT not in self.plan.remedies:
                    raise
                corrupt.append((str(error), set_aside(path)))
        return None

    def _restore(self, checkpoint: Checkpoint) -> None:
        snapshot.restore(self.net.module, self.optimizer, checkpoint.tensors)
        self.state = State.of(checkpoint.position)
        self.watcher = GradientWatcher(self._clip, self.checks)
        self.watcher.restore(checkpoint.position["watcher"])

    def _save(self) -> None:
        position = self.state.position() | {"watcher": self.watcher.position()}
        checkpoint = Checkpoint(snapshot.take(self.net.module, self.optimizer), position)
        save_checkpoint(self.path, self.identity, checkpoint, self.plan.keep_checkpoints)

    # --- remedies ---

    @property
    def _clip(self) -> float:
        return self.plan.clip_norm if self.state.calmed is None else min(
            self.plan.clip_norm, self.checks.divergence_clip
        )  # fmt: skip

    @property
    def _micro_batch(self) -> int:
        return self._at_once(STEP)

    def _at_once(self, what: str) -> int:
        """Samples that a step or a validation computes at once."""
        whole = self.plan.batch_size if what == STEP else VALIDATION_BATCH
        return -(-whole // (1 << self.state.halvings[what]))

    def _mended(self, kind: str, reason: str, action: str, bound: int) -> None:
        tries = 1 + sum(one.kind == kind for one in self.state.remedies)
        remedy = Remedy(kind=kind, step=self.state.step, reason=reason, action=action, tries=tries, bound=bound)
        self.state.remedies.append(remedy)
        self.notice(remedy)
        self._report("train", force=True, message=f"{kind}: {action}")

    def _in_memory(self, what: str, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, done again in smaller parts while memory runs out."""
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = in_one_line(error)  # the error itself holds on to the tensors of the step
            self._halve(what, reason)

    def _halve(self, what: str, reason: str) -> None:
        """Let what ran out of memory be done again in halves. Raises TrainingMemoryError at the bound."""
        where, halvings = f"training ran out of memory at step {self.state.step} of {self.steps}", self.state.halvings
        if OUT_OF_MEMORY not in self.plan.remedies:
            raise TrainingMemoryError(
                f"{where} ({reason}), and the remedy {OUT_OF_MEMORY} is off; train with --batch-size "
                f"{max(1, self.plan.batch_size // 2)}, or on a host with more memory"
            )
        if self._at_once(what) == 1 or halvings[what] == self.checks.memory_halvings:
            raise TrainingMemoryError(
                f"{where} even with {self._at_once(what)} samples at once in its {what}, after {halvings[what]} "
                f"halvings ({reason}); end other work there, or train on a host with more memory"
            )
        halvings[what] += 1
        if self.plan.device.startswith("cuda"):
            torch.cuda.empty_cache()
        self._mended(
            OUT_OF_MEMORY,
            reason,
            f"the {what} is done again with {self._at_once(what)} samples at once; the batch stays "
            f"{self.plan.batch_size}",
            2 * self.checks.memory_halvings,
        )

    def _calm_down(self, error: DivergedError) -> None:
        """Go back to the last good checkpoint and on with a tenth of the rate. Raises DivergedError at the bound."""
        remedies, bound = self.state.remedies, self.checks.divergence_tries
        tries = sum(one.kind == DIVERGENCE for one in remedies)
        if DIVERGENCE not in self.plan.remedies:
            raise error
        if tries >= bound:
            raise DivergedError(f"{error}; it went back {tries} times, the last time to a rate of {self._rate():.2g}")
        rate = self._rate(warm=True) * self.checks.divergence_rate
        at, halvings, parent_loss = self.state.step, self.state.halvings, self.state.parent_loss
        found = next(self._whole(), None)
        if found is None:
            snapshot.begin(self.net.module, self.optimizer, self.start.tensors)
            self.state = State(parent_loss=parent_loss)
        else:
            self._restore(found)
        self.state.remedies = remedies
        self.state.halvings = halvings
        self.state.calmed = Calmed(rate, self.state.step)
        self.watcher = GradientWatcher(self._clip, self.checks)
        back = f"checkpoint of step {self.state.step}" if found is not None else "start"
        self._mended(
            DIVERGENCE, str(error),
            f"back from step {at} to the {back}; rate {rate:.2g}, x {self.checks.divergence_decay:g} per "
            f"{self.checks.divergence_decay_steps} steps; clip norm {self._clip:g}",
            bound,
        )  # fmt: skip
        self._save()

    def _whole(self) -> Iterator[Checkpoint]:
        for path in chain(self.path):
            with suppress(DamagedCheckpointError):
                yield load_checkpoint(path, self.identity)

    # --- the loop ---

    def _rate(self, *, warm: bool = False) -> float:
        """The learning rate of the present step; ``warm``: as if it were past the warm-up."""
        if self.state.calmed is not None:
            return self.state.calmed.at(self.state.step, self.checks)
        step = max(self.state.step, round(self.steps * WARM_UP)) if warm else self.state.step
        return learning_rate_at(step, self.steps, self.plan.learning_rate)

    def _picked(self) -> Array:
        """Sample numbers of the current step, sorted: a function of seed, epoch and step alone."""
        epoch, place = divmod(self.state.step, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.plan.seed, epoch]).permutation(self.samples))
        size = self.plan.batch_size
        return np.sort(self._order[1][place * size : (place + 1) * size])

    def _turned(self, batch: Batch, choices: Array) -> Batch:
        """Every sample under its symmetry."""
        rows, indices = self.images.turned(batch.rows, batch.indptr, batch.indices, choices)
        return batch._replace(rows=rows, indices=indices)

    def _gradients(self, picked: Array, policies: int) -> tuple[float, float]:
        """Leave the gradients of a batch in the parameters, computed in micro-batches; returns its summed losses.

        Every sample is turned by a symmetry drawn for this step: a function of seed and step alone.
        """
        draw = np.random.default_rng([self.plan.seed, self.state.step, 1])
        choices = draw.integers(len(self.images), size=len(picked))
        self.optimizer.zero_grad(set_to_none=True)
        kind, size, value, policy = self.plan.device.partition(":")[0], self._micro_batch, 0.0, 0.0
        for first in range(0, len(picked), size):
            part = slice(first, first + size)
            batch = self._turned(batch_of(self.dataset, picked[part]), choices[part])
            with torch.autocast(kind, torch.bfloat16, enabled=self.plan.mixed_precision):
                losses = self.net.losses(batch)
            loss = losses.value / len(picked) + losses.policy / max(1, policies)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            value, policy = value + float(losses.value.detach()), policy + float(losses.policy.detach())
        return value, policy

    def _one_step(self) -> None:
        picked, state = self._picked(), self.state
        policies = policies_of(self.dataset, picked)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        value, policy = self._in_memory(STEP, lambda: self._gradients(picked, policies))
        norm = float(torch.nn.utils.clip_grad_norm_(self.net.module.parameters(), self._clip))
        if not math.isfinite(value + policy):
            norm = math.nan
        self.good = self.watcher.saw(norm, state.step)
        if math.isfinite(norm):
            self.optimizer.step()
        for i, amount in enumerate((value, policy, policies)):
            state.epoch_sums[i] += amount
        for i, amount in enumerate((len(picked), value, policy, policies)):
            self._since[i] += amount
        state.step += 1

    def _report(self, phase: str, *, force: bool = False, message: str = "") -> None:
        now = time.monotonic()
        if not force and now - self._last_report < HEARTBEAT_SECONDS:
            return
        samples, value, policy, policies = self._since
        value, policy = (value / samples, policy / max(1.0, policies)) if samples else (math.nan, math.nan)
        self.progress(
            Progress(
                phase=phase,
                step=self.state.step,
                steps=self.steps,
                epoch=min(self.plan.epochs, self.state.step // self.per_epoch + 1),
                epochs=self.plan.epochs,
                loss=value + policy,
                value_loss=value,
                policy_loss=policy,
                learning_rate=float(self.optimizer.param_groups[0]["lr"]),
                samples_per_second=samples / max(1e-9, now - self._last_report) if samples else math.nan,
                micro_batch=self._micro_batch,
                train_loss=self.state.train_loss,
                validation_loss=self.state.validation_loss,
                stale_epochs=self.state.stale_epochs,
                remedies=len(self.state.remedies),
                message=message,
            )
        )
        self._last_report, self._since = now, [0.0, 0.0, 0.0, 0.0]

    def _validate(self, what: str) -> Evaluation:
        result = self._in_memory(
            VALIDATION, lambda: evaluate_split(self.net, self.dataset, self.validation, self._at_once(VALIDATION))
        )
        if not math.isfinite(result.loss):
            raise DivergedError(
                f"the {what} net's validation loss is {result.loss}: its weights or the data are damaged"
            )
        return result

    def _run(self) -> None:
        """All steps that are left."""
        while self.state.step < self.steps and not self.state.stopped:
            try:
                self._advance()
            except DivergedError as error:
                self._calm_down(error)

    def _advance(self) -> None:
        """One step, and what is due after it."""
        if self.state.step % self.per_epoch == 0:
            self.state.epoch_sums = [0.0, 0.0, 0.0]
        self._one_step()
        state, plan = self.state, self.plan
        ends = state.step % self.per_epoch == 0
        if ends:
            self._report("validate", force=True)
            loss = self._validate("new").loss
            end_epoch(state, plan, self.checks, state.step // self.per_epoch, len(self.samples), loss)
        self._report("train", force=ends)
        due = state.step % plan.checkpoint_every_steps == 0 or state.step == self.steps or state.stopped != ""
        if self.good and (due or (ends and plan.checkpoint_every_epoch)):  # so every checkpoint is a good one
            self._save()

    def finish(self, train_spec: str) -> Trained:
        """Run and check."""
        self._run()
        state = self.state
        validation = state.validation_loss if state.validation_loss is not None else self._validate("new").loss
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
            loss=f"{validation:.6f}",
        )
        network = with_tensors(self.start, header, tensors)
        difference = check_served(self.net, network, self.plan.seed, self.checks)
        first = math.nan if state.first_epoch_loss is None else state.first_epoch_loss
        newest = next(self._whole(), None)
        outcome = Outcome(
            self.plan.device, state.step, self.watcher.bad, first, validation,
            "" if newest is None else f"of step {newest.position['step']}",
        )  # fmt: skip
        return Trained(
            network=network,
            samples=len(self.samples),
            steps=state.step,
            first_epoch_loss=first,
            train_loss=math.nan if state.train_loss is None else state.train_loss,
            validation_loss=validation,
            parent_validation_loss=state.parent_loss,
            served_difference=difference,
            resumed_from_step=self.resumed_from,
            seconds=time.monotonic() - self.started,
            micro_batch=self._micro_batch,
            remedies=verified(state.remedies, outcome, self.checks),
            stopped_early=state.stopped,
        )
