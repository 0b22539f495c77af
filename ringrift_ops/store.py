"""Files by sha256, and the few ways in which this platform writes to a disk.

Every write goes to a temporary name in the same folder, is fsynced and renamed: a reader sees the
old bytes or the new ones, and a failure leaves neither half a file nor a temporary one (F19).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ringrift_ops.errors import InfrastructureError, NoDataError, UsageError
from ringrift_ops.home import Home

CHUNK = 1 << 20
"""Bytes read at a time: copying and hashing stay in bounded memory (F22)."""

Content = bytes | Callable[[BinaryIO], object]
"""What :func:`atomic_write` writes: the bytes, or a function that writes them into an open file."""

_SHA = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"(\.[a-z0-9]+)*")
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and repeat",
    errno.EDQUOT: "the disk quota is used up; free some space and repeat",
    errno.EFBIG: "the file may not grow further (file size limit); raise the limit and repeat",
    errno.EROFS: "the file system is read-only; point RINGRIFT_HOME at a writable one",
    errno.EACCES: "permission denied; make the folder writable for this user",
    errno.EPERM: "permission denied; make the folder writable for this user",
    errno.EIO: "the disk reports an input/output error; check it before repeating",
}


class WriteError(InfrastructureError):
    """A file could not be written; whatever stood under its name before still stands there."""

    def __init__(self, path: Path, error: OSError) -> None:
        advice = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; nothing was changed")
        super().__init__(f"cannot write {path}: {advice}")
        self.path = path


class ReadError(InfrastructureError):
    """A file that exists could not be read."""


class MissingObjectError(NoDataError):
    """The store (or a source folder) does not hold the file asked for."""


class DamagedObjectError(NoDataError):
    """A file's bytes are not those that its sha256 names."""


class NotAShaError(UsageError):
    """Something else than 64 lower-case hex digits, or not a suffix such as ``.npz``."""


