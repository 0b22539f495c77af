"""The SSH part of the fault list, with real sshds: one named error per cause, one job, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts import remote as remote_module
from ringrift_ops.hosts.errors import (
    AuthenticationError,
    HostDroppedError,
    HostFullError,
    HostHangsError,
    HostRefusedError,
    NotBootstrappedError,
    PythonMissingError,
    VersionMismatchError,
    WrongHostKeyError,
)
from ringrift_ops.hosts.jobs import JobDiedError, JobState
from ringrift_ops.hosts.keys import HostKey
from ringrift_ops.hosts.link import Link
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.settings import HOSTS
from tests.hosts.sshd import Sshd, Sshds, new_key, until
from tests.hosts.test_job_protocol import FINISH, NAME, SLEEP, a_job

PACKAGE = Path(link_module.__file__).parents[1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules with seconds for which a test may wait."""
    quick = HOSTS.model_copy(
        update={"connect_seconds": 4.0, "answer_seconds": 4.0, "again_seconds": 0.0, "connect_pause_seconds": 0.1,
                "keepalive_seconds": 1.0, "keepalive_misses": 2}
    )  # fmt: skip
    monkeypatch.setattr(link_module, "HOSTS", quick)
    monkeypatch.setattr(remote_module, "HOSTS", quick)


