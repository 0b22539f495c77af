"""What there is to see about a config's jobs that failed or run, fetched from where they ran (R26). Judges nothing."""

from __future__ import annotations

from pydantic import Field

from ringrift_ops.errors import NoDataError
from ringrift_ops.hosts import evidence
from ringrift_ops.hosts.edge import EdgeJobs
from ringrift_ops.hosts.evidence import MachineEvidence, Words, last_words
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import HERE, Ledger, StageRun
from ringrift_ops.settings import HOSTS, config_named, stage_named
from ringrift_ops.stages.fleet import on_all
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Frozen, Stage

_SAID = ("load", "cores", "memory_free", "memory_total", "disk_free", "disk_total", "gpus")
"""Of what a host of role edge says of itself."""
GENERATIONS = 20
"""How far back a job that failed is looked for."""


class NothingToDiagnoseError(NoDataError):
    """No job of the config failed or runs."""


class Evidence(Frozen):
    """One job: what the ledger knows of it, and what its machine tells. ``machine`` None: ``unreachable`` says why."""

    config: str
    generation: int
    stage: Stage
    shard: int
    state: str = Field(description="running or failed, by the ledger")
    error: str | None = Field(description="what the stage failed with, by the ledger")
    job_id: str
    host: str
    machine: MachineEvidence | None
    unreachable: str | None


def suspects(ledger: Ledger, config: str, stage: str | None = None) -> list[StageRun]:
    """Return the jobs in question: those that failed or run of the newest generation that has any.

    Raises :class:`NothingToDiagnoseError`, ``UnknownConfigError``, ``UnknownStageError``.
    """
    key, wanted = config_named(config).key, None if stage is None else stage_named(stage).value
    for generation in ledger.generations(key, limit=GENERATIONS):
        runs = [
            run for run in ledger.stage_runs(generation.id, wanted)
            if run.state in ("failed", "running") and run.job_id is not None
        ]  # fmt: skip
        if runs:
            return runs
    what = f"{wanted} of {key}" if wanted else key
    raise NothingToDiagnoseError(
        f"no job of {what} failed or runs in the last {GENERATIONS} generations; `ringrift status {key}` says what is"
    )


def collect(hosting: Hosting, config: str, stage: str | None = None) -> list[Evidence]:
    """Return the evidence of each job in question, asked for side by side, each host within ``HOSTS.health_seconds``.

    Raises what :func:`suspects` raises; a host that cannot be asked is evidence too.
    """
    runs = {str(run.job_id): run for run in suspects(hosting.ledger, config, stage)}

    def look(job_id: str) -> dict[str, object]:
        host = runs[job_id].host
        if host is None:
            return evidence.collect(hosting.home, job_id).model_dump(mode="json")
        return told(hosting, host, job_id).model_dump(mode="json")

    reports = on_all(list(runs), look)
    return [_evidence(config_named(config).key, runs[one.host], one.facts, one.error) for one in reports]


def told(hosting: Hosting, host: str, job_id: str) -> MachineEvidence:
    """Return what a host tells about a job, within its time; raises the errors of reaching it."""
    edge = hosting.edge(host)
    if edge is not None:
        return _of_edge(edge, job_id)
    limits = {"seconds": HOSTS.health_seconds, "within": 2 * HOSTS.health_seconds}
    return MachineEvidence.model_validate(hosting.remote(host).answer("evidence", job_id=job_id, **limits))


def _of_edge(jobs: EdgeJobs, job_id: str) -> MachineEvidence:
    """What a host of role edge has said of itself last and sent of a job: nobody can ask it for more."""
    status, known = jobs.poll(job_id), jobs.known()["facts"]
    elsewhere = Words(error="a host of role edge is asked nothing: look there")
    return MachineEvidence(
        at=float(known["time"]),
        status=status,
        processes=[],
        swap_free=None,
        nvidia_smi=elsewhere,
        kernel=elsewhere,
        log=last_words(LocalJobs(jobs.mirror.jobs), status),
        **{name: known[name] for name in _SAID},
    )


def _evidence(config: str, run: StageRun, facts: dict[str, object], unreachable: str | None) -> Evidence:
    return Evidence(
        config=config,
        generation=run.generation,
        stage=Stage(run.stage),
        shard=run.shard,
        state=run.state,
        error=run.error,
        job_id=str(run.job_id),
        host=run.host or HERE,
        machine=MachineEvidence.model_validate(facts) if unreachable is None else None,
        unreachable=unreachable,
    )
