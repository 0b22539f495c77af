"""Hosts of role edge without Airflow: the exchange over real HTTP, real jobs at its end."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts import exchange as exchange_module
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.exchange import PREFIX, Exchange, LeaderAwayError, token
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.operations.nodes import receiving
from ringrift_ops.settings import Inventory, InventoryError
from ringrift_ops.settings.edge import EDGE
from ringrift_ops.stages.hosting import EdgeHostError, Hosting
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import sha256_file
from ringrift_ops.web import exchange as web
from tests.hosts import edge
from tests.hosts.test_stages_on_hosts import CONFIG

JOB = f"{CONFIG}-g1-selfplay-s0"


def wanted(edge_home: Home, job_id: str = JOB, **spec: Any) -> EdgeJobs:
    """The host's jobs, with one that is wanted of it."""
    jobs = EdgeJobs(Mirror(edge_home, "box"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    asked = work.plan.spec(Stage.SELFPLAY, 0).model_dump(mode="json") | spec
    argv = ("python", "-m", "ringrift_ops.cli", "selfplay", "--spec", "spec.json", "--result", "result.json",
            "--heartbeat", "heartbeat.jsonl")  # fmt: skip
    jobs.submit_or_adopt(Job(job_id=job_id, argv=argv, spec=asked, timeout_seconds=300))
    return jobs


# --- the inventory -----------------------------------------------------------------------------------


def test_a_host_of_role_edge_needs_no_address_and_does_what_its_work_says(edge_home: Home) -> None:
    host = Inventory.load(edge_home).host("box")
    assert host.is_edge
    assert (host.plays("selfplay"), host.plays("training")) == (True, True)
    edge.inventory(edge_home, edge.INVENTORY + "    work: training\n")
    host = Inventory.load(edge_home).host("box")
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
def test_keys_that_do_not_go_with_the_role_are_refused_with_their_line(
    edge_home: Home, text: str, complaint: str
) -> None:
    edge.inventory(edge_home, text)
    with pytest.raises(InventoryError, match=complaint):
        Inventory.load(edge_home)


def test_nothing_connects_to_a_host_of_role_edge(edge_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    with pytest.raises(EdgeHostError, match="nothing connects to it"):
        work.hosting.remote("box")
    assert main(["cluster", "trust", "box", "--yes"]) == 2
    assert main(["cluster", "bootstrap", "box"]) == 4
    assert "docs/edge.md" in capsys.readouterr().err


# --- R71: the worker's checks ------------------------------------------------------------------------


def check(edge_url: str, secret: str, monkeypatch: pytest.MonkeyPatch, name: str = "box", *more: str) -> int:
    monkeypatch.setenv("RINGRIFT_CLUSTER_AUTH_TOKEN", secret)
    return main(["worker", "--leader", edge_url, "--name", name, "--check", *more])


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
    edge_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(edge_url, edge.SECRET, monkeypatch, "box", "--json", "--queues", "gpu") == 0
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
    edge_url: str, secret: str, name: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(edge_url, secret, monkeypatch, name) == 4
    said = capsys.readouterr().err
    assert f"Cannot connect to P2P leader at {edge_url}: " in said
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
    edge_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(edge.SECRET + "\n")
    file.chmod(0o644)
    words = ["worker", "--leader", edge_url, "--name", "box", "--check", "--token-file", str(file)]
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
    edge_home: Home, edge_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    (found,) = receiving(work.hosting)
    assert not found.registered
    assert "no Edge worker of that name was ever heard of" in found.findings[0]
    edge.node(edge_url, tmp_path / "node")
    (found,) = receiving(Hosting(edge_home, work.ledger))
    assert found.registered
    assert found.same_version
    assert found.stages == ["selfplay", "gauntlet", "train"]
    assert found.findings == ["host box: the inventory says gpu, its nvidia-smi shows none: correct one of them"]
    edge.inventory(edge_home, edge.INVENTORY.replace("    capabilities: [gpu]\n", ""))
    assert main(["cluster", "check"]) == 0
    assert "selfplay gauntlet train" in capsys.readouterr().out
    node = json.loads((edge_home.edge / "box" / "node.json").read_text())
    (edge_home.edge / "box" / "node.json").write_text(json.dumps(node | {"at": time.time() - EDGE.silent_seconds - 5}))
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


def test_a_token_is_good_for_its_own_request_and_node_only(edge_home: Home, edge_url: str, tmp_path: Path) -> None:
    edge.node(edge_url, tmp_path / "node")
    wanted(edge_home)
    path = f"{PREFIX}/nodes/box/jobs/{JOB}"

    def asked(authorization: str | None) -> int:
        headers = {} if authorization is None else {"authorization": authorization}
        return httpx.get(edge_url + path, headers=headers).status_code

    assert asked(None) == 401
    assert asked("Bearer nonsense") == 401
    assert asked(f"Bearer {token('x' * 40, 'box', f'GET {path}')}") == 401
    assert asked(f"Bearer {token(edge.SECRET, 'box', f'GET {path}/inputs/x')}") == 403
    assert asked(f"Bearer {token(edge.SECRET, 'other', f'GET {path}')}") == 403
    assert asked(f"Bearer {token(edge.SECRET, 'box', f'GET {path}')}") == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fx", "a%2Fb", "UPPER", "x" * 200, "g1..s0"])
def test_no_name_of_a_client_becomes_a_path(edge_home: Home, edge_url: str, tmp_path: Path, name: str) -> None:
    exchange, _ = edge.node(edge_url, tmp_path / "node")
    for path in (f"/nodes/box/jobs/{name}", f"/nodes/box/jobs/{name}/outputs/{'0' * 64}"):
        with pytest.raises(RingRiftError):
            exchange.ask("GET", path)
    wanted(edge_home)
    with pytest.raises(RingRiftError):
        exchange.ask("GET", f"/nodes/box/jobs/{JOB}/outputs/{name}")
    assert sorted(one.name for one in (edge_home.edge / "box").iterdir()) == ["jobs", "node.json"]


def test_a_file_goes_on_where_it_broke_off_and_a_damaged_one_never_gets_its_name(
    edge_home: Home, edge_url: str, tmp_path: Path
) -> None:
    exchange, _ = edge.node(edge_url, tmp_path / "node")
    wanted(edge_home)
    content = bytes(range(256)) * 20_000  # 5 MB, several blocks
    sha = hashlib.sha256(content).hexdigest()
    source = tmp_path / "made"
    source.write_bytes(content)
    at = f"/nodes/box/jobs/{JOB}/outputs/{sha}"
    assert exchange.put(at, content[:1000], offset=0, size=len(content)) == {"have": 1000, "whole": False}
    assert exchange.put(at, b"late", offset=500, size=len(content)) == {"have": 1000, "whole": False}
    sent: list[int] = []
    exchange.bring(at, source, sha, lambda: sent.append(1))
    kept = Mirror(edge_home, "box").file(sha)
    assert kept.read_bytes() == content
    assert len(sent) == 5  # 1000 bytes were there
    other = "0" * 64
    with pytest.raises(RingRiftError, match="damaged twice"):
        exchange.bring(f"/nodes/box/jobs/{JOB}/outputs/{other}", source, other, lambda: None)
    assert not Mirror(edge_home, "box").file(other).exists()
    with pytest.raises(RingRiftError, match="413"):
        exchange.put(at.replace(sha, "1" * 64), b"x" * (3 * EDGE.block), offset=0, size=3 * EDGE.block)


def test_an_input_is_fetched_by_content_from_where_it_broke_off(edge_home: Home, edge_url: str, tmp_path: Path) -> None:
    from ringrift_ops.store import Store

    exchange, node = edge.node(edge_url, tmp_path / "node")
    sha, path = Store(edge_home).put(b"weights" * 400_000, ".safetensors")
    wanted(edge_home, weights=sha, player="net")
    target = node.resolve(edge_home.relative(path))
    part = target.with_name(f".{target.name}.{sha[:16]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(path.read_bytes()[:1_000_000])
    asked = exchange.ask("GET", f"/nodes/box/jobs/{JOB}")
    assert asked["inputs"] == [{"path": edge_home.relative(path), "sha": sha}]
    beats: list[int] = []
    assert exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{sha}", target, sha, lambda: beats.append(1))
    assert sha256_file(target) == sha
    assert len(beats) == 2
    assert not exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{sha}", target, sha, lambda: None)
    with pytest.raises(RingRiftError, match="reads no file"):
        exchange.fetch(f"/nodes/box/jobs/{JOB}/inputs/{'2' * 64}", target, "2" * 64, lambda: None)


def test_two_tasks_that_fetch_the_same_input_fetch_it_once(edge_home: Home, edge_url: str, tmp_path: Path) -> None:
    from ringrift_ops.store import Store

    exchange, node = edge.node(edge_url, tmp_path / "node")
    sha, path = Store(edge_home).put(b"weights" * 400_000, ".safetensors")
    wanted(edge_home, weights=sha, player="net")
    target, told, waits = node.resolve(edge_home.relative(path)), list[bool](), threading.Event()

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
