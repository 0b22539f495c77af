"""All hosts at once: how they are, what they have made, jobs on them that nobody owns. None holds up another."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from ringrift_ops.errors import RingRiftError
from ringrift_ops.hosts.edge import EdgeJobs
from ringrift_ops.hosts.errors import HostHangsError, UnreachableHostError
from ringrift_ops.hosts.facts import facts
from ringrift_ops.hosts.files import pull
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.hosts.versions import difference, versions
from ringrift_ops.ledger import Generation, GenerationState, UnknownGenerationError
from ringrift_ops.ledger.engine import utc_now
from ringrift_ops.settings import CONFIGS, HOSTS, PARTS_FOLDER
from ringrift_ops.stages.delivering import catch_up
from ringrift_ops.stages.hosting import ForeignResultError, Hosting
from ringrift_ops.stages.placement import batch_name, is_stored, outputs_of
from ringrift_ops.stages.specs import Frozen, GauntletResult, SelfplayResult, TrainResult

T = TypeVar("T")

_GENERATION = re.compile(rf"({'|'.join(CONFIGS)})-g(\d+)-([a-z]+)(?:-s(\d+))?")
_PART = re.compile(rf"({'|'.join(CONFIGS)})-x([0-9a-f]{{12}})-selfplay-s(\d+)")
_RESULTS: dict[str, type[Frozen]] = {"selfplay": SelfplayResult, "train": TrainResult, "gauntlet": GauntletResult}


class HostReport(Frozen):
    """What a verb came to on one host. ``error`` None: it was done."""

    host: str
    error: str | None
    cause: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


def on_all(names: list[str], step: Callable[[str], dict[str, Any]], within: float | None = None) -> list[HostReport]:
    """Return what ``step`` came to on each host, asked side by side, in the order of ``names``.

    A host that is not done ``within`` so many seconds is reported so, and left to itself. What is no error of ours is
    raised.
    """
    answers: queue.Queue[tuple[str, HostReport | BaseException]] = queue.Queue()

    def one(name: str) -> None:
        try:
            answers.put((name, HostReport(host=name, error=None, facts=step(name))))
        except RingRiftError as error:
            answers.put((name, HostReport(host=name, error=str(error), cause=type(error).__name__)))
        except BaseException as error:
            answers.put((name, error))  # raised below, in the thread that asked
            raise

    for name in names:
        # Not a pool: its threads would keep this process from ending while one of them hangs.
        threading.Thread(target=one, args=(name,), daemon=True).start()
    done: dict[str, HostReport] = {}
    deadline = None if within is None else time.monotonic() + within
    while len(done) < len(names):
        try:
            name, answer = answers.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, BaseException):
            raise answer
        done[name] = answer
    late = f"not done within {within} s; what is under way goes on next time"
    return [
        done.get(name) or HostReport(host=name, error=f"host {name}: {late}", cause=HostHangsError.__name__)
        for name in names
    ]


def health(hosting: Hosting, names: list[str]) -> list[HostReport]:
    """Return {"version", "same_version", "clock_offset" (seconds ahead of here), ...} and the facts of each host.

    ``version`` is what differs, or the package's; each host is given ``HOSTS.health_seconds``.
    """

    return on_all(names, lambda name: look(hosting, name))


def look(hosting: Hosting, name: str) -> dict[str, Any]:
    """Return how one host is, as :func:`health` does, and note whether it is there."""
    asked = time.time()
    try:
        edge = hosting.edge(name)
        if edge is not None:
            return _known(hosting, edge)
        remote = hosting.remote(name)
        found = dict(remote.answer("facts", within=HOSTS.health_seconds))
    except UnreachableHostError as error:
        hosting.lost(error)
        raise
    offset = found["time"] - (asked + time.time()) / 2
    hosting.seen(name)
    other = difference(versions(), found["versions"])
    return found | {
        "clock_offset": round(offset, 3),
        "same_version": other is None,
        "version": other or found["versions"]["package"],
    }


def _known(hosting: Hosting, edge: EdgeJobs) -> dict[str, Any]:
    """Return what an Edge host said of itself last, like :func:`health`; its clock is off by at least its silence."""
    node = edge.known()
    if edge.mirror.silent():
        edge.check_there()
    facts = dict(node["facts"])
    hosting.seen(edge.name)
    other = difference(versions(), facts["versions"])
    return facts | {
        "clock_offset": round(float(facts["time"]) - float(node["at"]), 3),
        "same_version": other is None,
        "version": other or facts["versions"]["package"],
    }


def here(hosting: Hosting) -> HostReport:
    """Return the same facts of this machine (R37)."""
    found = facts(hosting.home)
    mine = {"clock_offset": 0.0, "same_version": True, "version": found["versions"]["package"]}
    return HostReport(host="this machine", error=None, facts=found | mine)


def sync(hosting: Hosting, names: list[str]) -> list[HostReport]:
    """Bring back what each host's finished jobs made, bring it the canonical nets, end jobs that nobody owns.

    Returns {"brought" (paths below the home), "ended" (job ids), "nets" (sha256 it lacked)} per host.
    """
    return on_all(names, lambda name: sync_one(hosting, name))


def sync_one(hosting: Hosting, name: str) -> dict[str, Any]:
    """The same for one host."""
    look(hosting, name)
    remote = hosting.remote(name)
    ended = reap(hosting, name)
    _clear_parts(hosting, remote)
    brought = [path for job_id in remote.all() for path in _bring_back(hosting, remote, job_id)]
    return {"brought": brought, "ended": ended, "nets": catch_up(hosting, name)}


def over_long_ago(hosting: Hosting, host: str, seconds: float) -> list[str]:
    """Return the jobs on a host that are over, and whose generation or command has been over for so many seconds.

    By the ledger's own times: no clock of a host counts. A job that a generation under way may resume is none of them,
    nor is one of a generation that this ledger does not know.
    """
    remote = hosting.remote(host)
    return [
        job_id
        for job_id in remote.all()
        if (ended := ended_at(hosting, job_id)) is not None
        and utc_now() - ended > timedelta(seconds=seconds)
        and remote.poll(job_id).over
    ]


def removable(hosting: Hosting, host: str, job_id: str) -> list[str]:
    """Return the games that a job made on a host and the dataset that it read there, by their places below its home.

    Only what is here, and what no generation under way reads. Nothing goes from a home that is a controller's: a host
    may share this one's.
    """
    remote, generation = hosting.remote(host), _generation_of(hosting, job_id)
    runs = [] if generation is None else hosting.ledger.stage_runs(generation.id)
    large = {
        str(path)
        for run in runs
        if run.job_id == job_id
        for path in (run.spec.get("dataset_path"), (run.result or {}).get("path") if run.stage == "selfplay" else None)
        if path is not None
    }
    mine = [path for path in large if not Path(path).is_absolute() and hosting.home.resolve(path).exists()]
    if not mine or remote.answer("file", path="airflow", digest=False) is not None:
        return []
    read = {
        run.spec.get("dataset_path")
        for state in (GenerationState.RUNNING, GenerationState.WAITING)
        for one in hosting.ledger.generations(state=state)
        for run in hosting.ledger.stage_runs(one.id)
    }
    return [path for path in sorted(set(mine) - read) if remote.answer("file", path=path, digest=False) is not None]


def ended_at(hosting: Hosting, job_id: str) -> datetime | None:
    """Return when the generation or command of a job was over, None while it is not, or when it is not known here."""
    if (part := _PART.fullmatch(job_id)) is not None:
        return next((play.finished_at for play in hosting.ledger.plays(prefix=part[2], limit=1)), None)
    generation = _generation_of(hosting, job_id)
    if generation is None or generation.state not in (GenerationState.FINISHED, GenerationState.WITHDRAWN):
        return None
    return max(generation.finished_at or generation.seen_at, generation.seen_at)


def _clear_parts(hosting: Hosting, remote: RemoteJobs) -> None:
    """Remove the files of commands' parts that were left on a host which was away when its command was over."""
    found = {part[2] for job_id in remote.all() if (part := _PART.fullmatch(job_id)) is not None}
    for prefix in found:
        for play in hosting.ledger.plays(prefix=prefix, limit=1):
            if play.state == "done":
                remote.answer("remove", path=f"{PARTS_FOLDER}/{prefix}")


