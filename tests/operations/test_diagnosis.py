"""Causes are recognised by what failed processes really leave behind: here the cheap ones, the rest in a campaign."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from ringrift_ops.cli import main
from ringrift_ops.cli.app import app
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import HostRefusedError
from ringrift_ops.hosts.folder import JobFolder, read_json, write_json
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Outcome
from ringrift_ops.operations import breakers
from ringrift_ops.operations.causes import BY_NAME, ROWS
from ringrift_ops.operations.diagnosing import NoSuchSymptomError, findings, page, rows_named
from ringrift_ops.operations.diagnosis import UNKNOWN, Cause, diagnose, filled
from ringrift_ops.operations.status import ConfigStatus
from ringrift_ops.operations.surroundings import Pool
from ringrift_ops.operations.traces import Evidence, beat_seconds, local_evidence
from ringrift_ops.stages.specs import Stage
from tests.ledger.conftest import sha
from tests.operations.test_status import AIRFLOW, done, look, passed_games

PROJECT = Path(__file__).resolve().parents[2]
FAKE_SMI = "#!/bin/sh\necho 'NVIDIA H100, 81559, 81000, 0'\n"


def submit(house: Home, job_id: str, *argv: str, seconds: float = 300.0, spec: dict[str, Any] | None = None) -> None:
    LocalJobs(house.jobs).submit_or_adopt(
        Job(job_id=job_id, argv=argv, spec=spec or {}, timeout_seconds=seconds, grace_seconds=0.1)
    )


def python(house: Home, job_id: str, script: str, **more: Any) -> None:
    submit(house, job_id, sys.executable, "-c", script, **more)


def over(house: Home, job_id: str) -> Evidence:
    assert LocalJobs(house.jobs).wait(job_id, 300).over
    return local_evidence(house, job_id)


def names(causes: list[Cause]) -> list[str]:
    return [one.cause for one in causes]


def limited(megabytes: int, then: str) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2)\n{then}"


GPU = "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')"
SCRIPTS: dict[str, tuple[str, str]] = {
    "hex8_2p-g1-train": ("memory", limited(512, "bytearray(10**10)")),
    "hex8_2p-g1-export": ("export_memory", limited(512, "bytearray(10**10)")),
    "hex8_2p-g1-gauntlet": ("gauntlet_memory", limited(2048, "import numpy; numpy.ones(10**10)")),
    "hex8_2p-g1-selfplay-s0": ("stage_memory", limited(512, "bytearray(10**10)")),
    "hex8_2p-g2-train": ("crashed", "import os; os.abort()"),
    "hex8_2p-g2-selfplay-s0": ("not_initialised", "import a_module_that_is_missing"),
    "hex8_2p-g2-distribute": (
        "refused",
        (
            "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); p = s.getsockname(); s.close()\n"
            "socket.create_connection(p)"
        ),
    ),
    "hex8_2p-g3-distribute": (
        "network_timeout",
        (
            "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
            "c = socket.create_connection(s.getsockname(), timeout=0.2); c.recv(1)"
        ),
    ),
    "hex8_2p-g3-export": (
        "permission_denied",
        (
            "import os, pathlib\np = pathlib.Path('mine'); p.write_text('x'); p.chmod(0)\n"
            "if os.getuid() == 0: os.setegid(65534); os.seteuid(65534)\np.read_text()"
        ),
    ),
    "hex8_2p-g3-parity": (UNKNOWN, "print('something nobody has seen'); raise SystemExit(7)"),
}
"""A job, its cause, and what it does."""


def test_R11_failed_processes_are_told_apart_by_what_they_leave(house: Home) -> None:
    for job_id, (_, script) in SCRIPTS.items():
        python(house, job_id, script)
    submit(house, "hex8_2p-g4-train", "/no/such/program")
    python(house, "hex8_2p-g5-train", "import time; time.sleep(60)", seconds=0.5)
    python(house, "hex8_2p-g5-gauntlet", "import time; time.sleep(60)", seconds=0.5)
    python(house, "hex8_2p-g6-train", "import time; time.sleep(60)")
    LocalJobs(house.jobs).kill("hex8_2p-g6-train")
    python(house, "hex8_2p-g7-train", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    expected = {job_id: cause for job_id, (cause, _) in SCRIPTS.items()} | {
        "hex8_2p-g4-train": "not_initialised", "hex8_2p-g5-train": "timeout", "hex8_2p-g5-gauntlet": "game_timeout",
        "hex8_2p-g6-train": "ended_on_request", "hex8_2p-g7-train": "killed_for_memory",
    }  # fmt: skip
    found = {job_id: diagnose(over(house, job_id)) for job_id in expected}
    assert {job_id: causes[0].cause for job_id, causes in found.items()} == expected
    assert all(one.evidence and one.fix and one.page for causes in found.values() for one in causes)
    assert "MemoryError" in found["hex8_2p-g1-train"][0].evidence[0]
    assert found["hex8_2p-g7-train"][0].confidence < 0.7, "nothing but a signal is no proof"
    unknown = found["hex8_2p-g3-parity"][0]
    assert "add one" in unknown.title
    assert "something nobody has seen" in unknown.evidence
    assert "exit code 7" in unknown.evidence[0]


def test_R11_a_gpu_that_is_full_or_missing(house: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has no GPU: `nvidia-smi` is a fake, and the error is raised."""
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text(FAKE_SMI)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    spec = {"device": "cuda", "batch_size": 512, "dataset_path": "data/d.npz", "config": "hex8_2p"}
    python(house, "hex8_2p-g1-train", GPU, spec=spec)
    causes = diagnose(over(house, "hex8_2p-g1-train"))
    assert names(causes) == ["gpu_memory"]
    assert causes[0].fix == f"ringrift train --config hex8_2p --data-path {house.root}/data/d.npz --batch-size 256"
    assert any("81000 of 81559 MiB" in line for line in causes[0].evidence)
    fake.write_text("#!/bin/sh\necho 'No devices were found' >&2; exit 6\n")
    python(house, "hex8_2p-g2-train", "raise SystemExit(4)", spec=spec)
    assert names(diagnose(over(house, "hex8_2p-g2-train"))) == ["no_gpu"]


