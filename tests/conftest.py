"""What every test gets: a home of its own, a clean environment, and Debian packages where it may install them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

PROJECT = Path(__file__).resolve().parent.parent

# Nothing of the installation that starts the tests reaches them. Compiled code is shared: it is named by its source.
for _name in [name for name in os.environ if name.lstrip("_").startswith(("AIRFLOW", "RINGRIFT_"))]:
    if _name != "RINGRIFT_NUMBA_CACHE":
        del os.environ[_name]
os.environ.setdefault("RINGRIFT_NUMBA_CACHE", str(PROJECT / ".ringrift" / "numba"))

MISSING_PACKAGE = "missing package"


class ByFile(LoadScopeScheduling):
    """Tests of one file share a worker, and so do files that start Airflow and name the same platform: 1 or 2.

    (xdist's own groups name tests through an attribute that pytest 9 no longer reads.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        named = re.search(r"mark\.platform\((\d)\)", (PROJECT / path).read_text(encoding="utf-8"))
        return f"platform {named[1]}" if named else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How `make test` shares the tests out between its workers."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Airflow comes first, one platform per worker: it takes longest, and mostly waits."""

    def turn(item: pytest.Item) -> int:
        marker = item.get_closest_marker("platform")
        return 9 if marker is None else int(marker.args[0])

    items.sort(key=turn)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``RINGRIFT_HOME`` of this test: an empty folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("RINGRIFT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with RingRift's recorded games beside the project; tests that need it are skipped without it."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no recorded games: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def debian_package() -> Callable[[str, str], str]:
    """Return the path of a command, after installing its Debian package where that is possible.

    ``debian_package("sshd", "openssh-server")``. Elsewhere the test is skipped and says why; with ``CI=true`` it fails.
    """

    def provide(command: str, package: str) -> str:
        path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin:/usr/local/sbin")
        if path is None and os.geteuid() == 0 and Path("/etc/debian_version").exists():
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
            subprocess.run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=False, env=environment
            )
            path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin:/usr/local/sbin")
        if path is None:
            reason = f"{MISSING_PACKAGE}: {command} (Debian package {package})"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return provide