def _bring_back(hosting: Hosting, remote: RemoteJobs, job_id: str) -> list[str]:
    """Bring what a generation's finished job made, and return the places; raises :class:`ForeignResultError`."""
    named = _GENERATION.fullmatch(job_id)
    if named is None or named[3] not in _RESULTS or remote.poll(job_id).state is not JobState.DONE:
        return []
    try:
        result = _RESULTS[named[3]].model_validate(remote.collect(job_id))
    except ValidationError:  # another version's result: what it made is left where it is
        return []
    brought = []
    batch = hosting.home.games / batch_name(named[1], f"g{int(named[2])}", int(named[4] or 0))
    for path, sha in outputs_of(result):
        own = path == hosting.home.relative(batch) if sha is None else is_stored(hosting.home, path, sha)
        if not own:
            raise ForeignResultError(f"host {remote.name}: {job_id} cannot have made {path!r}")
        here = hosting.home.resolve(path)
        if not here.exists():
            pull(remote, path, here, sha=sha)
            brought.append(path)
    return brought


def reap(hosting: Hosting, host: str) -> list[str]:
    """End the jobs on a host that no generation owns any more, keep them aside with the reason, and return their ids.

    Such a job's generation is over, or its stage was placed elsewhere. A job of a generation that this ledger does not
    know is somebody else's and stays.
    """
    remote, ended = hosting.remote(host), []
    for job_id in remote.all():
        reason = _disowned(hosting, host, job_id)
        if reason is not None and remote.poll(job_id).state is JobState.RUNNING:
            remote.set_aside(job_id, reason)
            ended.append(job_id)
    remote.reap()
    return ended