def test_R11_several_causes_at_once_come_in_order(house: Home) -> None:
    python(
        house, "hex8_2p-g1-train", "import sys; print('OSError: [Errno 28] No space left on device'); raise MemoryError"
    )
    causes = diagnose(over(house, "hex8_2p-g1-train"))
    assert set(names(causes)) == {"disk_full", "memory"}
    assert [one.confidence for one in causes] == sorted((one.confidence for one in causes), reverse=True)
    surer = diagnose(replace(over(house, "hex8_2p-g1-train"), error="DiskPressureError", message="0.1 GB disk free"))
    assert names(surer)[0] == "disk_full"


def test_R11_a_hung_process_is_shown_with_its_stack_and_a_busy_one_is_left_alone(house: Home) -> None:
    script = (
        "import json, time, datetime\n"
        "def waits_for_ever():\n    time.sleep(300)\n"
        "with open('heartbeat.jsonl', 'w') as f:\n"
        "    for n in 1, 2:\n"
        "        t = datetime.datetime(2026, 11, 25, 12, 0, n * 20, tzinfo=datetime.UTC).isoformat()\n"
        "        print(json.dumps({'t': t, 'phase': 'epoch 1', 'done': n}), file=f)\n"
        "waits_for_ever()\n"
    )
    jobs = LocalJobs(house.jobs)
    python(house, "hex8_2p-g1-train", script)
    beat = JobFolder(jobs.folder("hex8_2p-g1-train")).heartbeat
    while jobs.poll("hex8_2p-g1-train").heartbeat is None:
        assert jobs.poll("hex8_2p-g1-train").state is JobState.RUNNING
    try:
        assert beat_seconds(beat) == 20
        assert diagnose(local_evidence(house, "hex8_2p-g1-train")) == []
        old = beat.stat().st_mtime - 59
        os.utime(beat, (old, old))
        assert diagnose(local_evidence(house, "hex8_2p-g1-train")) == [], "three of its steps are 60 s"
        os.utime(beat, (old - 100, old - 100))
        causes: list[Cause] = []
        while not any("waits_for_ever" in line for one in causes for line in one.evidence):
            causes = diagnose(local_evidence(house, "hex8_2p-g1-train", stacks=True))
        assert names(causes) == ["hung"]
        assert causes[0].fix == "ringrift jobs hex8_2p-g1-train --kill"
    finally:
        jobs.kill("hex8_2p-g1-train")


def test_R11_a_machine_that_was_rebooted_under_a_job(house: Home) -> None:
    python(house, "hex8_2p-g1-train", "pass")
    assert diagnose(over(house, "hex8_2p-g1-train")) == []
    folder = JobFolder(LocalJobs(house.jobs).folder("hex8_2p-g1-train"))
    runner = read_json(folder.pid) or {}
    runner["process"]["boot_id"] = "another boot"
    write_json(folder.pid, runner)
    folder.exit_code.unlink()
    assert names(diagnose(local_evidence(house, "hex8_2p-g1-train"))) == ["host_lost"]


def test_R11_what_the_platform_waits_for_is_a_cause(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "hex8_2p"]) == ExitCode.DONE
    assert "platform_down" in capsys.readouterr().out
    waiting = look(bench, replace(AIRFLOW, paused={"hex8_2p": True}))
    idle = next(cell.idle for cell in waiting.stages if cell.idle is not None)
    held = Evidence("", "train", config="hex8_2p", held=idle.why.value, held_by=idle.reason)
    assert names(diagnose(held)) == ["paused"]


def held(bench: Any, found: ConfigStatus) -> dict[str, str]:
    """{cause: fix} of what holds the stages of hex8_2p."""
    told = findings(Home.find(), bench.ledger, found)
    return {cause.cause: cause.fix for one in told if one.job_id is None for cause in one.causes}


