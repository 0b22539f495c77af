"""What the end of an epoch means: better or not, worse than the parent, time to stop."""

from __future__ import annotations

from ringrift_ops.errors import GateError
from ringrift_ops.network.plan import Plan, State
from ringrift_ops.settings.tables import Checks


class WorseThanParentError(GateError):
    """After its first epoch the net is worse than its parent was: it did not start from it (F2)."""


def end_epoch(state: State, plan: Plan, checks: Checks, epoch: int, samples: int, loss: float) -> None:
    """Note in ``state`` how an epoch (from 1) of ``samples`` ended; ``loss``: its mean over the validation split.

    Raises WorseThanParentError after the first.
    """
    value, policy, policies = state.epoch_sums
    state.train_loss = value / samples + policy / max(1.0, policies)
    state.validation_loss = loss
    if state.first_epoch_loss is None:
        state.first_epoch_loss = loss
        _check_first(loss, state.parent_loss, checks)
    if state.best_loss is None or loss < state.best_loss - checks.improvement:
        state.best_loss, state.stale_epochs = loss, 0
    else:
        state.stale_epochs += 1
    if 0 < plan.stop_after_epochs <= state.stale_epochs and epoch < plan.epochs:
        state.stopped = (
            f"early stopping after epoch {epoch} of {plan.epochs}: for {state.stale_epochs} epochs the "
            f"validation loss has not been {checks.improvement:g} below {state.best_loss:.4f}"
        )


def _check_first(loss: float, before: float | None, checks: Checks) -> None:
    ratio = checks.parent_loss_ratio
    if before is not None and loss > before * ratio:
        raise WorseThanParentError(
            f"after the first epoch the validation loss is {loss:.4f}, the parent's was "
            f"{before:.4f}: more than x {ratio}; the training did not start from its parent, or the "
            "learning rate is too high"
        )
