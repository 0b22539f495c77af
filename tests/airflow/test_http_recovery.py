"""Over HTTP: nets are taken back, bad games go out of use, old files are removed, a live host says how it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from ringrift_ops.ledger import Condition
from ringrift_ops.platform.api import ApiError
from ringrift_ops.platform.environment import USER, Installation
from ringrift_ops.platform.logins import token
from ringrift_ops.settings import RETENTION
from ringrift_ops.stages.links import repair_links
from tests.airflow.conftest import Platform, until
from tests.airflow.nets import in_force, workbench
from tests.airflow.test_http import Door
from tests.hosts.sshd import Sshds, running, write_inventory

pytestmark = [pytest.mark.platform(1), pytest.mark.slow]

CONFIG, LOCKED = "hexagonal_2p", "hexagonal_4p"
"""On this platform only these tests use them; the second stays paused."""


@pytest.fixture(autouse=True)
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's home is this process' home."""
    monkeypatch.setenv("RINGRIFT_HOME", str(platform.home.root))
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")


@pytest.fixture
def door(platform: Platform) -> Door:
    tokens = {name: token(platform.home, name).token for name in (USER, "otto", "uma", "vera")}
    return Door(f"{Installation(platform.home).url()}/ringrift", tokens)


def actions(platform: Platform) -> list[tuple[str, str, str]]:
    return [(row.action, row.actor, row.door) for row in platform.ledger.audit()]


def test_R56_a_net_is_taken_back_and_bad_games_go_out_of_use_with_all_that_came_of_them(
    platform: Platform, door: Door
) -> None:
    bench = workbench(platform)
    generation, lease = bench.running("recovery", CONFIG)
    first, _ = in_force(platform, generation, lease, "first", None)
    second, games = in_force(platform, generation, lease, "second", first)
    never = bench.net("never judged", generation, lease)
    repair_links(platform.home, platform.ledger, [CONFIG])
    asked = {"config": CONFIG}
    assert door.post("/admin/rollback", asked, 403, "otto")["permission"] == "admin"
    assert "reason" in door.post("/admin/rollback", asked, 400)["detail"]
    assert platform.ledger.canonical(CONFIG).sha == second  # type: ignore[union-attr]
    found = door.post("/admin/rollback", asked | {"reason": "plays worse"})
    assert (found["sha"], found["previous"]) == (first, second)
    assert door.post("/admin/rollback", asked | {"reason": "plays worse"})["sha"] == first
    assert platform.home.canonical_link(CONFIG).resolve().stem == first[2:]
    assert actions(platform).count(("rollback", USER, "http")) == 1
    assert door.post("/admin/rollback", asked | {"to": "0" * 12, "reason": "x"}, 404)["type"] == "UnknownArtifactError"
    refused = door.post("/admin/rollback", asked | {"to": never, "reason": "x"}, 409)
    assert (refused["type"], second[:12] in refused["detail"]) == ("NeverInForceError", True)
    assert door.post("/admin/rollback", {"config": "../x", "reason": "x"}, 422)["type"] == "WrongFields"

    assert door.post("/admin/rollback", asked | {"to": second, "reason": "it was good"})["sha"] == second
    bad = {"kind": "games", "sha": games}
    plan = door.post("/admin/backout", bad | {"dry_run": True})
    assert (plan["done"], plan["canonical"], plan["back_to"]) == (False, second, first)
    assert [one["kind"] for one in plan["made_from_it"]] == ["dataset", "weights"]
    assert door.post("/admin/backout", bad, 400)["type"] == "MissingReasonError"
    assert door.post("/admin/backout", bad | {"kind": "dataset", "reason": "x"}, 400)["type"] == "NotOfThatKindError"
    assert door.post("/admin/backout", bad | {"reason": "a broken host"})["done"] is True
    assert platform.ledger.canonical(CONFIG).sha == first  # type: ignore[union-attr]
    assert set(platform.ledger.poisoned([second, games])) == {second, games}
    assert ("back out", USER, "http") in actions(platform)