def test_R11_everything_that_holds_a_stage_is_a_cause_with_its_fix(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, lease = bench.running()
    assert held(bench, look(bench)) == {}
    assert held(bench, look(bench, disk_free=10**8)) == {"disk_full": "ringrift retention plan"}
    full = replace(AIRFLOW, pools={"selfplay": Pool(2, 0)})
    assert held(bench, look(bench, full)) == {"queued": "ringrift status hex8_2p"}
    while held(bench, look(bench)) == {}:
        breakers.note(bench.ledger, "hex8_2p", Stage.SELFPLAY, HostRefusedError("one", "nobody listens"))
    assert held(bench, look(bench)) == {"breaker_open": "ringrift breakers reset hex8_2p selfplay --reason WHY"}
    done(bench, generation, lease, Stage.SELFPLAY, Stage.PARITY)
    passed_games(bench, generation, lease, "few", 1_500)
    assert held(bench, look(bench)) == {"too_few_games": "ringrift start hex8_2p --profile tiny"}
    passed_games(bench, generation, lease, "many", 10**6)
    bench.ledger.finish_generation(generation.id, Outcome.PARTIAL, "enough", lease.token, bench.now)

    other = bench.ledger.ensure_generation("hex8_2p", None, "gpu", bench.now, "standard", now=bench.now)
    lease = bench.ledger.try_grant_generation(other.id, bench.now)
    done(bench, other, lease, Stage.SELFPLAY, Stage.PARITY)
    trained = {"job_id": "j", "weights": sha("n"), "path": "p", "dataset": sha("d"), "parent": None, "samples": 1}
    trained |= {"train_loss": 0.1, "validation_loss": 0.1}
    bench.ledger.record_event(EventType.TRAINING_COMPLETED, "hex8_2p", other.id, trained, now=bench.now)
    assert held(bench, look(bench)) == {
        "cooldown": "ringrift trigger hex8_2p train --force --reason WHY --profile standard"
    }
    done(bench, other, lease, Stage.EXPORT)
    assert held(bench, look(bench, gpu=False)) == {"no_fitting_host": "ringrift cluster list"}
    done(bench, other, lease, Stage.TRAIN)
    done(bench, other, lease, Stage.GAUNTLET, verdict="PASS", candidate=sha("net"))
    done(bench, other, lease, Stage.PROMOTE, promoted=False)
    monkeypatch.setenv("RINGRIFT_AUTO_PROMOTE", "false")
    assert "approval_pending" in held(bench, look(bench))
    bench.ledger.finish_generation(other.id, Outcome.PASS, "won", lease.token, bench.now)

    bench.generation("later", after=60)
    bench.ledger.acquire_lease("generation/hex8_2p", "anna@host1", seconds=60, now=bench.now)
    found = held(bench, look(bench))
    assert found["lock_held"] == "ringrift lock hex8_2p --release --reason WHY"
    assert set(found) == {"lock_held", "breaker_open"}, "two at once: that breaker is still open"


def test_R11_the_command_shows_causes_fixes_and_pages(house: Home, capsys: pytest.CaptureFixture[str]) -> None:
    python(house, "hex8_2p-g1-export", SCRIPTS["hex8_2p-g1-export"][1], spec={"config": "hex8_2p"})
    over(house, "hex8_2p-g1-export")
    assert main(["diagnose", "--job", "hex8_2p-g1-export"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "export_memory" in shown
    assert "fix: ringrift export --use-discovery --config hex8_2p --max-samples 100000" in shown
    assert "page: docs/runbooks/diagnosis.md#export-memory" in shown
    assert main(["diagnose", "--job", "hex8_2p-g1-export", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)[0]["causes"][0]["cause"] == "export_memory"
    assert main(["diagnose", "--job", "hex8_2p-g9-export"]) == ExitCode.NO_DATA
    assert main(["diagnose"]) == ExitCode.WRONG_USAGE
    assert main(["runbook", "killed-for-memory"]) == ExitCode.DONE
    assert "the kernel killed it for memory" in capsys.readouterr().out.lower()


def test_R11_every_cause_has_its_section_and_a_fix_that_exists() -> None:
    written = (PROJECT / "docs" / "runbooks" / "diagnosis.md").read_text(encoding="utf-8")
    assert written == page(), "`make docs`"
    assert len(BY_NAME) == len(ROWS)
    for row in ROWS:
        assert f"\n## {row.anchor.partition('#')[2]}\n" in written
        words = filled(row.fix, Evidence("hex8_2p-g1-train", "train", config="hex8_2p", host="gpu1")).split()[1:]
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {name for one in command.params for name in [*one.opts, *one.secondary_opts]}
        assert not getattr(command, "commands", {}), row.fix
        assert [word for word in words if word.startswith("--") and word not in options] == [], row.fix


def test_a_symptom_is_found_by_its_words_and_an_unknown_one_names_the_nearest() -> None:
    assert rows_named("CUDA out of memory")[0].cause == "gpu_memory"
    assert [row.cause for row in rows_named("corrupt-checkpoint")] == ["corrupt_checkpoint"]
    with pytest.raises(NoSuchSymptomError, match="diverged"):
        rows_named("divergd")
