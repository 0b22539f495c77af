"""Verification lists: what is looked at after a fix, and what was found (R80).

A fix is an entry of :data:`LISTS`; its checks are functions of (controls, config) and change nothing. A check that has
nothing to look at holds, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ringrift_ops.errors import RingRiftError, UsageError
from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.operations.breakers import half_opens_at
from ringrift_ops.operations.control import STUCK, Controls, meant_run, under_way
from ringrift_ops.operations.datasets import validate_dataset
from ringrift_ops.operations.disk import pressure
from ringrift_ops.operations.jobs import last_lines
from ringrift_ops.operations.locks import locks
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.operations.surroundings import Machine
from ringrift_ops.operations.traces import ATTEMPT
from ringrift_ops.settings import ALERTS, config_named
from ringrift_ops.stages.links import LinkState, links_of
from ringrift_ops.stages.specs import RemedyName, Stage, Verified
from ringrift_ops.store import Store

Check = Callable[[Controls, str], tuple[bool, str]]
"""Returns whether it holds, and the evidence."""

_NO_MEMORY = ("out of memory", "outofmemoryerror", "memoryerror", "oom-kill")
_MENDED: RemedyName = "out_of_memory"
"""In every line by which a training tells that it mended itself, and why."""
_LOG_LINES = 2_000


class UnknownFixError(UsageError):
    """A fix without a verification list."""


def lock_is_free_or_used(controls: Controls, config: str) -> tuple[bool, str]:
    """Nobody holds the lock, or somebody alive does."""
    held = locks(controls.home, controls.ledger, config, airflow=controls.airflow)
    if not held:
        return True, "nobody holds it"
    in_use = held[0].in_use
    alive = "and nothing of it is alive" if in_use is None else f"in use by {in_use}"
    return in_use is not None, f"held by {held[0].holder}, {alive}"


def breakers_are_closed(controls: Controls, config: str) -> tuple[bool, str]:
    """No breaker keeps an action of the config from being tried."""
    found = [one for one in controls.ledger.breakers(config) if half_opens_at(one) is not None]
    return not found, ", ".join(f"{one.action}: {one.reason}" for one in found) or "all are closed"


def no_stage_has_failed(controls: Controls, config: str) -> tuple[bool, str]:
    """No stage of the present generation counts as failed."""
    runs = controls.ledger.standings(config)[0].runs
    failed = [f"{run.stage}: {run.error}" for run in runs if run.state == "failed"]
    return not failed, "; ".join(failed) or f"{len(runs)} stages on record, none failed"


def run_is_under_way(controls: Controls, config: str) -> tuple[bool, str]:
    """Airflow has a run of the config that goes on."""
    if controls.airflow is None:
        return False, "the platform does not run: `ringrift up`"
    for run in under_way(controls.airflow, config):
        return True, f"{run['dag_run_id']} is {run['state']}"
    return False, "no run is queued or running"


def no_task_is_stuck(controls: Controls, config: str) -> tuple[bool, str]:
    """No task of the run that would be recovered has failed or waits for one that has."""
    run_id = None if controls.airflow is None else meant_run(controls.airflow, controls.ledger, config)
    if controls.airflow is None or run_id is None:
        return True, "no run to look at"
    stuck = [f"{one['task_id']} {one['state']}" for one in controls.airflow.tasks(config, run_id)
             if one["state"] in STUCK and one["state"] != "up_for_retry"]  # fmt: skip
    return not stuck, ", ".join(stuck) or f"none in {run_id}"


def canonical_is_whole(controls: Controls, config: str) -> tuple[bool, str]:
    """The net in force lies in the store, has its hash, and was not backed out."""
    found = controls.ledger.canonical(config)
    if found is None:
        return True, "no net is in force yet"
    if controls.ledger.poisoned([found.sha]):
        return False, f"{found.sha[:12]} was backed out"
    path = Store(controls.home).get(found.sha, verify=True)
    return True, f"{found.sha[:12]}, hashed: {path.name}"


def links_are_right(controls: Controls, config: str) -> tuple[bool, str]:
    """Both links lead to the net in force."""
    mine = [one for one in links_of(controls.home, controls.ledger) if one.config == config]
    wrong = [f"{one.path.name} is {one.state.value}" for one in mine if one.state is not LinkState.RIGHT]
    return not wrong, ", ".join(wrong) or f"{len(mine)} links are right"


def net_is_delivered(controls: Controls, config: str) -> tuple[bool, str]:
    """The net in force was read back by its hash at every destination that was tried; hosts away catch up."""
    found = controls.ledger.canonical(config)
    told = [] if found is None else controls.ledger.deliveries(found.sha)
    bad = [f"{one.destination}: {one.error}" for one in told if not one.verified and one.state != "pending"]
    return not bad, "; ".join(bad) or f"{len(told)} destinations have it or catch up"


def dataset_is_fit(controls: Controls, config: str) -> tuple[bool, str]:
    """The newest dataset can be trained on."""
    known = controls.ledger.artifacts(config=config, kind="dataset", clean=True)[:1]
    if not known:
        return True, "there is no dataset yet; export makes it"
    report = validate_dataset(controls.home.resolve(known[0].path), config)
    wrong = [f"{one.check}: {one.message}" for one in report.issues if one.blocking]
    return report.valid, "; ".join(wrong) or f"{known[0].sha[:12]}, {report.statistics['samples']:,} samples"


def disk_is_free(controls: Controls, config: str) -> tuple[bool, str]:
    """Enough disk is free for what fills it."""
    machine = Machine.here(controls.home)
    full = pressure(machine, Stage.TRAIN, controls.settings.profile(config))
    return full is None, full or f"{machine.disk_free / 1e9:.0f} GB free"


def memory_is_free(controls: Controls, config: str) -> tuple[bool, str]:
    """Less than nine tenths of the machine's memory are in use."""
    machine = Machine.here(controls.home)
    share = 1.0 - machine.memory_free / machine.memory
    return share < ALERTS.resource_share, f"{share:.0%} of {machine.memory / 1e9:.0f} GB in use"


