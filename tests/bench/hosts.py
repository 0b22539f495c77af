"""Hosts behind real sshds on loopback: what SSH adds to a stage, what waiting costs, how fast files go."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from ringrift_ops.home import Home
from ringrift_ops.hosts.files import pull, push
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.ledger import Ledger, Slot, generation_lease
from ringrift_ops.settings import CONFIGS, HOSTS
from ringrift_ops.stages import fleet
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.store import sha256_file
from tests.bench.figures import Row, Sheet
from tests.bench.machine import BenchError, scratch, temporary_home
from tests.bench.scale import Scale
from tests.hosts.sshd import Sshd, Sshds, write_inventory

START_GOAL: Final = 1.5
"""Seconds from submission to the first heartbeat over SSH, beyond the same on this machine."""
END_GOAL: Final = 1.5
"""Seconds from the end of a job to its result here, beyond the interval of looking."""
LOOK_SECONDS: Final = 1.0
"""The longest pause of a task that follows a job (``Work.follow``)."""
WAITING, WAIT_GOAL = 50, 10.0
"""Waiting jobs, and percent of a core that they may take together."""
RATE_GOAL: Final = 0.9
"""Of the better of scp and rsync, each with sha256sum on both ends and sync."""
MB: Final = 1_000_000

_ONE_STAGE: Final = """
import json, sys, time
from datetime import UTC, datetime
from ringrift_ops.airflow.work import Work
from ringrift_ops.stages.specs import Stage
work = Work.of_run("hex8_2p", None, sys.argv[1], datetime.now(UTC), "tiny")
token = work.grant().token
asked = time.time()
work.submit(Stage.SELFPLAY, token)
submitted = time.time()
work.follow(Stage.SELFPLAY, token, lambda _: None)
work.complete(Stage.SELFPLAY, token)
print(json.dumps({"asked": asked, "submitted": submitted, "result": time.time()}))
work.finish([Stage.SELFPLAY])
"""
"""A task as Airflow starts it: a process of its own, which has no connection yet."""

_SETTINGS: Final = "profiles: {tiny: {first_games: 20}}\n"


class NoSshdError(BenchError):
    """There is no sshd to measure against."""


def hosts(scale: Scale) -> list[Row]:
    """Overhead of a stage over SSH, what waiting costs, transfers, distribution of a net, what a host costs here."""
    sheet = Sheet("hosts")
    with _sshds() as made, temporary_home() as home:
        one = made.make()
        _overhead(sheet, home, one, scale)
        _waiting(sheet, home, one, scale)
        _transfers(sheet, one, scale)
        _distribution(sheet, home, made, scale)
        _per_host(sheet, home, one, scale)
    return sheet.rows


@contextmanager
def _sshds() -> Iterator[Sshds]:
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if program is None:
        raise NoSshdError("there is no sshd; on Debian, apt install openssh-server")
    os.environ.setdefault("RINGRIFT_NUMBA_CACHE", str(scratch().parent / "numba"))
    made = Sshds(program)
    try:
        yield made
    finally:
        for sshd in made.made:
            LocalJobs(sshd.work / "jobs").kill_all()
        made.end()


# --- a stage ---------------------------------------------------------------------------------------------------------


def _overhead(sheet: Sheet, home: Home, sshd: Sshd, scale: Scale) -> None:
    home.settings_file.write_text(_SETTINGS)
    starts: dict[str, list[float]] = {"here": [], "ssh": []}
    ends: dict[str, list[float]] = {"here": [], "ssh": []}
    for run in range(scale.runs + 1):
        for where in ("here", "ssh"):  # by turns: whatever else the machine does meets both
            write_inventory(home, {"one": sshd.host("one", max_parallel_jobs=8)} if where == "ssh" else {})
            root = sshd.work / "jobs" if where == "ssh" else home.jobs
            start, end = _one_stage(root, f"{where}{run}")
            if run:  # the first one meets cold caches
                starts[where].append(start)
                ends[where].append(end)
    sheet.add("submission to first heartbeat, this machine", starts["here"], "s", better="lower")
    sheet.add(
        "submission to first heartbeat, SSH", starts["ssh"], "s", better="lower",
        target=statistics.median(starts["here"]) + START_GOAL, peer="submission to first heartbeat, this machine",
        note="a process of its own, as a task is: connecting included",
    )  # fmt: skip
    sheet.add("end to result, this machine", ends["here"], "s", better="lower")
    sheet.add(
        "end to result, SSH", ends["ssh"], "s", better="lower", target=LOOK_SECONDS + END_GOAL,
        peer="end to result, this machine", note=f"looked at every {LOOK_SECONDS:g} s; the games are here then",
    )  # fmt: skip


def _one_stage(root: Path, run: str) -> tuple[float, float]:
    """Return (seconds from submission to the first heartbeat, seconds from the job's end to its result)."""
    before = set(root.glob("*")) if root.is_dir() else set()
    process = subprocess.Popen([sys.executable, "-c", _ONE_STAGE, run], stdout=subprocess.PIPE, text=True)
    beat = None
    while process.poll() is None:
        new = [path for path in (set(root.glob("*")) if root.is_dir() else set()) - before if path.name != "_refused"]
        if beat is None and any((path / "heartbeat.jsonl").exists() for path in new):
            beat = time.time()
        time.sleep(0.005)
    if process.returncode or beat is None or process.stdout is None:
        raise BenchError(f"the stage of {run} ended with {process.returncode}")
    told = json.loads(process.stdout.read())
    (folder,) = [path for path in set(root.glob("*")) - before if path.name != "_refused"]
    return beat - told["asked"], told["result"] - (folder / "exit_code").stat().st_mtime


# --- waiting ---------------------------------------------------------------------------------------------------------


def _waiting(sheet: Sheet, home: Home, sshd: Sshd, scale: Scale) -> None:
    """So many triggers in one process as in the triggerer, of one training per config."""
    write_inventory(home, {"one": sshd.host("one", max_parallel_jobs=64)})
    ledger, jobs, runs = Ledger.open(), sshd.jobs(), []
    beat = "import time\nwhile True: open('heartbeat.jsonl', 'a').write('{\"done\": 1}\\n'); time.sleep(10)"
    for config in CONFIGS:
        made = ledger.ensure_generation(config, None, "waiting", datetime.now(UTC), "tiny")
        lease = ledger.try_grant_generation(made.id)
        if lease is None:
            raise BenchError(f"{config} has no lease")
        job_id = f"{config}-g{made.id}-train"
        ledger.start_stage(made.id, "train", 0, {}, lease.token, job_id=job_id, slots=[Slot("one", 64)])
        jobs.submit_or_adopt(Job(job_id=job_id, argv=(sys.executable, "-c", beat), spec={}, timeout_seconds=600))
        run = {
            "config": config, "logical_date": None, "run_id": "waiting", "run_after": made.run_after.isoformat(),
            "profile": "tiny", "candidate": None,
        }  # fmt: skip
        trigger = {"run": run, "stage": "train", "shard": 0, "token": lease.token, "failed": []}
        runs.append((trigger, job_id, made.id))
    arguments = [runs[number % len(runs)][0] for number in range(WAITING)]
    seconds = 30.0 if scale.runs > 2 else 8.0
    share = asyncio.run(_watched(arguments, seconds))
    sheet.add(
        f"{WAITING} waiting jobs in the triggerer", share, "% of a core", better="lower", target=WAIT_GOAL,
        note=f"looked at every {HOSTS.poll_seconds:g} s, {len(runs)} trainings on one host, {seconds:g} s",
    )  # fmt: skip
    for one, job_id, number in runs:
        jobs.kill(job_id)
        ledger.release_lease(generation_lease(str(one["run"]["config"])), int(str(one["token"])))  # type: ignore[index]
        ledger.withdraw_generation(number, "measured")


async def _watched(arguments: list[dict[str, object]], seconds: float) -> float:
    from ringrift_ops.airflow.triggers import FIRST_LOOK_SECONDS, JobTrigger

    async def wait(one: dict[str, object]) -> None:
        async for event in JobTrigger(**one).run():  # type: ignore[arg-type]
            raise BenchError(f"a job that waits is over: {event}")

    tasks = [asyncio.create_task(wait(one)) for one in arguments]
    await asyncio.sleep(FIRST_LOOK_SECONDS + 2 * HOSTS.poll_seconds)  # each has looked, and is open
    before, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    share = 100.0 * (time.process_time() - before) / (time.monotonic() - began)
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return share


# --- files -----------------------------------------------------------------------------------------------------------


def _transfers(sheet: Sheet, sshd: Sshd, scale: Scale) -> None:
    size = 256 * MB if scale.runs > 2 else 8 * MB
    source = scratch() / "transfer"
    with source.open("wb") as target:
        for _ in range(size // MB):
            target.write(os.urandom(MB))
    ssh = shlex.join(["ssh", *_ssh_options(sshd, "-p")])
    there = sshd.work / "peer"
    ways: dict[str, list[str]] = {
        "scp": ["scp", "-q", *_ssh_options(sshd, "-P"), str(source), f"root@{sshd.address}:{there}"]
    }
    if shutil.which("rsync"):
        ways["rsync"] = ["rsync", "-W", "--inplace", "-e", ssh, str(source), f"root@{sshd.address}:{there}"]
    jobs = sshd.jobs()
    jobs.link.greeting()
    back = scratch() / "transfer.back"
    took: dict[str, list[float]] = {name: [] for name in ("push", "pull", *ways)}
    try:
        for _ in range(min(3, scale.runs)):
            took["push"].append(_timed(lambda: push(jobs, source, "data/transfer", sha256_file(source))))
            took["pull"].append(_timed(lambda: pull(jobs, "data/transfer", back)))
            jobs.answer("remove", path="data/transfer")
            back.unlink()
            for name, command in ways.items():
                took[name].append(_timed(lambda command=command: _peer(command, source, there)))  # type: ignore[misc]
                there.unlink()
    finally:
        for path in (source, back):
            path.unlink(missing_ok=True)
    rates = {name: [size / MB / one for one in values] for name, values in took.items()}
    better = max(ways, key=lambda name: statistics.median(rates[name]))
    for name in ways:
        sheet.add(f"{name}, sha256sum on both ends, sync", rates[name], "MB/s")
    goal = RATE_GOAL * statistics.median(rates[better])
    for name, words in (("push", "to a host"), ("pull", "from a host")):
        sheet.add(
            f"file {words}", rates[name], "MB/s", target=goal, peer=f"{better}, sha256sum on both ends, sync",
            note=f"{size // MB} MB, sha256 on both ends, fsync, rename included",
        )  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _ssh_options(sshd: Sshd, port: str) -> list[str]:
    plain = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    return ["-i", str(sshd.client_key), port, str(sshd.port), *(word for one in plain for word in ("-o", one))]


def _peer(command: list[str], source: Path, there: Path) -> None:
    subprocess.run(command, check=True)
    subprocess.run(["sha256sum", str(source)], check=True, capture_output=True)
    subprocess.run(["sha256sum", str(there)], check=True, capture_output=True)
    subprocess.run(["sync", str(there)], check=True)


# --- distribution ----------------------------------------------------------------------------------------------------


def _distribution(sheet: Sheet, home: Home, made: Sshds, scale: Scale) -> None:
    from tests.hosts.test_distribution import distributed, promoted

    many = [made.make() for _ in range(8 if scale.runs > 2 else 2)]
    write_inventory(home, {f"h{number}": sshd.host(f"h{number}") for number, sshd in enumerate(many)})
    seconds = []
    for _ in range(min(3, scale.runs)):
        sha = promoted(home, hidden=4_096 if scale.runs > 2 else 64)
        began = time.monotonic()
        deliveries = distributed(home, sha).deliveries
        seconds.append(time.monotonic() - began)
        if not all(one.verified for one in deliveries):
            raise BenchError(f"not everywhere: {deliveries}")
    bytes_ = Ledger.open().artifact(sha).bytes
    sheet.add(
        f"a net to {len(many)} hosts", seconds, "s", better="lower",
        note=f"{bytes_ / MB:.0f} MB each, hashed, linked, and read by each host's own `ringrift model show`",
    )  # fmt: skip


# --- what a host costs here ------------------------------------------------------------------------------------------


def _per_host(sheet: Sheet, home: Home, sshd: Sshd, scale: Scale) -> None:
    """Memory and processor time of this process by host; docs/scaling.md reckons with them."""
    hosting, count = Hosting(home, Ledger.open()), 40 if scale.runs > 2 else 4
    write_inventory(home, {"one": sshd.host("one")})
    fleet.look(hosting, "one")  # imports what it needs, and connects
    links = [_connected(sshd) for _ in range(count // 4)]  # whatever the first ones leave room for
    before, used = _own_memory(), time.process_time()
    links += [_connected(sshd) for _ in range(count)]
    spent = 1_000 * (time.process_time() - used) / count
    note = f"{count} connections of one process, one program at the other end of each"
    sheet.add("a connection to a host, held", [(_own_memory() - before) / count], "kB", better="lower", note=note)
    sheet.add("connecting to a host", [spent], "ms of processor time", better="lower", note="here, not there")
    used = time.process_time()
    for _ in range(count):
        fleet.look(hosting, "one")
    sheet.add(
        "a look after a host", [1_000 * (time.process_time() - used) / count], "ms of processor time", better="lower",
        note="what `ringrift cluster health` and the DAG `hosts` ask, on a connection that is open",
    )  # fmt: skip
    for jobs in links:
        jobs.link.close()


def _connected(sshd: Sshd) -> RemoteJobs:
    jobs = sshd.jobs()
    jobs.link.greeting()
    return jobs


def _own_memory() -> float:
    """Return the memory of this process that no other shares, kB."""
    gc.collect()
    return float(psutil.Process().memory_full_info().uss) / 1_000
