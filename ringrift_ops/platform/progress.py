"""How a generation stands: gathered from the ledger, the jobs' heartbeats and Airflow's task states."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import Generation, Ledger, StageRun
from ringrift_ops.settings import Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

ORDER = ("lease", *(stage.value for stage in Stage), "finish")
"""Tasks in the order in which a person reads them; ``games``, the wait for games, shows as part of export."""

BUSY = ("running", "deferred", "queued", "scheduled", "up_for_retry", "restarting")


@dataclass
class Row:
    """One line of the view. ``done`` of ``total`` ``unit`` in the stage's own words; ``seconds`` so far."""

    name: str
    state: str = "waiting"
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    rate: float | None = None
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Progress:
    """A run of a config's DAG and its generation. ``generation`` None: its row is not made yet."""

    run_state: str
    generation: Generation | None
    rows: list[Row]
    results: dict[str, list[dict[str, Any]]]
    """Results of the stages that are done, by stage; one per shard."""

    failed_task: str | None

    @property
    def over(self) -> bool:
        return self.run_state in ("success", "failed")


def look(ledger: Ledger, settings: Settings, config: str, run: dict[str, Any], tasks: list[dict[str, Any]]) -> Progress:
    """Return how a DAG run (as Airflow's REST interface tells it) and its generation stand now."""
    generation = next((one for one in ledger.generations(config) if one.run_id == run["dag_run_id"]), None)
    hosting = Hosting(Home(settings.home), ledger)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        by_task.setdefault("export" if task["task_id"] == "games" else task["task_id"], []).append(task)
    runs = [] if generation is None else ledger.stage_runs(generation.id)
    rows = []
    for name in ORDER:
        row = _row(name, by_task.get(name, []), [one for one in runs if one.stage == name], hosting)
        if name == Stage.EXPORT and generation is not None:
            row.notes += _games_wanted(ledger, settings, generation, by_task.get(name, []))
        rows.append(row)
    failed = [task["task_id"] for task in tasks if task["state"] == "failed"]
    results: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(runs, key=lambda run: run.shard):
        if one.result is not None:
            results.setdefault(one.stage, []).append(one.result)
    return Progress(str(run["state"]), generation, rows, results, failed[0] if failed else None)


def _games_wanted(ledger: Ledger, settings: Settings, generation: Generation, tasks: list[dict[str, Any]]) -> list[str]:
    """Return why the wait for games goes on, in words; nothing when there is none."""
    if not any(task["task_id"] == "games" and task["state"] == "deferred" for task in tasks):
        return []
    minimum = settings.profile(generation.config, generation.profile).window_minimum_rows
    rows, new = ledger.usable_rows(generation.config), ledger.new_rows(generation.config)
    return [f"waiting for games: {rows:,} rows of at least {minimum:,}, {new:,} of them new"]


def _row(name: str, tasks: list[dict[str, Any]], runs: list[StageRun], hosting: Hosting) -> Row:
    row = Row(name, _state([str(task["state"] or "waiting") for task in tasks]))
    now = datetime.now(UTC)
    if runs:
        begun = min(one.started_at for one in runs)
        ended = [one.finished_at for one in runs if one.finished_at is not None]
        row.seconds = ((max(ended) if len(ended) == len(runs) else now) - begun).total_seconds()
    elif starts := [_moment(task["start_date"]) for task in tasks if task.get("start_date")]:
        ends = [_moment(task["end_date"]) for task in tasks if task.get("end_date")]
        row.seconds = ((max(ends) if len(ends) == len(tasks) else now) - min(starts)).total_seconds()
    for one in runs:
        _add(row, one, hosting)
    if row.done and row.seconds:
        row.rate = row.done / row.seconds
    return row


def _add(row: Row, run: StageRun, hosting: Hosting) -> None:
    if run.job_id is None:
        return
    beat = hosting.look(run.host, run.job_id).heartbeat
    if beat is None:
        return
    row.done += float(beat.get("done") or 0)
    row.total += float(beat.get("total") or 0)
    row.unit = str(beat.get("unit") or "")
    if message := str(beat.get("message") or ""):
        row.notes.append(message)
    if run.state == "running":
        row.notes += told(beat.get("metrics") or {})


def told(metrics: dict[str, Any]) -> list[str]:
    """Return a heartbeat's metrics in words: ``random 91 % [84, 95] of 100`` for win rates, else ``name value``.

    A win rate is an object {"win_rate", "lower", "upper", "games"} under the opponent's name.
    """
    words = []
    for name, value in metrics.items():
        if isinstance(value, dict) and "win_rate" in value:
            words.append(f"{name} {rate(value)}")
        elif isinstance(value, int | float):
            words.append(f"{name} {value:.4g}")
    return words


def rate(counts: dict[str, Any]) -> str:
    """Return ``91 % [84, 95] of 100`` for a win rate with its bounds and games."""
    return (
        f"{100 * counts['win_rate']:.0f} % [{100 * counts['lower']:.0f}, {100 * counts['upper']:.0f}]"
        f" of {counts['games']}"
    )


def _state(states: list[str]) -> str:
    """Return one word for all instances of a task: what fails or runs outweighs what is done."""
    for state in ("failed", "upstream_failed", *BUSY):
        if state in states:
            return state
    if states and all(state == "skipped" for state in states):
        return "skipped"
    if states and all(state in ("success", "skipped") for state in states):
        return "done"
    return "waiting"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
