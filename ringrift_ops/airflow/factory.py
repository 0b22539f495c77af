"""One DAG per config, and those that look after the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AssetAny,
    BaseOperator,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
)

from ringrift_ops.airflow.assets import asset, watched_candidate
from ringrift_ops.airflow.explaining import explain
from ringrift_ops.airflow.operators import (
    EnoughGames,
    EvaluateAlerts,
    FinishGeneration,
    GenerationLease,
    JudgeNet,
    MendTroubles,
    OutsideNets,
    StageTask,
    TendHosts,
    ValidateDatasets,
)
from ringrift_ops.airflow.timetable import GenerationTimetable
from ringrift_ops.errors import GateError, NoDataError, UsageError
from ringrift_ops.settings import ALERTS, DATA, HOSTS, POOLS, REMEDIES, ConfigRow, Inventory, Settings
from ringrift_ops.stages.specs import Stage

ALERTS_DAG = "alerts"
CANDIDATES = "candidates"
DATA_VALIDATION = "data_validation"
HOSTS_DAG = "hosts"
REMEDIES_DAG = "remedies"
REMEDIES_SECONDS = 1_800

CURRICULUM_PRIORITY = "ringrift_ops.airflow.priority.CurriculumPriority"
"""By its name, under which the plugin registers it: Airflow 3.3.2 does not read an instance of a mapped task back."""

START = datetime(2020, 1, 1, tzinfo=UTC)
"""Older than any backfill; a run starts by a recent tick of the timetable or by somebody's wish."""

FINAL = ExceptionRetryPolicy([RetryRule(exception=[GateError, UsageError, NoDataError], action=RetryAction.FAIL)])
"""A gate's no, wrong usage and missing data stay what they are; only infrastructure is tried again."""


def build(settings: Settings, config: ConfigRow) -> DAG:
    """Return the DAG of one config; its id is the config's key."""
    key = config.key
    longest = max(settings.profile(key, name).task_timeout_seconds for name in settings.profiles)
    with DAG(
        dag_id=key,
        description=f"One generation of {config.board} with {config.players} players",
        doc_md=_describe(settings, config),
        schedule=GenerationTimetable(config.cron, ticks=settings.profile(key).schedule_ticks),
        start_date=START,
        catchup=False,
        tags=["ringrift", config.board, f"{config.players}p"],
        params=_params(settings),
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=5),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=5),
            "retry_policy": FINAL,
            "on_failure_callback": explain,
            "on_retry_callback": explain,
            "execution_timeout": timedelta(seconds=longest) + timedelta(minutes=10),
            "trigger_rule": "none_failed",
            "weight_rule": CURRICULUM_PRIORITY,
        },
    ) as dag:
        lease = GenerationLease(config=key, task_id="lease")
        selfplay = StageTask.partial(
            config=key,
            task_id="selfplay",
            stage="selfplay",
            pool=POOLS[Stage.SELFPLAY],
            trigger_rule="all_success",
            map_index_template="shard {{ task.shard }}",
        ).expand(shard=lease.output)
        steps = [
            _stage(key, Stage.PARITY, [asset("games", key)]),
            EnoughGames(config=key, task_id="games"),
            _stage(key, Stage.EXPORT, [asset("dataset", key)]),
            _stage(key, Stage.TRAIN, [asset("candidate", key)], **_queue(settings.training_queue)),
            _stage(key, Stage.GAUNTLET),
            _stage(key, Stage.PROMOTE, [AssetAlias(f"promotion/{key}")]),
            _stage(key, Stage.DISTRIBUTE, inlets=[asset("canonical", key)]),
        ]
        before: Any = selfplay
        for step in steps:
            before >> step
            before = step
        finish = FinishGeneration(config=key, task_id="finish", trigger_rule="all_done_setup_success")
        lease.as_setup()  # type: ignore[no-untyped-call]  # Airflow's own
        before >> finish.as_teardown(setups=lease)
    return dag


def caretakers(settings: Settings, inventory: Inventory) -> dict[str, Callable[[], DAG]]:
    """Return by name how to make the DAGs that look after what the configs' own do not: see each."""
    made: dict[str, Callable[[], DAG]] = {
        CANDIDATES: partial(build_candidates, settings),
        DATA_VALIDATION: partial(build_data_validation, settings),
        ALERTS_DAG: partial(
            _caretaker, ALERTS_DAG, "Evaluates alerts; opens, escalates and ends incidents; tells (R8, R46)",
            ALERTS.cron, ALERTS.lease_seconds, EvaluateAlerts, "evaluate",
        ),
        REMEDIES_DAG: partial(
            _caretaker, REMEDIES_DAG,
            "Mends stale leases, silent jobs, wrong links and deliveries, as the profiles let it",
            REMEDIES.cron, REMEDIES_SECONDS, MendTroubles, "mend",
        ),
    }  # fmt: skip
    if inventory:
        made[HOSTS_DAG] = partial(
            _caretaker, HOSTS_DAG,
            "Ends what nobody owns on hosts, fetches what they made, brings them the newest nets",
            HOSTS.tend_cron, HOSTS.tend_seconds + 300, TendHosts, "tend",
        )  # fmt: skip
    return made


