"""One component of Airflow, or the preparation before all of them, as a process of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.platform import connections

DOOR_VARIABLE = "RINGRIFT_EDGE_DOOR"
"""Set in the process whose only visitors are hosts of role edge: it answers nothing else."""


@dataclass(frozen=True)
class Component:
    """``arguments``: those of the ``airflow`` command."""

    name: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    """Variables of its own; no secrets."""


POOLS = {
    "selfplay": "self-play and parity: the shards that may run at once",
    "training": "trainings: one at a time; a waiting training holds no slot of another pool",
    "evaluation": "gauntlets",
    "default_pool": "bookkeeping",
}


DEAD_JOBS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob"}


def components(web_port: int, execution_port: int, door: Component | None = None) -> tuple[Component, ...]:
    """Return what the keeper starts.

    The API that tasks talk to is a process apart from the one people talk to: in one process a
    statement that waits for SQLite's lock can block the very request that holds it. ``door``: the one that hosts of
    role edge talk to, when there are any.
    """
    return (
        *(() if door is None else (door,)),
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
    _prepare_edge()
    with create_session() as session:
        for name, count in slots.items():
            # What is deferred holds its slot: the work goes on, in a training or on a host, although no worker waits.
            deferred = name in ("selfplay", "evaluation", "training")
            Pool.create_or_update_pool(
                name, slots=count, description=POOLS[name], include_deferred=deferred, session=session
            )
        connections.make(Home.find(), session)
        # The stored tick may be hours old and the scheduler starts it unasked; the timetable gives a new one.
        session.execute(update(DagModel).values(next_dagrun=None, next_dagrun_create_after=None))


def edge_door(port: int, token_file: Path) -> Component:
    """Return the API server that hosts of role edge talk to: a process of its own, because its secret is another.

    Whoever has that secret can be an Edge worker; the sessions of people and the tokens of tasks are signed with the
    platform's own, which no host ever sees.
    """
    read = f"{sys.executable} -c \"print(open({str(token_file)!r}).read().strip(), end='')\""
    return Component(
        "edge-api",
        ("api-server", "--apps", "core", "--port", str(port)),
        (("AIRFLOW__API_AUTH__JWT_SECRET_CMD", read), (DOOR_VARIABLE, "1")),
    )


def _prepare_edge() -> None:
    """Make or migrate the Edge provider's tables, where it is used."""
    from airflow.configuration import conf

    if not conf.getboolean("edge", "api_enabled", fallback=False):
        return
    from airflow.providers.edge3.models.db import EdgeDBManager
    from airflow.utils.session import create_session

    with create_session() as session:
        manager = EdgeDBManager(session)  # type: ignore[no-untyped-call]  # the provider's own
        if not manager.check_migration():  # type: ignore[no-untyped-call]
            manager.initdb()


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
