"""Each symptom of the runbooks produced for real by the verb itself, and recognised by what it left (by hand)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job, stage_job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.network.checkpoints import NAME
from ringrift_ops.network.weights import Network, load_network, save_network
from ringrift_ops.operations.diagnosis import Cause, diagnose
from ringrift_ops.operations.traces import local_evidence
from ringrift_ops.stages.checkpoints import checkpoint_folder
from tests.stages.conftest import CONFIG, Made, changed, gauntlet_spec
from tests.stages.test_remedies import interrupted, promoted

pytestmark = pytest.mark.runbooks_campaign

CLI = (sys.executable, "-m", "ringrift_ops.cli")
SECONDS = 600.0


def causes_of(house: Home, job: Job) -> list[Cause]:
    jobs = LocalJobs(house.jobs)
    jobs.submit_or_adopt(job)
    assert jobs.wait(job.job_id, SECONDS).over
    return diagnose(local_evidence(house, job.job_id))


def of_stage(house: Home, stage: str, spec: Any) -> list[Cause]:
    return causes_of(house, stage_job(stage, spec, job_id=f"{CONFIG}-g1-{stage}", timeout_seconds=SECONDS))


def of_verb(house: Home, stage: str, *words: str, **env: str) -> list[Cause]:
    job = Job(job_id=f"{CONFIG}-g1-{stage}", argv=(*CLI, *words), spec={"config": CONFIG}, env=env,
              timeout_seconds=SECONDS)  # fmt: skip
    return causes_of(house, job)


def of_script(house: Home, stage: str, script: str, **env: str) -> list[Cause]:
    job = Job(job_id=f"{CONFIG}-g1-{stage}", argv=(sys.executable, "-c", script), spec={}, env=env,
              timeout_seconds=SECONDS)  # fmt: skip
    return causes_of(house, job)


def named(causes: list[Cause], cause: str) -> Cause:
    found = [one for one in causes if one.cause == cause]
    assert found, causes
    assert causes[0].confidence >= 0.8
    return found[0]


def test_R11_an_export_without_games(house: Home, tmp_path: Path) -> None:
    empty = str(tmp_path / "empty")
    discovery = ["export", "--use-discovery", "--config", CONFIG, "--result", "result.json"]
    found = named(of_verb(house, "export", *discovery, RINGRIFT_HOME=empty), "no_games")
    assert found.fix == f"ringrift selfplay --config {CONFIG}"


def test_R11_datasets_that_are_missing_damaged_or_of_the_wrong_size(made: Made, house: Home) -> None:
    path = house.resolve(made.exported.path)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[: len(content) // 2])
    named(of_stage(house, "train", made.train), "corrupt_dataset")
    path.unlink()
    named(of_stage(house, "train", changed(made.train, seed=2)), "no_dataset")


def test_R11_settings_that_cannot_be_and_a_gpu_that_is_not_there(made: Made, house: Home) -> None:
    fix = named(of_stage(house, "train", changed(made.train, batch_size=70_000)), "wrong_settings").fix
    assert fix == f"ringrift preflight {CONFIG}"
    assert named(of_stage(house, "train", changed(made.train, device="cuda")), "no_gpu").fix.endswith("--device cpu")


DIVERGES = """
import json, pathlib
from ringrift_ops.stages import train
from ringrift_ops.stages.specs import TrainSpec
train.run(TrainSpec.model_validate_json(pathlib.Path({spec!r}).read_bytes()), lambda beat: None)
"""


def test_R11_a_loss_that_really_diverges_and_one_that_does_not_move(made: Made, house: Home, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(changed(made.train, learning_rate=1e6, remedies=[], epochs=3).model_dump_json())
    named(of_script(house, "train", DIVERGES.format(spec=str(spec))), "diverged")
    still = changed(made.train, learning_rate=1e-9, epochs=9, stop_after_epochs=3)
    causes = of_stage(house, "train", still)
    assert named(causes, "plateau").title == "no improvement any more"
    long = changed(made.train, learning_rate=1e-2, epochs=60, weight_decay=0.0)
    named(of_stage(house, "train", long), "overfitting")


def test_R11_checkpoints_that_are_corrupt_or_anothers(made: Made, house: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    path = interrupted(made, house, monkeypatch, seed=31, remedies=[])
    content = path.read_bytes()
    for one in path.parent.glob("checkpoint*"):
        one.write_bytes(content[:-100])
    spec = changed(made.train, epochs=3, seed=31, remedies=[])
    assert checkpoint_folder(house, spec) / NAME == path
    named(of_stage(house, "train", spec), "corrupt_checkpoint")
    other = house.root / "other.safetensors"
    other.write_bytes(content)
    named(of_stage(house, "train", changed(made.train, seed=32, resume_from=str(other))), "foreign_checkpoint")


def test_R11_nets_that_are_missing_damaged_or_of_another_version(made: Made, house: Home) -> None:
    spec = gauntlet_spec(made.trained)
    path = house.resolve(made.trained.path)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    net = load_network(path, CONFIG)
    save_network(Network(replace(net.header, encoder_version="9"), net.tensors, ""), path)
    named(of_stage(house, "gauntlet", spec), "engine_version")
    content[-5] ^= 1
    path.write_bytes(content)
    named(of_stage(house, "gauntlet", spec), "corrupt_model")
    path.unlink()
    named(of_stage(house, "gauntlet", spec), "model_not_found")


def test_R11_a_gauntlet_that_says_no_and_one_without_its_opponent(made: Made, house: Home) -> None:
    model = str(house.resolve(made.trained.path))
    words = ["gauntlet", "--model", model, "--config", CONFIG, "--profile", "tiny", "--result", "result.json"]
    named(of_verb(house, "gauntlet", *words, "--opponents", "wizard"), "opponent_not_found")
    shutil.rmtree(LocalJobs(house.jobs).folder(f"{CONFIG}-g1-gauntlet"))
    named(of_verb(house, "gauntlet", *words), "below_threshold")


def test_R11_links_that_lead_elsewhere_and_a_destination_that_takes_nothing(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(made, capsys)
    house.canonical_link(CONFIG).unlink()
    house.canonical_link(CONFIG).symlink_to("elsewhere.safetensors")
    assert main(["diagnose", CONFIG, "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [cause["cause"] for one in found for cause in one["causes"] if one["state"] == "links"] == ["wrong_model"]
    target = tmp_path / "destination"
    target.write_text("a file")
    words = ["distribute", "--config", CONFIG, "--model", made.trained.weights, "--to", str(target)]
    named(of_verb(house, "distribute", *words, "--result", "result.json"), "distribution_stuck")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A really full disk."""
    folder = tmp_path / "full"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root mounts a tmpfs")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        (folder / "filler").touch()
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        assert shutil.disk_usage(folder).free == 0
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_R11_a_disk_that_is_really_full(made: Made, house: Home, full: Path) -> None:
    (house.games / "full").symlink_to(full)
    spec = changed(made.selfplay, output=str(full / "games.db"))
    assert named(of_stage(house, "selfplay", spec), "disk_full").fix == "ringrift retention plan"


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory cgroup of 200 MB."""
    group = Path("/sys/fs/cgroup/memory/ringrift-diagnosis")
    if os.geteuid() != 0 or not group.parent.is_dir():
        pytest.skip("no memory cgroup may be made here")
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(200 << 20))
    yield group
    group.rmdir()


def test_R11_a_process_that_the_kernel_really_killed_for_memory(house: Home, memory_group: Path) -> None:
    script = (
        f"import os, pathlib\npathlib.Path('{memory_group}/tasks').write_text(str(os.getpid()))\n"
        "kept = []\nwhile True: kept.append(bytearray(10**7))"
    )
    found = named(of_script(house, "train", script), "killed_for_memory")
    assert found.confidence > 0.9
    assert any("oom-kill" in line or "out of memory" in line for line in found.evidence)


def test_R11_a_ledger_that_does_not_answer(house: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none"
    causes = of_verb(house, "export", "status", RINGRIFT_LEDGER_URL=url)
    assert {"ledger_unreachable", "refused"} & {one.cause for one in causes}, causes
