"""What must hold inside stages, and how far they may mend themselves: part of the tables of policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Checks(Row):
    """What must hold inside stages, for every config and profile."""

    soft_target_minimum: float = Field(default=0.99, description="share of searched decisions with a policy (F1)")
    parent_loss_ratio: float = Field(default=1.1, description="first-epoch loss over the parent's, at most (F2)")
    served_tolerance: float = Field(default=1e-4, description="max |served - trained| over the probe (F5)")
    served_positions: int = Field(default=256, description="positions of that probe")
    gradient_bad_factor: float = Field(default=50.0, description="a batch is bad above this times clip_norm")
    gradient_bad_in_a_row: int = Field(default=8, description="stop on so many bad batches in a row")
    gradient_first_batches: int = Field(default=30, description="stop when none of the first so many was good")
    gradient_recent_batches: int = Field(default=100)
    gradient_recent_bad: float = Field(default=0.25, description="stop on this bad share of the recent batches")
    memory_halvings: int = Field(default=8, description="of a training's micro-batch that runs out of memory")
    divergence_tries: int = Field(default=3, description="returns of a diverging training to its last good checkpoint")
    divergence_rate: float = Field(default=0.1, description="share of the learning rate it goes on with (R20)")
    divergence_clip: float = Field(default=1.0, description="largest clip norm it goes on with (R20)")
    divergence_decay: float = Field(default=0.96, description="of its learning rate per divergence_decay_steps (R20)")
    divergence_decay_steps: int = Field(default=1_000)
    memory_share: float = Field(default=0.9, description="of the memory in use after a remedy, at most (R19)")
    improvement: float = Field(default=0.01, description="of the validation loss that counts as one (R44)")
    distinct_games: float = Field(default=0.95, description="of a self-play batch")
    missed_tick_seconds: int = Field(default=300, description="a schedule tick older than this starts nothing")


CHECKS = Checks()
