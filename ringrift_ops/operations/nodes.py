"""What an Edge worker makes sure of before it begins, and why a host gets no jobs (R71)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ringrift_ops.hosts.edge import EdgeJobs
from ringrift_ops.hosts.errors import UnreachableHostError
from ringrift_ops.hosts.exchange import Exchange, LeaderAnswerError, segment
from ringrift_ops.hosts.keys import trusted_keys
from ringrift_ops.hosts.versions import difference, versions
from ringrift_ops.settings import EDGE, HOSTS, Host
from ringrift_ops.stages.fleet import on_all
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.placement import ROLES
from ringrift_ops.stages.specs import Frozen

PACKAGES = {"airflow": "apache-airflow-core", "edge3": "apache-airflow-providers-edge3"}


def installed() -> dict[str, str]:
    """Return the version of Airflow and of its Edge provider here, '' where one is missing."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = ""
    return found


def check_leader(exchange: Exchange, queues: Sequence[str] = ()) -> dict[str, Any]:
    """Return {"clock_offset" (seconds, this machine ahead), "airflow", "edge3", "code", "max_parallel_jobs"}.

    Makes sure, in this order, that the leader is reachable and one of ours, that the clocks agree, that it accepts the
    token and knows the node, that Airflow, its Edge provider and this code are the same there, and that none of
    ``queues`` is another host's. Raises the ``LeaderError`` that says which is not so.
    """
    begun = time.time()
    hello = exchange.hello()
    offset = (begun + time.time()) / 2 - float(hello["time"])
    if abs(offset) > EDGE.clock_seconds:
        raise LeaderAnswerError(
            exchange.url, f"the clock here is {offset:+.0f} s off the leader's, and tokens live a minute",
            "set both clocks (timedatectl set-ntp true)",
        )  # fmt: skip
    told = exchange.ask("GET", f"/nodes/{segment(exchange.node)}/leader")
    for name, mine in installed().items():
        if mine != told[name]:
            raise LeaderAnswerError(
                exchange.url, f"it has {PACKAGES[name]} {told[name]}, here is {mine or 'none'}",
                f"pip install {PACKAGES[name]}=={told[name]}",
            )  # fmt: skip
    found = difference(versions(), told["versions"])
    if found is not None:
        raise LeaderAnswerError(exchange.url, f"it has {found}", "install the leader's code here; nothing was started")
    taken = [queue for queue in queues if queue != exchange.node and queue in told["edge_hosts"]]
    if taken:
        raise LeaderAnswerError(
            exchange.url,
            f"queue {taken[0]} is that of host {taken[0]}",
            "leave it out of --queues: its jobs are its own",
        )
    return {
        "clock_offset": round(offset, 2),
        **installed(),
        "code": versions()["code"],
        "max_parallel_jobs": int(told["max_parallel_jobs"]),
    }


class Receiving(Frozen):
    """Whether a host gets jobs; ``findings`` say why not, or why not all, each with what to try."""

    host: str
    way: str
    """``ssh`` or ``edge``."""
    registered: bool
    """SSH: its key is trusted. Edge: its worker has been heard of."""
    heard_seconds: float | None
    same_version: bool | None
    stages: list[str]
    capabilities: list[str]
    running: int
    capacity: int
    findings: list[str]

    @property
    def receives(self) -> bool:
        return not self.findings


def receiving(hosting: Hosting, names: Sequence[str] = ()) -> list[Receiving]:
    """Return for each host (all unless named) whether it can get jobs, and why not: registration, capabilities, health.

    SSH hosts are asked side by side, each within ``HOSTS.health_seconds``. Raises ``UnknownHostError``.
    """
    chosen = [hosting.host(name) for name in names or hosting.inventory.hosts]
    running = hosting.ledger.jobs_per_host()
    over_ssh = [host.name for host in chosen if not host.is_edge]
    asked = {one.host: one for one in on_all(over_ssh, lambda name: _look(hosting, name))}
    found = []
    for host in chosen:
        if host.is_edge:
            registered, heard, same, findings = _edge(hosting, host)
        else:
            registered = host.host_key is not None or host.name in trusted_keys(hosting.home)
            report = asked[host.name]
            heard, same = (0.0, bool(report.facts["same"])) if report.error is None else (None, None)
            findings = [] if report.error is None else [report.error]
            if same is False:
                findings.append(f"it has {report.facts['other']}: ringrift cluster update {host.name}")
        findings += _common(hosting, host, running.get(host.name, 0))
        found.append(
            Receiving(
                host=host.name,
                way="edge" if host.is_edge else "ssh",
                registered=registered,
                heard_seconds=heard,
                same_version=same,
                stages=[stage.value for stage, role in ROLES.items() if host.plays(role)],
                capabilities=sorted(host.abilities),
                running=running.get(host.name, 0),
                capacity=host.max_parallel_jobs,
                findings=findings,
            )
        )
    return found


def _look(hosting: Hosting, name: str) -> dict[str, Any]:
    facts = hosting.remote(name).answer("facts", within=HOSTS.health_seconds)
    other = difference(versions(), facts["versions"])
    return {"same": other is None, "other": other}


def _edge(hosting: Hosting, host: Host) -> tuple[bool, float | None, bool | None, list[str]]:
    jobs = hosting.edge(host.name)
    assert isinstance(jobs, EdgeJobs)
    node, silence = jobs.mirror.node(), jobs.mirror.silence()
    same = None if node is None else difference(versions(), node["facts"]["versions"]) is None
    findings = []
    try:
        jobs.check_there()
    except UnreachableHostError as error:
        findings.append(str(error))
    if node is not None:
        cards = [card for card in node["facts"]["gpus"] if "error" not in card]
        if "gpu" in host.abilities and not cards:
            findings.append(f"host {host.name}: the inventory says gpu, its nvidia-smi shows none: correct one of them")
    return node is not None, None if silence is None else round(silence, 1), same, findings


def _common(hosting: Hosting, host: Host, running: int) -> list[str]:
    findings = []
    state = hosting.ledger.host_state(host.name)
    if state is not None and state.away_since is not None:
        lost = "lost, its work went elsewhere" if hosting.is_lost(host.name) else "away"
        findings.append(f"host {host.name}: {lost} since {state.away_since:%Y-%m-%d %H:%M:%S} UTC: {state.reason}")
    if running >= host.max_parallel_jobs:
        findings.append(
            f"host {host.name}: it has {running} of {host.max_parallel_jobs} jobs; the next waits, or raise "
            "max_parallel_jobs in the inventory"
        )
    return findings
