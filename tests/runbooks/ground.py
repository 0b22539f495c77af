"""The platform that all pages run on: real stages, in a small folder of memory, as an operator finds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, generation_lease
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from tests.airflow.conftest import START_SECONDS, output_of, processes_in, start, until, with_users
from tests.runbooks.pages import run

CONFIG = "hex8_2p"
DISK = "4g"
SECONDS = 600.0
"""For anything that is waited for."""
FAST: dict[str, Any] = {
    "first_games": 40, "games": 20, "simulations": 4, "window_minimum_rows": 500, "gauntlet_simulations": 2,
    "games_per_look": 12, "cap": 24, "cap_previous": 24, "mirror_games": 0, "split_ratio": 0.5,
}  # fmt: skip
"""The profile tiny, still smaller: half a minute of work. Of 20 games none for validation is a matter of 1 in 10^6."""


def write_settings(home: Home, **profile: Any) -> None:
    """Write `config/settings.yaml`: the profile tiny, ``profile`` over :data:`FAST`, and ``destinations``."""
    more = {name: profile.pop(name) for name in ("destinations",) if name in profile}
    lines = [f"{name}: {json.dumps(value)}" for name, value in ({"profile": "tiny"} | more).items()]
    lines += [
        "profiles:",
        "  tiny:",
        *(f"    {name}: {json.dumps(value)}" for name, value in (FAST | profile).items()),
    ]
    home.settings_file.write_text("\n".join(lines) + "\n")


@dataclass
class Ground:
    """A running platform, the folder that its operator stands in, and the ways to spoil it."""

    folder: Path
    home: Home
    api: Api

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.home.ledger_url)

    @property
    def environment(self) -> dict[str, str]:
        address = Installation(self.home).url()
        found = {"RINGRIFT_HOME": str(self.home.root), "RINGRIFT": f"{address}/ringrift", "TOKEN": self.api.token()}
        nets = self.ledger.artifacts(config=CONFIG, kind="weights")
        datasets = self.ledger.artifacts(config=CONFIG, kind="dataset")
        found |= {"NET": nets[0].sha} if nets else {}
        return found | ({"DATASET": str(self.home.resolve(datasets[0].path))} if datasets else {})

    def settings(self, **profile: Any) -> None:
        """Set the profile, ``profile`` over :data:`FAST`."""
        write_settings(self.home, **profile)

    def type(self, command: str) -> list[str]:
        """Run a command that must succeed, as a person would."""
        lines = run(command, self.folder, self.environment)
        assert not lines or not lines[-1].startswith("(exit code"), (command, lines)
        return lines

    # --- runs ----------------------------------------------------------------------------------------

    def under_way(self) -> list[dict[str, Any]]:
        return [one for state in ("queued", "running") for one in self.api.runs(CONFIG, state=state)]

    def over(self) -> None:
        """Wait until no run is under way."""
        until("the run is over", SECONDS, lambda: not self.under_way())

    WAITS: ClassVar[tuple[str, ...]] = ("over", "training")
    """What a page may wait for between two commands, by the name it has there."""

    def wait(self, name: str) -> None:
        """Wait for one of :data:`WAITS`."""
        match name:
            case "over":
                self.over()
            case "training":
                self.training()

    def start(self, command: str) -> None:
        """Start a run and wait until Airflow has it."""
        self.type(command)
        until("the run is under way", 60, self.under_way)

    def calm(self) -> None:
        """Bring the platform back to where nothing is wrong and nothing runs."""
        self.settings()
        standing = self.ledger.standings(CONFIG)[0]
        troubled = any(one.state != "done" for one in standing.runs) or self.ledger.breakers(CONFIG)
        held = self.ledger.lease(generation_lease(CONFIG))
        if self.under_way() or troubled or (held is not None and held.holder is not None):
            self.type(f"ringrift reset {CONFIG} --reason 'the next section of the runbook'")
            self.over()
        for one in self.ledger.incidents(unclosed=True):
            self.type(f"ringrift incident close {one.id} --reason 'the next section of the runbook'")

    def generation(self) -> None:
        """Make sure that a whole generation has ended."""
        if not self.ledger.artifacts(config=CONFIG, kind="weights"):
            self.start(f"ringrift start {CONFIG}")
            self.over()
            assert self.ledger.artifacts(config=CONFIG, kind="weights"), self.type(f"ringrift status {CONFIG}")

    # --- jobs ----------------------------------------------------------------------------------------

    def job(self, stage: str) -> str:
        """Return the id of the newest job of a stage."""
        ids = [path.name for path in self.home.jobs.glob(f"{CONFIG}-g*-{stage}*")]
        return max(ids, key=lambda name: int(name.split("-")[1][1:]), default="")

    def process(self, job_id: str) -> psutil.Process | None:
        """Return the process that does the work of a job, once it has shown a sign of it."""
        folder = self.home.job(job_id)
        beat = folder / "heartbeat.jsonl"
        if not job_id or not beat.exists() or not beat.stat().st_size:
            return None
        for one in psutil.process_iter(["cmdline", "cwd", "create_time"]):
            mine = one.info["cwd"] == str(folder) and "--spec" in (one.info["cmdline"] or ())
            if mine and beat.stat().st_mtime > one.info["create_time"] + 0.5:
                return one
        return None

    def _trains(self) -> None:
        self.training()

    def stepping(self) -> psutil.Process | None:
        """Return the process of the newest training, once it makes steps."""
        found = self.process(self.job("train"))
        if found is None:
            return None
        beats = (self.home.job(self.job("train")) / "heartbeat.jsonl").read_text().splitlines()
        return found if "epoch" in beats[-1] else None

    def training(self) -> psutil.Process:
        """Return the process of the training under way, once it makes steps."""
        found: psutil.Process = until("the training makes steps", SECONDS, self.stepping)
        return found


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """A small disk of its own at ``folder``, where that is allowed; says whether it is."""
    folder.mkdir(parents=True)
    allowed = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
        == 0
    )
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def ground_in(folder: Path) -> Iterator[Ground]:
    """A platform whose home is ``<folder>/.ringrift``; at its end nothing of it may be left."""
    root = folder / ".ringrift"
    with mounted(root):
        home = Home(root).ensure()
        with_users(home)
        write_settings(home)
        process = start(root, PYTHONPATH="", PROFILE="", RINGRIFT_HTTP_RATE="6000")
        try:
            until(
                "the platform is up", START_SECONDS,
                lambda: "is up after" in output_of(root).read_text() or process.poll() is not None,
            )  # fmt: skip
            assert process.poll() is None, output_of(root).read_text()
            installation = Installation(home)
            port = int(installation.url().rsplit(":", 1)[1])
            ground = Ground(folder, home, Api(port, USER, Secrets.of(installation).password))
            ground.settings()
            until("the DAGs are known", 120, lambda: ground.api.has_dag("remedies") and ground.api.has_dag(CONFIG))
            # What it would mend by itself within ten minutes is mended by hand on the pages.
            for dag in ("remedies", "alerts"):
                ground.api.patch(f"/dags/{dag}", {"is_paused": True})
            yield ground
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)
            for pid in processes_in(root):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(1)


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The one platform of all pages."""
    with ground_in(tmp_path_factory.mktemp("operator")) as found:
        yield found
