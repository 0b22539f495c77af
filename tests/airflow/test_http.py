"""The HTTP door on a running platform: who is let in, what a change must look like, what the lines of old answer."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from fastapi.routing import APIRoute
from schemathesis import GenerationMode

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.ledger import EventType, Outcome
from ringrift_ops.operations.metrics import CONTENT_TYPE
from ringrift_ops.operations.permissions import HOLDERS, ROLES, Permission
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.logins import token
from ringrift_ops.settings import CONFIGS, WEB
from tests.airflow.conftest import USERS, Platform, until
from tests.airflow.sweep import Sweep
from tests.ledger.conftest import Workbench, sha

pytestmark = [pytest.mark.platform(1), pytest.mark.slow]

CONFIG = "hexagonal_3p"
"""Only these tests use it."""

OF_ROLE = {"viewer": "vera", "user": "uma", "op": "otto", "admin": USER}
HOSTILE = "<script>alert(1)</script>\r\n2026-11-25T00:00:00+00:00 INFO PROMOTION_COMPLETED #9\x1b[2J\u2028"


@dataclass
class Door:
    """The HTTP door, and everything that it has answered."""

    url: str
    tokens: dict[str, str]
    texts: list[str] = field(default_factory=list)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120, trust_env=False))

    def ask(self, method: str, path: str, user: str | None = USER, **rest: Any) -> httpx.Response:
        headers = {} if user is None else {"authorization": f"Bearer {self.tokens[user]}"}
        rest["headers"] = headers | rest.get("headers", {})
        answer = self.client.request(method, self.url + path, **rest)
        self.texts.append(answer.text + str(answer.headers))
        return answer

    def get(self, path: str, user: str | None = USER) -> Any:
        answer = self.ask("GET", path, user)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any], code: int = 200, user: str = USER) -> Any:
        answer = self.ask("POST", path, user, json=body)
        assert answer.status_code == code, answer.text
        return answer.json()


@pytest.fixture(autouse=True)
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's home is this process' home."""
    monkeypatch.setenv("RINGRIFT_HOME", str(platform.home.root))
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")


@pytest.fixture(scope="module")
def door(platform: Platform) -> Iterator[Door]:
    """The door with a token per user; at the end none of its answers and no log may hold a secret."""
    tokens = {name: token(platform.home, name).token for name in OF_ROLE.values()}
    found = Door(f"{Installation(platform.home).url()}/ringrift", tokens)
    set_rate(platform, 100_000)
    yield found
    installation = Installation(platform.home)
    kept = vars(Secrets.of(installation))
    secrets = [*kept.values(), *tokens.values(), *(f"{name}-password" for name in USERS)]
    said = "\n".join(found.texts) + "".join(path.read_text() for path in installation.logs.glob("*.log"))
    assert [name for name in secrets if name in said] == []


def set_rate(platform: Platform, rate: int, more: str = "") -> None:
    """Write the setting; the door reads the file anew when it has changed."""
    platform.home.settings_file.parent.mkdir(exist_ok=True)
    platform.home.settings_file.write_text(f"http_rate: {rate}\n{more}")


@pytest.fixture(scope="module")
def made(platform: Platform) -> dict[str, str]:
    """A generation of :data:`CONFIG` with a training that really ran, a dataset, a net in force, hostile names."""
    ledger = platform.ledger
    bench = Workbench(ledger)
    bench.now = datetime.now(UTC)
    generation, lease = bench.running("http-run", CONFIG)
    job_id = f"{CONFIG}-g{generation.id}-train"
    ledger.start_stage(generation.id, "train", 0, {"config": CONFIG}, lease.token, job_id=job_id)
    lines = "import sys\nfor n in range(150): print('line', n)\nsys.exit(1)"
    argv = (os.environ.get("PYTHON", "python3"), "-c", lines)
    platform.jobs.submit_or_adopt(Job(job_id=job_id, argv=argv, spec={"config": CONFIG}, timeout_seconds=60))
    until("the job is over", 60, lambda: platform.jobs.poll(job_id).over)
    ledger.record_stage_error(generation.id, "train", 0, "CUDA out of memory", lease.token)
    store = platform.home.store / "http-net-data"
    store.parent.mkdir(exist_ok=True)
    store.write_bytes(b"a dataset")
    net = bench.net("http-net", generation, lease)
    evaluation = bench.evaluation("http-net", generation, lease, None)
    ledger.compare_and_swap_canonical(
        CONFIG,
        None,
        net,
        lease.token,
        generation=generation.id,
        reason="all gates",
        actor=HOSTILE,
        evaluation=evaluation,
    )
    ledger.finish_generation(generation.id, Outcome.ERROR, HOSTILE, lease.token)
    return {"job": job_id, "dataset": sha("http-net-data"), "net": net}


