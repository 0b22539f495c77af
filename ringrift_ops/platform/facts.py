"""What a running Airflow says of itself, for those who look at the whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations.control import Controls
from ringrift_ops.operations.incidents import Watch
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.metrics import exposition
from ringrift_ops.operations.status import Status, status
from ringrift_ops.operations.surroundings import AirflowFacts, Pool
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.keeper import read_state
from ringrift_ops.settings import Settings, config_named, secret_in

TAG = "ringrift"


def running_api(home: Home) -> Api | None:
    """Return the REST door of the platform that runs on ``home``, None when none does.

    In production no keeper of ours holds it up: ``RINGRIFT_AIRFLOW_URL`` and its password file name it.
    """
    installation = Installation(home)
    state = read_state(installation)
    if state is None:
        settings = Settings.load(home)
        if settings.airflow_url is None or settings.airflow_password_file is None:
            return None
        password = secret_in(settings.airflow_password_file, "RINGRIFT_AIRFLOW_PASSWORD_FILE")
        return Api(settings.airflow_url, USER, password)
    port = int(str(state["url"]).rsplit(":", 1)[1])
    return Api(port, USER, Secrets.of(installation).password)


def airflow_facts(home: Home) -> AirflowFacts | None:
    """Return how the Airflow of ``home`` stands, None when the platform does not run; raises ``ApiError``."""
    api = running_api(home)
    if api is None:
        return None
    monitor = api.monitor()
    components, heartbeats = seen(monitor)
    url = api.url
    if "-" in components.values():
        return AirflowFacts(url, components)
    dags = api.get("/dags", tags=TAG, limit=100)["dags"]
    pools = api.get("/pools", limit=100)["pools"]
    return AirflowFacts(
        url=url,
        components=components,
        paused={str(one["dag_id"]): bool(one["is_paused"]) for one in dags},
        next_runs={str(one["dag_id"]): _moment(one["next_dagrun_run_after"]) for one in dags},
        pools={str(one["name"]): Pool(int(one["slots"]), int(one["open_slots"])) for one in pools},
        heartbeats=heartbeats,
    )


def seen(monitor: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, datetime | None]]:
    """Return the status and the last heartbeat of each component from what Airflow's monitor says."""
    states = {name: str(one.get("status")) for name, one in monitor.items()}
    beats = {
        name: _moment(one[f"latest_{name}_heartbeat"])
        for name, one in monitor.items()
        if f"latest_{name}_heartbeat" in one
    }
    return states, beats


def controls() -> Controls:
    """Return what operators control: this home, and its Airflow when that runs."""
    home = Home.find()
    settings = Settings.load(home)
    return Controls(home, settings, Ledger.open(settings.ledger_url), running_api(home))


def watch() -> Watch:
    """Return whose alerts and incidents are looked at: this home."""
    home = Home.find()
    settings = Settings.load(home)
    return Watch(home, settings, Ledger.open(settings.ledger_url))


def metrics() -> str:
    """Return this home's figures in Prometheus' text format."""
    found = watch()
    return exposition(found.home, found.settings, found.ledger, airflow_facts(found.home))


def look(config: str | None = None) -> Status:
    """Return the status of this home (of one config), its logs brought up to date; raises ``UnknownConfigError``."""
    key = None if config is None else config_named(config).key
    home = Home.find()
    settings = Settings.load(home)
    ledger = Ledger.open(settings.ledger_url)
    write_logs(home, ledger)
    return status(home, settings, ledger, airflow_facts(home), key)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
