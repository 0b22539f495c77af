"""Making a host ready from nothing but sshd and Python 3.11: this package as a wheel, and what the host's role needs.

No Airflow goes to a host, and torch only where it trains. Everything lies in the host's own ``work_dir``; the wheels of
before stay there, so that an update that fails is taken back.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.home import Home, project_folder
from ringrift_ops.hosts.errors import HostAnswerError, HostHangsError, PythonMissingError
from ringrift_ops.hosts.jobs import command_about
from ringrift_ops.hosts.link import connect, named
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.hosts.versions import PACKAGE, difference, versions
from ringrift_ops.settings.tables import HOSTS

if TYPE_CHECKING:
    import asyncssh

    from ringrift_ops.settings import Host

PLAYS = (
    "alembic", "numba", "numpy", "psutil", "pydantic", "pydantic-settings", "PyYAML", "rich", "safetensors", "scipy",
    "SQLAlchemy", "tenacity", "typer",
)  # fmt: skip
"""What every stage on a host imports."""

TRAINS = (*PLAYS, "torch", "tensorboard")
"""What training imports besides."""

_BASES = ("python3.11", "python3")
_MARK = "installed.json"
_DRAIN_LOOK_SECONDS = 2.0


class NoWheelError(UsageError):
    """This installation cannot make a wheel of itself."""


class InstallationError(HostAnswerError):
    """A step of an installation failed on the host."""


class OwnInterpreterError(UsageError):
    """The inventory names an interpreter, and what is in it is the operator's."""


class JobsRunningError(InfrastructureError):
    """An update would cut jobs that run with the version of before."""


