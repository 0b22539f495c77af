"""Hosts of role edge without Airflow: the exchange over real HTTP, real jobs at its end."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ringrift_ops.airflow.verifying import WrongResultError
from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts import exchange as exchange_module
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.errors import HostHangsError, HostRefusedError, VersionMismatchError
from ringrift_ops.hosts.exchange import PREFIX, Exchange, LeaderAwayError, TokenRefusedError, token
from ringrift_ops.hosts.jobs import Job, JobConflictError, JobFailedError, JobState, JobStatus
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations.nodes import receiving
from ringrift_ops.settings import Inventory, InventoryError
from ringrift_ops.settings.edge import EDGE
from ringrift_ops.stages.edge import Carrier
from ringrift_ops.stages.hosting import EdgeHostError, ForeignResultError, Hosting
from ringrift_ops.stages.placement import checkpoints_of, may_make
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import sha256_file
from ringrift_ops.web import exchange as web
from tests.hosts import edge
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL, training

JOB = f"{CONFIG}-g1-selfplay-s0"


@pytest.fixture
def place(home: Path) -> Home:
    found = Home(home)
    edge.inventory(found)
    found.settings_file.write_text(SMALL)
    return found


@pytest.fixture
def url(place: Home) -> Iterator[str]:
    with edge.leader(place) as address:
        yield address


def wanted(place: Home, job_id: str = JOB, **spec: Any) -> EdgeJobs:
    """The host's jobs, with one that is wanted of it."""
    jobs = EdgeJobs(Mirror(place, "box"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    asked = work.plan.spec(Stage.SELFPLAY, 0).model_dump(mode="json") | spec
    argv = ("python", "-m", "ringrift_ops.cli", "selfplay", "--spec", "spec.json", "--result", "result.json",
            "--heartbeat", "heartbeat.jsonl")  # fmt: skip
    jobs.submit_or_adopt(Job(job_id=job_id, argv=argv, spec=asked, timeout_seconds=300))
    return jobs


# --- the inventory -----------------------------------------------------------------------------------


def test_a_host_of_role_edge_needs_no_address_and_does_what_its_work_says(place: Home) -> None:
    host = Inventory.load(place).host("box")
    assert host.is_edge
    assert (host.plays("selfplay"), host.plays("training")) == (True, True)
    edge.inventory(place, edge.INVENTORY + "    work: training\n")
    host = Inventory.load(place).host("box")
    assert (host.plays("selfplay"), host.plays("training")) == (False, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (edge.INVENTORY + "    ssh_host: box\n", "line 6: ssh_host under hosts.box: role edge is never connected to"),
        (edge.INVENTORY + "    work_dir: w\n", "line 6: work_dir under hosts.box"),
        (edge.INVENTORY.replace("role: edge", "role: mixed"), "ssh_host under hosts.box: Field required, unless the"),
        (
            edge.INVENTORY.replace("role: edge", "role: mixed\n    ssh_host: box\n    work: training"),
            "line 5: work under hosts.box: goes with role edge only",
        ),
    ],
)
def test_keys_that_do_not_go_with_the_role_are_refused_with_their_line(place: Home, text: str, complaint: str) -> None:
    edge.inventory(place, text)
    with pytest.raises(InventoryError, match=complaint):
        Inventory.load(place)


def test_nothing_connects_to_a_host_of_role_edge(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    with pytest.raises(EdgeHostError, match="nothing connects to it"):
        work.hosting.remote("box")
    assert main(["cluster", "trust", "box", "--yes"]) == 2
    assert main(["cluster", "bootstrap", "box"]) == 4
    assert "docs/edge.md" in capsys.readouterr().err


# --- R71: the worker's checks ------------------------------------------------------------------------


def check(url: str, secret: str, monkeypatch: pytest.MonkeyPatch, name: str = "box", *more: str) -> int:
    monkeypatch.setenv("RINGRIFT_CLUSTER_AUTH_TOKEN", secret)
    return main(["worker", "--leader", url, "--name", name, "--check", *more])


def test_R71_a_leader_that_is_not_there_is_told_with_its_address_and_what_to_try(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("http://127.0.0.1:9", edge.SECRET, monkeypatch) == 4
    said = capsys.readouterr().err
    assert "Cannot connect to P2P leader at http://127.0.0.1:9: " in said
    assert "Connection refused" in said
    assert "make up" in said
    assert edge.SECRET not in said


def test_R71_the_checks_pass_and_show_what_they_found(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(url, edge.SECRET, monkeypatch, "box", "--json", "--queues", "gpu") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queues"] == "box,gpu"
    assert found["max_parallel_jobs"] == 2
    assert abs(found["clock_offset"]) < 5


@pytest.mark.parametrize(
    ("secret", "name", "why"),
    [
        ("another-secret-0123456789-0123456789-012345", "box", "refuses this node's token .*edge_token again"),
        (edge.SECRET, "stranger", "no host stranger of role edge: add it there"),
    ],
)
def test_R71_a_token_or_a_name_that_the_leader_does_not_know_is_refused_with_what_to_do(
    url: str, secret: str, name: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(url, secret, monkeypatch, name) == 4
    said = capsys.readouterr().err
    assert f"Cannot connect to P2P leader at {url}: " in said
    assert __import__("re").search(why, said), said
    assert secret not in said


@pytest.mark.parametrize(
    ("hello", "told", "why"),
    [
        ({}, {}, "no leader of RingRift Ops"),
        ({"ringrift_edge": 1, "time": 0.0}, {}, "s off the leader's"),
        (None, {"airflow": "3.0.0"}, "it has apache-airflow-core 3.0.0, here is 3.3.2"),
        (None, {"versions": {"code": "x", "package": "9.9"}}, "it has another engine and encoder and player: 9.9"),
        (None, {"edge_hosts": ["box", "gpu"]}, "queue gpu is that of host gpu"),
    ],
)
def test_R71_clock_versions_and_queues_are_compared_before_anything_starts(
    hello: dict[str, Any] | None, told: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    app = FastAPI()
    app.get(f"{PREFIX}/hello")(lambda: {"ringrift_edge": 1, "time": time.time()} if hello is None else hello)
    good = web.leader_facts() | {"max_parallel_jobs": 1, "edge_hosts": ["box"]}
    app.get(f"{PREFIX}/nodes/box/leader")(lambda: good | told)
    with edge.served(app) as url:
        assert check(url, edge.SECRET, monkeypatch, "box", "--queues", "gpu") == 4
    assert why in capsys.readouterr().err


def test_R71_the_secret_comes_from_a_file_that_nobody_else_reads_or_from_the_environment(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(edge.SECRET + "\n")
    file.chmod(0o644)
    words = ["worker", "--leader", url, "--name", "box", "--check", "--token-file", str(file)]
    assert main(words) == 2
    file.chmod(0o600)
    assert main(words) == 0
    file.write_text("short")
    assert main(words) == 2
    assert main([*words[:-1], str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    for part in ("others may read it; chmod 600", "too short", "cannot be read"):
        assert part in said


def test_R71_why_a_worker_gets_no_jobs_is_told_by_registration_capabilities_and_health(
    place: Home, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    (found,) = receiving(work.hosting)
    assert not found.registered
    assert "no Edge worker of that name was ever heard of" in found.findings[0]
    edge.node(url, tmp_path / "node")
    (found,) = receiving(Hosting(place, work.ledger))
    assert found.registered
    assert found.same_version
    assert found.stages == ["selfplay", "gauntlet", "train"]
    assert found.findings == ["host box: the inventory says gpu, its nvidia-smi shows none: correct one of them"]
    edge.inventory(place, edge.INVENTORY.replace("    capabilities: [gpu]\n", ""))
    assert main(["cluster", "check"]) == 0
    assert "selfplay gauntlet train" in capsys.readouterr().out
    node = json.loads((place.edge / "box" / "node.json").read_text())
    (place.edge / "box" / "node.json").write_text(json.dumps(node | {"at": time.time() - EDGE.silent_seconds - 5}))
    assert main(["cluster", "check", "box"]) == 4
    assert main(["cluster", "health", "box"]) == 4
    assert "is it running, can it reach this leader?" in capsys.readouterr().out


# --- R78 and R63: the original's options -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--host", "0.0.0.0"], "listens on no address"),
        (["--port", "8770"], "8770 was the original's"),
        (["--no-require-auth"], "every request to a leader carries a token"),
        (["--discover"], "give --leader"),
        (["--tailscale-only"], "127.0.0.1, not of Tailscale's 100.64.0.0/10"),
    ],
)
def test_R78_each_option_of_the_original_is_refused_with_the_reason_and_what_to_use(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", "--leader", "http://127.0.0.1:9", *words]) == 2
    assert why in capsys.readouterr().err


def test_R78_require_auth_is_what_is_done_anyway_and_a_tailnet_address_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGRIFT_CLUSTER_AUTH_TOKEN", edge.SECRET)
    monkeypatch.setattr(exchange_module.Exchange, "hello", away)
    assert main(["worker", "--leader", "http://100.100.1.2:9", "--require-auth", "--tailscale-only"]) == 4
    assert "Cannot connect to P2P leader at http://100.100.1.2:9" in capsys.readouterr().err


def away(exchange: Exchange) -> dict[str, Any]:
    raise LeaderAwayError(exchange.url, "away", "wait")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--backend", "carrier-pigeon"], 2, "carrier-pigeon"),
        (["--p2p-leader", "http://127.0.0.1:9"], 2, "go with --backend p2p only"),
        (["--backend", "p2p"], 2, "--p2p-leader with the address"),
        (["--backend", "p2p", "--p2p-leader", "ftp://x"], 2, "http"),
        (["--backend", "p2p", "--p2p-leader", "http://127.0.0.1:9", "--seed", "3"], 2, "--seed does not go with"),
        (["--backend", "p2p", "--p2p-leader", "http://127.0.0.1:9", "--max-moves", "3"], 2, "--max-moves does not go"),
        (["--backend", "p2p", "--p2p-leader", "http://127.0.0.1:9", "--p2p-auth-token", "x" * 40], 4, "ps"),
        (["--backend", "p2p", "--p2p-leader", "http://127.0.0.1:9", "--dry-run"], 4, "Cannot connect to P2P leader at"),
    ],
)
def test_R63_options_of_the_p2p_backend_are_understood_or_refused(
    words: list[str], code: int, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGRIFT_CLUSTER_AUTH_TOKEN", edge.SECRET)
    line = ["pipeline", "run", "canonical_selfplay", "--board", "hex8", "--num-players", "2", "--num-games", "4"]
    assert main([*line, *words]) == code
    assert why in capsys.readouterr().err


# --- the exchange ------------------------------------------------------------------------------------


def test_a_token_is_good_for_its_own_request_and_node_only(place: Home, url: str, tmp_path: Path) -> None:
    edge.node(url, tmp_path / "node")
    wanted(place)
    path = f"{PREFIX}/nodes/box/jobs/{JOB}"

    def asked(authorization: str | None) -> int:
        headers = {} if authorization is None else {"authorization": authorization}
        return httpx.get(url + path, headers=headers).status_code

    assert asked(None) == 401
    assert asked("Bearer nonsense") == 401
    assert asked(f"Bearer {token('x' * 40, 'box', f'GET {path}')}") == 401
    assert asked(f"Bearer {token(edge.SECRET, 'box', f'GET {path}/inputs/x')}") == 403
    assert asked(f"Bearer {token(edge.SECRET, 'other', f'GET {path}')}") == 403
    assert asked(f"Bearer {token(edge.SECRET, 'box', f'GET {path}')}") == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fx", "a%2Fb", "UPPER", "x" * 200, "g1..s0"])
def test_no_name_of_a_client_becomes_a_path(place: Home, url: str, tmp_path: Path, name: str) -> None:
    exchange, _ = edge.node(url, tmp_path / "node")
    for path in (f"/nodes/box/jobs/{name}", f"/nodes/box/jobs/{name}/outputs/{'0' * 64}"):
        with pytest.raises(RingRiftError):
            exchange.ask("GET", path)
    wanted(place)
    with pytest.raises(RingRiftError):
        exchange.ask("GET", f"/nodes/box/jobs/{JOB}/outputs/{name}")
    assert sorted(one.name for one in (place.edge / "box").iterdir()) == ["jobs", "node.json"]


def test_a_file_goes_on_where_it_broke_off_and_a_damaged_one_never_gets_its_name(
    place: Home, url: str, tmp_path: Path
) -> None:
    exchange, _ = edge.node(url, tmp_path / "node")
    wanted(place)
    content = bytes(range(256)) * 20_000  # 5 MB, several blocks
    sha = hashlib.sha256(content).hexdigest()
    source = tmp_path / "made"
    source.write_bytes(content)
    at = f"/nodes/box/jobs/{JOB}/outputs/{sha}"
    assert exchange.put(at, content[:1000], offset=0, size=len(content)) == {"have": 1000, "whole": False}
    assert exchange.put(at, b"late", offset=500, size=len(content)) == {"have": 1000, "whole": False}
    sent: list[int] = []
    exchange.bring(at, source, sha, lambda: sent.append(1))
    kept = Mirror(place, "box").file(sha)
    assert kept.read_bytes() == content
    assert len(sent) == 5  # 1000 bytes were there
    other = "0" * 64
    with pytest.raises(RingRiftError, match="damaged twice"):
        exchange.bring(f"/nodes/box/jobs/{JOB}/outputs/{other}", source, other, lambda: None)
    assert not Mirror(place, "box").file(other).exists()
    with pytest.raises(RingRiftError, match="413"):
        exchange.put(at.replace(sha, "1" * 64), b"x" * (3 * EDGE.block), offset=0, size=3 * EDGE.block)


def test_an_input_is_fetched_by_content_from_where_it_broke_off(place: Home, url: str, tmp_path: Path) -> None:
    from ringrift_ops.store import Store

    exchange, node = edge.node(url, tmp_path / "node")
    sha, path = Store(place).put(b"weights" * 400_000, ".safetensors")
    wanted(place, weights=sha, player="net")
    target = node.resolve(place.relative(path))
    part = target.with_name(f".{target.name}.{sha[:16]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(path.read_bytes()[:1_000_000])
    asked = exchange.ask("GET", f"/nodes/box/jobs/{JOB}")
    assert asked["inputs"] == [{"path": place.relative(path), "sha": sha}]
    beats: list[int] = []
    assert exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{sha}", target, sha, lambda: beats.append(1))
    assert sha256_file(target) == sha
    assert len(beats) == 2
    assert not exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{sha}", target, sha, lambda: None)
    with pytest.raises(RingRiftError, match="reads no file"):
        exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{'2' * 64}", target, "2" * 64, lambda: None)


def test_two_tasks_that_fetch_the_same_input_fetch_it_once(place: Home, url: str, tmp_path: Path) -> None:
    from ringrift_ops.store import Store

    exchange, node = edge.node(url, tmp_path / "node")
    sha, path = Store(place).put(b"weights" * 400_000, ".safetensors")
    wanted(place, weights=sha, player="net")
    target, told, waits = node.resolve(place.relative(path)), list[bool](), threading.Event()

    def fetch(meanwhile: Callable[[], object]) -> None:
        told.append(exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{sha}", target, sha, meanwhile))

    second = threading.Thread(target=fetch, args=(waits.set,))

    def in_the_middle() -> None:
        if not waits.is_set():
            second.start()
            assert waits.wait(30)

    fetch(in_the_middle)
    second.join(30)
    assert told == [True, False]
    assert sha256_file(target) == sha
    assert [one.name for one in target.parent.iterdir()] == [target.name]


# --- the transport -----------------------------------------------------------------------------------


def test_what_is_wanted_is_wanted_once_and_a_silent_or_other_host_is_not_asked(
    place: Home, url: str, tmp_path: Path
) -> None:
    jobs = EdgeJobs(Mirror(place, "box"))
    assert jobs.poll(JOB).state is JobState.ABSENT
    with pytest.raises(HostRefusedError, match="ever heard of"):
        wanted(place)
    edge.node(url, tmp_path / "node")
    wanted(place)
    first = jobs.run_id(JOB)
    wanted(place)
    assert jobs.run_id(JOB) == first
    assert jobs.poll(JOB).state is JobState.RUNNING
    with pytest.raises(JobConflictError, match="another spec"):
        wanted(place, games=7)
    told = json.loads((place.edge / "box" / "node.json").read_text())
    (place.edge / "box" / "node.json").write_text(json.dumps(told | {"at": 0}))
    with pytest.raises(HostHangsError):
        jobs.poll(JOB)
    told["facts"]["versions"]["code"] = "other"
    (place.edge / "box" / "node.json").write_text(json.dumps(told))
    with pytest.raises(VersionMismatchError, match="nothing is started there"):
        jobs.check_there()


def test_a_job_that_no_worker_has_taken_is_ended_here_and_its_late_task_does_nothing(
    place: Home, url: str, tmp_path: Path
) -> None:
    exchange, node = edge.node(url, tmp_path / "node")
    jobs = wanted(place)
    assert jobs.kill(JOB).state is JobState.FAILED
    with pytest.raises(JobFailedError, match="killed on request"):
        jobs.collect(JOB)
    assert Carrier(exchange, node, JOB, 1, lambda line: None).carry()["state"] == "given up"
    assert LocalJobs(node.jobs).all() == []
    wanted(place)
    assert jobs.number(JOB) == 2
    assert jobs.poll(JOB).state is JobState.RUNNING


def carried(work: Work, exchange: Exchange, node: Home, stage: Stage, token: int, shard: int = 0) -> dict[str, Any]:
    """Do a stage on a node; a thread is its Edge task."""
    job_id = work.submit(stage, token, shard)
    jobs = work.hosting.edge("box")
    assert jobs is not None
    said: list[str] = []
    carrier = Carrier(exchange, node, job_id, jobs.number(job_id), lambda line: None)
    thread = threading.Thread(target=carrier.carry)
    thread.start()
    work.follow(stage, token, said.append, shard)
    result = work.complete(stage, token, shard)
    thread.join(30)
    assert any("== attempt 1" in line for line in said)
    return result


@pytest.mark.hosts_campaign
def test_a_shard_on_an_edge_host_is_the_same_batch_as_here_and_the_ledger_knows_it(
    place: Home, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.settings_file.write_text(SMALL.replace("first_games: 20", "first_games: 2"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    exchange, node = edge.node(url, tmp_path / "node")
    result = carried(work, exchange, node, Stage.SELFPLAY, lease.token)
    assert work.host(Stage.SELFPLAY) == "box"
    assert [one.sha for one in work.ledger.artifacts(config=CONFIG, kind="games")] == [result["batch"]]
    assert sha256_file(place.resolve(result["path"])) == sha256_file(node.resolve(result["path"]))
    assert not any((place.edge / "box" / "files").glob("[0-9a-f]*"))
    assert [path.name for path in place.logs.glob("selfplay_box_*.log")]
    place.inventory.unlink()
    monkeypatch.setenv("RINGRIFT_HOME", str(tmp_path / "alone"))
    alone = Home(tmp_path / "alone").ensure()
    alone.settings_file.write_text(place.settings_file.read_text())
    again = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    own = again.grant()
    assert own is not None
    again.submit(Stage.SELFPLAY, own.token)
    again.follow(Stage.SELFPLAY, own.token, lambda line: None)
    assert again.complete(Stage.SELFPLAY, own.token)["batch"] == result["batch"]


def test_R70_shards_of_the_same_second_keep_a_log_each_whatever_their_names_have_in_common(place: Home) -> None:
    hosting, ids = Hosting(place, Ledger.open()), [f"{CONFIG}-g1-selfplay-s{shard}" for shard in (10, 1)]
    for job_id in ids:
        log = Mirror(place, "box").job(job_id) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"== attempt 1 of {job_id}, 2026-11-25T20:00:00+00:00\n")
        status = JobStatus(
            job_id=job_id, state=JobState.DONE, attempt=1, pid=None, raw_code=0, reason="", heartbeat=None,
            started="2026-11-25T20:00:00+00:00", ended=None, heartbeat_age=None,
        )  # fmt: skip
        hosting.keep_log("box", Stage.SELFPLAY, status)
    kept = [log.read_text().split()[4] for log in place.logs.glob("selfplay_box_*.log")]
    assert sorted(kept) == sorted(f"{job_id}," for job_id in ids)


def test_a_training_that_ends_while_its_checkpoint_is_read_is_left_alone(home: Path) -> None:
    node, spec = Home(home).ensure(), training()
    folder = node.resolve(str(checkpoints_of(node, spec)))
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").symlink_to("gone")  # listed, and not there when it is read
    carrier = Carrier(Exchange("http://127.0.0.1:1", "box", edge.SECRET), node, JOB, 1, lambda line: None)
    carrier._kept = float("-inf")
    carrier._keep_checkpoint(spec)
    assert carrier._kept > 0


def submitted(url: str, tmp_path: Path) -> tuple[Work, int, EdgeJobs, str]:
    """A shard that was given to the Edge host: its work, the lease's token, the host's jobs and the job's id."""
    edge.node(url, tmp_path / "node")
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    job_id = work.submit(Stage.SELFPLAY, lease.token)
    jobs = work.hosting.edge("box")
    assert jobs is not None
    return work, lease.token, jobs, job_id


def test_F24_a_result_with_a_place_of_its_own_choice_is_refused(place: Home, url: str, tmp_path: Path) -> None:
    work, token, jobs, job_id = submitted(url, tmp_path)
    content = b"not games"
    sha = hashlib.sha256(content).hexdigest()
    jobs.mirror.file(sha).parent.mkdir(parents=True)
    jobs.mirror.file(sha).write_bytes(content)
    status = jobs.poll(job_id).model_copy(update={"state": JobState.DONE, "raw_code": 0}).model_dump(mode="json")
    result = {
        "batch": sha, "path": "ledger.db", "games": 10, "moves": 1, "distinct_fraction": 1.0, "policy_games": 0,
        "seconds": 1.0,
    }  # fmt: skip
    fields = work.plan.spec(Stage.SELFPLAY, token)
    assert fields.generation == 1
    end = {"status": status, "result": result, "error": None, "effects": [], "files": {"ledger.db": sha}}
    assert jobs.mirror.ended(job_id, jobs.number(job_id), end)
    with pytest.raises(ForeignResultError, match=r"cannot have made 'ledger\.db'"):
        work.complete(Stage.SELFPLAY, token)
    assert work.ledger.artifacts(config=CONFIG, kind="games") == []


def test_a_batch_may_lie_where_its_command_wants_it_and_nowhere_else(place: Home) -> None:
    planned = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny").plan.spec(Stage.SELFPLAY, 0)
    spec = planned.model_copy(update={"output": "/elsewhere/games.db"})
    assert may_make(place, spec, "/elsewhere/games.db", None)
    assert not may_make(place, planned, "/elsewhere/games.db", None)
    assert not may_make(place, spec, f"data/games/selfplay_{CONFIG}_g1_s0.db", None)


def test_F24_a_result_that_is_none_is_the_stages_error(place: Home, url: str, tmp_path: Path) -> None:
    work, token, jobs, job_id = submitted(url, tmp_path)
    status = jobs.poll(job_id).model_copy(update={"state": JobState.DONE, "raw_code": 0}).model_dump(mode="json")
    end = {"status": status, "result": {"games": "many"}, "error": None, "effects": [], "files": {}}
    assert jobs.mirror.ended(job_id, jobs.number(job_id), end)
    with pytest.raises(WrongResultError, match=r"left no result of a selfplay: .*games"):
        work.complete(Stage.SELFPLAY, token)
    (run,) = work.ledger.stage_runs(work.generation.id, "selfplay")
    assert run.state == "failed"


def test_a_refused_token_ends_a_task_at_once_and_an_absent_leader_is_waited_for(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edge.leader(place) as url:
        exchange, node = edge.node(url, tmp_path / "node")
        wanted(place)
        stranger = Exchange(url, "box", "s" * 40)
        with pytest.raises(TokenRefusedError):
            Carrier(stranger, node, JOB, 1, lambda line: None).carry()
    begun = time.monotonic()
    with pytest.raises(LeaderAwayError):
        exchange.ask("GET", f"/nodes/box/jobs/{JOB}", patience=0.6)
    assert time.monotonic() - begun >= 0.6
