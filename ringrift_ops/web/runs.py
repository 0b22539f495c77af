"""Runs that are asked for from elsewhere (R63): started, looked at, their games fetched. Served by the Edge door."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import Field

from ringrift_ops.home import Home
from ringrift_ops.hosts.exchange import ASKER
from ringrift_ops.ledger import Generation, GenerationState, Ledger
from ringrift_ops.settings import Settings, config_named, profile_named
from ringrift_ops.stages.specs import SelfplayResult, Stage
from ringrift_ops.store import sha256_file
from ringrift_ops.web.exchange import VERSION, Body, check_token

RUN_ID = r"^p2p__[a-z0-9-]{8,64}$"


class RunAsked(Body):
    """Self-play of one config; ``games`` None: as many as the profile says, ``profile`` None: the leader's."""

    config: str
    run_id: Annotated[str, Field(pattern=RUN_ID)]
    profile: str | None = None
    games: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


def add_runs(app: FastAPI, secret: Callable[[], str], home: Callable[[], Home]) -> None:
    """Add the routes of runs to the exchange; they want a token of :data:`ASKER`."""
    at = f"/{VERSION}/runs"

    @app.post(at)
    def start(request: Request, body: RunAsked) -> dict[str, Any]:
        check_token(request, ASKER, secret())
        config = config_named(body.config).key
        profile = profile_named(body.profile) if body.profile else Settings.load(home()).default_profile
        conf: dict[str, Any] = {"stages": [Stage.SELFPLAY.value], "profile": profile, "games": body.games}
        return {"config": config, "run_id": trigger(config, body.run_id, conf), "profile": profile}

    @app.get(f"{at}/{{config}}/{{run_id}}")
    def state(request: Request, config: str, run_id: str) -> dict[str, Any]:
        check_token(request, ASKER, secret())
        return run_state(home(), config_named(config).key, run_id)

    @app.get(f"{at}/{{config}}/{{run_id}}/batches/{{shard}}")
    def batch(request: Request, config: str, run_id: str, shard: int) -> FileResponse:
        check_token(request, ASKER, secret())
        found = dict(_batches(home(), _generation(home(), config_named(config).key, run_id)))
        if shard not in found:
            raise HTTPException(404, f"{run_id} has no games of shard {shard}")
        return FileResponse(home().resolve(found[shard].path), media_type="application/octet-stream")


def trigger(config: str, run_id: str, conf: dict[str, Any]) -> str:
    """Start a run of a config's DAG, once, however often it is asked for. Raises 409 where the DAG is paused."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound, DagRunAlreadyExists
    from airflow.models.dag import DagModel
    from airflow.utils.types import DagRunTriggeredByType

    model = DagModel.get_current(config)
    if model is None:
        raise HTTPException(409, f"the leader has not read its DAG {config} yet; try again in a minute")
    if model.is_paused:
        raise HTTPException(409, f"the DAG {config} is paused on the leader: airflow dags unpause {config} there")
    try:
        trigger_dag(config, triggered_by=DagRunTriggeredByType.REST_API, run_id=run_id, conf=conf)
    except DagRunAlreadyExists:
        return run_id
    except DagNotFound as error:
        raise HTTPException(409, f"the leader has not read its DAG {config} yet; try again in a minute") from error
    return run_id


def run_state(home: Home, config: str, run_id: str) -> dict[str, Any]:
    """Return {"state", "phase_status", "games_completed", "games_target", "workers", "reason", "batches"} of a run."""
    from airflow.models.dagrun import DagRun

    runs = DagRun.find(dag_id=config, run_id=run_id)
    if not runs:
        raise HTTPException(404, f"the leader has no run {run_id} of {config}")
    generation = _generation(home, config, run_id)
    over = str(runs[0].state) in ("success", "failed")
    stages = [] if generation is None else _ledger(home).stage_runs(generation.id, Stage.SELFPLAY.value)
    return {
        "state": str(runs[0].state),
        "phase_status": _status(generation, stages, over=over),
        "games_completed": sum(SelfplayResult.model_validate(one.result).games for one in stages if one.result),
        "games_target": sum(int(one.spec["games"]) for one in stages) or None,
        "workers": {f"shard {one.shard}": {"host": one.host, "state": one.state} for one in stages},
        "reason": None if generation is None else generation.reason,
        "batches": [
            {"shard": shard, "games": batch.games, "sha": sha256_file(home.resolve(batch.path))}
            for shard, batch in (_batches(home, generation) if over else [])
        ],
    }


def _status(generation: Generation | None, stages: list[Any], *, over: bool) -> str:
    if over:
        return "completed" if stages and all(one.state == "done" for one in stages) else "failed"
    waits = generation is None or generation.state is GenerationState.WAITING
    return "waiting" if waits or not stages else "running"


def _batches(home: Home, generation: Generation | None) -> list[tuple[int, SelfplayResult]]:
    if generation is None:
        return []
    runs = _ledger(home).stage_runs(generation.id, Stage.SELFPLAY.value)
    return [(run.shard, SelfplayResult.model_validate(run.result)) for run in runs if run.state == "done"]


def _generation(home: Home, config: str, run_id: str) -> Generation | None:
    return next((one for one in _ledger(home).generations(config) if one.run_id == run_id), None)


def _ledger(home: Home) -> Ledger:
    return Ledger.open(Settings.load(home).ledger_url)
