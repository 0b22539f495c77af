"""Files by content, over a real sshd: cut off and gone on with, never half a file under its name, memory flat."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringrift_ops.hosts import files as files_module
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.errors import DamagedTransferError, HostAnswerError, HostFullError
from ringrift_ops.hosts.files import part_name, pull, push
from ringrift_ops.settings import HOSTS
from ringrift_ops.store import MissingObjectError, sha256_file
from tests.hosts.sshd import Sshd, Sshds, until

MEGABYTE = 1 << 20


def made(path: Path, size: int) -> tuple[Path, str]:
    """A file of random bytes and its sha256."""
    path.write_bytes(os.urandom(size))
    return path, sha256_file(path)


def test_file_goes_there_and_back_by_content_and_only_once(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "net", 3 * MEGABYTE + 5)
    jobs = sshd.jobs()
    assert push(jobs, source, "store/ab/net.safetensors", sha, read_only=True)
    there = sshd.work / "store" / "ab" / "net.safetensors"
    assert (sha256_file(there), there.stat().st_mode & 0o777) == (sha, 0o444)
    assert not push(jobs, source, "store/ab/net.safetensors", sha)
    assert pull(jobs, "store/ab/net.safetensors", tmp_path / "back", sha=sha) == sha
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert [one.name for one in there.parent.iterdir()] == ["net.safetensors"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["back", "net"]


@pytest.mark.parametrize("size", [0, 1, HOSTS.transfer_block, HOSTS.transfer_block + 1])
def test_sizes_at_the_edges_of_a_block(sshd: Sshd, tmp_path: Path, size: int) -> None:
    source, sha = made(tmp_path / "file", size)
    jobs = sshd.jobs()
    assert push(jobs, source, "data/file", sha)
    assert pull(jobs, "data/file", tmp_path / "back") == sha


def test_transfers_cut_off_again_and_again_go_on_where_they_stood(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (link_module, files_module):
        monkeypatch.setattr(module, "HOSTS", HOSTS.model_copy(update={"again_seconds": 0.0, "connect_tries": 20}))
    source, sha = made(tmp_path / "big", 32 * MEGABYTE)
    jobs = sshd.jobs()
    over = threading.Event()
    sizes: list[int] = []

    def cut(part: Path) -> None:
        while not over.is_set() and len(sizes) < 3:
            if part.exists() and part.stat().st_size > (sizes[-1] if sizes else 0) + 4 * MEGABYTE:
                sizes.append(part.stat().st_size)
                sshd.cut()

    for transfer, part in (
        (lambda: push(jobs, source, "data/big", sha), sshd.work / part_name("data/big", sha)),
        (lambda: pull(jobs, "data/big", tmp_path / "back"), tmp_path / part_name("back", sha)),
    ):
        over.clear()
        sizes.clear()
        cutter = threading.Thread(target=cut, args=(part,))
        cutter.start()
        transfer()
        over.set()
        cutter.join()
        assert sizes, "the transfer was cut at least once"
    assert sha256_file(tmp_path / "back") == sha256_file(sshd.work / "data" / "big") == sha


def test_what_lies_in_a_part_file_is_not_sent_again(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "big", 32 * MEGABYTE)
    part = sshd.work / part_name("data/big", sha)
    part.parent.mkdir()
    keep = 24 * MEGABYTE
    part.write_bytes(source.read_bytes()[:keep])
    begun = part.stat().st_ino
    assert push(sshd.jobs(), source, "data/big", sha)
    assert (sshd.work / "data" / "big").stat().st_ino == begun


def test_damaged_part_is_thrown_away_and_sent_anew(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "file", 16 * MEGABYTE)
    part = sshd.work / part_name("data/file", sha)
    part.parent.mkdir()
    part.write_bytes(b"\0" * 12 * MEGABYTE)
    assert push(sshd.jobs(), source, "data/file", sha)
    assert sha256_file(sshd.work / "data" / "file") == sha


def test_wrong_hash_never_gets_the_name(sshd: Sshd, tmp_path: Path) -> None:
    source, _ = made(tmp_path / "file", 1000)
    with pytest.raises(DamagedTransferError, match="arrived damaged twice"):
        push(sshd.jobs(), source, "data/file", "0" * 64)
    assert list((sshd.work / "data").iterdir()) == []
    (sshd.work / "data" / "other").write_bytes(b"x")
    with pytest.raises(DamagedTransferError, match="not 0000"):
        pull(sshd.jobs(), "data/other", tmp_path / "other", sha="0" * 64)
    assert not (tmp_path / "other").exists()


def test_missing_file_is_named(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="host one has no file data/nothing"):
        pull(sshd.jobs(), "data/nothing", tmp_path / "x")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "x\0y"])
def test_paths_stay_below_the_hosts_home(sshd: Sshd, tmp_path: Path, path: str) -> None:
    source, sha = made(tmp_path / "file", 10)
    with pytest.raises(HostAnswerError, match="not a path below"):
        push(sshd.jobs(), source, path, sha)
    with pytest.raises(HostAnswerError, match="not a path below"):
        pull(sshd.jobs(), path, tmp_path / "x")


def test_hostile_file_name_is_a_name(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "file", 10)
    name = "data/a b;touch $(id) 'ü\".bin"
    assert push(sshd.jobs(), source, name, sha)
    assert pull(sshd.jobs(), name, tmp_path / "back") == sha


def test_file_that_does_not_fit_is_told_before_it_is_sent(sshds: Sshds, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    sshd = sshds.make()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(sshd.work)], check=True)
    source, sha = made(tmp_path / "file", 2 * MEGABYTE)
    try:
        with pytest.raises(HostFullError, match="needs 2,097,152 bytes"):
            push(sshd.jobs(), source, "data/file", sha)
        assert list((sshd.work / "data").iterdir()) == []
    finally:
        sshd.stop()
        subprocess.run(["umount", "-l", str(sshd.work)], check=True)


def test_many_who_bring_the_same_file_bring_it_once(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "net", 8 * MEGABYTE)
    many = [sshd.jobs() for _ in range(4)]
    with ThreadPoolExecutor(len(many)) as threads:
        list(threads.map(lambda one: push(one, source, "data/net", sha), many))
        found = list(threads.map(lambda one: pull(one, "data/net", tmp_path / "back"), many))
    assert found == [sha] * 4
    assert [one.name for one in (sshd.work / "data").iterdir()] == ["net"]
    assert sha256_file(sshd.work / "data" / "net") == sha


MEMORY = """
import resource, sys
from pathlib import Path
from ringrift_ops.hosts.files import pull, push
from ringrift_ops.hosts.keys import HostKey
from ringrift_ops.hosts.link import Link
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.settings import Host
host = Host.model_validate_json(sys.argv[1])
jobs = RemoteJobs(Link(host, HostKey(host.host_key)))
jobs.link.greeting()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
push(jobs, Path(sys.argv[2]), "data/big", sys.argv[3])
pull(jobs, "data/big", Path(sys.argv[2] + ".back"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown(sshd: Sshd, source: Path, sha: str) -> int:
    """KiB by which a process grows while it brings a file to the host and back."""
    row = sshd.host().model_dump_json()[:-1] + ', "name": "one"}'
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY, row, str(source), sha], capture_output=True, text=True, check=True
    )
    return int(answer.stdout)


@pytest.mark.hosts_campaign
def test_F22_memory_does_not_grow_with_the_file(sshd: Sshd, tmp_path: Path) -> None:
    source, sha = made(tmp_path / "big", 64 * MEGABYTE)
    assert grown(sshd, source, sha) < 40 * 1024


@pytest.mark.hosts_campaign
def test_F22_two_gigabytes_pass_through_less_than_100_megabytes(sshd: Sshd, tmp_path: Path) -> None:
    source = tmp_path / "big"
    digest = hashlib.sha256()
    with source.open("wb") as target:
        for _ in range(2048):
            block = os.urandom(MEGABYTE)
            digest.update(block)
            target.write(block)
    assert grown(sshd, source, digest.hexdigest()) < 100 * 1024
    until(lambda: sha256_file(Path(f"{source}.back")) == digest.hexdigest(), "the same bytes")
