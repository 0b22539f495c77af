"""The Edge door's part in distribution: it calls a host for the nets that it lacks, at every sign of life."""

import logging

from fastapi import HTTPException

from ringrift_ops.airflow.edge import dag_of
from ringrift_ops.errors import RingRiftError
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import Settings
from ringrift_ops.stages import edge_nets
from ringrift_ops.web.runs import trigger

log = logging.getLogger(__name__)

_called: set[str] = set()
"""Runs that this process has started; another may have as well, which is the same run."""


def attend(mirror: Mirror) -> None:
    """Bring a host to the newest nets: note what it has, want what it lacks, start the run that carries it there."""
    try:
        ledger = Ledger.open(Settings.load(mirror.home).ledger_url)
        edge_nets.attend(mirror.home, ledger, EdgeJobs(mirror), call)
    except (RingRiftError, HTTPException) as error:  # asked again at its next sign of life, which must not fail by this
        log.warning("nets for host %s: %s", mirror.host, getattr(error, "detail", error))


def call(edge: EdgeJobs, job_id: str) -> None:
    """Start the run of the host's DAG that carries the request in force."""
    run_id = edge.run_id(job_id)
    if run_id not in _called:
        trigger(dag_of(edge.name), run_id, {"job_id": job_id, "number": edge.number(job_id)})
        _called.add(run_id)