@pytest.fixture
def as_patient_as_ever(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules as they are: 50 programs that start on two cores take their time."""
    monkeypatch.setattr(link_module, "HOSTS", HOSTS)
    monkeypatch.setattr(remote_module, "HOSTS", HOSTS)


def test_refused_connection_is_named(sshds: Sshds) -> None:
    sshd = sshds.make()
    sshd.stop()
    with pytest.raises(HostRefusedError, match="nobody listens on 127"):
        sshd.jobs().poll(NAME)


def test_unknown_name_is_named(sshd: Sshd) -> None:
    with pytest.raises(HostRefusedError, match="no-such-host"):
        sshd.jobs(ssh_host="no-such-host.invalid").poll(NAME)


def test_another_host_key_is_refused_before_anything_is_said(sshd: Sshd, tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa"):
        key = new_key(tmp_path / kind, kind)
        with pytest.raises(WrongHostKeyError, match="ringrift cluster trust one"):
            sshd.jobs(host_key=key).poll(NAME)
    assert not (sshd.work / "jobs").exists()


def test_failed_authentication_is_named(sshd: Sshd, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationError, match="authorized_keys"):
        sshd.jobs(key_file=str(tmp_path / "stranger")).poll(NAME)
    with pytest.raises(AuthenticationError, match="there is no key file"):
        sshd.jobs(key_file=str(tmp_path / "missing")).poll(NAME)


def test_key_with_a_passphrase_is_a_failed_authentication(sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hush-hush", "-f", str(path)], check=True)
    with pytest.raises(AuthenticationError) as caught:
        sshd.jobs(key_file=str(path)).poll(NAME)
    assert "hush-hush" not in str(caught.value)


def test_host_that_accepts_and_never_speaks_hangs(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        jobs = sshd.jobs(ssh_port=mute.getsockname()[1])
        with pytest.raises(HostHangsError, match="within 4 s") as first:
            jobs.poll(NAME)
        with pytest.raises(HostHangsError) as second:
            jobs.poll(NAME)
    assert second.value is first.value, "it was not asked again at once"


def test_connection_that_goes_silent_is_given_up_and_made_anew(sshd: Sshd) -> None:
    jobs = sshd.jobs()
    jobs.submit_or_adopt(a_job(SLEEP))
    first = jobs.link.session_number
    for session in sshd.sessions():
        os.kill(session.pid, signal.SIGSTOP)
    assert jobs.poll(NAME).state is JobState.RUNNING
    assert jobs.link.session_number == first + 1
    sshd.cut()
    assert jobs.submit_or_adopt(a_job(SLEEP)).adopted


def test_dropped_connections_cost_nothing_but_a_new_one(sshd: Sshd) -> None:
    jobs = sshd.jobs()
    jobs.submit_or_adopt(a_job(SLEEP))
    pid = jobs.poll(NAME).pid
    for _ in range(3):
        sshd.cut()
        assert jobs.poll(NAME).pid == pid
    assert jobs.log(NAME).text.count("== attempt") == 1


def test_F24_sshd_killed_and_started_again_and_the_job_is_adopted(sshds: Sshds) -> None:
    sshd = sshds.make()
    jobs = sshd.jobs()
    jobs.submit_or_adopt(a_job(SLEEP))
    pid = jobs.poll(NAME).pid
    sshd.stop()
    with pytest.raises(HostRefusedError):
        jobs.poll(NAME)
    sshd.start()
    again = jobs.submit_or_adopt(a_job(SLEEP))
    assert (again.adopted, jobs.poll(NAME).pid) == (True, pid)
    assert jobs.kill(NAME).reason == "killed on request"


def test_F24_racing_submitters_start_one_job(sshd: Sshd) -> None:
    submitters = [sshd.jobs() for _ in range(8)]
    for one in submitters:
        one.link.greeting()
    gate = threading.Barrier(len(submitters))

    def submit(one: RemoteJobs) -> bool:
        gate.wait()
        return one.submit_or_adopt(a_job(SLEEP)).adopted

    with ThreadPoolExecutor(len(submitters)) as threads:
        adopted = list(threads.map(submit, submitters))
    assert sorted(adopted) == [False] + [True] * 7
    local = LocalJobs(sshd.work / "jobs")
    until(lambda: len(job_processes(local.folder(NAME), None)) == 1, "one command")
    assert local.log(NAME).text.count("== attempt") == 1


def test_busy_sshd_that_drops_at_random_loses_no_submission(sshds: Sshds) -> None:
    sshd = sshds.make(options=["MaxStartups 1:70:3"])
    submitters = [sshd.jobs() for _ in range(6)]
    names = [f"hex8_2p-g1-selfplay-s{shard}" for shard in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda one, name: one.submit_or_adopt(a_job(FINISH, job_id=name)), submitters, names))
    for one, name in zip(submitters, names, strict=True):
        until(lambda one=one, name=name: one.poll(name).over, name)  # type: ignore[misc]  # bound now
        assert one.collect(name) == {"answer": 2}


def test_no_python_where_the_inventory_says(sshd: Sshd) -> None:
    with pytest.raises(PythonMissingError, match="there is no Python at /no/such/python"):
        sshd.jobs(python="/no/such/python").poll(NAME)


def test_python_without_the_package_is_told_apart(sshd: Sshd, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with pytest.raises(NotBootstrappedError, match="ringrift cluster bootstrap one"):
        sshd.jobs(python=str(tmp_path / "bare" / "bin" / "python")).poll(NAME)


def test_F3_host_with_another_engine_is_refused_before_anything_starts(sshd: Sshd, tmp_path: Path) -> None:
    copied = tmp_path / "other" / "ringrift_ops"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    layout = copied / "rules" / "layout.py"
    layout.write_text(layout.read_text() + "\n# another engine\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={copied.parent} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    jobs = sshd.jobs(python=str(python))
    assert jobs.poll(NAME).state is JobState.ABSENT
    with pytest.raises(VersionMismatchError, match=r"another engine: .*ringrift cluster update one"):
        jobs.submit_or_adopt(a_job(FINISH))
    assert jobs.all() == []


@pytest.fixture
def tight(sshds: Sshds) -> Iterator[Sshd]:
    """A host whose work folder has room for nothing much."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    sshd = sshds.make()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(sshd.work)], check=True)
    yield sshd
    LocalJobs(sshd.work / "jobs").kill_all()
    sshd.stop()
    subprocess.run(["umount", "-l", str(sshd.work)], check=True)


def test_full_disk_is_named_and_nothing_starts(tight: Sshd) -> None:
    filler = tight.work / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * (1 << 20))
    with pytest.raises(HostFullError, match="the disk is full"):
        tight.jobs().submit_or_adopt(a_job(FINISH))
    filler.unlink()
    jobs = tight.jobs()
    assert not jobs.submit_or_adopt(a_job(FINISH)).adopted
    until(lambda: jobs.poll(NAME).over, "the job")
    assert jobs.collect(NAME) == {"answer": 2}