def training_lives(controls: Controls, config: str) -> tuple[bool, str]:
    """The training that counts as running shows signs of life."""
    status = _training(controls, config)
    if status is None:
        return True, "no training is under way"
    profile = controls.settings.profile(config)
    alive = status.state is JobState.RUNNING and not is_stalled(status, profile, datetime.now(UTC))
    return alive or status.state is JobState.DONE, f"{status.job_id} is {status.state.value} {status.reason}".strip()


def loss_falls(controls: Controls, config: str) -> tuple[bool, str]:
    """The loss of the training is a number, and has improved of late."""
    status = _training(controls, config)
    metrics: dict[str, Any] = ((status.heartbeat or {}) if status is not None else {}).get("metrics") or {}
    loss = metrics.get("loss", metrics.get("epoch_train_loss"))
    if loss is None:
        return True, "no training has told a loss yet"
    stale = int(metrics.get("epochs_without_improvement") or 0)
    return math.isfinite(loss) and stale < ALERTS.stale_epochs, f"{loss:.4f}, {stale} epochs without improvement"


def log_is_free_of_memory_errors(controls: Controls, config: str) -> tuple[bool, str]:
    """What the training's last attempt said names no exhausted memory but what it mended by itself."""
    status = _training(controls, config)
    if status is None or status.state is JobState.ABSENT:
        return True, "no training has a log"
    host = next((run.host for one in controls.ledger.standings(config) for run in one.runs
                 if run.job_id == status.job_id), None)  # fmt: skip
    lines = last_lines(controls.hosting.jobs(host), status.job_id, _LOG_LINES)
    begins = max((number for number, line in enumerate(lines) if line.startswith(ATTEMPT)), default=0)
    others = [line for line in lines[begins:] if _MENDED not in line]
    said = [line for line in others if any(word in line.lower() for word in _NO_MEMORY)]
    mended = len(others) < len(lines[begins:])
    return not said, said[-1] if said else "none but what it mended by itself" if mended else "none in it"


def _training(controls: Controls, config: str) -> JobStatus | None:
    for run in controls.ledger.standings(config)[0].runs:
        if run.stage == Stage.TRAIN and run.job_id is not None:
            return controls.hosting.look(run.host, run.job_id)
    return None


LISTS: Mapping[str, tuple[Check, ...]] = {
    "recover": (no_task_is_stuck, run_is_under_way, lock_is_free_or_used),
    "full recovery": (
        dataset_is_fit, run_is_under_way, lock_is_free_or_used, breakers_are_closed, disk_is_free, memory_is_free,
    ),
    "reset": (lock_is_free_or_used, breakers_are_closed, no_stage_has_failed, canonical_is_whole),
    "release lock": (lock_is_free_or_used, canonical_is_whole),
    "clear training state": (lock_is_free_or_used, breakers_are_closed, no_stage_has_failed),
    "reset breakers": (breakers_are_closed,),
    "rollback": (canonical_is_whole, links_are_right, net_is_delivered),
    "promote": (canonical_is_whole, links_are_right, net_is_delivered),
    "back out": (canonical_is_whole, links_are_right, net_is_delivered),
    "retention": (canonical_is_whole, links_are_right, disk_is_free),
    "out of memory": (training_lives, memory_is_free, log_is_free_of_memory_errors),
    "dataset": (dataset_is_fit, training_lives),
    "divergence": (training_lives, loss_falls),
    "timeout": (training_lives, loss_falls),
    "corrupt checkpoint": (training_lives, canonical_is_whole),
    "stale lease": (lock_is_free_or_used, no_stage_has_failed),
    "stalled job": (training_lives, no_stage_has_failed),
    "links": (links_are_right, canonical_is_whole),
    "distribution": (net_is_delivered, canonical_is_whole),
}  # fmt: skip
"""What is verified after each fix, in order; the remedies' lists follow the runbook's (002)."""


def verify(fix: str, controls: Controls, config: str) -> list[Verified]:
    """Run the verification list of a fix and return what each check found; changes nothing.

    A check that cannot be made does not hold, and its evidence is why. Raises :class:`UnknownFixError`,
    ``UnknownConfigError``.
    """
    if fix not in LISTS:
        raise UnknownFixError(f"no verification list for {fix!r}; there are: {', '.join(LISTS)}")
    key = config_named(config).key
    return [_verified(check, controls, key) for check in LISTS[fix]]


def _verified(check: Check, controls: Controls, config: str) -> Verified:
    name = check.__name__.replace("_", " ")
    try:
        holds, evidence = check(controls, config)
    except RingRiftError as error:
        return Verified(name=name, ok=False, evidence=f"could not be checked: {error}")
    return Verified(name=name, ok=holds, evidence=evidence)
