"""Network, time and duplicates of the fault list: cables that are pulled, clocks a day off, two who do the same work.

Each host is a real sshd; where a line breaks it stands in a network namespace of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import files as files_module
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts import remote as remote_module
from ringrift_ops.hosts.errors import HostDroppedError, HostHangsError, HostRefusedError
from ringrift_ops.hosts.files import push
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.ledger import Ledger, StaleTokenError, generation_lease
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.settings import HOSTS
from ringrift_ops.settings.tables import TINY
from ringrift_ops.stages import distribute, fleet, hosting
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import sha256_file
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory
from tests.hosts.test_distribution import LINK, distributed, promoted, states
from tests.hosts.test_job_protocol import NAME, SLEEP, a_job
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL
from tests.hosts.wires import Cable, Relay, cable

pytestmark = pytest.mark.hosts_campaign

DAY = 86_400


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(
        update={"connect_seconds": 8.0, "answer_seconds": 20.0, "again_seconds": 0.0, "connect_pause_seconds": 0.1,
                "keepalive_seconds": 1.0, "keepalive_misses": 3, "connect_tries": 8}
    )  # fmt: skip
    for module in (link_module, remote_module, files_module, hosting, fleet, distribute):
        if hasattr(module, "HOSTS"):
            monkeypatch.setattr(module, "HOSTS", quick)


@pytest.fixture
def wired(sshds: Sshds) -> Iterator[Callable[[], tuple[Sshd, Cable]]]:
    """Makes hosts, each behind a cable of its own."""
    with ExitStack() as cables:
        made: list[Sshd] = []

        def make() -> tuple[Sshd, Cable]:
            line = cables.enter_context(cable())
            made.append(sshds.make(wrap=line.wrap, address=line.address))
            return made[-1], line

        yield make
        for sshd in made:
            LocalJobs(sshd.work / "jobs").kill_all()
            sshd.stop()


@pytest.mark.parametrize("limit", [1, 21, 500, 1_500, 3_000, 5_000, 8_000, 20_000])
def test_a_connection_dropped_after_n_bytes_is_made_anew_and_starts_one_job(sshd: Sshd, limit: int) -> None:
    relay = Relay(sshd.port, limit, drops=2)
    jobs = sshd.jobs(ssh_port=relay.port)
    deadline = time.monotonic() + 120
    while True:
        try:
            jobs.submit_or_adopt(a_job(SLEEP))
            break
        except HostDroppedError:
            assert time.monotonic() < deadline
    for _ in range(20):  # what a small exchange does not use up, more of them do
        assert jobs.poll(NAME).state is JobState.RUNNING
        jobs.log(NAME)
    assert relay.dropped in (1, 2)
    local = LocalJobs(sshd.work / "jobs")
    assert local.log(NAME).text.count("== attempt") == 1
    until(lambda: len(job_processes(local.folder(NAME), None)) == 1, "one command")
    relay.listening.close()


def test_a_file_dropped_after_n_bytes_goes_on_where_it_stood(sshd: Sshd, tmp_path: Path) -> None:
    source = tmp_path / "net"
    source.write_bytes(os.urandom(12 << 20))
    sha = sha256_file(source)
    relay = Relay(sshd.port, 5 << 20, drops=3)
    assert push(sshd.jobs(ssh_port=relay.port), source, "data/net", sha)
    assert relay.dropped >= 2
    assert sha256_file(sshd.work / "data" / "net") == sha
    relay.listening.close()


def test_a_half_open_connection_is_noticed_and_the_job_is_found_again(wired: Callable[[], tuple[Sshd, Cable]]) -> None:
    sshd, line = wired()
    jobs = sshd.jobs()
    jobs.submit_or_adopt(a_job(SLEEP))
    pid = jobs.poll(NAME).pid
    line.pull()
    began = time.monotonic()
    with pytest.raises((HostDroppedError, HostHangsError, HostRefusedError)) as told:
        jobs.poll(NAME)
    assert time.monotonic() - began < 120
    assert "host one" in str(told.value)
    line.plug()
    until(lambda: _answers(lambda: jobs.poll(NAME).pid == pid), "the host answers again")
    assert jobs.submit_or_adopt(a_job(SLEEP)).adopted
    assert LocalJobs(sshd.work / "jobs").log(NAME).text.count("== attempt") == 1


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (HostDroppedError, HostHangsError, HostRefusedError):
        return False


def test_F24_network_cut_to_k_of_n_hosts_during_distribution_for_all_k(
    home: Path, wired: Callable[[], tuple[Sshd, Cable]]
) -> None:
    """The cables are pulled while the bytes are under way; the others are done, and who was cut off catches up."""
    place = Home(home).ensure()
    hosts = [wired() for _ in range(3)]
    write_inventory(place, {f"h{number}": sshd.host(f"h{number}") for number, (sshd, _) in enumerate(hosts)})
    for k in (1, 2, 3):
        sha = promoted(place, hidden=1_008)  # 10 MB
        cut = threading.Thread(target=_pull_when_bytes_arrive, args=(hosts[:k],))
        cut.start()
        deliveries = distributed(place, sha).deliveries
        cut.join()
        assert [one.verified for one in deliveries[k:]] == [True] * (3 - k), deliveries
        for (sshd, line), one in zip(hosts[:k], deliveries[:k], strict=True):
            assert one.verified or one.state == "pending", one
            assert sha256_file(sshd.work / LINK) == sha or not one.verified if (sshd.work / LINK).exists() else True
            line.plug()
        until(lambda: main(["cluster", "sync"]) == ExitCode.DONE, "those cut off catch up")
        assert {sha256_file(sshd.work / LINK) for sshd, _ in hosts} == {sha}
        assert states(sha) == dict.fromkeys(("h0", "h1", "h2"), "verified")


def _pull_when_bytes_arrive(hosts: list[tuple[Sshd, Cable]]) -> None:
    for sshd, line in hosts:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(path.stat().st_size > 1 << 20 for path in (sshd.work / "store").rglob(".*.part") if path.exists()):
                break
            time.sleep(0.002)
        line.pull()


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def faketime(debian_package: Callable[[str, str], str]) -> Path:
    debian_package("faketime", "faketime")
    return next(Path("/usr/lib").rglob("libfaketime.so.1"))


@pytest.mark.parametrize("offset", [-DAY, DAY])
def test_a_host_whose_clock_is_a_day_off_does_its_work_and_is_told_apart(
    home: Path, sshds: Sshds, faketime: Path, offset: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Home(home).ensure()
    rate = tmp_rate(home, offset)
    sshd = sshds.make(options=[clock_of(faketime, rate)])
    write_inventory(place, {"one": sshd.host("one")})
    assert main(["cluster", "health", "--json"]) == ExitCode.DONE
    (row,) = json.loads(capsys.readouterr().out)["hosts"]
    assert abs(row["facts"]["clock_offset"] - offset) < 60
    place.settings_file.write_text(SMALL)
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    work.submit(Stage.SELFPLAY, lease.token)
    status = work.look(Stage.SELFPLAY)
    assert not is_stalled(status, TINY)
    assert status.age is None or status.age < DAY / 2
    work.follow(Stage.SELFPLAY, lease.token, lambda _: None)
    assert work.complete(Stage.SELFPLAY, lease.token)["games"] == 10
    sshd.stop()


def clock_of(library: Path, rate: Path) -> str:
    """The line of sshd's config that gives a host clocks of its own, read anew at every look at them.

    libfaketime moves the monotonic clock too, as no real jump does: limits of jobs are set wide for that.
    """
    cache = os.environ["RINGRIFT_NUMBA_CACHE"]
    variables: dict[str, object] = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": rate, "FAKETIME_NO_CACHE": 1}
    return (
        "SetEnv " + " ".join(f"{name}={value}" for name, value in variables.items()) + f" RINGRIFT_NUMBA_CACHE={cache}"
    )


def tmp_rate(home: Path, offset: int) -> Path:
    path = home.parent / "faketime"
    path.write_text(f"{offset:+d}\n")
    return path


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_clock_that_jumps_a_day_while_a_job_runs_ends_nothing(
    sshds: Sshds, faketime: Path, tmp_path: Path, jump: int
) -> None:
    rate = tmp_path / "faketime"
    rate.write_text("+0\n")
    sshd = sshds.make(options=[clock_of(faketime, rate)])
    jobs = sshd.jobs()
    beats = "import time\nwhile True:\n open('heartbeat.jsonl', 'a').write('{\"done\": 1}\\n')\n time.sleep(0.5)\n"
    job = a_job(beats).model_copy(update={"timeout_seconds": 3.0 * DAY})
    jobs.submit_or_adopt(job)
    until(lambda: jobs.poll(NAME).heartbeat, "a heartbeat")
    pid = jobs.poll(NAME).pid
    rate.write_text(f"{jump:+d}\n")
    until(lambda: abs(jobs.answer("facts")["time"] - time.time()) > DAY / 2, "the clock has jumped")
    until(lambda: not is_stalled(jobs.poll(NAME), TINY), "it counts as alive once it has beaten again")
    status = jobs.poll(NAME)
    assert (status.state, status.pid) == (JobState.RUNNING, pid)
    assert jobs.submit_or_adopt(job).adopted
    assert jobs.kill(NAME).reason == "killed on request"
    sshd.stop()


HOLDER = """
import sys, time
from datetime import UTC, datetime
from ringrift_ops.airflow.work import Work
from ringrift_ops.ledger import StaleTokenError
from ringrift_ops.stages.specs import Stage
work = Work.of_run("hex8_2p", None, "run1", datetime.now(UTC), "tiny")
token = work.grant().token
work.submit(Stage.SELFPLAY, token)
work.follow(Stage.SELFPLAY, token, lambda _: None)
print(token, flush=True)
sys.stdin.readline()
try:
    work.complete(Stage.SELFPLAY, token)