# --- who is let in ---------------------------------------------------------------------------------


def all_routes() -> list[APIRoute]:
    from ringrift_ops.web.app import make_app
    from ringrift_ops.web.guard import Guarded

    found = make_app().routes
    assert [route for route in found if not isinstance(route, Guarded)] == [], "a route without a guard"
    return [route for route in found if isinstance(route, APIRoute)]


def example(path: str) -> str:
    path = re.sub(r"/jobs/\{id\}", f"/jobs/{CONFIG}-g1-train", path)
    path = re.sub(r"/datasets/\{id\}", f"/datasets/{'0' * 64}", path)
    return path.replace("{id}", "nobody").replace("{host}", "nohost")


def test_R41_every_route_refuses_who_is_not_logged_in_and_who_lacks_its_permission(
    airflow_here: None, door: Door
) -> None:
    held = []
    for route in all_routes():
        permission = (route.openapi_extra or {})["x-permission"]
        for method in route.methods:
            path, body = example(route.path), {"json": {"nothing": 1}} if method == "POST" else {}
            if permission == "none":
                assert set(door.get(path, None)) == {"healthy"}
                continue
            assert door.ask(method, path, None, **body).status_code == 401, path
            forged = {"authorization": f"Bearer {door.tokens[USER][:-4]}AAAA"}
            assert door.ask(method, path, None, headers=forged, **body).status_code == 401, path
            if permission == "login":
                continue
            holder = HOLDERS[Permission(permission)]
            answer = door.ask(method, path, OF_ROLE[holder], **body)
            assert answer.status_code in (200, 404, 422), (path, answer.text)
            held.append(route.path)
            if holder != ROLES[0]:
                refused = door.ask(method, path, OF_ROLE[ROLES[ROLES.index(holder) - 1]], **body)
                assert (refused.status_code, refused.json()["permission"]) == (403, permission), path
                assert f"the role {holder} holds it" in refused.json()["detail"]
    assert len(set(held)) >= 28
    assert door.ask("GET", "/status", None, headers={"cookie": f"_token={door.tokens['vera']}"}).status_code == 200
    for path in ("/docs", "/redoc", "/openapi", "/status/", "//status", "/metrics"):
        assert door.ask("GET", path, None).status_code in (401, 404), path
    assert door.ask("DELETE", "/status").status_code == 405


def test_R41_a_route_that_names_no_permission_cannot_be_made(airflow_here: None) -> None:
    from fastapi import APIRouter

    from ringrift_ops.web.guard import Guarded, NoPermissionNamedError

    with pytest.raises(NoPermissionNamedError, match="/new: name the permission"):
        APIRouter(route_class=Guarded).get("/new")(lambda: 1)


def test_a_change_comes_as_json_and_from_no_foreign_page(platform: Platform, door: Door) -> None:
    before = len(platform.ledger.audit())
    cookie = {"cookie": f"_token={door.tokens[USER]}"}
    for headers in (
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"origin": door.url.replace("/ringrift", "0")},
    ):  # fmt: skip
        answer = door.ask("POST", "/dispatch_training", None, json={"config": CONFIG}, headers=cookie | headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "ForeignPage"), headers
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""):
        answer = door.ask("POST", "/clear_training_state", headers={"content-type": kind}, content=b'{"config":"x"}')
        assert answer.status_code == 415, kind
    own = {"origin": door.url.removesuffix("/ringrift"), "sec-fetch-site": "same-origin"}
    assert door.ask("POST", "/dispatch_training", None, json={"x": 1}, headers=cookie | own).status_code == 422
    assert door.ask("GET", "/dispatch_training").status_code == 405
    assert len(platform.ledger.audit()) == before


