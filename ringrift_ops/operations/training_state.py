"""The runbook's full recovery of a stalled training: five steps, each shown before it is done (R30)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringrift_ops.errors import NoDataError
from ringrift_ops.operations import breakers, locks
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Controls, end_jobs, trigger, under_way
from ringrift_ops.settings import config_named
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import Store


class DataNotReadyError(NoDataError):
    """There is nothing to train on."""


@dataclass(frozen=True)
class Step:
    """One step of the recovery: what it is, what it found, and whether it was done (not in a dry run)."""

    name: str
    found: str
    done: bool


def clear_training_state(controls: Controls, by: By, config: str) -> list[str]:
    """Release the training lock of a config and forget its failed training; returns what was cleared, in words.

    Needs a reason while the lock is in use. Raises ``LockInUseError``, ``UnknownConfigError``.
    """
    key = config_named(config).key
    lock = locks.release(controls.home, controls.ledger, by, key, airflow=controls.airflow)
    cleared = [] if lock is None else [f"lock held by {lock.holder}"]
    by.audited(controls.ledger, "clear training state", key)
    dropped = controls.ledger.clear_unfinished_stages(key, Stage.TRAIN.value)
    cleared += [f"{dropped} unfinished training"] if dropped else []
    cleared += [f"breaker of {one.action}" for one in breakers.close(controls.ledger, by, Stage.TRAIN.value, key)]
    controls.show()
    return cleared


@dataclass(frozen=True)
class Cleared:
    """What was cleared of a config, in words; ``refused``: why it was not."""

    config: str
    cleared: list[str]
    refused: str | None = None


def clear_training_states(controls: Controls, by: By, configs: Sequence[str]) -> list[Cleared]:
    """Do :func:`clear_training_state` for several configs; a lock in use is said and holds up no other."""
    found = []
    for config in configs:
        try:
            found.append(Cleared(config, clear_training_state(controls, by, config)))
        except locks.LockInUseError as error:
            found.append(Cleared(config, [], str(error)))
    return found


def full_recovery(controls: Controls, by: By, config: str, *, dry_run: bool = False) -> list[Step]:
    """Do the five steps: stop training, clear its state, verify the data, restart, monitor; return what each did.

    A dry run changes nothing. Ends before the restart with :class:`DataNotReadyError` when the data is not ready.
    Raises ``PlatformNotRunningError``, ``MissingReasonError``, ``UnknownConfigError``.
    """
    key, ledger = config_named(config).key, controls.ledger
    by.needs_reason(f"a full recovery of {key}")
    if not dry_run:
        controls.running_airflow()
    training = ledger.running_trainings().get(key)
    held = locks.locks(controls.home, ledger, key, airflow=controls.airflow)
    steps = [Step("stop training", training or "no training is on record as running", not dry_run)]
    if not dry_run:
        by.audited(ledger, "full recovery", key)
        end_jobs(controls, key, Stage.TRAIN)
    words = f"lock held by {held[0].holder}" if held else "the lock is free"
    if not dry_run:
        words = ", ".join(clear_training_state(controls, by, key)) or "nothing was left"
    steps.append(Step("clear training state", words, not dry_run))
    steps.append(Step("verify data", _verified(controls, key), done=True))
    if dry_run:
        return [
            *steps,
            Step("restart", f"would start export, train and what follows of {key}", done=False),
            Step("monitor", f"`ringrift status {key} --watch`", done=False),
        ]
    return [
        *steps,
        Step("restart", _restart(controls, by, key), done=True),
        Step("monitor", f"`ringrift status {key} --watch`", done=True),
    ]


def _restart(controls: Controls, by: By, config: str) -> str:
    """Let the run under way train again; without one start a run from the export on."""
    airflow = controls.running_airflow()
    for run in under_way(airflow, config):
        run_id = str(run["dag_run_id"])
        if any(task["task_id"] == Stage.TRAIN and task["state"] is not None for task in airflow.tasks(config, run_id)):
            airflow.clear(config, run_id, [Stage.TRAIN.value])
            return f"task train of run {run_id} is done again"
    return f"run {trigger(controls, by, config, Stage.EXPORT.value, force=True, following=True).run_id}"


def _verified(controls: Controls, config: str) -> str:
    row = controls.settings.profile(config)
    rows = controls.ledger.usable_rows(config)
    if rows < row.window_minimum_rows:
        raise DataNotReadyError(
            f"{config}: {rows:,} rows have passed parity, {row.window_minimum_rows:,} are needed to train in profile "
            f"{row.name}; `ringrift selfplay --config {config}` and `ringrift parity --config {config}`"
        )
    newest = controls.ledger.artifacts(config=config, kind="dataset")[:1]
    if not newest:
        return f"{rows:,} rows have passed parity; there is no dataset yet, export makes it"
    Store(controls.home).get(newest[0].sha, verify=True)
    return f"{rows:,} rows have passed parity; the newest dataset {newest[0].sha[:12]} is whole"
