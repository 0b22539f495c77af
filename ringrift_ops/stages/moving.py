"""A part of self-play that crawls is begun a second time on a faster host, and stays with whoever is done first.

The same part has the same seed, so both play the same games: of the two jobs one is taken and the other thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ringrift_ops.errors import RingRiftError
from ringrift_ops.games.writer import files_of
from ringrift_ops.hosts.errors import UnreachableHostError
from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.ledger import PlayShard, Slot, StageRun
from ringrift_ops.settings import MOVING
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.placement import batch_path
from ringrift_ops.stages.specs import SelfplaySpec

Part = TypeVar("Part", StageRun, PlayShard)


def left_seconds(status: JobStatus) -> float | None:
    """Return how long a job will need for the games that are left, by what it has played per second of its attempt.

    Infinity before its first game; None when it does not run, or its host is away so that nobody knows.
    """
    if status.state is not JobState.RUNNING or status.reason or not status.age:
        return None
    beat = status.heartbeat or {}
    left = int(beat.get("total") or 1) - int(beat.get("done") or 0)
    # What it says is per second up to its last heartbeat; a job that is frozen sends none.
    played = max(0.0, status.age - (status.heartbeat_age or 0.0))
    rate = float((beat.get("metrics") or {}).get("games_per_second") or 0.0) * played / status.age
    return left / rate if rate > 0.0 else math.inf


def crawls(status: JobStatus, seconds: float) -> bool:
    """Return whether a job should be begun a second time where all of it takes ``seconds``."""
    left, age = left_seconds(status), status.age or 0.0
    if left is None:
        return False
    # Games are played side by side, so the first may be over late: without any, it has to be later still.
    least = max(MOVING.least_seconds, seconds * (MOVING.factor if math.isinf(left) else 1.0))
    return age >= least and left > max(MOVING.factor * seconds, seconds + MOVING.gain_seconds)


@dataclass
class Twice(Generic[Part]):
    """One part that runs. ``slots``: the hosts that may play it, with what all of it takes there, none while other
    parts wait for a host; ``submit`` begins it on a host; ``say`` takes a line for people.
    """

    hosting: Hosting
    part: Part
    spec: SelfplaySpec
    slots: Callable[[], Sequence[Slot]]
    submit: Callable[[str], object]
    say: Callable[[str], object]
    token: int = 0
    failed: set[str] = field(default_factory=set)
    """Hosts on which a second beginning came to nothing."""
    _looked: float = -math.inf

    @property
    def job_id(self) -> str:
        assert self.part.job_id is not None
        return self.part.job_id

    def look(self, status: JobStatus) -> JobStatus:
        """Return how the part stands, ``status`` being how it does on its first host; ``part.host`` is then the host
        to go by. Begins it a second time, or decides, when it is time for that.
        """
        if self.part.second is None:
            self._begin(status)
            return status
        if status.state is JobState.DONE:
            self._stay(self.part.hosts[0], "it was done first")
            return status
        second, other = self.part.second, self.hosting.look(self.part.second, self.job_id)
        fenced = self._fenced(other, second)
        if not fenced and (other.state is JobState.DONE or (status.over and other.state is JobState.RUNNING)):
            self._stay(second, "it was done first" if other.over else f"the first is over: {status.reason}")
            return other
        if fenced or other.over or other.state is JobState.ABSENT:
            self.failed.add(second)
            self._stay(self.part.hosts[0], other.reason or "nothing runs there")
        return status

    def due(self, status: JobStatus) -> bool:
        """Return whether :meth:`look` would do something now; looks no oftener than it has to."""
        second = self.part.second
        if second is None:
            return self._time_for_it() and bool(self._faster(status))
        other = self.hosting.look(second, self.job_id)
        return status.over or other.over or other.state is JobState.ABSENT or self._fenced(other, second)

    def _fenced(self, other: JobStatus, second: str) -> bool:
        return not other.over and not other.reason and self._token_there(second) != self.token

    def _token_there(self, host: str) -> int:
        with suppress(UnreachableHostError):
            return int((self.hosting.jobs(host).spec(self.job_id) or {}).get("token", self.token))
        return self.token

    def _time_for_it(self) -> bool:
        now = time.monotonic()
        if now - self._looked < MOVING.look_seconds:
            return False
        self._looked = now
        return True

    def _faster(self, status: JobStatus) -> list[Slot]:
        """Return the hosts on which a part that crawls would be over sooner."""
        if not crawls(status, 0.0):
            return []
        return [
            slot
            for slot in self.slots()
            if slot.seconds is not None
            and slot.host != self.part.host
            and slot.host not in self.failed
            and not self.hosting.is_lost(slot.host)
            and crawls(status, slot.seconds)
        ]

    def _begin(self, status: JobStatus) -> None:
        faster = self._faster(status) if self._time_for_it() else []
        if not faster:
            return
        self.part = self.hosting.ledger.begin_second(self.part, faster, self.token)
        if self.part.second is None:
            return
        self.say(
            f"{self.job_id} crawls on {self.part.host} ({left_seconds(status):.0f} s for the rest): "
            f"begun a second time on {self.part.second}"
        )
        try:
            self.submit(self.part.second)
        except UnreachableHostError as error:
            self.failed.add(error.host)
            self._stay(self.part.hosts[0], str(error))

    def _stay(self, host: str | None, why: str) -> None:
        """Stay with one of the two hosts, and rid the other of the part."""
        assert host is not None
        other = next(one for one in self.part.hosts if one != host)
        assert other is not None
        self.part = self.hosting.ledger.settle(self.part, host, self.token)
        if self.part.host != host:  # another process that follows it has decided otherwise
            return
        self.say(f"{self.job_id} stays on {host}: {why}")
        self._discard(other, f"it was begun twice and stays on {host}")

    def _discard(self, host: str, reason: str) -> None:
        """End the job on a host and remove its games. A host of role edge keeps the file: another job of that name
        would go on with it.
        """
        try:
            self.hosting.jobs(host).set_aside(self.job_id, reason)
            if self.hosting.edge(host) is None:
                for path in files_of(batch_path(self.hosting.home, self.spec)):
                    self.hosting.remote(host).answer("remove", path=self.hosting.home.relative(path))
        except RingRiftError as error:  # nothing is taken from there any more, and the next look after it ends the job
            self.say(f"{self.job_id} is not ended on {host} yet: {error}")