@dataclass(frozen=True)
class Wheel:
    """This package, and what is to be installed with it."""

    path: Path
    pins: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Names code and pins: what is installed already is not installed again."""
        return hashlib.sha256(json.dumps([versions()["code"], *self.pins]).encode()).hexdigest()


def pins(role: str) -> tuple[str, ...]:
    """Return ``name==version`` of everything that a host of ``role`` needs: the versions of this environment."""
    seen: dict[str, str] = {}
    todo = list(PLAYS if role == "selfplay" else TRAINS)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        found = importlib.metadata.distribution(name)
        seen[name] = found.version.partition("+")[0]
        for line in found.requires or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                todo.append(wanted.name)
    return tuple(f"{name}=={version}" for name, version in sorted(seen.items()))


def build_wheel(folder: Path) -> Path:
    """Return a wheel of the running code, built in ``folder``. Raises :class:`NoWheelError`."""
    project, source = project_folder(), folder / "source"
    if not (project / "pyproject.toml").exists():
        raise NoWheelError(f"{project} is no checkout, so no wheel can be made of it; run this from the checkout")
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    answer = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise NoWheelError(f"the wheel could not be built: {answer.stderr.strip()[-500:]}")
    return next(folder.glob("*.whl"))


def bootstrap(jobs: RemoteJobs, home: Home) -> dict[str, Any]:
    """Make a host ready and return {"installed", "version"}; a host that is ready is left as it is.

    Raises :class:`PythonMissingError`, :class:`InstallationError`, ``VersionMismatchError`` (an interpreter of the
    inventory's own with other code) and what connecting raises.
    """
    host = jobs.link.host
    installed = False
    if host.python is None:
        installed = _install(jobs, home)
    jobs.link.close()
    jobs.check_version()
    if installed:
        _verify(jobs)
    return {"installed": installed, "version": jobs.link.greeting()["versions"]["code"]}


def update(jobs: RemoteJobs, home: Home, *, drain_seconds: float = HOSTS.drain_seconds) -> dict[str, Any]:
    """Bring a host to this code once its jobs are over; return {"installed", "version"}.

    A host with other code is given nothing new, so it drains by itself. Raises :class:`JobsRunningError` when jobs
    still run after ``drain_seconds``, :class:`OwnInterpreterError`, and what :func:`bootstrap` raises: then the wheel
    of before is in force again.
    """
    host = jobs.link.host
    if difference(versions(), jobs.link.greeting()["versions"]) is None:
        return {"installed": False, "version": versions()["code"]}
    if host.python is not None:
        raise OwnInterpreterError(
            f"host {host.name} runs {host.python} of the inventory with other code; update that environment by hand, "
            "or take `python` out of the inventory and run ringrift cluster bootstrap"
        )
    deadline = time.monotonic() + drain_seconds
    while running := jobs.answer("facts")["running"]:
        if time.monotonic() >= deadline:
            ends = [command_about(job_id, host.name, "--kill") for job_id in running]
            raise JobsRunningError(
                f"host {host.name} still runs {', '.join(running)} with the version of before; nothing was changed. "
                f"Wait for them, or end them: {', '.join(f'`{one}`' for one in ends)}"
            )
        time.sleep(_DRAIN_LOOK_SECONDS)
    before = jobs.link.wait(_marked(host, jobs), HOSTS.connect_seconds + HOSTS.answer_seconds)
    try:
        return bootstrap(jobs, home)
    except (HostAnswerError, InfrastructureError) as error:
        if before is None:
            raise
        jobs.link.wait(_install_wheel(jobs, before["wheel"], before["identity"]), HOSTS.install_seconds)
        jobs.link.close()
        raise InstallationError(host.name, f"the update failed and was taken back: {error}") from error


def _install(jobs: RemoteJobs, home: Home) -> bool:
    with tempfile.TemporaryDirectory(prefix="ringrift-wheel-") as folder:
        wheel = Wheel(build_wheel(Path(folder)), pins(jobs.link.host.role))
        return jobs.link.wait(_install_all(jobs, wheel, home), HOSTS.install_seconds)


def _verify(jobs: RemoteJobs) -> None:
    """Hold the installed engine against recorded games of RingRift's own. Raises :class:`InstallationError`."""

    async def conform() -> None:
        async with await connect(jobs.link.host, jobs.link.key) as connection:
            shell = _Shell(jobs.link.host, connection)
            words = ["rules", "conform", "--engine", "python"]
            await shell.run(["env", f"RINGRIFT_HOME={shell.work}", shell.python, "-m", "ringrift_ops.cli", *words])

    jobs.link.wait(conform(), HOSTS.install_seconds)


@dataclass
class _Shell:
    """Commands on a host that has none of ours yet: argument vectors, quoted, nothing else."""

    host: Host
    connection: asyncssh.SSHClientConnection

    @property
    def work(self) -> str:
        return self.host.work_dir

    @property
    def python(self) -> str:
        return self.host.interpreter

    async def try_run(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Return exit code, output and errors of a command."""
        import asyncssh

        try:
            done = await asyncio.wait_for(self.connection.run(shlex.join(words)), HOSTS.install_seconds)
        except TimeoutError:
            raise HostHangsError(self.host.name, f"`{words[0]}` did not end in {HOSTS.install_seconds:g} s") from None
        except (OSError, asyncssh.Error) as error:
            raise named(self.host, error) from error
        code = 255 if done.exit_status is None else done.exit_status
        return code, str(done.stdout or "").strip(), str(done.stderr or "").strip()

    async def run(self, words: Sequence[str]) -> str:
        """Return a command's output; raises :class:`InstallationError` with its last words unless it ends well."""
        code, output, errors = await self.try_run(words)
        if code != 0:
            said = (errors or output or "nothing said").splitlines()[-1]
            raise InstallationError(self.host.name, f"`{shlex.join(words)[:160]}` ended with {code}: {said}")
        return output


async def _install_all(jobs: RemoteJobs, wheel: Wheel, home: Home) -> bool:
    """Install what is not installed yet; returns False when all was."""
    import asyncssh

    host = jobs.link.host
    try:
        connection = await connect(host, jobs.link.key)
        try:
            shell = _Shell(host, connection)
            if await _mark_of(shell) == wheel.identity:
                return False
            await _install_into(shell, wheel, sorted((home.root / "wheels").glob("*.whl")))
        finally:
            connection.close()
    except (OSError, asyncssh.Error) as error:
        raise named(host, error) from error
    return True


async def _install_into(shell: _Shell, wheel: Wheel, local: Sequence[Path]) -> None:
    """``local``: the controller's wheel folder; the host's own index serves when it is empty."""
    code, _, _ = await shell.try_run([shell.python, "-c", "pass"])
    if code != 0:
        await shell.run([await _base(shell), "-m", "venv", f"{shell.work}/venv"])
    sent = await _send(shell, [wheel.path], wheel.identity[:16])
    options: list[str] = []
    if local:
        await _send(shell, local, "index")
        options = ["--no-index", "--find-links", f"{shell.work}/wheels/index"]
    pip = [shell.python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-input"]
    await shell.run([*pip, *options, *wheel.pins])
    await _put_in_force(shell, sent[0], wheel.identity)


async def _install_wheel(jobs: RemoteJobs, wheel: str, identity: str) -> None:
    async with await connect(jobs.link.host, jobs.link.key) as connection:
        await _put_in_force(_Shell(jobs.link.host, connection), wheel, identity)


async def _put_in_force(shell: _Shell, wheel: str, identity: str) -> None:
    pip = [shell.python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-input", "--no-deps"]
    await shell.run([*pip, "--force-reinstall", wheel])
    mark = json.dumps({"identity": identity, "wheel": wheel})
    program = "import os, sys; n = sys.argv[1]; open(n + '.new', 'w').write(sys.argv[2]); os.replace(n + '.new', n)"
    await shell.run([shell.python, "-c", program, f"{shell.work}/{_MARK}", mark])


async def _base(shell: _Shell) -> str:
    """Return a Python 3.11 of the host. Raises :class:`PythonMissingError`."""
    for name in _BASES:
        code, output, _ = await shell.try_run([name, "-c", "import sys; print(sys.version_info[:2] == (3, 11))"])
        if code == 0 and output == "True":
            return name
    raise PythonMissingError(
        shell.host.name, f"there is no Python 3.11 ({', '.join(_BASES)} in PATH); install it, or set `python`"
    )


async def _marked(host: Host, jobs: RemoteJobs) -> dict[str, str] | None:
    async with await connect(host, jobs.link.key) as connection:
        code, output, _ = await _Shell(host, connection).try_run(["cat", f"{host.work_dir}/{_MARK}"])
    return dict(json.loads(output)) if code == 0 else None


async def _mark_of(shell: _Shell) -> str | None:
    code, output, _ = await shell.try_run(["cat", f"{shell.work}/{_MARK}"])
    return str(json.loads(output)["identity"]) if code == 0 else None


async def _send(shell: _Shell, paths: Sequence[Path], folder: str) -> list[str]:
    """Bring wheels to the host, each under its name only when it is whole; return where they are."""
    place = f"{shell.work}/wheels/{folder}"
    await shell.run(["mkdir", "-p", place])
    sent = []
    async with shell.connection.start_sftp_client() as sftp:
        for path in paths:
            target = f"{place}/{path.name}"
            if not await sftp.exists(target):
                await sftp.put(str(path), f"{target}.part")
                await sftp.posix_rename(f"{target}.part", target)
            sent.append(target)
    return sent
