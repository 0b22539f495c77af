"""Stages on hosts: the transport to each, what is brought there and back, and when a host counts as lost."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.errors import AwayHostError, HostAnswerError, UnreachableHostError
from ringrift_ops.hosts.files import pull, push
from ringrift_ops.hosts.jobs import EFFECTS_VARIABLE, JobState, JobStatus, Transport
from ringrift_ops.hosts.keys import trusted_key
from ringrift_ops.hosts.link import link_to
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.ledger import HERE, Ledger, Slot, generation_lease
from ringrift_ops.settings import HOSTS, Host, Inventory
from ringrift_ops.settings.load import PREFIX
from ringrift_ops.stages.curves import curves_folder
from ringrift_ops.stages.placement import (
    checkpoints_of,
    fitted,
    inputs_of,
    lies_in,
    may_make,
    outputs_of,
    slots_for,
    work_of,
)
from ringrift_ops.stages.recording import replay
from ringrift_ops.stages.specs import Frozen, SelfplaySpec, Stage, StageSpec, TrainSpec
from ringrift_ops.store import MissingObjectError, copy_verified, sha256_file

T = TypeVar("T")

_SETTINGS = "config/settings.yaml"
_SHARED = ("configs", "profiles", "gauntlet_games")
"""What hosts are given of it."""

_POLICY = ("PROMOTION_", "GAUNTLET_GAMES")
"""Environment variables of policy that a stage reads; they go with the job, so that every host judges alike."""


class EdgeHostError(UsageError):
    """A host of role edge was to be connected to."""


class ForeignResultError(UsageError):
    """A host says that it made a file where its job makes none."""


def shared_settings(home: Home) -> str:
    """Return the rows in force as YAML, so that every host judges alike; nothing else of the file.

    The file may hold a password.
    """
    import yaml

    mine = home.settings_file
    read = yaml.safe_load(mine.read_text(encoding="utf-8")) if mine.exists() else None
    return str(yaml.safe_dump({name: value for name, value in (read or {}).items() if name in _SHARED}))


def _unseen(job_id: str, state: JobState, reason: str) -> JobStatus:
    """Return what counts as a job's status while nobody can look at it."""
    return JobStatus(
        job_id=job_id, state=state, attempt=0, pid=None, raw_code=None, reason=reason, started=None, ended=None,
        heartbeat=None, heartbeat_age=None,
    )  # fmt: skip


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline()