def test_a_body_that_is_too_long_too_deep_or_no_json_is_refused(door: Door) -> None:
    long = b'{"config": "' + b"a" * WEB.body_bytes + b'"}'
    kind = {"content-type": "application/json"}
    assert door.ask("POST", "/dispatch_training", headers=kind, content=long).status_code == 413
    parts = (long[n : n + 1000] for n in range(0, len(long), 1000))
    assert door.ask("POST", "/dispatch_training", headers=kind, content=parts).status_code == 413
    for body in (b"[" * 60_000, b"{", b"\xff\xfe", b'{"config": "\\ud800"}', b"null", b'{"reason": "a\\u0000b"}'):
        answer = door.ask("POST", "/dispatch_training", headers=kind, content=body)
        assert answer.status_code in (400, 422), body[:20]


def test_one_user_may_make_so_many_requests_and_then_waits(platform: Platform, door: Door) -> None:
    set_rate(platform, 6)
    try:
        codes = [door.ask("GET", "/waivers", "vera") for _ in range(8)]
        last = codes[-1]
        assert last.status_code == 429
        assert 1 <= int(last.headers["retry-after"]) <= 10
        assert door.ask("GET", "/waivers", "uma").status_code == 200, "another user's requests are not counted"
    finally:
        set_rate(platform, 100_000)


TRAVERSAL = [
    "..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cwin.ini",
    "%252e%252e%252fetc%252fpasswd", "/etc/passwd", "file:///etc/passwd", f"{CONFIG}-g1-train/../../secrets.json",
    f"{CONFIG}-g1-train%00", f"{CONFIG}-g1-train%0a", "a' OR '1'='1", "1;DROP TABLE artifacts", "${jndi:ldap://x}",
    "{{7*7}}", "%3Cscript%3E", "$(id)", "`id`", "|id", "%", "_%", "A" * 3000, "\N{FULLWIDTH FULL STOP}" * 2,
]  # fmt: skip


def test_names_that_are_paths_or_code_name_nothing(platform: Platform, door: Door) -> None:
    for word in TRAVERSAL:
        for path in (
            f"/v1/training/jobs/{word}", f"/v1/training/jobs/{word}/logs", f"/v1/datasets/{word}",
            f"/v1/agents/{word}/permissions", f"/cluster/health/{word}",
        ):  # fmt: skip
            answer = door.ask("GET", path)
            assert answer.status_code in (400, 404, 422), (path, answer.text)
            assert "root:" not in answer.text
        assert door.ask("POST", "/dispatch_training", json={"config": word}).status_code == 422
        assert door.ask("GET", "/events", params={"type": word, "config": word}).status_code == 422
        for name in (word, f"models/{word}"):
            assert door.ask("POST", "/admin/distribute-model", json={"model": name}).status_code == 422, name
    for path in ("models/my_model.pth", "/etc/passwd", f"canonical_{CONFIG}.pth", "models/canonical_hex8_2p.pth"):
        for key in ("model", "model_path"):
            assert door.ask("POST", "/admin/promote", json={"config": CONFIG, key: path}).status_code == 422, path
            assert door.ask("POST", "/admin/distribute-model", json={key: path}).status_code == 422, path
    assert platform.ledger.audit(config=CONFIG) == []


