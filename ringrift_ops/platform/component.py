"""One component of Airflow, or the preparation before all of them, as a process of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ringrift_ops.home import Home
from ringrift_ops.platform import connections


@dataclass(frozen=True)
class Component:
    """``arguments``: those of the ``airflow`` command."""

    name: str
    arguments: tuple[str, ...]


POOLS = {
    "selfplay": "self-play and parity: the shards that may run at once",
    "training": "trainings: one at a time; a waiting training holds no slot of another pool",
    "evaluation": "gauntlets",
    "default_pool": "bookkeeping",
}


DEAD_JOBS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob"}


def components(web_port: int, execution_port: int) -> tuple[Component, ...]:
    """Return what the keeper starts.

    The API that tasks talk to is a process apart from the one people talk to: in one process a
    statement that waits for SQLite's lock can block the very request that holds it.
    """
    return (
        Component("execution-api", ("api-server", "--apps", "execution", "--port", str(execution_port))),
        Component("api-server", ("api-server", "--apps", "core", "--port", str(web_port))),
        Component("scheduler", ("scheduler", "--skip-serve-logs")),
        Component("dag-processor", ("dag-processor",)),
        Component("triggerer", ("triggerer", "--skip-serve-logs")),
    )


def prepare(slots: dict[str, int]) -> None:
    """Bring the metadata database up to date, make pools and hosts' connections, forget earlier schedule ticks.

    ``slots`` by pool name. Nothing else may run on this database.
    """
    from airflow.models.dag import DagModel
    from airflow.models.pool import Pool
    from airflow.utils.db import check_and_run_migrations, initdb
    from airflow.utils.session import create_session
    from sqlalchemy import inspect, update

    with create_session() as session:
        empty = not inspect(session.get_bind()).has_table("dag_run")
    if empty:
        initdb()
    else:
        check_and_run_migrations()  # type: ignore[no-untyped-call]  # Airflow's own
    with create_session() as session:
        for name, count in slots.items():
            # A deferred training holds its slot: the work goes on although no worker waits for it.
            Pool.create_or_update_pool(
                name, slots=count, description=POOLS[name], include_deferred=name == "training", session=session
            )
        connections.make(Home.find(), session)
        # The stored tick may be hours old and the scheduler starts it unasked; the timetable gives a new one.
        session.execute(update(DagModel).values(next_dagrun=None, next_dagrun_create_after=None))


def run(name: str, arguments: list[str]) -> None:
    """Become component ``name``: ``airflow`` with ``arguments`` in this process."""
    if name in DEAD_JOBS:
        _end_dead(DEAD_JOBS[name])
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main

    main()  # type: ignore[no-untyped-call]  # Airflow's own


def _end_dead(job_type: str) -> None:
    """Mark earlier jobs of a component as failed, so that what they left is taken up at once.

    Airflow itself waits for half a minute of silence; here the platform's lock says that none lives.
    """
    from airflow._shared.timezones.timezone import utcnow
    from airflow.jobs.job import Job, JobState
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(
            update(Job)
            .where(Job.job_type == job_type, Job.state == JobState.RUNNING)
            .values(state=JobState.FAILED, end_date=utcnow())
        )