def _generation_of(hosting: Hosting, job_id: str) -> Generation | None:
    """Return the generation of a job, None when this ledger has none of that config and number."""
    named = _GENERATION.fullmatch(job_id)
    if named is None:
        return None
    try:
        generation = hosting.ledger.generation(int(named[2]))
    except UnknownGenerationError:
        return None
    return generation if generation.config == named[1] else None


def _disowned(hosting: Hosting, host: str, job_id: str) -> str | None:
    if (part := _PART.fullmatch(job_id)) is not None:
        return _disowned_part(hosting, host, part[2], int(part[3]))
    named, generation = _GENERATION.fullmatch(job_id), _generation_of(hosting, job_id)
    if named is None or generation is None:
        return None
    number, stage, shard = int(named[2]), named[3], int(named[4] or 0)
    if generation.state in (GenerationState.FINISHED, GenerationState.WITHDRAWN):
        return f"generation {number} is {generation.state.value}"
    placed = next((run for run in hosting.ledger.stage_runs(number, stage) if run.shard == shard), None)
    if placed is not None and host not in placed.hosts:
        return f"{stage} of generation {number} went on {f'on {placed.host}' if placed.host else 'on the controller'}"
    return None


def _disowned_part(hosting: Hosting, host: str, prefix: str, shard: int) -> str | None:
    """Return why a command's part is no longer played on a host, None while it is (or is not known here)."""
    for play in hosting.ledger.plays(prefix=prefix, limit=1):
        if play.state == "done":
            return "all games of its command are there"
        placed = next((row for row in hosting.ledger.play_shards(play.id) if row.shard == shard), None)
        if placed is not None and host not in placed.hosts:
            return f"part {shard} of its command went on on {placed.host}"
    return None