@dataclass
class Hosting:
    """The hosts of a home, and this machine."""

    home: Home
    ledger: Ledger
    _seen: dict[str, float] = field(default_factory=dict)
    """When the ledger was last told that a host is up."""
    _missed: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    """When it was last told that a host is away, and since when it is."""

    @cached_property
    def inventory(self) -> Inventory:
        return Inventory.load(self.home)

    def jobs(self, host: str | None) -> Transport:
        """Return the jobs of a host, of this machine for None. Raises ``UnknownHostError``, ``UntrustedHostError``."""
        if host is None:
            return LocalJobs(self.home.jobs)
        return self.edge(host) or self.remote(host)

    def edge(self, host: str | None) -> EdgeJobs | None:
        """Return the jobs of a host of role edge, None for every other."""
        if host is None or not self.inventory.host(host).is_edge:
            return None
        return EdgeJobs(Mirror(self.home, host))

    def remote(self, host: str) -> RemoteJobs:
        """Return the jobs of a host over this process's one link to it. Raises :class:`EdgeHostError`."""
        row = self.inventory.host(host)
        if row.is_edge:
            raise EdgeHostError(
                f"host {host}: its role is edge, so nothing connects to it; it fetches its work itself (docs/edge.md)"
            )
        return RemoteJobs(link_to(row, trusted_key(self.home, row)))

    def host(self, name: str) -> Host:
        return self.inventory.host(name)

    # --- is it there -----------------------------------------------------------------------------

    def seen(self, host: str) -> None:
        """Note that a host has answered; the ledger is told now and then."""
        now = time.monotonic()
        if now - self._seen.get(host, -HOSTS.answer_seconds) >= HOSTS.answer_seconds:
            self._seen[host] = now
            self._missed.pop(host, None)
            self.ledger.host_seen(host, self._boot_id(host))

    def _boot_id(self, host: str) -> str:
        edge = self.edge(host)
        known = self.remote(host).link.greeting() if edge is None else edge.mirror.node() or {"boot_id": ""}
        return str(known["boot_id"])

    def lost(self, error: UnreachableHostError) -> bool:
        """Note that a host has not answered, and return whether it is lost: away for ``HOSTS.lost_seconds``."""
        now, host = time.monotonic(), error.host
        noted, since = self._missed.get(host, (-HOSTS.answer_seconds, datetime.now(UTC)))
        if host in self._seen or now - noted >= HOSTS.answer_seconds:
            since = self.ledger.host_missed(host, str(error)).away_since or since
            self._missed[host] = (now, since)
            self._seen.pop(host, None)
        return datetime.now(UTC) - since >= timedelta(seconds=HOSTS.lost_seconds)

    def is_lost(self, host: str) -> bool:
        """Return whether a host was lost when it was last asked."""
        state = self.ledger.host_state(host)
        away = None if state is None else state.away_since
        return away is not None and datetime.now(UTC) - away >= timedelta(seconds=HOSTS.lost_seconds)

    def look(self, host: str | None, job_id: str) -> JobStatus:
        """Return how a job stands: as running while its host is away, as dead when the host is lost."""
        if host is not None and host not in self.inventory.hosts:
            return _unseen(job_id, JobState.DEAD, f"its host {host} is no longer in {self.home.inventory}")
        try:
            status = self.jobs(host).poll(job_id)
        except UnreachableHostError as error:
            if self.lost(error):
                return _unseen(job_id, JobState.DEAD, f"its host is lost: {error}")
            return _unseen(job_id, JobState.RUNNING, str(error))
        if host is not None:
            self.seen(host)
        return status

    def end(self, host: str | None, job_id: str) -> bool:
        """End a job with all it started, if it runs; return whether it did. Raises ``UnreachableHostError``."""
        if self.look(host, job_id).state is not JobState.RUNNING:
            return False
        self.jobs(host).kill(job_id)
        return True

    def patiently(self, step: Callable[[], T], meanwhile: Callable[[], object]) -> T:
        """Return what ``step`` returns; while its host is away, and not yet lost, try again, and do ``meanwhile``."""
        while True:
            try:
                return step()
            except AwayHostError as error:
                if self.lost(error):
                    raise
                meanwhile()
                time.sleep(HOSTS.again_seconds)

    # --- there and back --------------------------------------------------------------------------

    def bring(self, host: str, spec: StageSpec) -> None:
        """Bring what the stage reads to its host, with the settings in force and the last checkpoint there is here."""
        edge = self.edge(host)
        if edge is not None:  # it fetches them; here is only made sure that it can
            edge.check_there()
            inputs_of(self.home, spec)
            return
        remote = self.remote(host)
        remote.check_version()
        for one in inputs_of(self.home, spec):
            push(remote, self.home.resolve(one.path), one.path, one.sha, read_only=True)
        self._bring_settings(remote)
        folder = checkpoints_of(self.home, spec)
        if folder is not None:
            self._bring_checkpoints(remote, folder)

    def _bring_settings(self, remote: RemoteJobs) -> None:
        with tempfile.TemporaryDirectory(prefix="ringrift-settings-") as folder:
            copy = Path(folder) / "settings.yaml"
            copy.write_text(shared_settings(self.home), encoding="utf-8")
            push(remote, copy, _SETTINGS, sha256_file(copy))

    def _bring_checkpoints(self, remote: RemoteJobs, folder: str) -> None:
        """A chain that the host has itself is at least as long as the copy of it here."""
        here = self.home.resolve(folder)
        if here.is_dir() and not remote.answer("files", seconds=HOSTS.digest_seconds, folder=folder):
            for path in sorted(here.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    push(remote, path, f"{folder}/{path.name}", sha256_file(path))

    def environment(self, host: str | None) -> dict[str, str]:
        """Return the variables of a job: none on this machine, whose own are passed on."""
        if host is None:
            return {}
        policy = {
            name: value for name, value in os.environ.items() if name.startswith(tuple(PREFIX + p for p in _POLICY))
        }
        if self.edge(host) is not None:  # its own Edge task knows where it is
            return policy
        return policy | {
            "RINGRIFT_HOME": str(self.remote(host).link.greeting()["home"]),
            EFFECTS_VARIABLE: "effects.jsonl",
        }

    def python(self, host: str | None) -> str:
        """Return the interpreter of a job, an absolute path where it runs."""
        if host is None or self.edge(host) is not None:  # an Edge task takes its own
            return sys.executable
        return str(self.remote(host).link.greeting()["executable"])

    def keep_checkpoint(self, host: str, spec: StageSpec) -> None:
        """Copy a running training's checkpoints here, for the day its host does not come back, and its curves."""
        folder = checkpoints_of(self.home, spec)
        if folder is None or self.edge(host) is not None:  # an Edge task brings them itself
            return
        self._copy(self.remote(host), folder)
        self._keep_curves(host, spec)

    def _keep_curves(self, host: str, spec: StageSpec) -> None:
        if isinstance(spec, TrainSpec) and self.edge(host) is None:
            self._copy(self.remote(host), self.home.relative(curves_folder(self.home, spec)))

    def _copy(self, remote: RemoteJobs, folder: str) -> None:
        """Copy the files of a folder that a job is writing; those that change meanwhile are left for the next time.

        Raises :class:`ForeignResultError`.
        """
        try:
            for one in remote.answer("files", seconds=HOSTS.digest_seconds, folder=folder):
                path = str(one["path"])
                if not lies_in(folder, path):
                    raise ForeignResultError(
                        f"host {remote.name}: {path!r} is no file of {folder}, which was asked for"
                    )
                here = self.home.resolve(path)
                if not (here.is_file() and sha256_file(here) == one["sha"]):
                    pull(remote, path, here)
        except (MissingObjectError, HostAnswerError):  # the job went on, or ended; the copy of before will do
            return

    def keep_log(self, host: str | None, stage: Stage, status: JobStatus) -> None:
        """Copy the log of a job on a host to ``logs/<stage>_<host>_<timestamp of the attempt>.log`` (R70).

        A second one of the same second carries its job's id besides.
        """
        if host is not None and status.started is not None:
            begun = datetime.fromisoformat(status.started)
            here = self.home.logs / f"{stage.value}_{host}_{begun:%Y%m%dT%H%M%SZ}.log"
            if here.exists() and f" of {status.job_id}," not in _first_line(here):
                here = here.with_name(f"{here.stem}_{status.job_id}.log")
            edge = self.edge(host)
            if edge is None:
                pull(self.remote(host), f"jobs/{status.job_id}/log.txt", here)
            elif (source := edge.mirror.job(status.job_id) / "log.txt").is_file():
                shutil.copyfile(source, here)

    def keep_rate(self, host: str | None, spec: StageSpec, status: JobStatus) -> None:
        """Keep how fast a host plays, as the last heartbeat of a job there has it."""
        beat = status.heartbeat or {}
        rate = (beat.get("metrics") or {}).get("games_per_second")
        if isinstance(spec, SelfplaySpec) and isinstance(rate, float) and rate > 0.0 and beat.get("done"):
            self.ledger.note_rate(host or HERE, spec.config, work_of(spec), rate)

    def take(self, host: str | None, job_id: str, result: Frozen, spec: StageSpec, token: int) -> None:
        """Bring here what a stage has made on its host, verified, and tell the ledger what the stage would have told.

        ``spec``: what this ledger asked of it, not what its host says that it was. Raises :class:`ForeignResultError`,
        the errors of ``replay``, and ``StaleTokenError`` when ``token`` is no longer in force: then nothing is told.
        """
        if host is None:
            return
        if spec.generation is not None:
            self.ledger.check_token(generation_lease(spec.config), token)
        edge = self.edge(host)
        for path, sha in outputs_of(result):
            if edge is not None:
                self._place(edge, job_id, path, sha, spec)
            elif may_make(self.home, spec, path, sha):
                pull(self.remote(host), path, self.home.resolve(path), sha=sha)
            else:
                raise ForeignResultError(f"host {host}: {job_id} cannot have made {path!r}")
        for effect in self.jobs(host).effects(job_id):
            replay(self.home, effect, job_id, spec.model_copy(update={"token": token}), result)
        self._keep_curves(host, spec)
        folder = checkpoints_of(self.home, spec)
        if folder is not None:
            shutil.rmtree(self.home.resolve(folder), ignore_errors=True)

    def _place(self, edge: EdgeJobs, job_id: str, path: str, sha: str | None, spec: StageSpec) -> None:
        """Give a file that an Edge host has sent its place; raises :class:`ForeignResultError`."""
        sent = edge.files(job_id).get(path)
        if sent is None or sha not in (None, sent) or not may_make(self.home, spec, path, sent):
            raise ForeignResultError(f"host {edge.name}: {job_id} cannot have made {path!r} with sha256 {sha or sent}")
        here = self.home.resolve(path)
        if not (here.is_file() and sha256_file(here) == sent):
            copy_verified(edge.mirror.file(sent), here, sent)
        edge.mirror.file(sent).unlink(missing_ok=True)

    def slots(self, stage: Stage, spec: StageSpec) -> list[Slot]:
        """Return the hosts that may do a stage, with what it takes there as last measured; empty: this machine."""
        slots = slots_for(self.inventory, stage, spec)
        return self.measured(slots, spec) if slots and isinstance(spec, SelfplaySpec) else slots

    def measured(self, slots: Sequence[Slot], spec: SelfplaySpec) -> list[Slot]:
        """Return the slots with the seconds that ``spec.games`` games take there, where that was measured."""
        rates = self.ledger.host_rates(spec.config, work_of(spec))
        return [replace(slot, seconds=spec.games / rates[slot.host]) if slot.host in rates else slot for slot in slots]

    def fitted(self, spec: StageSpec, host: str | None) -> StageSpec:
        """Return the spec as its host can do it."""
        return spec if host is None else fitted(spec, self.host(host))
