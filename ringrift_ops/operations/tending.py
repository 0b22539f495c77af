"""Looking after the hosts, every few minutes: what they made comes here, what they lack goes there, what nobody owns
ends, and what has been over for long is cleared away.

Asks "is it so now?" of every host, each within its own time; one that comes back after a week is told the newest.
"""

from __future__ import annotations

from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations import retention
from ringrift_ops.operations.by import By
from ringrift_ops.settings import HOSTS, RETENTION
from ringrift_ops.stages import fleet
from ringrift_ops.stages.fleet import HostReport
from ringrift_ops.stages.hosting import Hosting

_DAY = 86_400.0


def tend(home: Home, ledger: Ledger, by: By) -> list[HostReport]:
    """Look after every host of the inventory side by side, and clear away old job folders here; return the reports.

    Facts of each: {"ended" (jobs), "brought" (paths), "nets" (sha256), "removed" (job folders, and those of their games
    and datasets that are here)}; they and the error are in the ledger too (``HostState.tended``).
    """
    hosting = Hosting(home, ledger)
    reports = fleet.on_all(
        list(hosting.inventory.hosts), lambda name: _tend_one(hosting, name, by), within=HOSTS.tend_seconds
    )
    for one in reports:
        ledger.host_tended(one.host, {"error": one.error, "cause": one.cause} | one.facts)
    retention.apply(home, ledger, by, kinds=("job", "edge"))
    return reports


def _tend_one(hosting: Hosting, name: str, by: By) -> dict[str, Any]:
    """A job's folder goes only after what it made is here: an error before keeps it.

    A host of role edge looks after itself: it is only noted whether it is there.
    """
    if hosting.edge(name) is not None:
        fleet.look(hosting, name)
        return {"ended": [], "brought": [], "nets": [], "removed": []}
    done = fleet.sync_one(hosting, name)
    remote, seconds = hosting.remote(name), RETENTION.job_days * _DAY
    removed, files = fleet.over_long_ago(hosting, name, seconds), list[str]()
    for job_id in removed:
        why = f"its generation ended more than {RETENTION.job_days:g} days ago"
        by.audited(hosting.ledger, "remove", None, kind="job", path=remote.place(job_id), sha=None, why=why)
        for path in fleet.removable(hosting, name, job_id):
            place = f"{name}:{remote.link.host.work_dir}/{path}"
            by.audited(hosting.ledger, "remove", None, kind="file of a job", path=place, sha=None, why=why)
            remote.answer("remove", path=path)
            files.append(path)
        remote.forget(job_id)
    return done | {"removed": [*removed, *files, *remote.drop_set_aside(seconds)]}
