"""`ringrift cluster update` on a real sshd: from one version to the next, and back when the next one fails its check.

Each version is a copy of this checkout with another rule file, and runs as a controller of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home, project_folder
from ringrift_ops.hosts.local import LocalJobs
from tests.hosts.sshd import Sshd, Sshds, write_inventory

pytestmark = [pytest.mark.hosts_campaign, pytest.mark.timeout(1_500)]

HOST = "bare"
BROKEN = """
import sys
if "conform" in sys.argv:
    raise ImportError("this engine does not even start")
"""
"""Connects and answers like any other, and does not pass the check of its rules."""


@dataclass
class Version:
    """A checkout whose engine is its own."""

    root: Path
    home: Home

    def __post_init__(self) -> None:
        project = project_folder()
        self.root.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(project / name, self.root)
        shutil.copytree(
            project / "ringrift_ops", self.root / "ringrift_ops",
            ignore=shutil.ignore_patterns("__pycache__", "node_modules"),
        )  # fmt: skip

    def changed(self, text: str) -> Version:
        path = self.root / "ringrift_ops" / "rules" / "layout.py"
        path.write_text(path.read_text() + text)
        return self

    def cluster(self, verb: str, *words: str) -> tuple[int, dict[str, Any]]:
        """Run ``ringrift cluster`` of this version; return its exit code and what it says of the host."""
        answer = subprocess.run(
            [sys.executable, "-m", "ringrift_ops.cli", "cluster", verb, *words, "--json"],
            env=os.environ | {"PYTHONPATH": str(self.root), "RINGRIFT_HOME": str(self.home.root)},
            capture_output=True, text=True, check=False, cwd=self.root,
        )  # fmt: skip
        assert answer.stdout, answer.stderr
        (row,) = json.loads(answer.stdout)["hosts"]
        return answer.returncode, row


@pytest.fixture
def bare(sshds: Sshds, home: Path) -> Iterator[Sshd]:
    """A host with a venv that has what the role needs already, and nothing of ours."""
    sshd = sshds.make()
    subprocess.run([sys.executable, "-m", "venv", str(sshd.work / "venv")], check=True)
    packages = sshd.work / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    place = Home(home).ensure()
    write_inventory(place, {HOST: sshd.host(HOST, role="selfplay").model_copy(update={"python": None})})
    yield sshd
    LocalJobs(sshd.work / "jobs").kill_all()
    sshd.stop()


def test_R66_update_brings_a_host_from_one_version_to_the_next_and_takes_back_one_that_fails_its_check(
    bare: Sshd, home: Path, tmp_path: Path
) -> None:
    place = Home(home)
    old = Version(tmp_path / "old", place).changed("\n# version N\n")
    new = Version(tmp_path / "new", place).changed("\n# version N + 1\n")
    broken = Version(tmp_path / "broken", place).changed(BROKEN)
    code, row = old.cluster("bootstrap")
    assert (code, row["error"], row["facts"]["installed"]) == (ExitCode.DONE, None, True)
    first = row["facts"]["version"]
    assert old.cluster("health")[0] == ExitCode.DONE
    code, row = new.cluster("health")
    assert (code, row["facts"]["same_version"]) == (ExitCode.INFRASTRUCTURE, False)
    assert "another engine" in row["facts"]["version"]

    code, row = new.cluster("update", "--drain", "0")
    assert (code, row["error"], row["facts"]["installed"]) == (ExitCode.DONE, None, True)
    second = row["facts"]["version"]
    assert second != first
    assert new.cluster("health")[0] == ExitCode.DONE
    assert old.cluster("health")[0] == ExitCode.INFRASTRUCTURE
    assert not new.cluster("update")[1]["facts"]["installed"]

    mark = (bare.work / "installed.json").read_text()
    code, row = broken.cluster("update", "--drain", "0")
    assert (code, row["cause"]) == (ExitCode.INFRASTRUCTURE, "InstallationError")
    assert "was taken back" in row["error"]
    assert (bare.work / "installed.json").read_text() == mark
    code, row = new.cluster("health")
    assert (code, row["facts"]["versions"]["code"]) == (ExitCode.DONE, second)
