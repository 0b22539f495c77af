"""The tasks of a generation's DAG. All that they do is in ``work``; here is only what Airflow needs to know.

Any of them may be cleared at any time: a stage that is done returns its result, a job that runs is adopted, and the
lease is asked for again (in order) when it was given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, BaseSensorOperator, get_current_context
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from ringrift_ops.airflow.assets import asset
from ringrift_ops.airflow.links import HostLink
from ringrift_ops.airflow.triggers import GamesTrigger, JobTrigger, LeaseTrigger, LevelTrigger, revived
from ringrift_ops.errors import InfrastructureError
from ringrift_ops.stages.specs import Stage

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ringrift_ops.airflow.work import Work
    from ringrift_ops.hosts.jobs import JobStatus

LEASE_WAIT = timedelta(days=30)
"""A backfill of many dates waits for its turn; what ends the waiting is the run being given up."""
DEFERRED_MARGIN = timedelta(minutes=5)
"""A job ends itself at its own limit; the task waits a little longer for it."""

FRONT = datetime(2020, 1, 1, tzinfo=UTC)
"""The place in the line of a run with priority `high`: before every other that waits."""

JUDGING = (Stage.GAUNTLET.value, Stage.PROMOTE.value, Stage.DISTRIBUTE.value)
"""The stages of a run for a net that exists already."""

ASSETS: dict[Stage, tuple[str, tuple[str, ...]]] = {
    Stage.PARITY: ("games", ("report", "checked")),
    Stage.EXPORT: ("dataset", ("dataset", "path", "games", "samples")),
    Stage.TRAIN: ("candidate", ("weights", "path", "dataset", "parent", "validation_loss")),
    Stage.PROMOTE: ("canonical", ("canonical", "previous", "reason")),
}
"""The asset that a stage renews, and which fields of its result the asset event tells."""


class UntendedHostError(InfrastructureError):
    """A host needs somebody who mends it."""


class OfGeneration(BaseOperator):
    """A task of the generation of its DAG run."""

    def __init__(self, *, config: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.config = config

    def run_of(self, context: Context) -> dict[str, Any]:
        """Return the arguments of ``Work.of_run`` for this DAG run, as plain JSON."""
        run, params = context["dag_run"], context["params"]
        run_after = FRONT if params.get("priority") == "high" else run.run_after
        return {
            "config": self.config,
            "logical_date": None if run.logical_date is None else run.logical_date.isoformat(),
            "run_id": run.run_id,
            "run_after": run_after.isoformat(),
            "profile": params["profile"],
            "candidate": params.get("candidate"),
            "games": params.get("games"),
        }

    def work(self, context: Context) -> Work:
        from ringrift_ops.airflow.work import Work

        return Work.of_run(**revived(self.run_of(context)))

    def stages(self, context: Context) -> list[Stage]:
        """Return the stages that this run was asked for, in the pipeline's order."""
        from ringrift_ops.settings import stage_named

        asked = {stage_named(name) for name in context["params"]["stages"]}
        return [stage for stage in Stage if stage in asked]

    def wait_for_lease(self, context: Context, method: str) -> NoReturn:
        """Defer until the generation has its lease, then go on with ``method``."""
        self.log.info("waiting for the generation lease of %s", self.config)
        self.wait_for(LeaseTrigger(self.run_of(context)), method, LEASE_WAIT)

    def wait_for(self, trigger: LevelTrigger, method: str, timeout: timedelta) -> NoReturn:
        """Defer until ``trigger`` fires, then go on with ``method``."""
        self.defer(trigger=trigger, method_name=method, timeout=timeout)


class GenerationLease(BaseSensorOperator, OfGeneration):
    """Waits for the config's lease, one generation after the other; returns the shards of self-play to do."""

    def execute(self, context: Context) -> list[int]:
        return self.granted(context)

    def granted(self, context: Context, event: Mapping[str, Any] | None = None) -> list[int]:
        """Return the shards; asks for the lease itself, whatever the trigger saw."""
        work = self.work(context)
        lease = work.grant()
        if lease is None:
            self.wait_for_lease(context, "granted")
        generation, stages = work.plan.generation, self.stages(context)
        self.log.info(
            "generation %s of %s (key %s): parent %s, token %s",
            generation.number, self.config, generation.key, generation.parent or "none", lease.token,
        )  # fmt: skip
        if context["params"]["force"]:
            work.forget(stages, lease.token, context["dag_run"].run_id)
        return work.plan.shards if Stage.SELFPLAY in stages else []

    def on_kill(self) -> None:
        """Leave the line."""
        self.work(get_current_context()).finish([])