def test_rebooted_host_has_a_dead_job_which_the_next_attempt_resumes(sshds: Sshds, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a mount namespace of its own needs root")
    boot = tmp_path / "boot_id"
    boot.write_text("11111111-1111-1111-1111-111111111111\n")
    mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    sshd = sshds.make(wrap=["unshare", "-m", "sh", "-c", mount, str(boot)])
    jobs = sshd.jobs()
    jobs.submit_or_adopt(a_job(SLEEP))
    runner = jobs.poll(NAME).pid
    assert runner is not None
    local = LocalJobs(sshd.work / "jobs")
    boot.write_text("22222222-2222-2222-2222-222222222222\n")
    status = jobs.poll(NAME)
    assert (status.state, status.reason) == (JobState.DEAD, "its machine was rebooted while it ran")
    with pytest.raises(JobDiedError, match="submit it again"):
        jobs.collect(NAME)
    for one in [runner, *(process.pid for process in job_processes(local.folder(NAME), None))]:
        os.kill(one, signal.SIGKILL)  # what a real reboot does
    assert jobs.submit_or_adopt(a_job(FINISH)).attempt == 2
    until(lambda: jobs.poll(NAME).over, "the job")
    assert jobs.collect(NAME) == {"answer": 2}


def test_host_that_failed_is_not_asked_again_at_once(sshds: Sshds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "HOSTS", link_module.HOSTS.model_copy(update={"again_seconds": 600.0}))
    sshd = sshds.make()
    jobs = sshd.jobs()
    sshd.stop()
    with pytest.raises(HostRefusedError):
        jobs.poll(NAME)
    sshd.start()
    with pytest.raises(HostRefusedError):
        jobs.poll(NAME)
    jobs.link.close()
    assert jobs.poll(NAME).state is JobState.ABSENT


def test_link_works_in_a_forked_child(sshd: Sshd) -> None:
    jobs = RemoteJobs(link_module.link_to(sshd.host(), HostKey(sshd.host_key)))
    assert jobs.poll(NAME).state is JobState.ABSENT
    child = os.fork()
    if child == 0:
        mine = RemoteJobs(link_module.link_to(sshd.host(), HostKey(sshd.host_key)))
        os._exit(0 if mine.link is not jobs.link and mine.poll(NAME).state is JobState.ABSENT else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert jobs.poll(NAME).state is JobState.ABSENT


def test_ssh_config_alias_is_followed(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host lambda-gpu\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n  IdentityFile {sshd.client_key}\n"
    )
    host = sshd.host(ssh_host="lambda-gpu").model_copy(update={"ssh_port": None, "key_file": None})
    assert RemoteJobs(Link(host, HostKey(sshd.host_key))).poll(NAME).state is JobState.ABSENT


def test_no_secret_reaches_a_job_an_argument_or_the_log(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "hush-hush")
    monkeypatch.setenv("RINGRIFT_SECRET", "hush-hush")
    jobs = sshd.jobs()
    program = "import json, os; print(dict(os.environ)); json.dump(dict(os.environ), open('result.json', 'w'))"
    jobs.submit_or_adopt(a_job(program))
    until(lambda: jobs.poll(NAME).over, "the job")
    assert "hush-hush" not in str(jobs.collect(NAME)) + jobs.log(NAME).text
    for session in sshd.sessions():
        assert b"hush" not in Path(f"/proc/{session.pid}/cmdline").read_bytes()


def test_dropped_in_the_middle_of_a_submission_leaves_one_job_or_none(sshd: Sshd) -> None:
    jobs = sshd.jobs()
    jobs.link.greeting()
    for number in range(3):
        cutter = threading.Timer(0.02 * number, sshd.cut)
        cutter.start()
        with suppress(HostDroppedError):
            jobs.submit_or_adopt(a_job(SLEEP))
        cutter.join()
        jobs.submit_or_adopt(a_job(SLEEP))
    local = LocalJobs(sshd.work / "jobs")
    assert local.log(NAME).text.count("== attempt") == 1
    until(lambda: len(job_processes(local.folder(NAME), None)) == 1, "one command")


@pytest.mark.hosts_campaign
@pytest.mark.usefixtures("as_patient_as_ever")
def test_fifty_shards_to_one_host_with_the_usual_limit_lose_none(sshds: Sshds) -> None:
    sshd = sshds.make(options=["MaxStartups 10:30:100"])
    many = [sshd.jobs() for _ in range(50)]
    names = [f"hex8_2p-g1-selfplay-s{shard}" for shard in range(50)]
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(lambda one, name: one.submit_or_adopt(a_job(FINISH, job_id=name)), many, names))
    for name in names:
        until(lambda name=name: many[0].poll(name).over, name)  # type: ignore[misc]  # bound now
        assert many[0].collect(name) == {"answer": 2}
    assert sorted(many[0].all()) == sorted(names)


@pytest.mark.hosts_campaign
@pytest.mark.usefixtures("as_patient_as_ever")
def test_F24_twenty_racing_submitters_start_one_job(sshd: Sshd) -> None:
    submitters = [sshd.jobs() for _ in range(20)]
    gate = threading.Barrier(len(submitters))

    def submit(one: RemoteJobs) -> bool:
        gate.wait()
        return one.submit_or_adopt(a_job(SLEEP)).adopted

    with ThreadPoolExecutor(len(submitters)) as threads:
        assert sorted(threads.map(submit, submitters)) == [False] + [True] * 19
    assert LocalJobs(sshd.work / "jobs").log(NAME).text.count("== attempt") == 1
