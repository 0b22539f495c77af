"""Self-play of a command, shared out over the inventory's hosts or this machine's cores (R62).

The games are cut into parts by the number of games alone, and every part has its own seed, so the same command plays
the same games whichever host played which part. The ledger knows the command and every part that was begun; a command
that was killed is taken up where it stands, and jobs that run are adopted.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.games.database import DamagedDatabaseError
from ringrift_ops.games.merge import absorb
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.writer import BatchMismatchError, BatchWriter, FinishedBatch
from ringrift_ops.hosts.errors import AwayHostError, UnreachableHostError
from ringrift_ops.hosts.files import pull
from ringrift_ops.hosts.jobs import EFFECTS_VARIABLE, JobFailedError, JobState, JobStatus, stage_job
from ringrift_ops.ledger import HERE, NoFreeHostError, Play, PlayShard, Slot
from ringrift_ops.operations import disk
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.parts import folder_of, part_job, part_spec
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.settings import PLAY, PROFILE_VARIABLE, Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.moving import Twice
from ringrift_ops.stages.specs import SelfplayResult, SelfplaySpec, Stage
from ringrift_ops.store import atomic_write


class WrongPartError(InfrastructureError):
    """What came back from a host is not what it was asked for, or not what it said it is (F21)."""


class DeadPartError(InfrastructureError):
    """A job is gone without a word, or showed no sign of life; submitted again, it goes on."""


@dataclass(frozen=True)
class HostLine:
    """What one host does for a command. ``rate``: games per second; ``state``: idle, playing, or what keeps it."""

    host: str
    games: int
    rate: float
    parts: int
    state: str


@dataclass(frozen=True)
class Picture:
    """A command at one moment."""

    config: str
    games: int
    total: int
    parts: int
    seconds: float
    hosts: list[HostLine]
    notes: list[str] = field(default_factory=list)
    """What was moved and why, oldest first."""

    @property
    def rate(self) -> float:
        """Games per second of all hosts."""
        return sum(one.rate for one in self.hosts)


@dataclass
class _Part:
    """What is known of one part: where it is played, and how far."""

    host: str
    done: int = 0
    rate: float = 0.0
    running: bool = False
    away: bool = False
    second: str | None = None


class Playing:
    """One command at work. ``state``: the file to keep its state in; None for the home's."""

    def __init__(
        self,
        hosting: Hosting,
        settings: Settings,
        play: Play,
        slots: Sequence[Slot],
        *,
        profile: str | None,
        state: Path | None,
    ) -> None:
        self.hosting, self.home, self.ledger = hosting, hosting.home, hosting.ledger
        self.play, self.slots, self.state = play, list(slots), state
        self.profile = settings.profile(play.config, profile)
        self.timeout = settings.pipeline.selfplay.timeout_seconds or self.profile.task_timeout_seconds
        self._parts: dict[int, _Part] = {}
        self._avoid: dict[str, tuple[float, UnreachableHostError]] = {}
        self._stop = threading.Event()
        self._told: list[str] = []
        self._begun = time.monotonic()

    def run(self, tell: Callable[[Picture], object]) -> SelfplayResult:
        """Play what is missing, put all games into the one database, and return it; ``tell`` gets a picture a second.

        Raises what a part failed with. However it ends, the same command goes on from there.
        """
        if self.play.state == "done":
            return SelfplayResult.model_validate(self.play.result)
        disk.admit(self.home, self.play.config, Stage.SELFPLAY, self.profile)
        self._play_parts(tell)
        return self._whole()

    def picture(self) -> Picture:
        """Return where the command stands."""
        parts, now = list(self._parts.values()), time.monotonic()
        lines = []
        for host in dict.fromkeys([*(slot.host for slot in self.slots), *(part.host for part in parts)]):
            own = [part for part in parts if part.host == host]
            running = [part for part in own if part.running]
            again = [part for part in parts if part.second == host and part.running]
            until, reason = self._avoid.get(host, (0.0, None))
            state = "playing" if running else "playing again" if again else "idle"
            if any(part.away for part in running):
                state = "away"
            elif state == "idle" and until > now:
                state = f"left out: {reason}"
            jobs = len(running) + len(again)
            lines.append(HostLine(host, sum(p.done for p in own), sum(p.rate for p in running), jobs, state))
        games = sum(part.done for part in parts)
        total = int(self.play.spec["games"])
        return Picture(
            self.play.config, games, total, self.play.shards, time.monotonic() - self._begun, lines, list(self._told)
        )

    def _play_parts(self, tell: Callable[[Picture], object]) -> None:
        rows = {row.shard: row for row in self.ledger.play_shards(self.play.id)}
        self._parts = {row.shard: _Part(row.host, row.done) for row in rows.values()}
        missing = [shard for shard in range(self.play.shards) if shard not in rows or rows[shard].state != "done"]
        missing.sort(key=lambda shard: (shard not in rows, shard))
        self._keep()
        if not missing:
            return
        room = min(len(missing), sum(slot.capacity for slot in self.slots))
        with self._ending(), ThreadPoolExecutor(room) as threads:
            parts = [threads.submit(self._part, shard, adopting=shard in rows) for shard in missing]
            try:
                self._watch(parts, tell)
            finally:
                self._stop.set()
                for one in parts:
                    one.cancel()

    def _watch(self, parts: Sequence[Future[None]], tell: Callable[[Picture], object]) -> None:
        open_parts = set(parts)
        while open_parts:
            over, open_parts = wait(open_parts, timeout=PLAY.look_seconds, return_when=FIRST_EXCEPTION)
            for one in over:
                one.result()
            self._keep()
            tell(self.picture())

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End what still runs when the command does not come to its end; its games are kept for the next."""
        finished = False
        try:
            yield
            finished = True
        finally:
            if not finished:
                for row in self.ledger.play_shards(self.play.id):
                    for host in row.hosts if row.state == "running" else ():
                        with suppress(UnreachableHostError):
                            self.hosting.end(_machine(host), row.job_id)

    def _keep(self) -> None:
        """Tell the ledger that the command lives and how far it is, and write the state that people read."""
        progress = {shard: (part.done, part.rate) for shard, part in list(self._parts.items()) if part.running}
        self.ledger.play_seen(self.play.id, progress)
        self._show()

    def _show(self) -> None:
        if self.state is None:
            self.ledger.write_pipeline_state(self.home.pipeline_state)
        else:
            play = self.ledger.play(self.play.id) or self.play
            atomic_write(self.state, (json.dumps(self.ledger.play_state(play), indent=2) + "\n").encode())

    # --- one part, in a thread of its own ------------------------------------------------------------

    def _part(self, shard: int, *, adopting: bool) -> None:
        spec, fruitless, known = part_spec(self.play, shard), 0, 0
        while not self._stop.is_set():
            row = self._placed(shard)
            if row is None:
                self._stop.wait(PLAY.look_seconds)
                continue
            part = self._parts[shard] = _Part(row.host, row.done, running=True)
            try:
                result = self._played(row, spec, part, patient=adopting)
            except UnreachableHostError as error:
                away = isinstance(error, AwayHostError)
                self.hosting.lost(error)  # noted, so that nobody waits for it
                self._avoid[error.host] = (time.monotonic() + PLAY.avoid_seconds if away else math.inf, error)
                adopting = False
                self._second_instead(shard, error.host)
            except (JobFailedError, DeadPartError, WrongPartError):
                fruitless = fruitless + 1 if part.done <= known else 1
                known = max(known, part.done)
                if fruitless >= PLAY.tries:
                    raise
            else:
                if result is not None:
                    self.ledger.finish_part(self.play.id, shard, result.model_dump(mode="json"))
                    self._parts[shard] = _Part(self._row(shard).host, result.games)
                    return
            part.running = False

    def _second_instead(self, shard: int, host: str) -> None:
        """Let a part stay on the host where it was begun a second time, when the first cannot be worked with."""
        row = self._row(shard)
        if row.second is not None and row.host == host:
            self.ledger.settle(row, row.second)

    def _row(self, shard: int) -> PlayShard:
        return next(row for row in self.ledger.play_shards(self.play.id) if row.shard == shard)

    def _placed(self, shard: int) -> PlayShard | None:
        """Return the part's row with the host it has, None when it has to wait for one.

        Raises why the last host cannot be worked with, when there is no other and nothing runs.
        """
        now = time.monotonic()
        slots = [slot for slot in self.slots if self._avoid.get(slot.host, (0.0,))[0] <= now]
        if not slots:
            if not any(part.running for part in list(self._parts.values())):
                raise max(self._avoid.values(), key=lambda one: one[0])[1]
            return None
        waiting = self.play.shards - len(self._parts)
        try:
            return self.ledger.begin_part(self.play, shard, part_job(self.play, shard), slots, waiting=max(1, waiting))
        except NoFreeHostError:
            return None

    def _played(self, row: PlayShard, spec: SelfplaySpec, part: _Part, *, patient: bool) -> SelfplayResult | None:
        """Return what a part has made on its host, brought here and verified; None when the command is to end."""
        host = _machine(row.host)
        submit = partial(self._submit, host, spec, row.job_id)
        if patient:
            self.hosting.patiently(submit, self._not_ended)
        else:
            submit()
        followed = self._followed(row, spec, part)
        if followed is None:
            return None
        host, status = followed
        if status.state is JobState.DEAD:
            if host is not None and self.hosting.is_lost(host):
                raise AwayHostError(host, status.reason)
            raise DeadPartError(f"job {row.job_id} is gone: {status.reason}")
        return self.hosting.patiently(partial(self._collected, host, spec, row.job_id, status), self._not_ended)

    def _not_ended(self) -> None:
        if self._stop.is_set():
            raise DeadPartError("the command ends")

    def _submit(self, host: str | None, spec: SelfplaySpec, job_id: str) -> None:
        jobs = self.hosting.jobs(host)
        if host is not None and jobs.poll(job_id).state is not JobState.RUNNING:
            self.hosting.bring(host, spec)
        env = self.hosting.environment(host) | {
            EFFECTS_VARIABLE: "effects.jsonl",  # parts are not on record, the whole is
            PROFILE_VARIABLE: self.profile.name,
        }
        jobs.submit_or_adopt(
            stage_job(
                Stage.SELFPLAY.value, spec, job_id=job_id, timeout_seconds=self.timeout, env=env,
                python=self.hosting.python(host),
            )
        )  # fmt: skip

    def _followed(self, row: PlayShard, spec: SelfplaySpec, part: _Part) -> tuple[str | None, JobStatus] | None:
        """Return (host, status) of a part's job that is over, None when the command is to end first."""
        job_id, pause = row.job_id, PLAY.look_seconds / 8
        submit = partial(self._submit, spec=spec, job_id=job_id)
        twice = Twice(self.hosting, row, spec, lambda: self._faster(spec), submit, self._told.append)
        while not self._stop.is_set():
            host = _machine(twice.part.host)
            status = self.hosting.look(host, job_id)
            if host is not None:
                status = twice.look(status)
                part.second, host = twice.part.second, twice.part.host
                if part.host != host:
                    part.host, part.done = host, 0
            part.away = status.state is JobState.RUNNING and bool(status.reason)
            beat = status.heartbeat or {}
            part.done = max(part.done, int(beat.get("done") or 0))
            part.rate = float((beat.get("metrics") or {}).get("games_per_second") or 0.0)
            if status.over:
                return host, status
            if is_stalled(status, self.profile):
                self.hosting.end(host, job_id)
                raise DeadPartError(f"job {job_id} showed no sign of life for {self.profile.stall_seconds} s")
            self._stop.wait(pause)
            pause = min(pause * 1.5, PLAY.look_seconds)
        return None

    def _faster(self, spec: SelfplaySpec) -> list[Slot]:
        """Return who may take a part a second time, by what was measured up to now: nobody while parts wait."""
        now = time.monotonic()
        if len(self._parts) < self.play.shards:
            return []
        slots = [slot for slot in self.slots if self._avoid.get(slot.host, (0.0,))[0] <= now]
        return self.hosting.measured(slots, spec)

    def _collected(self, host: str | None, spec: SelfplaySpec, job_id: str, status: JobStatus) -> SelfplayResult:
        self.hosting.keep_log(host, Stage.SELFPLAY, status)
        result = SelfplayResult.model_validate(self.hosting.jobs(host).collect(job_id))
        self.hosting.keep_rate(host, spec, status)
        here = self.home.resolve(str(spec.output))
        try:
            if (result.path, result.games) != (spec.output, spec.games):
                raise WrongPartError(f"asked {spec.games} games as {spec.output}, got {result.games} as {result.path}")
            if host is not None:
                pull(self.hosting.remote(host), result.path, here)
            _verify(here, spec, result)
        except (WrongPartError, DamagedDatabaseError) as error:
            here.unlink(missing_ok=True)
            self.hosting.jobs(host).forget(job_id)
            if host is not None:
                self.hosting.remote(host).answer("remove", path=str(spec.output))
            raise WrongPartError(f"part {job_id} from {host or HERE} is played again: {error}") from error
        return result

    # --- the whole -----------------------------------------------------------------------------------

    def _whole(self) -> SelfplayResult:
        """Put the parts into one database, record it, and clear away the parts."""
        from ringrift_ops.stages.recording import record_games
        from ringrift_ops.stages.selfplay import result_of

        spec = SelfplaySpec.model_validate(self.play.spec)
        batch = self._merged(spec)
        seconds = time.monotonic() - self._begun
        result = result_of(self.home, batch, seconds).model_copy(update={"features": self._features()})
        record_games(self.home, spec, result)
        self.play = self.ledger.finish_play(self.play.id, result.model_dump(mode="json"))
        self._show()
        write_logs(self.home, self.ledger)
        self._clear()
        return result

    def _merged(self, spec: SelfplaySpec) -> FinishedBatch:
        from ringrift_ops.rules.layout import CODES_VERSION
        from ringrift_ops.stages.placement import batch_path

        path = batch_path(self.home, spec)
        header = {"stage": Stage.SELFPLAY.value, "spec": spec.model_copy(update={"token": 0}).model_dump_json()}
        header["parts"] = str(self.play.shards)
        if path.exists():
            with GameDatabase(path, spec.config) as database:
                if database.header.get("spec") != header["spec"]:
                    raise BatchMismatchError(f"{path} holds other games; move it away, then give the command again")
                return database.finished()
        with BatchWriter(path, spec.config, codes_version=CODES_VERSION, header=header) as writer:
            for shard in range(self.play.shards):
                absorb(writer, self.home.resolve(str(part_spec(self.play, shard).output)))
            if len(writer) != spec.games:
                raise WrongPartError(f"{path}: asked {spec.games} games, got {len(writer)}; nothing was written")
            return writer.finish()

    def _features(self) -> dict[str, str] | None:
        """Return the machines of all parts as one; where they differ, all of their values."""
        rows = self.ledger.play_shards(self.play.id)
        told = [dict(row.result["features"]) for row in rows if row.result and row.result.get("features")]
        names = dict.fromkeys(name for one in told for name in one)
        return {name: " | ".join(sorted({one[name] for one in told if name in one})) for name in names} or None

    def _clear(self) -> None:
        """Remove the parts' files here and on all hosts; jobs keep their logs until retention takes them.

        A host that is away is cleared when it is next looked after (``fleet.sync_one``).
        """
        shutil.rmtree(self.home.resolve(folder_of(self.play)), ignore_errors=True)
        played = {row.host for row in self.ledger.play_shards(self.play.id)}
        for host in (played | {slot.host for slot in self.slots}) - {HERE}:
            if host in self.hosting.inventory.hosts and not self.hosting.is_lost(host):
                with suppress(UnreachableHostError):
                    self.hosting.remote(host).answer("remove", path=folder_of(self.play))


def _machine(host: str) -> str | None:
    return None if host == HERE else host


def _verify(path: Path, spec: SelfplaySpec, result: SelfplayResult) -> None:
    """Compare a part with what it was asked for and said to be. Raises the errors of ``games`` for a damaged file."""
    with GameDatabase(path, spec.config) as database:
        found = database.finished()
        database.verify()
    if (found.games, found.digest) != (spec.games, result.batch):
        raise WrongPartError(f"{path}: {found.games} games that hash to {found.digest[:12]}, not {result.batch[:12]}")
