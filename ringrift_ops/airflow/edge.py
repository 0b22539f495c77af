"""The DAG of each host of role edge: one run per job that is wanted of it, one task, done by its own Edge worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, Param, RetryAction, RetryRule

from ringrift_ops.errors import UsageError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ringrift_ops.hosts.edge import EdgeJobs

EXECUTOR = "airflow.providers.edge3.executors.EdgeExecutor"
PREFIX = "edge_"
"""A host's DAG is called by this and its name; its queue is its name."""

_START = datetime(2020, 1, 1, tzinfo=UTC)
_RETRIES = 100
"""A leader or a worker that restarts costs one each; the job itself goes on meanwhile, and is adopted."""


class RequestLostError(UsageError):
    """Airflow did not take the run that carries a job to its host."""


def dag_of(host: str) -> str:
    """Return the id of a host's DAG."""
    return PREFIX + host


def build_edge(host: str, most_runs: int = 16) -> DAG:
    """Return the DAG of a host of role edge; the host itself builds it by its name alone."""
    with DAG(
        dag_id=dag_of(host),
        description=f"Carries jobs to {host}, which fetches them itself",
        schedule=None,
        start_date=_START,
        catchup=False,
        is_paused_upon_creation=False,  # it does nothing by itself
        max_active_runs=most_runs,
        tags=["ringrift", "edge"],
        params={"job_id": Param(type="string", minLength=1, maxLength=128), "number": Param(type="integer", minimum=1)},
        default_args={
            "retries": _RETRIES,
            "retry_delay": timedelta(seconds=3),
            "retry_exponential_backoff": 1.5,
            "max_retry_delay": timedelta(seconds=30),
            "retry_policy": ExceptionRetryPolicy([RetryRule(exception=[UsageError], action=RetryAction.FAIL)]),
        },
    ) as dag:
        EdgeJob(task_id="job", executor=EXECUTOR, queue=host)
    return dag


class EdgeJob(BaseOperator):
    """Runs on the Edge worker of the host, which has no ledger: all it knows it asks of the leader's exchange.

    It has no ``on_kill``: what ends a job is the leader's wish, told in the answer to a report. A task that is killed
    because the leader was away for a while must not take an hour of training with it.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from ringrift_ops.home import Home
        from ringrift_ops.hosts.exchange import Exchange
        from ringrift_ops.stages.edge import Carrier

        params = context["params"]
        carrier = Carrier(
            Exchange.of_environment(), Home.find(), str(params["job_id"]), int(params["number"]), self.log.info
        )
        return carrier.carry()


def summon(jobs: EdgeJobs, job_id: str) -> str:
    """Start the run of the host's DAG that carries the request in force, and return its id; once, however often.

    Only in a task: it speaks with the task's own supervisor, so no credentials are needed.
    """
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

    run_id, number = jobs.run_id(job_id), jobs.number(job_id)
    answer = task_runner.SUPERVISOR_COMMS.send(
        TriggerDagRun(dag_id=dag_of(jobs.name), run_id=run_id, conf={"job_id": job_id, "number": number})
    )
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise RequestLostError(f"{job_id}: Airflow did not start {dag_of(jobs.name)}: {answer.error} {answer.detail}")
    return run_id
