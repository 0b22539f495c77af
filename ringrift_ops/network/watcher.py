"""The gradient watcher of gates.md: when a training is beyond hope."""

from __future__ import annotations

import math

from ringrift_ops.errors import GateError
from ringrift_ops.settings.tables import CHECKS, Checks


class DivergedError(GateError):
    """Gradients exploded or are no numbers; the same training would do so again."""


class GradientWatcher:
    """Counts bad batches: gradient norm not finite, or far above the clip."""

    def __init__(self, clip_norm: float, checks: Checks = CHECKS) -> None:
        self.limit = clip_norm * checks.gradient_bad_factor
        self._checks = checks
        self._recent: list[bool] = []
        self._seen = 0
        self._any_good = False

    def saw(self, norm: float, step: int) -> bool:
        """Record the gradient norm of a step; returns whether the batch was good. Raises DivergedError."""
        good = math.isfinite(norm) and norm <= self.limit
        self._seen += 1
        self._any_good |= good
        self._recent = [*self._recent, good][-self._checks.gradient_recent_batches :]
        reason = self._reason()
        if reason:
            raise DivergedError(
                f"training diverged at step {step}: {reason} (bad = gradient norm above {self.limit:g} or no number; "
                f"last {norm:g}); lower the learning rate or look at the data"
            )
        return good

    def _reason(self) -> str:
        c = self._checks
        if len(self._recent) >= c.gradient_bad_in_a_row and not any(self._recent[-c.gradient_bad_in_a_row :]):
            return f"{c.gradient_bad_in_a_row} bad batches in a row"
        if self._seen >= c.gradient_first_batches and not self._any_good:
            return f"none of the first {c.gradient_first_batches} batches was good"
        bad = self._recent.count(False)
        if len(self._recent) == c.gradient_recent_batches and bad >= c.gradient_recent_bad * len(self._recent):
            return f"{bad} of the last {len(self._recent)} batches were bad"
        return ""

    @property
    def bad(self) -> int:
        """How many of the recent batches were bad."""
        return self._recent.count(False)

    def position(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"recent": self._recent, "seen": self._seen, "any_good": self._any_good}

    def restore(self, position: dict[str, object]) -> None:
        """Take up where ``position`` was taken."""
        recent = position["recent"]
        self._recent = [bool(x) for x in recent] if isinstance(recent, list) else []
        self._seen = int(str(position["seen"]))
        self._any_good = bool(position["any_good"])