def test_R23_a_lock_is_in_use_while_its_run_is_under_way_in_airflow_and_free_once_it_is_over(
    platform: Platform, door: Door
) -> None:
    until(f"{LOCKED} is known", 60, lambda: platform.api.has_dag(LOCKED))
    run_id = platform.api.trigger(LOCKED, {"profile": "tiny"}, "of-a-paused-dag")
    generation, _ = workbench(platform).running(run_id, LOCKED)
    asked = {"config": LOCKED}
    assert door.get(f"/locks?config={LOCKED}", "vera")[0]["in_use"] == f"run {run_id}, which is queued"
    assert door.post("/locks/release", asked, 409, "otto")["type"] == "LockInUseError"
    cleared = {one["config"]: one for one in door.post("/clear_training_state", {}, user="otto")["cleared"]}
    assert f"in use by run {run_id}" in cleared[LOCKED]["refused"]
    platform.ledger.note_wait(generation.id, LOCKED, Condition.TRAINING)
    platform.api.patch(f"/dags/{LOCKED}/dagRuns/{run_id}/taskInstances/finish", {"new_state": "failed"})
    platform.api.end_run(LOCKED, run_id)
    assert door.get(f"/locks?config={LOCKED}", "vera")[0]["in_use"] is None
    assert door.post("/locks/release", asked, user="otto")["released"]["holder"] == run_id


def test_R64_a_phase_that_moves_a_net_wants_the_permission_for_it_and_two_wishes_of_one_second_are_two_runs(
    platform: Platform, door: Door
) -> None:
    asked = {"config": CONFIG, "reason": "x"}
    for phase in ("promote", "distribute"):
        refused = door.post("/pipeline/start", asked | {"phase": phase}, 403, "uma")
        assert refused["permission"] == "model:write"
    assert "name it" in door.post("/pipeline/start", asked | {"force": True}, 422, "uma")["detail"]
    until(f"{CONFIG} is known", 60, lambda: platform.api.has_dag(CONFIG))
    wishes = [{"phase": "parity"}, {"phase": "parity", "profile": "tiny", "force": True}, {"phase": "parity"}]
    started = [door.post("/pipeline/start", asked | one, user="uma") for one in wishes]
    assert [one["new"] for one in started] == [True, True, False]
    assert (started[0]["run_id"] != started[1]["run_id"], started[0] | {"new": False}) == (True, started[2])
    assert [platform.api.run(CONFIG, one["run_id"])["conf"]["force"] for one in started[:2]] == [False, True]
    with pytest.raises(ApiError, match="409"):
        platform.api.trigger(CONFIG, {"profile": "quick"}, started[0]["run_id"])
    door.post("/pipeline/reset", asked)


def test_R31_what_is_old_is_shown_and_then_removed_with_a_reason(platform: Platform, door: Door) -> None:
    old = platform.home.logs / "selfplay_gone_20200101T000000Z.log"
    old.write_text("the games of long ago\n")
    moment = old.stat().st_mtime - (RETENTION.log_days + 1) * 86_400
    os.utime(old, (moment, moment))
    assert door.ask("GET", "/admin/retention", "otto").status_code == 403
    plan = door.get("/admin/retention")
    assert not plan["done"]
    assert [one["kind"] for one in plan["removals"] if str(old) in one["path"]] == ["log"]
    assert door.post("/admin/retention", {}, 400)["type"] == "MissingReasonError"
    assert old.exists()
    assert door.post("/admin/retention", {"reason": "the disk fills"})["done"] is True
    assert not old.exists()
    assert ("remove", USER, "http") in actions(platform)


@pytest.fixture
def sshds(debian_package: Callable[[str, str], str]) -> Iterator[Sshds]:
    debian_package("ssh-keygen", "openssh-client")
    yield from running(debian_package("sshd", "openssh-server"))


def test_R72_a_live_host_says_how_it_is_and_that_it_is_away_once_it_is(
    platform: Platform, door: Door, sshds: Sshds
) -> None:
    sshd = sshds.make()
    write_inventory(platform.home, {"alive": sshd.host("alive")})
    try:
        found = door.get("/cluster/health/alive", "vera")
        assert (found["host"], found["error"]) == ("alive", None)
        assert found["facts"]["memory_free"] > 0
        assert door.get("/cluster/status")["hosts"][0]["state"] == "up"
        assert door.get("/status")["alive_peers"] == ["alive"]
        sshd.stop()
        assert door.get("/cluster/health/alive", "vera")["cause"] == "HostRefusedError"
        assert door.ask("GET", "/cluster/health/other").status_code == 404
    finally:
        platform.home.inventory.unlink()
