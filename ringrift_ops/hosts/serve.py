"""The program on a host: ``python -m ringrift_ops.hosts.serve WORK_DIR``, asked over an SSH session's standard input.

A JSON object per line each way: ``{"id", "do", "with"}`` in, ``{"id", "ok"}`` or ``{"id", "error"}`` out, in any order.
The first line out is :data:`GREETING` and what this host is. Jobs are those of ``LocalJobs``: the same folders, the
same runner, the same words as on the machine that asks. It ends with its input, after what it was doing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ringrift_ops.errors import InfrastructureError, RingRiftError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts import evidence
from ringrift_ops.hosts.facts import facts
from ringrift_ops.hosts.folder import locked
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import boot_id
from ringrift_ops.hosts.versions import versions
from ringrift_ops.store import WriteError, fsync_dir, replace_symlink, sha256_file

GREETING = "ringrift host 1 "
"""Begins the first line; whatever a login script printed before it is passed over."""

_THREADS = 16


class NotAHostPathError(UsageError):
    """A path that does not stay below the host's home."""


class UnreadableNetError(InfrastructureError):
    """A net that this host cannot read."""


class UnknownRequestError(UsageError):
    """A request that this version does not know."""


class Server:
    """Answers requests about one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.jobs = LocalJobs(home.jobs)
        self._doors: dict[str, Callable[..., Any]] = {
            "submit": lambda job: self.jobs.submit_or_adopt(Job.model_validate(job)),
            "poll": self.jobs.poll,
            "log": self.jobs.log,
            "kill": self.jobs.kill,
            "collect": self.jobs.collect,
            "spec": self.jobs.spec,
            "effects": self.jobs.effects,
            "forget": self.jobs.forget,
            "set_aside": self.jobs.set_aside,
            "drop_set_aside": self.jobs.drop_set_aside,
            "all": self.jobs.all,
            "reap": self.jobs.reap,
            "facts": lambda: facts(self.home),
            "evidence": lambda job_id: evidence.collect(self.home, job_id),
            "file": self.file,
            "files": self.files,
            "accept": self.accept,
            "link": self.link,
            "remove": self.remove,
            "room": self.room,
            "show": self.show,
        }

    def greeting(self) -> dict[str, Any]:
        """Return what the one who connects has to know first."""
        return {
            "home": str(self.home.root),
            "boot_id": boot_id(),
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "versions": versions(),
            "time": time.time(),
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request; an error of ours is an answer too."""
        try:
            door = self._doors.get(str(request["do"]))
            if door is None:
                raise UnknownRequestError(f"no request {request['do']!r}; this host has another version")
            return {"id": request["id"], "ok": _plain(door(**request.get("with", {})))}
        except RingRiftError as error:
            return {"id": request["id"], "error": _told(error)}
        except OSError as error:
            told = WriteError(Path(str(error.filename or self.home.root)), error)
            told.__cause__ = error
            return {"id": request["id"], "error": _told(told)}

    # --- files below the home ------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Return where ``name`` lies; raises :class:`NotAHostPathError` unless it stays below the home."""
        relative = Path(name)
        if relative.is_absolute() or not relative.parts or ".." in relative.parts or "\0" in name:
            raise NotAHostPathError(f"{name!r} is not a path below the host's home")
        return self.home.root / relative

    def file(self, path: str, *, digest: bool = True) -> dict[str, Any] | None:
        """Return {"size", "sha"} of a file, None when there is none. ``digest`` False: sha is None."""
        place = self.path(path)
        try:
            size = place.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        return {"size": size, "sha": sha256_file(place) if digest else None}

    def files(self, folder: str) -> list[dict[str, Any]]:
        """Return {"path", "size", "sha"} of the files in a folder; hidden ones are somebody's work under way."""
        place = self.path(folder)
        found = []
        for one in sorted(place.iterdir()) if place.is_dir() else []:
            if one.is_file() and not one.name.startswith("."):
                found.append({"path": f"{folder}/{one.name}", "size": one.stat().st_size, "sha": sha256_file(one)})
        return found

    def accept(self, part: str, path: str, sha: str, *, read_only: bool = False) -> bool:
        """Give a temporary file its name, durably; False (and it is removed) when its bytes are not ``sha``."""
        temporary, final = self.path(part), self.path(path)
        locks = self.home.root / ".locks"
        locks.mkdir(exist_ok=True)
        with locked(locks / hashlib.sha256(part.encode()).hexdigest()[:16], wait=True):
            if not temporary.exists() and final.is_file() and sha256_file(final) == sha:
                return True  # another one brought the same file
            if not temporary.exists() or sha256_file(temporary) != sha:
                temporary.unlink(missing_ok=True)
                return False
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            if read_only:
                temporary.chmod(0o444)
            temporary.replace(final)
            fsync_dir(final.parent)
            return True

    def link(self, link: str, target: str) -> None:
        """Point ``link`` at ``target`` in one step, both below the home."""
        replace_symlink(self.path(link), self.path(target))

    def show(self, path: str) -> dict[str, Any]:
        """Return what this host's own ``ringrift model show`` says of a net. Raises :class:`UnreadableNetError`."""
        command = [sys.executable, "-m", "ringrift_ops.cli", "model", "show", str(self.path(path))]
        environment = os.environ | {"RINGRIFT_HOME": str(self.home.root)}
        answer = subprocess.run(
            [*command, "--file-only", "--json"], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if answer.returncode != 0:
            said = (answer.stderr or answer.stdout).strip().splitlines() or ["nothing said"]
            raise UnreadableNetError(f"`ringrift model show {path}` ended with {answer.returncode}: {said[-1]}")
        return dict(json.loads(answer.stdout))

    def remove(self, path: str) -> None:
        """Remove a file or a folder; one that is not there is none to remove."""
        place = self.path(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def room(self, folder: str) -> int:
        """Make a folder and return the free bytes of its disk."""
        place = self.path(folder)
        place.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(place).free


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _told(error: RingRiftError) -> dict[str, Any]:
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return {"type": type(error).__name__, "message": str(error), "code": int(error.exit_code), "full": full}


def main() -> int:
    """Serve standard input until it ends."""
    if len(sys.argv) != 2:
        print("usage: python -m ringrift_ops.hosts.serve WORK_DIR", file=sys.stderr)
        return 2
    root = Path(sys.argv[1]).absolute()
    os.environ["RINGRIFT_HOME"] = str(root)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what anything prints is not an answer
    writing = threading.Lock()
    server = Server(Home(root))

    def say(text: str) -> None:
        with writing, suppress(BrokenPipeError):  # whoever asked is gone; what was asked is done all the same
            answers.write(text + "\n")
            answers.flush()

    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot make {root}: {error.strerror}; change work_dir in the inventory") from error
    say(GREETING + json.dumps(server.greeting()))
    with ThreadPoolExecutor(_THREADS) as threads:
        for line in sys.stdin:
            request = json.loads(line)
            threads.submit(lambda one: say(json.dumps(server.answer(one))), request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