def fsync_dir(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_bytes(content: bytes) -> str:
    """Return the sha256 of ``content`` as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits, read in bounded memory.

    Raises :class:`MissingObjectError` or :class:`ReadError`.
    """
    digest = hashlib.sha256()
    with _reading(path) as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def temporary_name(path: Path) -> Path:
    """Return a fresh hidden name in the folder of ``path``, for those that must write the file themselves."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


@contextmanager
def atomic_path(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary name; what lies there at the end of the block becomes ``path``, durably.

    For writers that want a name and not an open file (SQLite, NumPy). Any exception removes the
    temporary file; an ``OSError`` becomes :class:`WriteError`. Makes the folder when it is missing.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
        fsync_dir(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: Content, *, mode: int | None = None) -> Path:
    """Write ``content`` (bytes, or a function given the open file) and return ``path``.

    ``mode``: permission bits, for secrets 0o600; set before the file has its name. Raises
    :class:`WriteError`; the previous file, if any, is then untouched.
    """
    with atomic_path(path, mode=mode) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as target:
            if isinstance(content, bytes):
                target.write(content)
            else:
                content(target)
    return path


def replace_symlink(link: Path, target: Path) -> None:
    """Point ``link`` at ``target`` in one step; readers see the old target or the new one.

    The link is relative, so a moved home stays whole. Raises :class:`MissingObjectError` when the
    target does not exist, :class:`WriteError` when the link cannot be made.
    """
    if not target.exists():
        raise MissingObjectError(f"cannot link {link} to {target}: there is no such file")
    temporary = temporary_name(link)
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(os.path.relpath(target, link.parent))
        temporary.replace(link)
        fsync_dir(link.parent)
    except OSError as error:
        raise WriteError(link, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def copy_verified(source: Path, destination: Path, sha: str) -> Path:
    """Copy a file, read the copy back, and give it its name only when its sha256 is ``sha``.

    A destination that already holds those bytes is left as it is. Raises
    :class:`MissingObjectError`, :class:`DamagedObjectError`, :class:`WriteError`.
    """
    _check_sha(sha)
    if destination.is_file() and sha256_file(destination) == sha:
        return destination
    with _reading(source) as opened, atomic_path(destination) as temporary:
        _copy(opened, temporary)
        found = sha256_file(temporary)
        if found != sha:
            raise DamagedObjectError(
                f"the copy of {source} to {destination} has sha256 {found}, not {sha}; "
                "the source or the disk is damaged; the destination is unchanged"
            )
    return destination


class Store:
    """The content-addressed store of one home: ``store/ab/cdef...<suffix>``, files read-only.

    Only bytes that hash to their name ever get a name here; nothing is changed afterwards.
    """

    def __init__(self, home: Home) -> None:
        self.root = home.store

    def path(self, sha: str, suffix: str) -> Path:
        """Return where the object lies or would lie."""
        _check_sha(sha)
        if not _SUFFIX.fullmatch(suffix):
            raise NotAShaError(f"suffix {suffix!r} is not of the form '.npz'")
        return self.root / sha[:2] / f"{sha[2:]}{suffix}"

    def put(self, source: Path | bytes, suffix: str, *, move: bool = False) -> tuple[str, Path]:
        """Store a file's (or the given) bytes and return (sha256, path).

        An object that is already there with the right size is kept as it is; one of another size
        (torn by a power failure) is replaced by the good bytes. ``move`` gives the source file
        itself the new name when it lies on the same file system, and removes it otherwise.
        Raises :class:`MissingObjectError`, :class:`ReadError`, :class:`WriteError`.
        """
        sha = sha256_bytes(source) if isinstance(source, bytes) else sha256_file(source)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        final = self.path(sha, suffix)
        if not (final.is_file() and final.stat().st_size == size):
            if isinstance(source, bytes):
                atomic_write(final, source, mode=0o444)
            elif not (move and self._rename(source, final)):
                self._copy_in(source, final, sha)
        if move and isinstance(source, Path):
            with suppress(OSError):
                source.unlink(missing_ok=True)
        return sha, final

    def get(self, sha: str, suffix: str | None = None, *, verify: bool = False) -> Path:
        """Return the path of an object; ``verify`` reads it through and compares its hash.

        Raises :class:`MissingObjectError`, :class:`DamagedObjectError`.
        """
        _check_sha(sha)
        folder = self.root / sha[:2]
        wanted = sha[2:] + (suffix or "")
        found = sorted(p for p in folder.glob(f"{wanted}*") if suffix is None or p.name == wanted)
        if not found:
            raise MissingObjectError(f"the store {self.root} holds no object {sha}{suffix or ''}")
        if verify and (actual := sha256_file(found[0])) != sha:
            raise DamagedObjectError(
                f"{found[0]} has sha256 {actual}: its bytes are not those it was stored with; "
                "restore it from another copy or make it anew"
            )
        return found[0]

    def holds(self, sha: str) -> bool:
        """Return whether an object of that sha256 is in the store."""
        _check_sha(sha)
        return any((self.root / sha[:2]).glob(f"{sha[2:]}*"))

    def _rename(self, source: Path, final: Path) -> bool:
        """Give the source its final name; False when it lies on another file system."""
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            if source.stat().st_dev != final.parent.stat().st_dev:
                return False
            with source.open("rb") as opened:
                os.fsync(opened.fileno())
            source.chmod(0o444)
            source.replace(final)
            fsync_dir(final.parent)
        except OSError as error:
            raise WriteError(final, error) from error
        return True

    def _copy_in(self, source: Path, final: Path, sha: str) -> None:
        with _reading(source) as opened, atomic_path(final, mode=0o444) as temporary:
            if _copy(opened, temporary) != sha:
                raise DamagedObjectError(f"{source} changed while it was stored; repeat when it is whole")


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for reading; only the opening is translated into named errors."""
    try:
        opened = path.open("rb")
    except FileNotFoundError as error:
        raise MissingObjectError(f"there is no file {path}") from error
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
    with opened:
        yield opened


def _copy(source: BinaryIO, temporary: Path) -> str:
    digest = hashlib.sha256()
    with temporary.open("xb") as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _check_sha(sha: str) -> None:
    if not _SHA.fullmatch(sha):
        raise NotAShaError(f"{sha!r} is not a sha256: 64 lower-case hex digits are needed")
