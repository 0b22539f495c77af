"""Promoted nets on hosts of role edge: a job on the host's own queue fetches one by hash, links it and reads it back.

One name of a job for all nets of a config, so they come one after the other and the last is the newest. A host says
with every sign of life which nets it has; what it lacks then is wanted of it, whoever promoted it and however long
the host was away.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ringrift_ops.errors import RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs
from ringrift_ops.hosts.errors import HostHangsError, VersionMismatchError
from ringrift_ops.hosts.jobs import JobConflictError, JobState, checked_job_id, stage_job
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import CONFIGS, EDGE, HOSTS, Settings
from ringrift_ops.stages.links import WEIGHTS_SUFFIX, Net
from ringrift_ops.stages.specs import (
    HOST_DESTINATION,
    NODE_LINK,
    NODE_STORE,
    Delivery,
    DistributeResult,
    DistributeSpec,
    Sha256,
    Stage,
)
from ringrift_ops.store import Store

_LOOK_SECONDS = 0.3

Call = Callable[[EdgeJobs, str], object]
"""Starts the run that carries a job to its host, once, however often it is asked."""


def net_job(config: str) -> str:
    """Return the name of the job that brings nets of a config."""
    return checked_job_id(f"{config}-net")


def to_edge(home: Home, ledger: Ledger, edge: EdgeJobs, net: Net, *, force: bool) -> Delivery:
    """Have a host fetch a net, and return what became of it; the Edge door calls the host.

    Raises ``AwayHostError`` when the host is away or has not taken it within the settings' ``distribution_timeout``,
    ``VersionMismatchError``.
    """
    edge.check_there()
    job_id, seconds = net_job(net.config), Settings.load(home).distribution_timeout
    deadline, number = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        if number is None:
            number = _want(ledger, edge, net, force=force)
        status = edge.poll(job_id)
        if number is not None and (status.state is JobState.DEAD or edge.number(job_id) != number):
            number = None  # its task is gone, or a newer net was promoted meanwhile
        elif number is not None and status.over:
            found = _ended(edge, net)
            assert found is not None
            return found
        if number is None and (newest := _newest(ledger, net.config)) not in (None, net.sha) and not force:
            return _delivery(edge, error=f"superseded by {newest}", state="stale")
        time.sleep(_LOOK_SECONDS)
    raise HostHangsError(edge.name, f"it has not fetched {net.sha[:12]} within {seconds} s; it will when it can")


def attend(home: Home, ledger: Ledger, edge: EdgeJobs, call: Call) -> None:
    """Note in the ledger what became of nets that were wanted of a host, and want what it lacks now.

    Asked at every sign of life of the host, so it is short: a net is never waited for.
    """
    has = edge.nets()
    for config in CONFIGS:
        job_id, newest = net_job(config), _newest(ledger, config)
        request = edge.mirror.request(job_id)
        if request is not None:
            asked = Net(config, str(request["job"]["spec"]["weights"]))
            status = edge.poll(job_id)
            if not status.over:
                if not edge.mirror.taken(job_id):
                    call(edge, job_id)
                continue
            found = _ended(edge, asked)
            if found is not None:
                _note(ledger, asked, found if asked.sha == newest else _superseded(found, newest))
        if newest is None:
            continue
        net = Net(config, newest)
        if has.get(config) == newest:
            path = home.relative(Store(home).path(newest, WEIGHTS_SUFFIX))
            _note(ledger, net, _delivery(edge, path=path, verified=True))
        elif _may_ask(edge, net):
            try:
                asked_for = _want(ledger, edge, net, force=False) is not None
            except VersionMismatchError as error:
                _note(ledger, net, _delivery(edge, error=str(error), state="failed"))
                continue
            if asked_for:
                _note(ledger, net, _delivery(edge, state="copying"))
                call(edge, job_id)


def _want(ledger: Ledger, edge: EdgeJobs, net: Net, *, force: bool) -> int | None:
    """Return the number of the request that brings a net, None while another one of its config is under way."""
    link = _newest(ledger, net.config) == net.sha
    spec = DistributeSpec(
        config=net.config, generation=None, token=0, seed=0, weights=net.sha,
        destinations=[NODE_LINK if link else NODE_STORE], force=force,
    )  # fmt: skip
    job = stage_job(Stage.DISTRIBUTE.value, spec, job_id=net_job(net.config), timeout_seconds=HOSTS.digest_seconds)
    try:
        edge.submit_or_adopt(job, anew=True)
    except JobConflictError:
        return None
    return edge.number(job.job_id)


def _ended(edge: EdgeJobs, net: Net) -> Delivery | None:
    """Return what the request in force came to when it was for this net and is over; None when nobody knows."""
    job_id = net_job(net.config)
    if (edge.spec(job_id) or {}).get("weights") != net.sha or edge.poll(job_id).state is JobState.DEAD:
        return None
    try:
        (found,) = DistributeResult.model_validate(edge.collect(job_id)).deliveries
    except RingRiftError as error:
        return _delivery(edge, error=str(error), state="failed")
    return _delivery(edge, path=found.path, verified=found.verified, error=found.error, state=found.state)


def _may_ask(edge: EdgeJobs, net: Net) -> bool:
    """Whether a net that the host lacks may be wanted of it: at once, unless that was just tried.

    After a failure, and after a success that the host's next sign of life must tell of first, it is waited.
    """
    job_id = net_job(net.config)
    request = edge.mirror.request(job_id)
    if request is None or request["job"]["spec"]["weights"] != net.sha:
        return True
    again = EDGE.net_again_seconds if edge.poll(job_id).state is JobState.FAILED else EDGE.silent_seconds
    return time.time() - float(request["at"]) > again


def _newest(ledger: Ledger, config: str) -> Sha256 | None:
    canonical = ledger.canonical(config)
    return None if canonical is None else canonical.sha


def _superseded(found: Delivery, newest: Sha256 | None) -> Delivery:
    if not found.verified:
        return found
    return found.model_copy(update={"state": "stale", "error": f"superseded by {newest}"})


def _delivery(
    edge: EdgeJobs, path: str = "", *, verified: bool = False, error: str | None = None, state: str | None = None
) -> Delivery:
    return Delivery.model_validate(
        {
            "destination": HOST_DESTINATION + edge.name, "path": path, "verified": verified, "error": error,
            "state": state or "verified",
        }
    )  # fmt: skip


def _note(ledger: Ledger, net: Net, delivery: Delivery) -> None:
    """Tell the ledger, unless it knows."""
    known = next((row for row in ledger.deliveries(net.sha) if row.destination == delivery.destination), None)
    if known is None or (known.state, known.error) != (delivery.state, delivery.error):
        ledger.record_delivery(
            net.sha, delivery.destination, delivery.path, verified=delivery.verified, error=delivery.error,
            state=delivery.state, generation=None, token=0,
        )  # fmt: skip
