"""A training's curves as TensorBoard reads them: event files below ``logs/tensorboard/``, a folder per training.

They are written where the training runs. Those of hosts are copied here while the training goes on and at its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ringrift_ops.home import Home
from ringrift_ops.stages.checkpoints import checkpoint_folder
from ringrift_ops.stages.specs import TrainSpec
from ringrift_ops.store import WriteError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from ringrift_ops.network.plan import Progress

FOLDER = "tensorboard"


def curves_folder(home: Home, spec: TrainSpec) -> Path:
    """Where the curves of this training lie, however often it is resumed and wherever."""
    return home.logs / FOLDER / checkpoint_folder(home, spec).name


class Curves:
    """The curves of one training; steps are those of the optimizer.

    ``loss/train``, ``loss/value``, ``loss/policy``: means since the point before. ``loss/epoch``, ``loss/validation``:
    of a whole epoch. ``learning_rate``, ``samples_per_second``, ``micro_batch``: at that moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None
        self._step = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._told():
            self._close()

    def show(self, progress: Progress) -> None:
        """Add a point. A training that goes back takes its points from there on back. Raises WriteError."""
        points: dict[str, float | None] = {
            "loss/train": progress.loss,
            "loss/value": progress.value_loss,
            "loss/policy": progress.policy_loss,
            "learning_rate": progress.learning_rate,
            "samples_per_second": progress.samples_per_second,
            "micro_batch": progress.micro_batch,
        }
        if progress.phase == "train":
            points |= {"loss/epoch": progress.train_loss, "loss/validation": progress.validation_loss}
        with self._told():
            writer = self._at(progress.step)
            for name, value in points.items():
                if value is not None and math.isfinite(value):
                    writer.add_scalar(name, value, progress.step)
            writer.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(self.folder, error) from error

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None or step < self._step:
            self._close()
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        self._step = step
        return self._writer
