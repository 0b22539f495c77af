"""Evaluations on request: a run of the gauntlet and what follows, and how the last one went (R52)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ringrift_ops.errors import UsageError
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Controls, Started, start_run, under_way
from ringrift_ops.settings import config_named
from ringrift_ops.stages.specs import Sha256, Stage

if TYPE_CHECKING:
    from ringrift_ops.operations.promotions import Net

Priority = Literal["normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("normal", "high")
JUDGING = (Stage.GAUNTLET, Stage.PROMOTE, Stage.DISTRIBUTE)


class UnknownPriorityError(UsageError):
    """A priority that does not exist."""


class NotANetOfConfigError(UsageError):
    """An artifact that is no net, or another config's."""


def queue_evaluation(controls: Controls, by: By, config: str, net: Net, priority: str = "normal") -> Started:
    """Start a run that plays the gauntlet of ``net`` and promotes it on a PASS; one under way is returned.

    ``high``: it has its turn before every other run of the config that waits. A net from outside is loaded strictly and
    recorded first. Raises :class:`UnknownPriorityError`, ``UnknownConfigError``, ``PlatformNotRunningError``.
    """
    from ringrift_ops.operations.promotions import Desk, adopt

    key = config_named(config).key
    _known_priority(priority)
    controls.running_airflow()
    adopt(Desk(controls.home, controls.settings, controls.ledger), key, net)
    return _queue(controls, by, key, net.sha, priority)


def queue_known(controls: Controls, by: By, config: str, model: str, priority: str = "normal") -> Started:
    """Do the same for a net that the ledger knows: its sha256 or the beginning of it. No net is loaded.

    Raises :class:`NotANetOfConfigError`, :class:`UnknownPriorityError`, ``UnknownArtifactError``,
    ``UnknownConfigError``, ``PlatformNotRunningError``.
    """
    key = config_named(config).key
    _known_priority(priority)
    found = controls.ledger.artifact_named(model)
    if (found.kind, found.config) != ("weights", key):
        raise NotANetOfConfigError(f"{found.sha[:12]} is {found.kind} of {found.config}, not a net of {key}")
    return _queue(controls, by, key, found.sha, priority)


def _known_priority(priority: str) -> None:
    if priority not in PRIORITIES:
        raise UnknownPriorityError(f"unknown priority {priority!r}; valid: {', '.join(PRIORITIES)}")


def _queue(controls: Controls, by: By, key: str, sha: Sha256, priority: str) -> Started:
    conf = {
        "profile": controls.settings.default_profile,
        "stages": [stage.value for stage in JUDGING],
        "candidate": sha,
        "priority": priority,
    }
    return start_run(controls, by, "evaluate", key, conf)


def evaluation_status(controls: Controls, config: str) -> dict[str, Any]:
    """Return the last evaluation of a config (None before the first) and the runs that will judge a net.

    Keys: ``last`` with candidate, verdict, reason, opponents, gate_version, at; ``queued`` with run_id, candidate and
    state of runs under way, empty while the platform does not run. Raises ``UnknownConfigError``.
    """
    key = config_named(config).key
    found = controls.ledger.evaluations(key, limit=1)
    last = None
    if found:
        names = ("candidate", "verdict", "reason", "opponents", "gate_version")
        last = {name: getattr(found[0], name) for name in names} | {"at": found[0].created_at}
    runs = [] if controls.airflow is None else under_way(controls.airflow, key)
    queued = [
        {"run_id": str(run["dag_run_id"]), "candidate": candidate, "state": run["state"]}
        for run in runs
        if (candidate := (run.get("conf") or {}).get("candidate")) is not None
    ]
    return {"last": last, "queued": queued}
