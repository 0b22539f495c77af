"""The pipeline's state as the runbooks read it (R65): a view of the ledger, never a source of truth."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from ringrift_ops.ledger.engine import Connected
from ringrift_ops.ledger.generations import Generations
from ringrift_ops.ledger.plays import Plays
from ringrift_ops.ledger.records import Generation, GenerationState, StageRun
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import atomic_write


class View(Generations, Plays, Connected):
    """Status for people and scripts."""

    def pipeline_state(self, config: str | None = None) -> dict[str, Any]:
        """Return where the pipeline stands, as plain JSON.

        Keys of R65: ``current_phase`` (a stage, or None), ``phase_status`` (idle, waiting_for_lease,
        running, waiting_for_training, completed, failed), ``games_completed``, ``games_target``,
        ``started_at``, ``workers`` (job id -> state); and ``config``, ``generation``, ``verdict``. They
        tell of the generation that is running, else waiting, else the newest; without ``config`` of
        the most recent of all, and ``configs`` then holds one such entry per config. While no
        generation runs they tell of a command's self-play (``Plays.play_state``), if that is newer.
        """
        if config is not None:
            return self._newest(self._current(self.generations(config)), config)
        by_config: dict[str, list[Generation]] = {}
        for generation in self.generations():
            by_config.setdefault(generation.config, []).append(generation)
        current = {key: self._current(rows) for key, rows in by_config.items()}
        state = self._newest(self._current([found for found in current.values() if found is not None]), None)
        return state | {"configs": {key: self._state_of(found) for key, found in sorted(current.items())}}

    def write_pipeline_state(self, path: Path) -> Path:
        """Write :meth:`pipeline_state` to a file, atomically, and return its path."""
        return atomic_write(path, (json.dumps(self.pipeline_state(), indent=2) + "\n").encode())

    def _newest(self, generation: Generation | None, config: str | None) -> dict[str, Any]:
        """Return the state of a command's self-play where it is newer than a generation that does not run."""
        played = self.plays(config=config, limit=1)
        running = generation is not None and generation.state is GenerationState.RUNNING
        if not played or running or (generation is not None and generation.created_at > played[0].seen_at):
            return self._state_of(generation)
        return self.play_state(played[0])

    def _current(self, generations: list[Generation]) -> Generation | None:
        rank = {GenerationState.RUNNING: 0, GenerationState.WAITING: 1}
        return min(generations, key=lambda found: (rank.get(found.state, 2), -found.id), default=None)

    def _state_of(self, generation: Generation | None) -> dict[str, Any]:
        if generation is None:
            return {
                "config": None, "generation": None, "current_phase": None, "phase_status": "idle",
                "games_completed": 0, "games_target": 0, "started_at": None, "verdict": None, "workers": {},
            }  # fmt: skip
        runs = self.stage_runs(generation.id)
        current = _current_run(runs)
        selfplay = [run for run in runs if run.stage == Stage.SELFPLAY]
        return {
            "config": generation.config,
            "generation": generation.id,
            "current_phase": None if current is None else current.stage,
            "phase_status": _phase_status(generation, current),
            "games_completed": sum(run.result["games"] for run in selfplay if run.result),
            "games_target": sum(run.spec.get("games", 0) for run in selfplay),
            "started_at": _iso(generation.granted_at),
            "verdict": generation.outcome,
            "workers": {run.job_id: run.state for run in runs if run.job_id is not None},
        }


def _current_run(runs: list[StageRun]) -> StageRun | None:
    """Return the stage that matters now: one that runs, else one that failed, else the furthest done."""
    order = [stage.value for stage in Stage]
    rank = {"running": 2, "failed": 1, "done": 0}
    return max(runs, key=lambda run: (rank[run.state], order.index(run.stage), run.shard), default=None)


def _phase_status(generation: Generation, run: StageRun | None) -> str:
    if generation.state is GenerationState.WAITING:
        return "waiting_for_lease"
    if run is not None and run.state == "failed":
        return "failed"
    if generation.state is not GenerationState.RUNNING:
        return "failed" if generation.outcome in ("ERROR", "NO_EVIDENCE") else "completed"
    if run is not None and run.state == "running" and run.stage == Stage.TRAIN:
        return "waiting_for_training"
    return "running"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
