"""Airflow's own Edge worker against a whole platform on SQLite: killed, restarted, refused; nothing is lost."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import Mirror
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Outcome, StageRun
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.processes import in_sessions, send
from ringrift_ops.store import sha256_file
from tests.airflow.conftest import output_of, state_of, until
from tests.hosts import edge
from tests.hosts.test_distribution import promoted, states
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL

pytestmark = [pytest.mark.hosts_campaign, pytest.mark.platform(1), pytest.mark.timeout(1500)]

WHOLE, GAMES = "square8_2p", 300
"""What the whole generation is of: once a net is in force, the curriculum moves the number of games."""
EASY = (
    SMALL.replace("  hex8_2p:\n    gate: {random: 0.86}", "  square8_2p:\n    gate: {random: 0.01, heuristic: 0.0001}")
    .replace("first_games: 20", f"first_games: {GAMES}")
    .replace("epochs: 2", "epochs: 4")
    .replace("games_per_look: 2", "games_per_look: 50")
    .replace("cap: 4\n", "cap: 200\n")
)
"""A gate that any net passes which has learnt a little, and a gauntlet long enough to say so."""
OTHER = "hex8_3p"
"""Its DAG is paused, so that nobody judges the nets that a test makes by hand."""
LONG_GAMES = 1500
"""Games of a shard that is killed in the middle."""
RINGRIFT = str(Path(sys.executable).parent / "ringrift")


@dataclass
class Ground:
    """A platform whose only host is a node of role edge, and the node's worker."""

    home: Home
    node: Home
    process: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes] | None = None

    @property
    def installation(self) -> Installation:
        return Installation(self.home)

    @property
    def api(self) -> Api:
        port = int(self.installation.url().rsplit(":", 1)[1])
        return Api(port, USER, Secrets.of(self.installation).password)

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.home.ledger_url)

    @property
    def jobs(self) -> LocalJobs:
        return LocalJobs(self.node.jobs)

    @property
    def url(self) -> str:
        return str(state_of(self.home.root)["edge_url"]).replace("localhost", "127.0.0.1")

    def command(self, *more: str) -> list[str]:
        token = self.node.root.with_suffix(".token")
        token.write_bytes(self.installation.edge_token.read_bytes())
        token.chmod(0o600)
        return [RINGRIFT, "worker", "--leader", self.url, "--token-file", str(token), "--name", "box", *more]

    def start_worker(self) -> None:
        with self.said.open("ab") as output:
            self.worker = subprocess.Popen(
                self.command(),
                env=os.environ | {"RINGRIFT_HOME": str(self.node.root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until("the worker is registered", 120, lambda: "box" in self.heard())

    @property
    def said(self) -> Path:
        return self.node.root.with_suffix(".out")

    def heard(self) -> list[str]:
        mirror = Mirror(self.home, "box")
        silence = mirror.silence()
        return [] if silence is None or silence > 15 else [mirror.host]

    def kill_worker(self) -> None:
        """SIGKILL to the worker, Airflow's worker under it, and its tasks; jobs are in sessions of their own."""
        assert self.worker is not None
        airflow = int((self.node.worker / "worker.pid").read_text())
        left = [self.worker.pid, *in_sessions([airflow])]
        send(signal.SIGKILL, left)
        self.worker.wait(30)
        self.worker = None

    def play(self, games: int) -> tuple[str, str]:
        """Ask for one run of self-play and return (run id, its first job)."""
        until(f"{CONFIG} is known", 120, lambda: self.api.has_dag(CONFIG))
        self.api.unpause(CONFIG)
        run_id = self.api.trigger(CONFIG, {"profile": "tiny", "stages": ["selfplay"], "games": games}, unique("play"))
        shards = until("its shards are placed", 120, lambda: self.shards(run_id))
        return run_id, str(shards[0].job_id)

    def shards(self, run_id: str) -> list[StageRun]:
        found = [one for one in self.ledger.generations(CONFIG) if one.run_id == run_id]
        runs = self.ledger.stage_runs(found[0].id, "selfplay") if found else []
        return runs if len(runs) == 2 and all(one.job_id for one in runs) else []

    def busy(self, job_id: str) -> bool:
        """Whether a job has begun to play on the node."""
        beat = self.jobs.poll(job_id).heartbeat
        return bool(beat and beat.get("done"))

    def ringrift(self, *words: str) -> str:
        """Give a command on the leader and return what it printed."""
        answer = subprocess.run(
            [RINGRIFT, *words], env=os.environ | {"RINGRIFT_HOME": str(self.home.root)},
            capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def net(self, config: str = CONFIG) -> str:
        """The sha256 of the net under its canonical name on the node."""
        return sha256_file(self.node.canonical_link(config))

    def over(self, run_id: str, seconds: float = 600.0, config: str = CONFIG) -> str:
        def ended() -> str | None:
            state = str(self.api.run(config, run_id)["state"])
            return state if state in ("success", "failed") else None

        return str(until(f"{run_id} is over", seconds, ended))

    def whole(
        self, run_id: str, games: int, attempts: tuple[int, ...], *, judged: bool = False, config: str = CONFIG
    ) -> None:
        """Every shard was played on the node, its games are here, and each job was attempted so often."""
        runs = self.ledger.stage_runs(
            next(g.id for g in self.ledger.generations(config) if g.run_id == run_id), "selfplay"
        )
        results = [dict(one.result or {}) for one in runs]
        assert sum(int(one["games"]) for one in results) == games
        assert {one.host for one in runs} == {"box"}
        for one, result in zip(runs, results, strict=True):
            if not judged:  # parity writes its verdicts into the games here
                assert sha256_file(self.home.resolve(result["path"])) == sha256_file(self.node.resolve(result["path"]))
            assert self.jobs.log(str(one.job_id)).text.count("== attempt") in attempts
        known = {one.sha for one in self.ledger.artifacts(config=config, kind="games")}
        assert {result["batch"] for result in results} <= known


def unique(prefix: str) -> str:
    return f"{prefix}__{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("edge")
    place, node = Home(folder / "leader"), Home(folder / "node")
    edge.inventory(place)
    place.settings_file.write_text(EASY)
    with output_of(place.root).open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringrift_ops.platform", "up"],
            env=os.environ | {"RINGRIFT_HOME": str(place.root), "PROFILE": "tiny"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    found = Ground(place, node, process)
    try:
        until("the platform is up", 400, lambda: "up after" in output_of(place.root).read_text())
        found.start_worker()
        yield found
    finally:
        if found.worker is not None:
            found.worker.send_signal(signal.SIGINT)
            found.worker.wait(60)
        found.jobs.kill_all()
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def test_a_whole_generation_is_made_through_an_edge_worker(ground: Ground) -> None:
    until(f"{WHOLE} is known", 120, lambda: ground.api.has_dag(WHOLE))
    ground.api.unpause(WHOLE)
    run_id = ground.api.trigger(WHOLE, {"profile": "tiny"}, unique("whole"))
    assert ground.over(run_id, 900, WHOLE) == "success"
    (generation,) = [one for one in ground.ledger.generations(WHOLE) if one.run_id == run_id]
    assert generation.outcome is Outcome.PASS, generation.reason
    placed = {(run.stage, run.shard): run.host for run in ground.ledger.stage_runs(generation.id)}
    for stage in (("selfplay", 0), ("selfplay", 1), ("train", 0), ("gauntlet", 0)):
        assert placed[stage] == "box"
    assert (placed["parity", 0], placed["export", 0]) == (None, None)
    ground.whole(run_id, GAMES, (1,), judged=True, config=WHOLE)
    canonical = ground.ledger.canonical(WHOLE)
    assert canonical is not None
    assert ground.ledger.artifact(canonical.sha).generation == generation.id
    deliveries = {one.destination: (one.verified, one.state) for one in ground.ledger.deliveries(canonical.sha)}
    assert deliveries == dict.fromkeys(("host:box", str(ground.home.resolve("hush-hush"))), (True, "verified"))
    assert ground.net(WHOLE) == canonical.sha
    assert list(ground.home.logs.glob(f"tensorboard/{WHOLE}*/events*")), "the training's curves"
    own = (f"{WHOLE}-g{generation.id}-", f"{WHOLE}-net__")
    runs = [one for one in ground.api.runs("edge_box") if one["dag_run_id"].startswith(own)]
    assert {one["state"] for one in runs} == {"success"}
    assert len(runs) == 5
    (task,) = ground.api.tasks("edge_box", runs[0]["dag_run_id"])
    assert (task["hostname"], task["executor"].rsplit(".", 1)[-1], task["queue"]) == ("box", "EdgeExecutor", "box")
    secret = ground.installation.edge_token.read_text().strip()
    for log in [*ground.home.logs.rglob("*.log"), *ground.node.logs.rglob("*.log"), ground.said]:
        assert secret not in log.read_text(errors="replace"), log


def test_every_promoted_net_reaches_an_edge_host_and_one_that_was_away_gets_only_the_newest(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGRIFT_HOME", str(ground.home.root))
    until("the worker is heard of", 120, ground.heard)
    first = promoted(ground.home, config=OTHER)
    ground.ringrift("distribute", "--config", OTHER, "--model", first)
    assert ground.net(OTHER) == first
    assert states(first)["box"] == "verified"
    found = json.loads(ground.ringrift("model", "availability", OTHER, "--wait", "--json"))
    assert {one["node"]: one["available"] for one in found["nodes"]}["box"]

    ground.kill_worker()
    until("the host is away", 120, lambda: Mirror(ground.home, "box").silent())
    missed = promoted(ground.home, hidden=32, config=OTHER)
    ground.ringrift("distribute", "--config", OTHER, "--model", missed)
    newest = promoted(ground.home, hidden=48, config=OTHER)  # and nobody distributes it
    assert states(missed)["box"] == "pending"
    ground.start_worker()
    until("it has caught up", 300, lambda: states(newest).get("box") == "verified")
    assert ground.net(OTHER) == newest
    assert (states(first)["box"], states(missed)["box"]) == ("stale", "pending")
    assert not list((ground.node.root / "store").rglob(f"{missed[2:]}*"))
    runs = [one for one in ground.api.runs("edge_box") if one["dag_run_id"].startswith(f"{OTHER}-net__")]
    (task,) = ground.api.tasks("edge_box", runs[0]["dag_run_id"])
    assert (task["hostname"], task["executor"].rsplit(".", 1)[-1], task["queue"]) == ("box", "EdgeExecutor", "box")


def test_a_worker_killed_in_the_middle_of_a_shard_adopts_it_after_its_restart(ground: Ground) -> None:
    run_id, job_id = ground.play(LONG_GAMES)
    until("the shard plays", 200, lambda: ground.busy(job_id))
    ground.kill_worker()
    assert ground.jobs.poll(job_id).state is JobState.RUNNING
    ground.start_worker()
    assert ground.over(run_id) == "success"
    ground.whole(run_id, LONG_GAMES, (1,))


def test_a_job_killed_with_its_worker_goes_on_in_its_next_attempt(ground: Ground) -> None:
    run_id, job_id = ground.play(LONG_GAMES)
    until("the shard plays", 200, lambda: ground.busy(job_id))
    ground.kill_worker()
    runner = JobFolder(ground.jobs.folder(job_id)).runner()
    assert runner is not None
    send(signal.SIGKILL, [runner.process.pid, *in_sessions([runner.process.pid])])
    until("the job is dead", 30, lambda: ground.jobs.poll(job_id).state is JobState.DEAD)
    ground.start_worker()
    assert ground.over(run_id) == "success"
    ground.whole(run_id, LONG_GAMES, (1, 2))
    assert ground.jobs.log(job_id).text.count("== attempt") == 2


def test_a_leader_that_restarts_during_a_shard_finds_it_again(ground: Ground) -> None:
    run_id, job_id = ground.play(LONG_GAMES)
    until("the shard plays", 200, lambda: ground.busy(job_id))
    before = state_of(ground.home.root)["components"]
    for component in ("scheduler", "edge-api", "execution-api"):
        send(signal.SIGKILL, in_sessions([before[component]]))
    until(
        "they are started again",
        90,
        lambda: state_of(ground.home.root)["components"].get("edge-api", before["edge-api"]) != before["edge-api"],
    )
    assert ground.over(run_id) == "success"
    ground.whole(run_id, LONG_GAMES, (1,))


def test_R71_a_worker_with_a_wrong_secret_is_refused_before_it_starts(ground: Ground, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(secrets.token_urlsafe(64))
    wrong.chmod(0o600)
    until("the worker is heard of", 120, ground.heard)
    answer = subprocess.run(
        [RINGRIFT, "worker", "--leader", ground.url, "--token-file", str(wrong), "--name", "box"],
        env=os.environ | {"RINGRIFT_HOME": str(tmp_path / "none")},
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert answer.returncode == 4
    assert f"Cannot connect to P2P leader at {ground.url}: it refuses this node's token" in answer.stderr
    assert not (tmp_path / "none" / "edge-worker").exists()


def test_a_secret_renewed_while_a_worker_runs_ends_it_with_the_reason_and_loses_no_shard(ground: Ground) -> None:
    run_id, job_id = ground.play(LONG_GAMES)
    until("the shard plays", 200, lambda: ground.busy(job_id))
    ground.installation.edge_token.write_text(secrets.token_urlsafe(64) + "\n")
    before = state_of(ground.home.root)["components"]["edge-api"]
    send(signal.SIGKILL, in_sessions([before]))
    assert ground.worker is not None
    assert ground.worker.wait(180) == 4
    assert "refuses this node's token" in ground.said.read_text()
    assert ground.jobs.poll(job_id).state in (JobState.RUNNING, JobState.DONE)
    ground.start_worker()
    assert ground.over(run_id) == "success"
    ground.whole(run_id, LONG_GAMES, (1,))


def test_R63_games_are_played_by_a_leader_that_is_asked_over_http(ground: Ground, tmp_path: Path) -> None:
    output, state = tmp_path / "games.db", tmp_path / "state.json"
    until("the worker is heard of", 120, ground.heard)
    answer = subprocess.run(
        [RINGRIFT, "pipeline", "--state", str(state), "run", "canonical_selfplay", "--backend", "p2p", "--p2p-leader",
         ground.url, "--board", "hex8", "--num-players", "2", "--num-games", "6", "--output-db", str(output), "--json"],
        env=os.environ | {
            "RINGRIFT_HOME": str(tmp_path / "here"),
            "RINGRIFT_CLUSTER_AUTH_TOKEN": ground.installation.edge_token.read_text().strip(),
        },
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    assert found["games"] == 6
    assert len(found["files"]) == 2
    from ringrift_ops.games.reader import GameDatabase

    assert sum(GameDatabase(Path(path)).counts().games for path in found["files"]) == 6
    view = json.loads(state.read_text())
    assert (view["phase_status"], view["games_completed"]) == ("completed", 6)


def test_R71_the_check_of_a_host_that_works_finds_nothing(ground: Ground) -> None:
    until("the worker is heard of", 120, ground.heard)
    answer = subprocess.run(
        [RINGRIFT, "cluster", "check", "--json"], env=os.environ | {"RINGRIFT_HOME": str(ground.home.root)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    (host,) = json.loads(answer.stdout)["hosts"]
    assert host["registered"]
    assert host["same_version"]
    assert host["findings"] == ["host box: the inventory says gpu, its nvidia-smi shows none: correct one of them"]
