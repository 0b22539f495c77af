"""The hosts of the inventory as they were when they were last asked; none is asked now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import Inventory


@dataclass(frozen=True)
class HostRow:
    """A host. ``state``: up, away, or not asked yet; ``jobs``: stages of running generations on it."""

    host: str
    state: str
    role: str
    capabilities: list[str]
    jobs: int
    max_parallel_jobs: int
    last_seen: datetime | None
    away_since: datetime | None
    reason: str | None


@dataclass(frozen=True)
class Cluster:
    """All of them; empty where everything runs on the platform's own machine."""

    hosts: list[HostRow]


def cluster_status(home: Home, ledger: Ledger) -> Cluster:
    """Return the hosts; raises ``InventoryError``."""
    states, jobs = ledger.host_states(), ledger.jobs_per_host()
    rows = []
    for name, host in Inventory.load(home).hosts.items():
        known = states.get(name)
        state = "not asked yet" if known is None else "up" if known.away_since is None else "away"
        rows.append(
            HostRow(
                host=name,
                state=state,
                role=host.role,
                capabilities=sorted(host.abilities),
                jobs=jobs.get(name, 0),
                max_parallel_jobs=host.max_parallel_jobs,
                last_seen=None if known is None else known.seen_at,
                away_since=None if known is None else known.away_since,
                reason=None if known is None else known.reason,
            )
        )
    return Cluster(rows)
