"""The DAG ``remedies`` on a real platform: each trouble is mended by the scheduler itself, and the record is seen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.ledger import Event, EventType, Outcome, generation_lease
from ringrift_ops.platform.environment import USER, Installation
from ringrift_ops.platform.logins import token
from ringrift_ops.stages.links import repair_links
from ringrift_ops.store import sha256_file
from tests.airflow.conftest import Platform, until
from tests.airflow.nets import in_force, workbench
from tests.airflow.test_http import Door

pytestmark = [pytest.mark.platform(1), pytest.mark.runbooks_campaign]

STALE, SILENT, IN_FORCE = "square19_2p", "square19_3p", "square19_4p"
SECONDS = 300.0
BEATS = (
    "import json, signal\n"
    "with open('heartbeat.jsonl', 'w') as f:\n"
    "    for n in 1, 2:\n"
    "        beat = {'t': f'2026-11-25T12:00:{n * 20}+00:00', 'phase': 'epoch 1', 'done': n}\n"
    "        print(json.dumps(beat), file=f)\n"
    "signal.pause()\n"
)


@pytest.fixture(autouse=True)
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's home is this process' home."""
    monkeypatch.setenv("RINGRIFT_HOME", str(platform.home.root))
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")


@pytest.fixture
def silent(platform: Platform) -> Iterator[str]:
    """A real job of a generation under way that made steps 20 s apart and then none for ten minutes."""
    generation, lease = workbench(platform).running("silent", SILENT)
    job_id = f"{SILENT}-g{generation.id}-train"
    job = Job(job_id=job_id, argv=(sys.executable, "-c", BEATS), spec={}, timeout_seconds=3600, grace_seconds=0.1)
    platform.jobs.submit_or_adopt(job)
    platform.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id=job_id)
    until("it beats", 60, lambda: (platform.jobs.poll(job_id).heartbeat or {}).get("done") == 2)
    beat = JobFolder(platform.jobs.folder(job_id)).heartbeat
    os.utime(beat, (beat.stat().st_mtime - 600,) * 2)
    yield job_id
    platform.jobs.kill(job_id)


def told_of_ours(platform: Platform, kind: EventType) -> list[Event]:
    """The events of these tests' configs; other files of the session have nets of their own."""
    return [one for one in platform.ledger.events(types=[kind]) if one.config in (STALE, SILENT, IN_FORCE)]


def applied(platform: Platform) -> set[tuple[str, str]]:
    return {(one.payload["kind"], one.payload["target"]) for one in told_of_ours(platform, EventType.REMEDY_APPLIED)}


def test_R80_the_dag_mends_a_lease_a_silent_job_a_link_and_a_delivery_and_it_is_on_record(
    platform: Platform, silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until("remedies is known", 60, lambda: platform.api.has_dag("remedies"))
    assert platform.api.get("/dags/remedies")["is_paused"] is False
    bench, there = workbench(platform), tmp_path / "nets"
    platform.home.settings_file.write_text(f"destinations: [{there}]\nprofiles: {{tiny: {{remedy_stalled: act}}}}\n")
    bench.running("crashed", STALE)
    generation, lease = bench.running("won", IN_FORCE)
    net, _ = in_force(platform, generation, lease, "mended", None)
    platform.ledger.finish_generation(generation.id, Outcome.PASS, "won", lease.token)
    repair_links(platform.home, platform.ledger, [IN_FORCE])
    platform.home.best_link(IN_FORCE).unlink()
    platform.home.best_link(IN_FORCE).symlink_to("nowhere")

    run_id = platform.api.trigger("remedies", {})
    assert platform.over("remedies", run_id, SECONDS) == "success"

    freed = platform.ledger.lease(generation_lease(STALE))
    assert freed is None or freed.holder != "crashed"
    assert platform.jobs.poll(silent).state is not JobState.RUNNING
    assert platform.home.best_link(IN_FORCE).resolve() == platform.home.canonical_link(IN_FORCE).resolve()
    assert net in {sha256_file(path) for path in there.glob("*.safetensors")}

    kinds = {"lease": STALE, "stalled_job": silent, "links": IN_FORCE, "undistributed": f"{IN_FORCE} {net[:12]}"}
    afterwards = (
        "lease",
        SILENT,
    )  # what a run after it finds, and that may be one by the clock: the silent job is gone
    assert applied(platform) - {afterwards} == set(kinds.items())
    verified = told_of_ours(platform, EventType.REMEDY_VERIFIED)
    assert {event.payload["kind"] for event in verified if event.payload["ok"]} == set(kinds)
    assert {f"remedy {kind}" for kind in kinds} <= {row.action for row in platform.ledger.audit()}
    log = (platform.home.logs / "coordination.log").read_text()
    assert all(f"REMEDY_APPLIED [{config}]" in log for config in (STALE, SILENT, IN_FORCE))

    assert main(["status", SILENT, "--json"]) == ExitCode.DONE
    shown = json.loads(capsys.readouterr().out)
    assert any(event["type"] == "REMEDY_VERIFIED" for event in shown["recent_events"])
    door = Door(f"{Installation(platform.home).url()}/ringrift", {USER: token(platform.home, USER).token})
    told = door.get("/events?type=REMEDY_APPLIED&limit=20")["events"]
    assert set(kinds.values()) <= {event["payload"]["target"] for event in told}
    assert {f"remedy {kind}" for kind in kinds} <= {row["action"] for row in door.get("/audit?limit=50")["audit"]}

    again = platform.api.trigger("remedies", {})
    assert platform.over("remedies", again, SECONDS) == "success"
    assert applied(platform) == {*kinds.items(), afterwards}
