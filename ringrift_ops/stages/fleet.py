"""All hosts at once: how they are, what they have made, jobs on them that nobody owns. None holds up another."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from ringrift_ops.errors import RingRiftError
from ringrift_ops.hosts.edge import EdgeJobs
from ringrift_ops.hosts.errors import UnreachableHostError
from ringrift_ops.hosts.facts import facts
from ringrift_ops.hosts.files import pull
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.hosts.versions import difference, versions
from ringrift_ops.ledger import GenerationState, UnknownGenerationError
from ringrift_ops.settings import CONFIGS, HOSTS
from ringrift_ops.stages.delivering import catch_up
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.placement import outputs_of
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


def on_all(names: list[str], step: Callable[[str], dict[str, Any]]) -> list[HostReport]:
    """Return what ``step`` came to on each host, asked side by side, in the order of ``names``."""

    def one(name: str) -> HostReport:
        try:
            return HostReport(host=name, error=None, facts=step(name))
        except RingRiftError as error:
            return HostReport(host=name, error=str(error), cause=type(error).__name__)

    with ThreadPoolExecutor(max(1, len(names))) as threads:
        return list(threads.map(one, names))


def health(hosting: Hosting, names: list[str]) -> list[HostReport]:
    """Return {"version", "same_version", "clock_offset" (seconds ahead of here), ...} and the facts of each host.

    ``version`` is what differs, or the package's; each host is given ``HOSTS.health_seconds``.
    """

    def look(name: str) -> dict[str, Any]:
        asked = time.time()
        try:
            edge = hosting.edge(name)
            if edge is not None:
                return _known(hosting, edge)
            found = dict(hosting.remote(name).answer("facts", within=HOSTS.health_seconds))
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

    return on_all(names, look)


def _known(hosting: Hosting, edge: EdgeJobs) -> dict[str, Any]:
    """Return what an Edge host said of itself last, like :func:`health`; its clock is off by at least its silence."""
    node = edge.mirror.node()
    if node is None or edge.mirror.silent():
        edge.check_there()
    assert node is not None
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

    def step(name: str) -> dict[str, Any]:
        remote = hosting.remote(name)
        remote.answer("facts", within=HOSTS.health_seconds)
        ended = reap(hosting, name)
        brought = [path for job_id in remote.all() for path in _bring_back(hosting, remote, job_id)]
        hosting.seen(name)
        return {"brought": brought, "ended": ended, "nets": catch_up(hosting, name)}

    return on_all(names, step)


def _bring_back(hosting: Hosting, remote: RemoteJobs, job_id: str) -> list[str]:
    named = _GENERATION.fullmatch(job_id)
    if named is None or named[3] not in _RESULTS or remote.poll(job_id).state is not JobState.DONE:
        return []
    try:
        result = _RESULTS[named[3]].model_validate(remote.collect(job_id))
    except ValidationError:  # another version's result: what it made is left where it is
        return []
    brought = []
    for path, sha in outputs_of(result):
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


def _disowned(hosting: Hosting, host: str, job_id: str) -> str | None:
    if (part := _PART.fullmatch(job_id)) is not None:
        return _disowned_part(hosting, host, part[2], int(part[3]))
    named = _GENERATION.fullmatch(job_id)
    if named is None:
        return None
    number, stage, shard = int(named[2]), named[3], int(named[4] or 0)
    try:
        generation = hosting.ledger.generation(number)
    except UnknownGenerationError:
        return None
    if generation.config != named[1]:
        return None
    if generation.state in (GenerationState.FINISHED, GenerationState.WITHDRAWN):
        return f"generation {number} is {generation.state.value}"
    placed = next((run for run in hosting.ledger.stage_runs(number, stage) if run.shard == shard), None)
    if placed is not None and placed.host != host:
        return f"{stage} of generation {number} went on {f'on {placed.host}' if placed.host else 'on the controller'}"
    return None


def _disowned_part(hosting: Hosting, host: str, prefix: str, shard: int) -> str | None:
    """Return why a command's part is no longer played on a host, None while it is (or is not known here)."""
    for play in hosting.ledger.plays(prefix=prefix, limit=1):
        if play.state == "done":
            return "all games of its command are there"
        placed = next((row for row in hosting.ledger.play_shards(play.id) if row.shard == shard), None)
        if placed is not None and placed.host != host:
            return f"part {shard} of its command went on on {placed.host}"
    return None
