"""What `make production-check` does and looks at, in order. Each step is a row of the table at its end."""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from ringrift_ops.errors import ExitCode
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import Mirror
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Generation, GenerationState
from ringrift_ops.platform.processes import memory_of
from ringrift_ops.stages.specs import ParityResult, SelfplayResult
from ringrift_ops.store import sha256_file
from tests.production import compose
from tests.production.container import Container
from tests.production.stack import LOGS, CheckError, Stack, stack, until

CONFIGS = ("hex8_2p", "square8_2p")
GAMES = 600
SETTINGS = json.dumps(
    {
        "profiles": {
            "tiny": {
                "first_games": GAMES,
                "first_simulations": 4,
                "epochs": 4,
                "checkpoint_every_steps": 20,
                "gauntlet_simulations": 2,
                "mirror_games": 0,
                "cap": 150,
            }
        },
        # A gate that any net passes which has learnt a little: one of them has to be promoted and reach the Edge host.
        "configs": {CONFIGS[0]: {"gate": {"random": 0.01, "heuristic": 0.0001}}},
    }
)
EDGE, EDGE_CONFIG, EDGE_GAMES = "edge", "square8_3p", 60
"""The host of the profile edge, and what is played on it once it has joined."""
INVENTORY = f"hosts:\n  {EDGE}:\n    role: edge\n    work: selfplay\n    max_parallel_jobs: 2\n"
CHANGES = {
    "COMPOSE_PROFILES": "gpu,edge,tls,tensorboard,backup",
    "AIRFLOW_EXECUTOR": "CeleryExecutor,airflow.providers.edge3.executors.EdgeExecutor",
    "EDGE_ENABLED": "True",
    "EDGE_NAME": EDGE,
    "RINGRIFT_PROFILE": "tiny",
    "RINGRIFT_TRAINING_QUEUE": "gpu",
    "SCHEDULERS": "2",
    "CPU_WORKERS": "2",
    "CPU_CONCURRENCY": "3",
    "SELFPLAY_SLOTS": "4",
    "AIRFLOW_API_WORKERS": "1",
}
"""What this check's .env says other than .env.example."""

AIRFLOW = (
    "edge-worker",
    "edge-api",
    "worker-cpu",
    "worker-gpu",
    "triggerer",
    "dag-processor",
    "scheduler",
    "api-server",
)
"""What is stopped before a restore or an upgrade."""

RUN_SECONDS = 1_800.0
KILL_SECONDS = 600.0