def test_generated_requests_find_no_way_in_and_no_answer_that_is_not_described(door: Door) -> None:
    sweep = Sweep(door.url, door.tokens)
    for operation in sweep.operations():
        permission = operation.definition.raw["x-permission"]
        if operation.method == "get":
            sweep.run(operation, USER, 2, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        if permission not in ("none", "login"):
            nobody = None if operation.method == "get" else "vera"
            sweep.run(operation, nobody, 1, [GenerationMode.POSITIVE], expect=401 if nobody is None else 403)
    door.texts.extend(sweep.texts)
    assert sweep.cases >= 90
    assert max(sweep.codes) < 500


# --- what the runbooks' lines answer ---------------------------------------------------------------


def test_R25_status_has_the_keys_that_the_runbooks_read(door: Door, made: dict[str, str]) -> None:
    found = door.get("/status", "vera")
    assert list(found["configs"]) == list(CONFIGS)
    cell = found["configs"][CONFIG]["train"]
    assert {"completed", "status", "error", "started_at", "ended_at", "run_id"} <= set(cell)
    assert (cell["status"], cell["error"]) == ("failed", "CUDA out of memory")
    assert all({"id", "type", "status", "node_id"} <= set(one) for one in found["jobs"])
    assert found["promotion_status"][CONFIG]["canonical"] == made["net"]
    assert found["promotion_status"][CONFIG]["verdict"] == "PASS"
    assert found["model_distribution"][CONFIG]["sha"] == made["net"]
    assert found["alive_peers"] == []
    assert "last_training_time" in found
    assert any(one["type"] == "GENERATION_FINISHED" for one in found["recent_events"])
    one = door.get(f"/status?config={CONFIG}")
    assert list(one["configs"]) == [CONFIG]
    assert door.ask("GET", "/status?config=hexagonal_5p").json()["detail"].count("did you mean") == 1


def test_R72_the_daemons_and_a_host_that_does_not_answer_say_how_they_are(platform: Platform, door: Door) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        host = {"ssh_host": "127.0.0.1", "ssh_port": closed.getsockname()[1], "host_key": key, "role": "training",
                "max_parallel_jobs": 1}  # fmt: skip
        platform.home.inventory.write_text(json.dumps({"hosts": {"gone": host}}))
        try:
            found = door.get("/cluster/health/gone", "vera")
            assert (found["host"], found["cause"]) == ("gone", "HostRefusedError")
            row = door.get("/cluster/status")["hosts"][0]
            assert (row["host"], row["state"]) == ("gone", "away")
            assert door.get("/status")["alive_peers"] == []
            platform.ledger.host_seen("gone", "boot")
            assert door.get("/status")["alive_peers"] == ["gone"]
        finally:
            platform.home.inventory.unlink()
    daemons = door.get("/status")["daemons"]
    assert {"metadatabase", "scheduler", "dag_processor", "triggerer", "MODEL_DISTRIBUTION"} == set(daemons)
    assert daemons["scheduler"]["status"] == "healthy"
    assert datetime.fromisoformat(daemons["scheduler"]["last_heartbeat"])


def test_R25_the_command_and_the_route_show_one_document(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == ExitCode.DONE
    assert set(json.loads(capsys.readouterr().out)) == set(door.get("/status"))


def test_R24_a_training_is_dispatched_and_refused_in_its_cooldown_with_the_time_of_its_end(
    platform: Platform, door: Door, made: dict[str, str]
) -> None:
    ended = {"job_id": made["job"], "weights": made["net"], "path": "p", "dataset": made["dataset"], "parent": None,
             "samples": 1, "train_loss": float("nan"), "validation_loss": 0.5}  # fmt: skip
    platform.ledger.record_event(EventType.TRAINING_COMPLETED, CONFIG, None, ended)
    refused = door.post("/dispatch_training", {"config": CONFIG, "profile": "standard"}, 409)
    assert refused["type"] == "CooldownError"
    assert re.search(r"the next may begin at 20\d\d-", refused["detail"])
    forced = {"config": CONFIG, "profile": "standard", "force": True}
    assert "needs a reason" in door.post("/dispatch_training", forced, 400)["detail"]
    until(f"{CONFIG} is known", 60, lambda: platform.api.has_dag(CONFIG))
    first = door.post("/dispatch_training", {"config": CONFIG, "reason": "new games"}, user="uma")
    row = platform.ledger.audit(config=CONFIG)[-1]
    assert (row.actor, row.door, row.action, row.reason) == ("uma", "http", "trigger", "new games")
    assert platform.api.run(CONFIG, first["run_id"])["triggering_user_name"] == "uma"
    events = door.get(f"/events?config={CONFIG}&type=TRAINING_COMPLETED&limit=1")
    assert events["events"][0]["payload"]["train_loss"] is None, "NaN is no JSON"
    assert door.get("/status")["last_training_time"] is not None


def test_R33_a_training_job_and_the_last_lines_of_its_log(door: Door, made: dict[str, str]) -> None:
    found = door.get(f"/v1/training/jobs/{made['job']}", "vera")
    assert (found["job"]["status"], found["job"]["type"], found["job"]["error"]) == (
        "failed", "training", "CUDA out of memory",
    )  # fmt: skip
    assert (found["process"]["state"], found["process"]["raw_code"]) == ("failed", 1)
    assert door.get(f"/v1/training/jobs/{made['job']}/logs?tail=3")["lines"] == ["line 147", "line 148", "line 149"]
    assert len(door.get(f"/v1/training/jobs/{made['job']}/logs")["lines"]) == 100
    listed = door.get(f"/v1/training/jobs?config={CONFIG}&status=failed&limit=1")
    assert [one["id"] for one in listed["jobs"]] == [made["job"]]
    assert door.ask("GET", f"/v1/training/jobs/{CONFIG}-g999999-train").status_code == 404


def test_R51_nets_are_promoted_and_distributed_by_their_names_in_the_registry(
    platform: Platform, door: Door, made: dict[str, str]
) -> None:
    until(f"{CONFIG} is known", 60, lambda: platform.api.has_dag(CONFIG))
    asked = {"config": CONFIG, "model": made["net"][:20], "reason": "from the paper"}
    judged = door.post("/admin/promote", asked, user="otto")
    assert judged["new"]
    assert platform.api.run(CONFIG, judged["run_id"])["conf"]["candidate"] == made["net"]
    row = platform.ledger.audit(config=CONFIG)[-1]
    assert (row.actor, row.action, row.reason) == ("otto", "evaluate", "from the paper")
    started = door.post("/admin/distribute-model", {"model": f"canonical_{CONFIG}", "force": True, "reason": "lost"})
    assert platform.api.run(CONFIG, started["run_id"])["conf"] == {
        "profile": "tiny", "stages": ["distribute"], "force": True,
    }  # fmt: skip
    assert (
        door.post("/admin/promote", {"config": CONFIG, "model": made["dataset"]}, 400)["type"] == "NotANetOfConfigError"
    )
    assert (
        door.post("/admin/promote", {"config": "hex8_2p", "model": made["net"]}, 400)["type"] == "NotANetOfConfigError"
    )
    assert door.post("/admin/distribute-model", {"model": made["dataset"]}, 400)["type"] == "NotANetOfConfigError"
    assert door.post("/admin/promote", {"config": CONFIG, "model": "f" * 64}, 404)["type"] == "UnknownArtifactError"


def test_R64_pipeline_and_cluster_are_asked_and_started(platform: Platform, door: Door, made: dict[str, str]) -> None:
    state = door.get(f"/pipeline/status?config={CONFIG}")
    assert {"current_phase", "phase_status", "games_completed", "games_target", "started_at", "workers"} <= set(state)
    assert door.get("/cluster/status") == {"hosts": []}
    assert door.ask("GET", "/cluster/health/nohost").status_code == 404
    assert door.get("/health", None)["healthy"] in (True, False)
    assert door.get("/health")["details"]["components"]["scheduler"] == "healthy"
    until(f"{CONFIG} is known", 60, lambda: platform.api.has_dag(CONFIG))
    run = door.post("/pipeline/selfplay_worker", {"config": CONFIG})["run_id"]
    assert platform.api.run(CONFIG, run)["conf"]["stages"] == ["selfplay"]
    run = door.post("/pipeline/start", {"config": CONFIG, "phase": "npz_export"})["run_id"]
    assert platform.api.run(CONFIG, run)["conf"]["stages"] == ["export"]
    cleared = door.post("/clear_training_state", {"config": CONFIG, "reason": "GPU at 0 %"})["cleared"]
    assert [one["config"] for one in cleared] == [CONFIG]
    assert "needs a reason" in door.post("/breakers/reset", {}, 400)["detail"]
    reset = door.post("/pipeline/reset", {"config": CONFIG, "reason": "enough"})
    assert reset["config"] == CONFIG
    actions = [row["action"] for row in door.get(f"/audit?config={CONFIG}")["audit"] if row["door"] == "http"]
    assert {"trigger", "clear training state", "reset"} <= set(actions)
    assert door.get("/locks") is not None
    assert set(door.get("/breakers")) == {"selfplay", "parity", "export", "train", "gauntlet", "promote", "distribute"}


def test_R73_datasets_are_listed_shown_and_say_what_one_may(
    door: Door, made: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = door.get(f"/v1/datasets?status=ready&config={CONFIG}", "vera")
    assert [(one["id"], one["status"]) for one in listed["datasets"]] == [(made["dataset"], "ready")]
    shown = door.get(f"/v1/datasets/{made['dataset'][:24]}")
    assert (shown["dataset"]["samples"], shown["nets"]) == (900, [made["net"]])
    mine = door.get(f"/v1/datasets/{made['dataset']}/permissions", "vera")
    assert mine["allowed"] == ["training:read", "dataset:read"]
    assert mine["readable"]
    assert door.get(f"/v1/datasets?status=backed_out&config={CONFIG}")["datasets"] == []
    assert main(["data", "list", "--status", "ready", "--config", CONFIG, "--json"]) == ExitCode.DONE
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["datasets"]] == [made["dataset"]]
    assert main(["data", "show", made["dataset"][:24]]) == ExitCode.DONE
    assert made["net"] in capsys.readouterr().out
    assert main(["data", "list", "--status", "redy"]) == ExitCode.WRONG_USAGE
    assert "did you mean ready" in capsys.readouterr().err
    assert main(["data", "show", made["net"]]) == ExitCode.NO_DATA


def test_R74_permissions_are_shown_and_a_grant_says_which_role_holds_them_and_where_it_is_set(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    uma = {"training:read": True, "dataset:read": True, "training:start": True, "model:write": False, "admin": False}
    for user in ("uma", USER):
        found = door.get("/v1/agents/uma/permissions", user)
        assert (found["role"], found["permissions"]) == ("user", uma)
    assert door.ask("GET", "/v1/agents/uma/permissions", "otto").json()["permission"] == "admin"
    assert "did you mean uma" in door.ask("GET", "/v1/agents/umma/permissions").json()["detail"]
    assert door.post("/v1/agents/uma/permissions", {"permissions": ["training:start"]})["role"] == "user"
    refused = door.post("/v1/agents/uma/permissions", {"permissions": ["model:write", "training:start"]}, 409)
    assert "the role op holds it: set uma:op in" in refused["detail"]
    assert main(["permissions", "show", "uma", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["permissions"] == uma
    assert main(["permissions", "grant", "uma", "training:start"]) == ExitCode.DONE
    assert main(["permissions", "grant", "uma", "admin"]) == ExitCode.GATE_SAID_NO
    assert "set uma:admin in `simple_auth_manager_users`" in capsys.readouterr().err
    assert main(["permissions", "grant", "uma", "model:wrote"]) == ExitCode.WRONG_USAGE


# --- people ----------------------------------------------------------------------------------------


def test_R1_the_page_shows_every_config_and_stage_and_escapes_what_the_ledger_holds(
    platform: Platform, door: Door, made: dict[str, str]
) -> None:
    answer = door.ask("GET", "/page", "vera")
    assert answer.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    rows = re.findall(r"<tr>\s*<th>(\w+_\dp)</th>(.*?)</tr>", answer.text, re.DOTALL)
    assert [name for name, _ in rows] == list(CONFIGS)
    assert {len(re.findall(r'<td class="(\w+)"><b>', cells)) for _, cells in rows} == {7}
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert made["net"][:12] in answer.text
    only = door.ask("GET", f"/page?config={CONFIG}").text
    assert re.findall(r"<th>(\w+_\dp)</th>", only) == [CONFIG]
    assert door.ask("GET", "/page?config=candidates").text.count("<th>") > 12
    assert main(["events", "--config", CONFIG]) == ExitCode.DONE
    log = (platform.home.logs / "coordination.log").read_text()
    forged = [line for line in log.splitlines() if line.endswith("#9\\x1b[2J\\u2028") and not line.startswith("20")]
    assert forged == []
    assert "\x1b" not in log
    assert "\u2028" not in log


def test_the_lines_of_the_page_about_http_work_with_the_token_of_the_command(
    platform: Platform, door: Door, debian_package: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    debian_package("curl", "curl")
    assert main(["token"]) == ExitCode.DONE
    said = capsys.readouterr()
    until_when = re.search(r"valid until (\S+), for", said.err)
    assert until_when is not None
    assert datetime.fromisoformat(until_when[1]) > datetime.now(UTC)
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    lines = re.findall(r"^\$ (curl .+)$", page, re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        ready = line.replace("http://localhost:8080/ringrift", door.url) + " -w '\\n%{http_code}'"
        environment = os.environ | {"TOKEN": said.out.strip(), "no_proxy": "localhost"}
        ran = subprocess.run(["bash", "-c", ready], env=environment, capture_output=True, text=True, check=False)
        assert ran.stdout.rstrip().endswith(("200", "404", "409")), (line, ran.stdout, ran.stderr)
        door.texts.append(ran.stdout)


def test_R8_figures_for_prometheus_want_a_login_unless_the_setting_opens_them(platform: Platform, door: Door) -> None:
    assert door.ask("GET", "/metrics", None).status_code == 401
    told = door.ask("GET", "/metrics", "vera")
    assert (told.status_code, told.headers["content-type"]) == (200, CONTENT_TYPE)
    assert f'ringrift_rows{{config="{CONFIG}"' in told.text
    set_rate(platform, 100_000, "http_open_metrics: true\n")
    assert door.ask("GET", "/metrics", None).status_code == 200
    set_rate(platform, 100_000)
    assert door.ask("GET", "/metrics", None).status_code == 401
