"""``make production-check``: the services of docker-compose.yaml as processes, two generations, two kills, a restore.

Everything runs in namespaces of its own (processes, network, mounts): when the check ends, however it ends, the kernel
ends what is in them. Exit code 0, 1 when something is not as it should be, 4 where it cannot run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import FrameType

from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.platform.processes import die_with_parent
from tests.production.compose import PROJECT

NEEDED = {"initdb": "postgresql", "redis-server": "redis-server", "redis-cli": "redis-tools", "tini": "tini",
          "caddy": "caddy",
          "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux"}  # fmt: skip


def main() -> int:
    """Run the check and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.production", description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hops", type=int, metavar="CHAINS", help="only measure the hop from task to task")
    asked = parser.parse_args()
    if not asked.inside:
        return _outside(sys.argv[1:])
    from tests.production import check, hops

    try:
        return check.main() if asked.hops is None else hops.main(asked.hops)
    except RingRiftError as error:
        print(error, file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)


def _outside(arguments: list[str]) -> int:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        print("make production-check makes namespaces and needs root on Linux", file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *_postgres()])
    missing = sorted({package for command, package in NEEDED.items() if shutil.which(command, path=path) is None})
    if missing:
        print(f"missing: apt-get install {' '.join(missing)}", file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)
    folder = tempfile.mkdtemp(prefix="ringrift-production-")
    process = subprocess.Popen(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         sys.executable, "-m", "tests.production", "--inside", *arguments],
        cwd=PROJECT, env=_clean() | {"RINGRIFT_CHECK_FOLDER": folder}, stdin=subprocess.DEVNULL,
        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
    )  # fmt: skip

    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        process.kill()  # and with it all that is in its namespaces

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    code = process.wait()
    Path(folder).rmdir()
    return 128 + received[0] if received else code


def _postgres() -> list[str]:
    return [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def _clean() -> dict[str, str]:
    """The caller's environment without anything that configures an Airflow or a RingRift."""
    return {
        name: value for name, value in os.environ.items() if not name.lstrip("_").startswith(("AIRFLOW", "RINGRIFT"))
    }


if __name__ == "__main__":
    sys.exit(main())
