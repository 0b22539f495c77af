"""What a training may mend by itself: memory that runs out, divergence, a corrupt checkpoint. How it knows, and checks.

Each is bounded (``settings.Checks``), noted in the checkpoint, the result and the heartbeat, and off unless the plan
allows it. What is mended never changes what is asked: dataset, parent and the effective batch stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil
import torch

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.settings.tables import Checks
from ringrift_ops.stages.specs import Remedy, Verified

OUT_OF_MEMORY: Final = "out_of_memory"
DIVERGENCE: Final = "divergence"
CORRUPT_CHECKPOINT: Final = "corrupt_checkpoint"

Notice = Callable[[Remedy], None]

_NO_MEMORY = (
    "can't allocate memory", "not enough memory", "ALLOC_FAILED", "out of memory", "could not create a primitive",
    "could not create a memory",
)  # fmt: skip
"""What torch's allocators and libraries say in a plain RuntimeError; the last two are oneDNN's (2026-11-25)."""


class TrainingMemoryError(InfrastructureError):
    """A training does not fit into the memory, however small its micro-batches are."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on the device or in the machine's memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY)


def in_one_line(error: BaseException) -> str:
    """Return what an error says, for a reason; its class where it says nothing."""
    words = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


@dataclass(frozen=True)
class Calmed:
    """The learning rate after a divergence: ``rate`` at step ``since``, falling exponentially."""

    rate: float
    since: int

    def at(self, step: int, checks: Checks) -> float:
        """Return the learning rate of a step."""
        return float(self.rate * checks.divergence_decay ** ((step - self.since) / checks.divergence_decay_steps))


@dataclass(frozen=True)
class Outcome:
    """How a training ended that had remedies; losses are means, ``bad`` the bad batches since the last remedy."""

    device: str
    steps: int
    bad: int
    first_loss: float
    validation_loss: float
    checkpoint: str
    """what the last one is, in words; empty when it does not load"""


def memory_in_use(device: str) -> float:
    """Return the share of the device's memory (of the machine's for cpu) that is in use."""
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(torch.device(device)).total_memory
        return torch.cuda.max_memory_reserved(torch.device(device)) / total
    return float(psutil.virtual_memory().percent) / 100


def verified(remedies: list[Remedy], outcome: Outcome, checks: Checks) -> tuple[Remedy, ...]:
    """Return the remedies with their runbook's verification lists, run at the end of the training."""
    lists = {OUT_OF_MEMORY: _memory_list, DIVERGENCE: _divergence_list, CORRUPT_CHECKPOINT: _checkpoint_list}
    return tuple(
        one.model_copy(update={"verified": lists[one.kind](one, remedies[number + 1 :], outcome, checks)})
        for number, one in enumerate(remedies)
    )


def _memory_list(_one: Remedy, later: list[Remedy], outcome: Outcome, checks: Checks) -> list[Verified]:
    again = sum(one.kind == OUT_OF_MEMORY for one in later)
    share = memory_in_use(outcome.device)
    return [
        _went_on(outcome),
        Verified(
            name=f"memory in use stays below {checks.memory_share:.0%}",
            ok=share < checks.memory_share, evidence=f"{share:.0%} on {outcome.device}",
        ),
        Verified(name="memory did not run out again", ok=again == 0, evidence=f"{again} times after it"),
    ]  # fmt: skip


def _divergence_list(one: Remedy, later: list[Remedy], outcome: Outcome, _checks: Checks) -> list[Verified]:
    again = sum(other.kind == DIVERGENCE for other in later)
    first, last = outcome.first_loss, outcome.validation_loss
    return [
        _went_on(outcome),
        Verified(
            name="the loss does not rise", ok=last <= first,
            evidence=f"validation loss {first:.4f} after the first epoch, {last:.4f} at the end",
        ),
        Verified(
            name="no spikes since", ok=again == 0 and outcome.bad == 0,
            evidence=f"{again} divergences after that of step {one.step}, {outcome.bad} bad batches since the last",
        ),
    ]  # fmt: skip


def _checkpoint_list(_one: Remedy, _later: list[Remedy], outcome: Outcome, _checks: Checks) -> list[Verified]:
    ok = outcome.checkpoint != ""
    return [
        _went_on(outcome),
        Verified(name="the newest checkpoint loads", ok=ok, evidence=outcome.checkpoint or "it does not"),
    ]


def _went_on(outcome: Outcome) -> Verified:
    return Verified(name="the training went on to its end", ok=True, evidence=f"{outcome.steps} steps")