class EnoughGames(BaseSensorOperator, OfGeneration):
    """Waits until the config has games enough to train on, whoever made them."""

    def execute(self, context: Context) -> dict[str, int]:
        return self.enough(context)

    def enough(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Return how many rows there are and how many of them are new; asks itself, whatever the trigger saw."""
        stages, params = self.stages(context), context["params"]
        if Stage.EXPORT not in stages:
            raise AirflowSkipException("this run was not asked for an export")
        work = self.work(context)
        if work.taken_up(Stage.EXPORT) is not None:
            return {}
        # Someone who asks for certain stages, or forces them, wants them now: only the minimum counts.
        fresh = Stage.SELFPLAY in stages and not params["force"]
        found = work.enough_games(fresh=fresh)
        if found is not None:
            work.goes_on(GamesTrigger.condition)
            return found
        lease = work.grant()
        if lease is None:
            self.wait_for_lease(context, "enough")
        self.log.info("waiting for games: %s rows are the minimum", work.profile.window_minimum_rows)
        work.waits_for(GamesTrigger.condition)
        trigger = GamesTrigger(self.run_of(context), token=lease.token, fresh=fresh)
        return self.wait_for(trigger, "enough", timedelta(seconds=work.profile.task_timeout_seconds))


class StageTask(OfGeneration):
    """Does one stage (one shard of self-play) and returns its result."""

    def __init__(self, *, stage: str, shard: int = 0, **rest: Any) -> None:
        super().__init__(**rest)
        self.stage = Stage(stage)
        self.shard = shard
        self.conn_id: str | None = None
        self.failed: set[str] = set()
        """Hosts on which a second beginning of the shard came to nothing."""

    operator_extra_links = (HostLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        return self.leased(context)

    def leased(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the stage's result, done under the generation's lease unless it exists already."""
        work = self.work(context)
        self._skip_unless_asked(context, work)
        result = work.taken_up(self.stage, self.shard)
        if result is not None:
            self.log.info("taking up the result that exists")
        else:
            lease = work.grant()
            if lease is None:
                self.wait_for_lease(context, "leased")
            result = self.do(context, work, lease.token)
        self._announce(context, work, result)
        return result

    def do(self, context: Context, work: Work, token: int) -> dict[str, Any]:
        """Run the stage's job to its end and return the verified result.

        Nobody waits at it for a training, nor for a job on a host: the task defers until there is something to decide.
        """
        job_id = self.submit(work, token)
        self.tell_where(context, work)
        if self.stage is not Stage.TRAIN and work.host(self.stage, self.shard) is None:
            work.follow(self.stage, token, self.log.info, self.shard)
            return work.complete(self.stage, token, self.shard)
        status = work.look(self.stage, self.shard)
        self._end_stalled(work, status)
        if status.over:
            self._tell(work, status)
            return work.complete(self.stage, token, self.shard)
        if self.stage is Stage.TRAIN:
            work.waits_for(JobTrigger.condition)
        self.log.info("job %s, attempt %s: waiting for its end", job_id, status.attempt)
        limit = timedelta(seconds=work.profile.task_timeout_seconds) + DEFERRED_MARGIN
        trigger = JobTrigger(
            self.run_of(context), stage=self.stage.value, shard=self.shard, token=token, failed=sorted(self.failed)
        )
        return self.wait_for(trigger, "over", limit)

    def over(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the verified result of the job, or wait on; looks itself, whatever the trigger saw."""
        work = self.work(context)
        if self.stage is Stage.TRAIN:
            work.goes_on(JobTrigger.condition)
        result = work.taken_up(self.stage, self.shard)
        if result is None:
            lease = work.grant()
            if lease is None:
                self.wait_for_lease(context, "leased")
            status = self._decided(work, lease.token, (event or {}).get("failed", ()))
            self._end_stalled(work, status)
            if not status.over:
                return self.leased(context)
            self._tell(work, status)
            self.tell_where(context, work)
            result = work.complete(self.stage, lease.token, self.shard)
        self._announce(context, work, result)
        return result

    def _decided(self, work: Work, token: int, failed: Iterable[str]) -> JobStatus:
        """Return how the job stands; a shard that crawls is begun a second time first, or stays with one of its two."""
        status = work.look(self.stage, self.shard)
        twice = work.twice(self.stage, self.shard, token, self.log.info, lambda host: self.call(work, host), failed)
        if twice is not None:
            status = twice.look(status)
            self.failed = twice.failed
        return status

    def _end_stalled(self, work: Work, status: JobStatus) -> None:
        if work.stalled(self.stage, status, self.shard):
            work.end_stalled(self.stage, self.shard)

    def _tell(self, work: Work, status: JobStatus) -> None:
        if status.attempt:  # else its host is lost, and the log with it
            for line in work.said(self.stage, self.shard):
                self.log.info(line)

    def submit(self, work: Work, token: int) -> str:
        """Make sure that the stage's job is under way and return its id; a host of role edge is called by a DAG run."""
        job_id = work.submit(self.stage, token, self.shard)
        self.call(work, work.host(self.stage, self.shard))
        return job_id

    def call(self, work: Work, host: str | None) -> None:
        """Call a host of role edge for the job that is wanted of it; nothing for any other."""
        edge = work.hosting.edge(host)
        if edge is not None:
            from ringrift_ops.airflow.edge import summon

            run_id = summon(edge, work.job_id(self.stage, self.shard))
            self.log.info("carried by %s, run %s", edge.name, run_id)

    def tell_where(self, context: Context, work: Work) -> None:
        """Show the host of the job, while it runs: its connection as a link, and the job in the XCom ``job``."""
        host, job_id = work.host(self.stage, self.shard), work.job_id(self.stage, self.shard)
        if host is not None and work.hosting.edge(host) is None:
            from ringrift_ops.platform.connections import connection_id

            self.conn_id = connection_id(host)
            place = work.jobs(self.stage, self.shard).place(job_id)
            told = {"host": host, "conn_id": self.conn_id, "job_id": job_id, "place": place}
            context["ti"].xcom_push(key="job", value=told)
            (link,) = self.operator_extra_links
            context["ti"].xcom_push(key=link.xcom_key, value=link.get_link(self, ti_key=None))

    def on_kill(self) -> None:
        """End the job: the task was marked, cleared, or ran over its time."""
        self.work(get_current_context()).end(self.stage, self.shard)

    def _skip_unless_asked(self, context: Context, work: Work) -> None:
        if self.stage not in self.stages(context):
            raise AirflowSkipException(f"this run was not asked for {self.stage.value}")
        if self.stage is Stage.DISTRIBUTE:
            promoted = work.taken_up(Stage.PROMOTE)
            if promoted is not None and not promoted["promoted"]:
                raise AirflowSkipException(f"nothing was promoted: {promoted['reason']}")

    def _announce(self, context: Context, work: Work, result: Mapping[str, Any]) -> None:
        """Tell what was made in the event of the stage's asset."""
        if self.stage not in ASSETS or (self.stage is Stage.PROMOTE and not result["promoted"]):
            return
        kind, fields = ASSETS[self.stage]
        told = {"generation": work.generation.id, **{name: result[name] for name in fields}}
        if self.stage is Stage.PROMOTE:
            context["outlet_events"][self.outlets[0]].add(asset(kind, self.config), extra=told)
        else:
            context["outlet_events"][self.outlets[0]].extra = told


class FinishGeneration(OfGeneration):
    """Closes the generation, whatever became of it, and gives the lease to the next."""

    def execute(self, context: Context) -> dict[str, Any]:
        found = self.work(context).finish(self.stages(context))
        return {
            "generation": found.id,
            "number": found.number,
            "outcome": None if found.outcome is None else found.outcome.value,
            "reason": found.reason,
        }


class OutsideNets(BaseOperator):
    """Returns (config, weights) of the nets that the run's asset events tell of and that no run has made."""

    def execute(self, context: Context) -> list[dict[str, str]]:
        nets: dict[str, str] = {}
        for events in context["triggering_asset_events"].values():
            for event in events:
                told = event.extra.get("payload", event.extra)
                if told.get("generation") is None and "weights" in told:
                    nets[told["weights"]] = event.asset.name.partition("/")[2]
        return [{"config": config, "weights": weights} for weights, config in nets.items()]


class ValidateDatasets(BaseOperator):
    """Looks through every config's newest dataset; fails when one is unfit, and says which and what to do."""

    def execute(self, context: Context) -> dict[str, Any]:
        from ringrift_ops.home import Home
        from ringrift_ops.ledger import Ledger
        from ringrift_ops.operations.datasets import require_valid, validate_newest

        reports = validate_newest(Home.find(), Ledger.open())
        for config, one in reports.items():
            self.log.info("%s: %s", config, one.statistics)
            for issue in one.issues:
                self.log.warning("%s: %s: %s; %s", config, issue.check, issue.message, issue.fix)
        require_valid(reports)
        return {config: one.statistics["samples"] for config, one in reports.items()}


class EvaluateAlerts(BaseOperator):
    """Looks at every rule once: incidents open, escalate and end, and who has to be told is told."""

    def execute(self, context: Context) -> dict[str, Any]:
        from ringrift_ops.home import Home
        from ringrift_ops.operations.by import By
        from ringrift_ops.operations.incidents import look
        from ringrift_ops.platform.facts import airflow_facts, watch

        found = look(watch(), airflow_facts(Home.find()), By.here("", "airflow").actor)
        for alert in found.firing:
            self.log.warning("%s: %s; %s; %s", alert.rule.value, alert.summary, alert.evidence, alert.fix)
        for one in found.notifications:
            if one.error is not None:
                self.log.warning("%s was not told of incident %s: %s", one.target, one.incident, one.error)
        return {
            "firing": [alert.key for alert in found.firing],
            "opened": [one.id for one in found.opened],
            "escalated": [one.id for one in found.escalated],
            "ended": [one.id for one in found.ended],
        }


class TendHosts(BaseOperator):
    """Looks after every host; fails when one has an error that does not pass by itself, as being away does."""

    def execute(self, context: Context) -> dict[str, Any]:
        from ringrift_ops.home import Home
        from ringrift_ops.hosts.errors import HostDroppedError, HostHangsError, HostRefusedError
        from ringrift_ops.ledger import Ledger
        from ringrift_ops.operations.by import By
        from ringrift_ops.operations.tending import tend

        away = {kind.__name__ for kind in (HostHangsError, HostDroppedError, HostRefusedError)}
        reports = tend(Home.find(), Ledger.open(), By.here("every few minutes", "airflow"))
        for one in reports:
            if one.error is None:
                self.log.info("%s: %s", one.host, one.facts)
            else:
                self.log.warning("%s", one.error)
        wrong = [one.error for one in reports if one.error is not None and one.cause not in away]
        if wrong:
            raise UntendedHostError("; ".join(wrong))
        return {one.host: one.facts if one.error is None else {"error": one.error} for one in reports}


class MendTroubles(BaseOperator):
    """Mends what the profiles let be mended around trainings, and returns what became of each trouble."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from dataclasses import asdict

        from ringrift_ops.operations.remedies import mend
        from ringrift_ops.platform.facts import controls

        reports = mend(controls())
        for one in reports:
            self.log.info("%s of %s: %s: %s %s", one.kind, one.target, one.reason, one.state, one.action)
        return [asdict(one) | {"verified": [line.model_dump() for line in one.verified]} for one in reports]


class JudgeNet(BaseOperator):
    """Starts the run of a config's DAG that judges a net; the same net again starts none.

    Airflow's own operator for this takes a quarter of a second to import, in every task process.
    """

    def __init__(self, *, config: str, weights: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.config = config
        self.weights = weights

    def execute(self, context: Context) -> NoReturn:
        raise DagRunTriggerException(
            trigger_dag_id=self.config,
            dag_run_id=f"candidate__{self.weights[:16]}",
            conf={"stages": list(JUDGING), "candidate": self.weights},
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=["success"],
            failed_states=["failed"],
            poke_interval=60,
            deferrable=False,
        )
