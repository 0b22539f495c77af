"""Files are whole or absent, whatever the disk does."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home, HomeNotWritableError
from ringrift_ops.store import (
    DamagedObjectError,
    MissingObjectError,
    NotAShaError,
    Store,
    WriteError,
    atomic_path,
    atomic_write,
    copy_verified,
    replace_symlink,
    sha256_bytes,
    sha256_file,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Home(tmp_path / "home"))


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """No file of this process may grow beyond 64 KiB: the kernel then answers as a full disk would."""
    limit = 1 << 16
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_bytes_go_in_and_come_out_under_their_hash(store: Store) -> None:
    sha, path = store.put(b"a net", ".safetensors")
    assert sha == sha256_bytes(b"a net") == sha256_file(path)
    assert path == store.root / sha[:2] / f"{sha[2:]}.safetensors"
    assert store.get(sha, verify=True) == path
    assert store.get(sha, ".safetensors") == path
    assert store.holds(sha)
    assert path.stat().st_mode & 0o222 == 0


def test_a_file_is_copied_or_moved_into_the_store(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "games.db"
    source.write_bytes(b"x" * 3_000_000)
    sha, path = store.put(source, ".db")
    assert source.exists()
    assert path.read_bytes() == source.read_bytes()
    other = tmp_path / "other.db"
    other.write_bytes(b"y" * 10)
    other_sha, other_path = store.put(other, ".db", move=True)
    assert not other.exists()
    assert sha256_file(other_path) == other_sha != sha


def test_putting_the_same_bytes_twice_touches_nothing(store: Store, tmp_path: Path) -> None:
    _, path = store.put(b"same", ".npz")
    before = path.stat()
    source = tmp_path / "again"
    source.write_bytes(b"same")
    assert store.put(b"same", ".npz")[1] == store.put(source, ".npz", move=True)[1] == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not source.exists()


def test_F19_a_torn_object_is_replaced_by_the_good_bytes(store: Store) -> None:
    sha, path = store.put(b"whole object", ".npz")
    path.chmod(0o644)
    path.write_bytes(b"whole")
    with pytest.raises(DamagedObjectError, match=sha256_bytes(b"whole")):
        store.get(sha, verify=True)
    assert store.put(b"whole object", ".npz") == (sha, path)
    assert store.get(sha, verify=True).read_bytes() == b"whole object"


def test_what_is_not_there_is_said_by_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="holds no object " + "0" * 64):
        store.get("0" * 64)
    with pytest.raises(MissingObjectError, match=r"no file .*missing\.db"):
        store.put(tmp_path / "missing.db", ".db")
    for wrong in ("../../etc/passwd", "ABC", ""):
        with pytest.raises(NotAShaError):
            store.get(wrong)
    with pytest.raises(NotAShaError, match="suffix"):
        store.put(b"", "/../x")


def test_F19_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path: Path, file_size_limit: int) -> None:
    target = tmp_path / "dataset.npz"
    atomic_write(target, b"old")
    with pytest.raises(WriteError, match=r"dataset\.npz: the file may not grow further") as refused:
        atomic_write(target, b"n" * (2 * file_size_limit))
    assert refused.value.exit_code is ExitCode.INFRASTRUCTURE
    assert target.read_bytes() == b"old"
    assert files_below(tmp_path) == [target]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_F19_disk_full_at_any_moment_of_a_streamed_write(tmp_path: Path, file_size_limit: int, share: float) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"a" * int(file_size_limit * (1 - share)))
        file.flush()
        file.write(b"b" * file_size_limit)

    with pytest.raises(WriteError):
        atomic_write(tmp_path / "new" / "batch.db", write)
    assert files_below(tmp_path) == []


def test_F19_a_full_disk_while_storing_leaves_the_source_and_nothing_else(
    store: Store, tmp_path: Path, file_size_limit: int
) -> None:
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.write(b"z" * file_size_limit)
    os.truncate(source, file_size_limit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(WriteError, match="may not grow"):
        store.put(source, ".bin")
    with pytest.raises(WriteError, match="may not grow"):
        copy_verified(source, tmp_path / "copy", sha256_file(source))
    assert files_below(tmp_path) == [source]


def test_F19_a_really_full_file_system(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("mounting a small tmpfs is not allowed here; the file size limit tests the same path")
    try:
        atomic_write(mounted / "report.json", b"{}")
        with pytest.raises(WriteError, match=r"report\.json: the disk is full"):
            atomic_write(mounted / "report.json", b"x" * 200_000)
        assert (mounted / "report.json").read_bytes() == b"{}"
        assert [path.name for path in mounted.iterdir()] == ["report.json"]
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        with pytest.raises(WriteError, match="read-only"):
            atomic_write(mounted / "report.json", b"{}")
        with pytest.raises(HomeNotWritableError, match="RINGRIFT_HOME"):
            Home(mounted / "home").ensure()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_F19_a_folder_where_a_file_should_be_is_an_error_not_a_loss(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match="taken"):
        atomic_write(tmp_path / "taken", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="below"):
        atomic_write(tmp_path / "file" / "below", b"x")
    assert files_below(tmp_path) == [tmp_path / "file"]


def test_F19_an_exception_of_the_writer_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "file", write)
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "other") as temporary:
        temporary.write_bytes(bytes([1 // 0]) if temporary.write_bytes(b"half") else b"")
    assert files_below(tmp_path) == []


def test_F19_a_writer_killed_midway_leaves_the_name_untouched(tmp_path: Path) -> None:
    target = tmp_path / "canonical"
    atomic_write(target, b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; from ringrift_ops.store import atomic_write\n"
        "def write(f):\n    f.write(b'half'); f.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(Path(sys.argv[1]), write)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert killed.returncode == -9
    assert target.read_bytes() == b"old"


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    assert atomic_write(tmp_path / "secret", b"s", mode=0o600).stat().st_mode & 0o777 == 0o600


def test_a_link_is_replaced_in_one_step_and_moves_with_its_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("one", "two"):
        atomic_write(home / "store" / name, name.encode())
    link = home / "models" / "canonical_hex8_2p.safetensors"
    replace_symlink(link, home / "store" / "one")
    assert link.read_bytes() == b"one"
    replace_symlink(link, home / "store" / "two")
    assert [path.name for path in link.parent.iterdir()] == [link.name]
    home.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "models" / link.name).read_bytes() == b"two"
    with pytest.raises(MissingObjectError, match="no such file"):
        replace_symlink(link, tmp_path / "nothing")


def test_readers_of_a_link_always_find_a_file(tmp_path: Path) -> None:
    link = tmp_path / "link"
    targets = [atomic_write(tmp_path / name, name.encode()) for name in ("one", "two")]
    replace_symlink(link, targets[0])
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(link.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(200):
        replace_symlink(link, targets[turn % 2])
    stop.set()
    reader.join()
    assert seen <= {b"one", b"two"}


def test_a_copy_counts_only_when_its_bytes_are_the_ones_named(tmp_path: Path) -> None:
    source = atomic_write(tmp_path / "net", b"weights")
    destination = tmp_path / "elsewhere" / "net"
    assert copy_verified(source, destination, sha256_bytes(b"weights")) == destination
    inode = destination.stat().st_ino
    copy_verified(source, destination, sha256_bytes(b"weights"))
    assert destination.stat().st_ino == inode
    atomic_write(source, b"other")
    with pytest.raises(DamagedObjectError, match="destination is unchanged"):
        copy_verified(source, destination, sha256_bytes(b"fresh"))
    assert destination.read_bytes() == b"weights"
    assert [path.name for path in destination.parent.iterdir()] == ["net"]


def test_the_home_comes_from_the_environment_or_the_project_folder(tmp_path: Path) -> None:
    home = Home.find({"RINGRIFT_HOME": str(tmp_path / "h")})
    assert home.root == tmp_path / "h"
    assert not home.root.exists()
    assert home.ensure().games.is_dir()
    assert home.ledger_url == f"sqlite:///{tmp_path}/h/ledger.db"
    assert home.canonical_link("hex8_2p").name == "canonical_hex8_2p.safetensors"
    assert home.relative(home.games / "a.db") == "data/games/a.db"
    assert home.resolve("data/games/a.db") == home.games / "a.db"
    assert home.relative("/elsewhere/a.db") == str(home.resolve("/elsewhere/a.db")) == "/elsewhere/a.db"
    assert Home.find({}).root.name == ".ringrift"
