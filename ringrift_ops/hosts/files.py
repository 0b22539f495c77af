"""Files between this machine and a host, by content: what is there is not sent, what broke off goes on, what is wrong
never gets its name.

The bytes go by SFTP over the link's one connection into a hidden part file beside their place; the other end hashes
it, makes it durable and renames it. Memory stays at ``HOSTS.transfer_ahead`` blocks whatever the size (F22).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ringrift_ops.hosts.errors import DamagedTransferError, HostAnswerError, HostDroppedError, HostFullError
from ringrift_ops.hosts.folder import locked
from ringrift_ops.hosts.link import Link, named
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.settings.tables import HOSTS
from ringrift_ops.store import MissingObjectError, WriteError, fsync_dir, sha256_file

if TYPE_CHECKING:
    pass

T = TypeVar("T")


class SourceChangedError(HostAnswerError):
    """The file on the host was replaced while it was copied; copied again, it may be whole."""


def part_name(name: str, sha: str) -> str:
    """Return the hidden name, beside ``name``, under which the bytes of ``sha`` arrive."""
    path = Path(name)
    return str(path.with_name(f".{path.name}.{sha[:16]}.part"))


def push(
    jobs: RemoteJobs, source: Path, target: str, sha: str, *, read_only: bool = False, force: bool = False
) -> bool:
    """Bring a file to ``target`` below the host's home; returns False when it is there already.

    ``sha``: of the source, known or just computed; ``force``: send it even so. A broken transfer goes on where it
    stood. Raises :class:`HostFullError`, :class:`DamagedTransferError` and what :class:`RemoteJobs` raises.
    """
    size = source.stat().st_size
    for _ in range(2):
        there = jobs.answer("file", seconds=HOSTS.digest_seconds, path=target)
        if there is not None and there["sha"] == sha and not force:
            return False
        part = part_name(target, sha)
        _resumed(partial(_push_bytes, jobs, source, size, part, target))
        accepted = jobs.answer(
            "accept", seconds=HOSTS.digest_seconds, part=part, path=target, sha=sha, read_only=read_only
        )
        if accepted:
            return True
    raise DamagedTransferError(
        jobs.name, f"{source} arrived damaged twice; either it changed meanwhile, or disk or memory are faulty"
    )


def _push_bytes(jobs: RemoteJobs, source: Path, size: int, part: str, target: str) -> None:
    room = int(jobs.answer("room", folder=str(Path(target).parent)))
    begun = jobs.answer("file", path=part, digest=False)
    have = 0 if begun is None else int(begun["size"])
    if have > size:
        jobs.answer("remove", path=part)
        have = 0
    if room < size - have:
        raise HostFullError(
            jobs.name, f"{target} needs {size - have:,} bytes, its disk has {room:,}; free some space and repeat"
        )
    # Blocks are written side by side, so the last ones of a broken part may have gaps between them.
    start = max(0, have - HOSTS.transfer_ahead * HOSTS.transfer_block)
    _transfer(jobs.link, _write(jobs, source, part, start))


async def _write(jobs: RemoteJobs, source: Path, part: str, start: int) -> None:
    import asyncssh

    session = await jobs.link.session()
    sftp = await session.sftp()
    path = f"{session.greeting['home']}/{part}"
    flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT
    async with sftp.open(path, flags, encoding=None, block_size=0) as target:
        with source.open("rb") as opened:
            opened.seek(start)
            under_way: deque[asyncio.Task[int]] = deque()
            offset = start
            try:
                while block := opened.read(HOSTS.transfer_block):
                    under_way.append(asyncio.create_task(target.write(block, offset)))
                    offset += len(block)
                    if len(under_way) >= HOSTS.transfer_ahead:
                        await under_way.popleft()
                while under_way:
                    await under_way.popleft()
            finally:
                await _drop(under_way)


def pull(jobs: RemoteJobs, source: str, target: Path, *, sha: str | None = None) -> str:
    """Bring a file from below the host's home to ``target`` and return its sha256; one that is here already stays.

    ``sha``: what it has to be; else what the host says it is. Two that pull the same file wait for each other. Raises
    :class:`SourceChangedError`, ``MissingObjectError``, ``WriteError`` and what :class:`RemoteJobs` raises.
    """
    there = jobs.answer("file", seconds=HOSTS.digest_seconds, path=source)
    if there is None:
        raise MissingObjectError(f"host {jobs.name} has no file {source}; submit the job that makes it again")
    if sha is not None and there["sha"] != sha:
        raise DamagedTransferError(jobs.name, f"{source} has sha256 {there['sha']} there, not {sha}; make it anew")
    expected = str(there["sha"])
    part = Path(part_name(str(target), expected))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(part.with_suffix(".lock"), wait=True):
            if not (target.is_file() and sha256_file(target) == expected):
                _resumed(lambda: _transfer(jobs.link, _read(jobs, source, part, int(there["size"]))))
                _accept(jobs, part, target, expected)
            part.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(target, error) from error
    return expected


def _accept(jobs: RemoteJobs, part: Path, target: Path, sha: str) -> None:
    if sha256_file(part) != sha:
        part.unlink()
        raise SourceChangedError(jobs.name, f"{target.name} changed while it was copied; it is copied again later")
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(target)
    fsync_dir(target.parent)


async def _read(jobs: RemoteJobs, source: str, part: Path, size: int) -> None:
    session = await jobs.link.session()
    sftp = await session.sftp()
    with part.open("ab") as target:
        begun = target.tell()
        if begun > size:
            target.truncate(0)
            begun = 0
        async with sftp.open(f"{session.greeting['home']}/{source}", "rb", encoding=None, block_size=0) as opened:
            under_way: deque[asyncio.Task[bytes]] = deque()
            offsets = iter(range(begun, size, HOSTS.transfer_block))
            try:
                while True:
                    while len(under_way) < HOSTS.transfer_ahead and (offset := next(offsets, None)) is not None:
                        length = min(HOSTS.transfer_block, size - offset)
                        under_way.append(asyncio.create_task(opened.read(length, offset)))
                    if not under_way:
                        return
                    target.write(await under_way.popleft())
            finally:
                await _drop(under_way)


async def _drop(under_way: deque[asyncio.Task[Any]]) -> None:
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


def _resumed(step: Callable[[], None]) -> None:
    """Do ``step``; when the connection breaks, again, from where it stood."""
    for left in reversed(range(HOSTS.connect_tries)):
        try:
            step()
        except HostDroppedError:
            if not left:
                raise
        else:
            return


def _transfer(link: Link, work: Coroutine[Any, Any, T]) -> T:
    """Run a transfer; asyncssh's errors come out as ours."""
    import asyncssh

    async def told() -> T:
        try:
            return await work
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
            raise HostDroppedError(link.host.name, f"the connection broke during a transfer: {error}") from error
        except asyncssh.SFTPError as error:
            raise HostAnswerError(link.host.name, f"its SFTP server refused a transfer: {error}") from error
        except asyncssh.Error as error:
            raise named(link.host, error) from error
        except (ConnectionError, BrokenPipeError) as error:
            raise named(link.host, error) from error

    return link.wait(told(), None)