def build_candidates(settings: Settings) -> DAG:
    """Return the DAG that takes nets which were trained outside a run through gauntlet, promotion and distribution.

    It is started by the assets ``candidate/<config>``, whose watchers look for such nets in the ledger, and starts the
    config's own DAG for those stages, so that such a net stands in the same line and before the same gate.
    """
    with DAG(
        dag_id=CANDIDATES,
        description="Judges nets that were trained outside a run",
        schedule=AssetAny(*(watched_candidate(key) for key in settings.configs)),
        is_paused_upon_creation=False,  # it does nothing by itself, and a net that waits for a judge should find one
        start_date=START,
        catchup=False,
        tags=["ringrift"],
        default_args={"retries": 3, "retry_delay": timedelta(seconds=5), "execution_timeout": timedelta(minutes=10)},
    ) as dag:
        nets = OutsideNets(task_id="nets")
        JudgeNet.partial(task_id="judge").expand_kwargs(nets.output)
    return dag


def build_data_validation(settings: Settings) -> DAG:
    """Return the weekly DAG that looks through every config's newest dataset (R36)."""
    with DAG(
        dag_id=DATA_VALIDATION,
        description="Looks through every config's newest dataset, once a week",
        schedule=DATA.cron,
        start_date=START,
        catchup=False,
        tags=["ringrift"],
        default_args={"retries": 3, "retry_policy": FINAL, "execution_timeout": timedelta(hours=1)},
    ) as dag:
        ValidateDatasets(task_id="validate")
    return dag


def _caretaker(dag_id: str, description: str, cron: str, seconds: float, task: type[BaseOperator], task_id: str) -> DAG:
    """Return a DAG of one task that looks again and again; it is on from the start, and no run of it is tried again."""
    with DAG(
        dag_id=dag_id,
        description=description,
        schedule=cron,
        is_paused_upon_creation=False,
        start_date=START,
        catchup=False,
        max_active_runs=1,
        tags=["ringrift"],
        default_args={"retries": 0, "execution_timeout": timedelta(seconds=seconds)},
    ) as dag:
        task(task_id=task_id)
    return dag


def _stage(config: str, stage: Stage, outlets: Sequence[Asset | AssetAlias] = (), **rest: Any) -> StageTask:
    pool = POOLS.get(stage, "default_pool")
    return StageTask(config=config, task_id=stage.value, stage=stage.value, pool=pool, outlets=list(outlets), **rest)


def _queue(name: str | None) -> dict[str, str]:
    return {} if name is None else {"queue": name}


def _params(settings: Settings) -> dict[str, Param]:
    stages = [stage.value for stage in Stage]
    return {
        "profile": Param(
            settings.default_profile,
            enum=list(settings.profiles),
            description="how much of everything: tiny for tests, quick for a laptop, standard for a GPU host",
        ),
        "stages": Param(
            stages,
            type="array",
            items={"type": "string"},
            examples=stages,
            description="the stages of this run; the others are skipped, and what they need must exist",
        ),
        "force": Param(
            False,
            type="boolean",
            description="do anew what this generation has already, without waiting for new games or the cooldown; "
            "parity and the gate are never passed over",
        ),
        "priority": Param(
            "normal",
            enum=["normal", "high"],
            description="high: this run's generation has its turn before every other of the config that waits",
        ),
        "games": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            description="how many games this run plays; else the profile's",
        ),
        "candidate": Param(
            None,
            type=["null", "string"],
            pattern="^[0-9a-f]{64}$",
            description="sha256 of a net trained elsewhere, for a run that starts with the gauntlet",
        ),
    }


def _describe(settings: Settings, config: ConfigRow) -> str:
    gate = config.gate
    return f"""\
### {config.key}: RingRift on {config.board}, {config.players} players

One run makes one generation: self-play, proof by a second rule engine, dataset, training, gauntlet, promotion on
evidence, distribution. Generations of a config follow each other in the order of their logical dates; a run that has
to wait does so in `lease`. Clearing any task is safe: what exists is taken up, what runs is adopted.

| opponent | win rate to reach (95 % lower bound) |
|---|---|
| random | {gate.random:.2f} |
| heuristic | {gate.heuristic:.2f} |
| previous net | {gate.previous:.2f}, sequential test |

Schedule: `{config.cron}` UTC in the profile `standard`, never a missed tick; in `quick` and `tiny` backfills only.
Games are cut at {config.max_moves} moves. Profile of this installation: `{settings.default_profile}`.
"""