except StaleTokenError as error:
    print("refused", error, flush=True)
"""


def test_F24_a_lease_holder_stopped_beyond_its_lease_and_resumed_while_writing_changes_nothing(
    home: Path, sshd: Sshd
) -> None:
    place = Home(home).ensure()
    place.settings_file.write_text(SMALL)
    write_inventory(place, {"one": sshd.host("one")})
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    token = int(holder.stdout.readline())
    holder.send_signal(signal.SIGSTOP)
    ledger = Ledger.open()
    ledger.force_release_lease(generation_lease(CONFIG), reason="its lease ran out", actor="test")
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    newer = work.grant()
    assert newer is not None
    assert newer.token > token
    holder.stdin.write("\n")
    holder.stdin.flush()
    holder.send_signal(signal.SIGCONT)
    assert holder.stdout.readline().startswith("refused")
    assert holder.wait(60) == 0
    assert ledger.artifacts(config=CONFIG) == []
    assert not list(place.games.glob("*.db"))
    work.submit(Stage.SELFPLAY, newer.token)
    work.follow(Stage.SELFPLAY, newer.token, lambda _: None)
    assert work.complete(Stage.SELFPLAY, newer.token)["games"] == 10
    assert work.jobs(Stage.SELFPLAY).log(work.job_id(Stage.SELFPLAY)).text.count("== attempt") == 1


# --- duplicates ----------------------------------------------------------------------------------------------------


def test_F24_two_schedulers_that_do_the_same_task_at_once_make_one_job_and_one_result(home: Path, sshd: Sshd) -> None:
    place = Home(home).ensure()
    place.settings_file.write_text(SMALL)
    write_inventory(place, {"one": sshd.host("one")})

    def whole(_: int) -> dict[str, object]:
        work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
        lease = work.grant()
        assert lease is not None
        work.submit(Stage.SELFPLAY, lease.token)
        work.follow(Stage.SELFPLAY, lease.token, lambda _: None)
        return work.complete(Stage.SELFPLAY, lease.token)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(whole, range(4)))
    assert all(one == results[0] for one in results)
    job_id = f"{CONFIG}-g1-selfplay-s0"
    assert LocalJobs(sshd.work / "jobs").log(job_id).text.count("== attempt") == 1
    assert [one.kind for one in Ledger.open().artifacts(config=CONFIG)] == ["games"]


def test_two_runs_of_one_config_stand_in_line_and_the_second_starts_nothing_on_a_host(home: Path, sshd: Sshd) -> None:
    place = Home(home).ensure()
    place.settings_file.write_text(SMALL)
    write_inventory(place, {"one": sshd.host("one")})
    first, second = (Work.of_run(CONFIG, None, run, datetime.now(UTC), "tiny") for run in ("run1", "run2"))
    lease = first.grant()
    assert lease is not None
    first.submit(Stage.SELFPLAY, lease.token)
    assert second.grant() is None
    with pytest.raises(StaleTokenError):
        second.submit(Stage.SELFPLAY, lease.token)
    assert LocalJobs(sshd.work / "jobs").all() == [first.job_id(Stage.SELFPLAY)]