@dataclass
class Report:
    """The rows of the table."""

    rows: list[tuple[str, str, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def step(self, what: str, look: Callable[[], str]) -> None:
        """Do a step; one that fails is a row as well, and what follows is still looked at."""
        begun = time.monotonic()
        try:
            result = look()
        except CheckError as error:
            self.wrong.append(what)
            result = f"WRONG: {error}"
        seconds = time.monotonic() - begun
        self.rows.append((what, result, seconds))
        print(f"== {what}: {result} ({seconds:.0f} s)", flush=True)

    def table(self) -> Table:
        table = Table(title="make production-check", title_justify="left")
        for heading in ("step", "result"):
            table.add_column(heading, overflow="fold")
        table.add_column("seconds", justify="right")
        for what, result, seconds in self.rows:
            table.add_row(what, result, f"{seconds:.0f}")
        return table


def main() -> int:
    """Run the whole check; return 0, or 4 after saying what is wrong (logs: ``.ringrift/production-check``)."""
    report = Report()
    try:
        with stack(CHANGES, SETTINGS, later=frozenset({"edge-worker"})) as made:
            _check(made, report)
    except CheckError as error:
        report.wrong.append(str(error))
    Console().print(report.table())
    if report.wrong:
        print(f"wrong: {'; '.join(report.wrong)}\nlogs: {LOGS}", file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)
    return int(ExitCode.DONE)


def _check(made: Stack, report: Report) -> None:
    made.build()
    made.up()
    runs = _begin(made)
    report.step("kill -9 of a worker in the middle of a self-play", lambda: _kill_worker(made))
    report.step("kill -9 of a scheduler", lambda: _kill_scheduler(made))
    report.step("every service is healthy", lambda: _healthy(made))
    report.step("no secret in a command line or an environment", lambda: _no_secret_is_shown(made))
    report.step("what runs is what the file says", lambda: _as_the_file_says(made))
    for config, run in runs.items():
        report.step(f"{config} is over", lambda config=config, run=run: _finish(made, config, run))
    for config in CONFIGS:
        report.step(f"{config}: nothing doubled", lambda config=config: _nothing_doubled(made, config))
    report.step("an Edge host joins and does its part", lambda: _edge(made))
    report.step("no secret is shown on it either", lambda: _no_secret_is_shown(made))
    report.step("and it runs what the file says", lambda: _as_the_file_says(made))
    report.step("ringrift status in a worker", lambda: _status(made))
    report.step("TLS in front of both doors", lambda: _tls(made))
    report.step("memory", lambda: ", ".join(f"{name} {size}" for name, size in _memory(made).items()))
    report.step("backup, loss of both databases and a net, restore", lambda: _restored(made, runs))


def _healthy(made: Stack) -> str:
    made.wait_healthy(made.long_lived)
    return f"{len(made.long_lived)} containers, by the file's own commands"


def _status(made: Stack) -> str:
    said = _done(made.one("worker-cpu").execute(["ringrift", "status", "--json"], 300), "ringrift status")
    if "platform not running" in said:
        raise CheckError("ringrift status does not find Airflow by RINGRIFT_AIRFLOW_URL")
    return "exit code 0, Airflow found by RINGRIFT_AIRFLOW_URL"


def _tls(made: Stack) -> str:
    """Go in by Caddy, trusting the authority that it made for itself: log in, read, and be refused as elsewhere."""
    authority = made.engine.volume("caddy") / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    trusted = ssl.create_default_context(cafile=str(authority))
    name = compose.example()["RINGRIFT_DOMAIN"]

    def ask(method: str, path: str, port: int = 443, token: str = "", **more: Any) -> httpx.Response:
        headers = {"Host": name if port == 443 else f"{name}:{port}"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        address = f"https://{made.engine.addresses['caddy']}:{port}{path}"
        try:
            return caller.request(method, address, headers=headers, extensions={"sni_hostname": name}, **more)
        except httpx.HTTPError as error:
            raise CheckError(f"{method} {address}: {error}; {made.words(made.one('caddy'))}") from error

    with httpx.Client(verify=trusted, timeout=60.0) as caller:
        _exactly(ask("GET", "/ringrift/status").status_code, 401, "status without a login")
        login = {"username": "admin", "password": made.secret("admin_password")}
        token = ask("POST", "/auth/token", json=login).json()["access_token"]
        _exactly(set(ask("GET", "/ringrift/status", token=token).json()["configs"]) >= set(CONFIGS), True, "status")
        lacking = ask("POST", "/ringrift/pipeline/start", token=token, json={}).status_code
        _exactly(lacking, 422, "a change without its fields")
        _exactly(ask("GET", "/edge_worker/v1/health", 8443).status_code, 200, "health of the Edge door")
        other = ask("GET", "/api/v2/dags", 8443, token).status_code
        if other < 400:
            raise CheckError(f"the Edge door answers {other} to what is not for Edge workers")
    return "443: login and status; 8443: Edge workers and nothing else; certificates by Caddy's own authority"


def _exactly(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise CheckError(f"{what}: {found!r}, not {wanted!r}")


# --- what runs -----------------------------------------------------------------------------------------


def _processes(container: Container) -> list[int]:
    """The pids (as the check sees them) of all that runs in a container."""
    try:
        space = Path(f"/proc/{container.init}/ns/pid").readlink()
    except FileNotFoundError:
        raise CheckError(f"{container.name} has ended: {container.log.read_text()[-500:]}") from None
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "pid").readlink() == space:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _no_secret_is_shown(made: Stack) -> str:
    secrets = [path.read_bytes() for path in made.engine.secrets.iterdir()]
    looked = 0
    for container in made.long_lived:
        for pid in _processes(container):
            try:
                shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:  # ended meanwhile
                continue
            looked += 1
            if any(secret in shown for secret in secrets):
                raise CheckError(f"{container.name}: a secret stands in the command line or environment of {pid}")
    return f"{looked} processes, {len(secrets)} secrets"


def _as_the_file_says(made: Stack) -> str:
    """Compare the first process of every container with the file: command, variables, user."""
    for container in made.long_lived:
        shown = Path(f"/proc/{container.init}/environ").read_bytes().decode().split("\0")
        variables = dict(line.split("=", 1) for line in shown if "=" in line)
        for name, value in container.engine.compose.environment(container.service).items():
            if container.service.image != "postgres":
                _exactly(variables.get(name), value, f"{container.name}: {name}")
        if container.service.is_ours:
            command = Path(f"/proc/{container.init}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
            wanted = [*compose.image_entrypoint(), *container.service.command]
            _exactly(command, wanted, f"{container.name}: command")
            uid = int(Path(f"/proc/{container.init}/status").read_text().split("Uid:")[1].split()[0])
            _exactly(uid, compose.image_user()[1], f"{container.name}: user")
    return "commands, variables and users are equal"


def _memory(made: Stack) -> dict[str, str]:
    """{container: memory of its processes, shared pages counted in proportion}."""
    return {one.name: f"{memory_of(_processes(one)) / 2**20:.0f} MB" for one in made.long_lived}


# --- the generations -----------------------------------------------------------------------------------


def _begin(made: Stack) -> dict[str, str]:
    """Start a run of each config; return {config: run id}."""
    api = made.api
    for config in CONFIGS:
        until(f"Airflow knows {config}", 300, lambda config=config: api.has_dag(config))
    runs = {}
    for config in CONFIGS:
        api.unpause(config)
        runs[config] = api.trigger(config, {"profile": "tiny"}, "check")
    return runs


def _jobs(made: Stack) -> LocalJobs:
    return LocalJobs(made.home.jobs)


def _home_of(made: Stack, job_id: str) -> Container | None:
    """The container in which a job's runner lives, or lived."""
    runner = JobFolder(_jobs(made).folder(job_id)).runner()
    spaces = {str(Path(f"/proc/{one.init}/ns/pid").readlink()): one for one in made.long_lived if one.alive}
    return None if runner is None else spaces.get(runner.process.namespace)


def _kill_worker(made: Stack) -> str:
    """Kill a CPU worker while a self-play that runs in it is under way."""
    jobs = _jobs(made)

    def playing() -> tuple[str, Container] | None:
        made.tend()
        for job_id in jobs.all():
            status = jobs.poll(job_id)
            beat = status.heartbeat
            busy = status.state is JobState.RUNNING and beat is not None and 0 < beat["done"] < beat["total"]
            place = _home_of(made, job_id) if busy and "-selfplay-" in job_id else None
            if place is not None:
                return job_id, place
        return None

    job_id, place = until("a self-play is under way", KILL_SECONDS, playing)
    place.kill()
    until(f"{job_id} is seen to be dead", 60, lambda: jobs.poll(job_id).state is JobState.DEAD)
    made.tend()
    return f"{place.name}, with {job_id} in it"


def _kill_scheduler(made: Stack) -> str:
    """Kill a scheduler; the other one goes on meanwhile."""
    place = made.of("scheduler")[0]
    place.kill()
    made.tend()
    return f"{place.name}; {made.of('scheduler')[1].name} goes on"


def _finish(made: Stack, config: str, run: str) -> str:
    api = made.api

    def over() -> str | None:
        made.tend()
        state = str(api.run(config, run)["state"])
        return state if state in ("success", "failed") else None

    state = until(f"{config} {run} is over: {_states(made, config, run)}", RUN_SECONDS, over)
    generation = _generation(made, config)
    if generation.state is not GenerationState.FINISHED or generation.outcome is None:
        raise CheckError(f"{config}: run {state}, but generation {generation}; {_states(made, config, run)}")
    return f"run {state}, verdict {generation.outcome.value}: {generation.reason}"


def _states(made: Stack, config: str, run: str) -> dict[str, str]:
    return {f"{one['task_id']}#{one['map_index']}": str(one["state"]) for one in made.api.tasks(config, run)}


def _generation(made: Stack, config: str) -> Generation:
    found = made.ledger.generations(config)
    _exactly(len(found), 1, f"generations of {config}")
    return found[0]


def _nothing_doubled(made: Stack, config: str) -> str:
    """Every game once, each stage done once, one net, whatever was killed."""
    ledger, home, jobs = made.ledger, made.home, _jobs(made)
    generation = _generation(made, config)
    games: list[str] = []
    for run in ledger.stage_runs(generation.id, "selfplay"):
        _exactly(run.state, "done", f"{config}: shard {run.shard}")
        with GameDatabase(home.resolve(SelfplayResult.model_validate(run.result).path), config) as database:
            games += [record.game_id for record in database.games()]
    _exactly((len(games), len(set(games))), (GAMES, GAMES), f"{config}: games, different games")
    parity = ParityResult.model_validate(ledger.stage_result(generation.id, "parity"))
    _exactly((parity.checked, parity.failed), (GAMES, 0), f"{config}: games replayed, games that differ")
    stages = [(run.stage, run.shard) for run in ledger.stage_runs(generation.id)]
    _exactly(len(stages), len(set(stages)), f"{config}: stage runs")
    _exactly(len(ledger.artifacts(config=config, kind="weights")), 1, f"{config}: nets")
    train = f"{config}-g{generation.id}-train"
    place = _home_of(made, train)
    if place is not None:
        _exactly(place.service.name, "worker-gpu", f"{config}: the training's queue")
    attempts = {name: jobs.poll(name).attempt for name in jobs.all() if name.startswith(f"{config}-g")}
    again = {name.partition("-")[2]: number for name, number in attempts.items() if number > 1}
    return f"{GAMES} different games, 1 net, {len(stages)} stage runs; more than one attempt: {again or 'none'}"


# --- the Edge host ---------------------------------------------------------------------------------------


def _edge(made: Stack) -> str:
    """Add the host of the profile edge to the inventory and start its worker; it gets games to play and the net."""
    _, uid = compose.image_user()
    made.home.inventory.write_text(INVENTORY)
    shutil.chown(made.home.inventory, uid, uid)
    (worker,) = made.of("edge-worker")
    worker.start()
    mirror, api, node = Mirror(made.home, EDGE), made.api, made.engine.volume("edge")

    def tended(look: Callable[[], Any]) -> Any:
        made.tend()
        return look()

    until(f"the worker is heard of; {made.words(worker)}", 300, lambda: tended(lambda: not mirror.silent()))
    until(f"Airflow knows edge_{EDGE}", 300, lambda: tended(lambda: api.has_dag(f"edge_{EDGE}")))
    api.unpause(EDGE_CONFIG)
    asked = {"profile": "tiny", "stages": ["selfplay", "parity"], "games": EDGE_GAMES}
    run = api.trigger(EDGE_CONFIG, asked, "edge")
    told = _finish(made, EDGE_CONFIG, run)
    (generation,) = made.ledger.generations(EDGE_CONFIG)
    shards = made.ledger.stage_runs(generation.id, "selfplay")
    _exactly({shard.host for shard in shards}, {EDGE}, "hosts that played")
    results = [SelfplayResult.model_validate(shard.result) for shard in shards]
    _exactly(sum(one.games for one in results), EDGE_GAMES, "games from the Edge host")
    _exactly([(node / one.path).is_file() for one in results], [True] * len(results), "batches on the Edge host")
    carried = [one for one in api.runs(f"edge_{EDGE}") if one["dag_run_id"].startswith(EDGE_CONFIG)]
    tasks = [task for one in carried for task in api.tasks(f"edge_{EDGE}", one["dag_run_id"])]
    _exactly({(task["state"], task["queue"], task["hostname"]) for task in tasks}, {("success", EDGE, EDGE)}, "tasks")
    canonical = made.ledger.canonical(CONFIGS[0])
    if canonical is None:
        raise CheckError(f"{CONFIGS[0]}: no net was promoted, so none could be distributed")

    def delivered() -> bool:
        rows = made.ledger.deliveries(canonical.sha)
        return any((row.destination, row.state) == (f"host:{EDGE}", "verified") for row in rows)

    until(f"the net of {CONFIGS[0]} is on the Edge host", 300, lambda: tended(delivered))
    _exactly(sha256_file(made.home.canonical_link(CONFIGS[0])), canonical.sha, "the net here")
    _exactly(sha256_file(Home(node).canonical_link(CONFIGS[0])), canonical.sha, "the net there")
    return f"{told}; {len(tasks)} tasks by EdgeExecutor; net {canonical.sha[:12]} of {CONFIGS[0]} is there"


# --- backup and restore --------------------------------------------------------------------------------


def _history(made: Stack, runs: dict[str, str]) -> dict[str, Any]:
    """What has to be the same afterwards."""
    ledger = made.ledger
    return {
        config: {
            "generation": str(_generation(made, config)),
            "stages": [(one.stage, one.shard, one.state) for one in ledger.stage_runs(_generation(made, config).id)],
            "artifacts": sorted(one.sha for one in ledger.artifacts(config=config)),
            "events": len(ledger.events(config=config, limit=10_000)),
            "tasks": _states(made, config, run),
        }
        for config, run in runs.items()
    }


def _restored(made: Stack, runs: dict[str, str]) -> str:
    backup, before = made.one("backup"), _history(made, runs)
    name = _done(backup.execute(["sh", "/backup.sh", "once"], 300), "backup").split()[-1]
    made.down(list(AIRFLOW))
    (net,) = made.ledger.artifacts(config=CONFIGS[0], kind="weights")
    lost = made.home.resolve(net.path)
    lost.unlink()
    sql = [word for one in ("airflow", "ringrift") for word in ("-c", f"DROP DATABASE {one} WITH (FORCE)")]
    _done(made.one("postgres").execute(["psql", "-h", "/tmp", "-U", "airflow", "-d", "postgres", *sql], 60), "drop")
    _done(backup.execute(["sh", "/backup.sh", "restore", name], 300), "restore")
    _exactly(made.one("init").run(), 0, "init after the restore")
    for service in reversed(AIRFLOW):
        for one in made.of(service):
            one.start()
    made.wait_healthy(made.long_lived)
    _exactly(_history(made, runs), before, "history after the restore")
    if not lost.exists():
        raise CheckError(f"the restore did not bring back {lost}")
    return f"{name}: the same generations, artifacts, events and task instances; {lost.name[:16]} is back"


def _done(answer: Any, what: str) -> str:
    if answer.returncode != 0:
        raise CheckError(f"{what} ended with {answer.returncode}: {(answer.stderr or answer.stdout)[-500:]}")
    return str(answer.stdout)
