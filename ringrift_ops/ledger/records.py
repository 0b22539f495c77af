"""What the ledger answers with: frozen rows, one class per table that people ask about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from ringrift_ops.stages.specs import Sha256, Verdict

Kind = Literal["games", "parity_report", "dataset", "weights", "gauntlet_report"]
PromotionKind = Literal["promote", "rollback", "back_out", "forced"]
BACK: tuple[PromotionKind, ...] = ("rollback", "back_out")
"""The moves to a net that was in force before."""


class GenerationState(StrEnum):
    """WAITING for the lease, RUNNING under it, FINISHED (see outcome), or WITHDRAWN before it ran."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    """How a generation ended: the gate's verdict, PARTIAL (it was not asked for one), or ERROR."""

    PASS = "PASS"
    FAIL = "FAIL"
    NO_EVIDENCE = "NO_EVIDENCE"
    PARTIAL = "PARTIAL"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Generation:
    """One run of the pipeline of one config. ``number`` counts the config's generations from 1, by first grant."""

    id: int
    config: str
    key: str
    logical_date: datetime | None
    run_id: str
    run_after: datetime
    profile: str
    seed: int
    state: GenerationState
    outcome: Outcome | None
    reason: str | None
    number: int | None
    parent: Sha256 | None
    created_at: datetime
    seen_at: datetime
    granted_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Lease:
    """Who may write. ``holder`` None: nobody; ``token`` is then the last one given out."""

    name: str
    token: int
    holder: str | None
    generation: int | None
    acquired_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Artifact:
    """An immutable file. ``path`` is absolute or relative to the home."""

    sha: Sha256
    kind: Kind
    path: str
    bytes: int
    config: str
    generation: int | None
    meta: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class Relative:
    """One artifact of a lineage, ``depth`` steps away, reached through ``role`` of ``via``."""

    artifact: Artifact
    role: str
    via: Sha256
    depth: int


@dataclass(frozen=True)
class Lineage:
    """What an artifact was made from (nearest first) and what was made from it."""

    artifact: Artifact
    ancestors: list[Relative]
    descendants: list[Relative]


@dataclass(frozen=True)
class Descent:
    """Which artifacts of a config were made from which: {child: its parents} and back. Walking asks no database."""

    parents: Mapping[Sha256, Sequence[Sha256]]
    children: Mapping[Sha256, Sequence[Sha256]]

    def ancestors(self, roots: Iterable[Sha256]) -> set[Sha256]:
        """Return the roots and all that any of them was made from."""
        return _reached(self.parents, roots)

    def descendants(self, roots: Iterable[Sha256]) -> set[Sha256]:
        """Return the roots and all that was made from any of them."""
        return _reached(self.children, roots)


def _reached(links: Mapping[Sha256, Sequence[Sha256]], roots: Iterable[Sha256]) -> set[Sha256]:
    found = set(roots)
    left = list(found)
    while left:
        new = [one for one in links.get(left.pop(), ()) if one not in found]
        found.update(new)
        left += new
    return found


@dataclass(frozen=True)
class WindowBatch:
    """A games database whose parity passed. ``games`` that passed, ``rows`` = moves in it."""

    sha: Sha256
    path: str
    games: int
    rows: int
    generation: int | None
    created_at: datetime


@dataclass(frozen=True)
class StageRun:
    """One stage (one shard of it) of one generation; ``result`` is the stage's result model as a dict.

    ``host`` None: this machine. ``second``: the host on which it was begun besides, because it crawls on the first.
    """

    generation: int
    stage: str
    shard: int
    state: Literal["running", "done", "failed"]
    job_id: str | None
    host: str | None
    token: int
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None
    second: str | None = None
    second_at: datetime | None = None

    @property
    def hosts(self) -> list[str | None]:
        """Where its job runs, or ran: one machine, or two for a while."""
        return [self.host] if self.second is None else [self.host, self.second]


HERE = "this machine"
"""The one host of work that stays here, where a host is needed; no host of an inventory can have this name."""


@dataclass(frozen=True)
class Slot:
    """A host that a stage may be placed on. ``rank``: lower is better; ``capacity`` jobs run there at a time.

    ``seconds``: what it takes there, by the host's last measured rate; None without one.
    """

    host: str
    capacity: int
    rank: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Play:
    """Self-play of a command. ``asked``: sha256 of what was asked; ``spec``: a ``SelfplaySpec`` of all its games."""

    id: str
    asked: str
    config: str
    spec: dict[str, Any]
    shards: int
    state: Literal["playing", "done"]
    result: dict[str, Any] | None
    started_at: datetime
    seen_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class PlayShard:
    """A part of a command's games, ``done`` of which are played on ``host`` (``HERE``: this machine).

    ``second``: as in :class:`StageRun`.
    """

    play: str
    shard: int
    state: Literal["running", "done"]
    host: str
    job_id: str
    done: int
    rate: float | None
    result: dict[str, Any] | None
    started_at: datetime
    finished_at: datetime | None
    second: str | None = None
    second_at: datetime | None = None

    @property
    def hosts(self) -> list[str]:
        """Where its job runs, or ran."""
        return [self.host] if self.second is None else [self.host, self.second]


@dataclass(frozen=True)
class HostState:
    """How a host was when it was last asked. ``away_since``: since when nobody has reached it, None if it is up.

    ``tended``: what the last look after it did, {"error", "ended", "brought", "nets", "removed"}; ``tended_at``: when.
    """

    name: str
    seen_at: datetime | None
    away_since: datetime | None
    reason: str | None
    boot_id: str | None
    tended_at: datetime | None = None
    tended: dict[str, Any] | None = None


@dataclass(frozen=True)
class GamePair:
    """One opening against one opponent, played from every seat.

    ``scores`` (of the candidate, 0..1) and ``digests`` (of the games): one per seat rotation.
    """

    opponent: str
    opening: int
    seed: int
    scores: list[float]
    digests: list[str]


@dataclass(frozen=True)
class Evaluation:
    """A gauntlet: verdict with raw counts per opponent (``OpponentResult`` as dicts) and gate version."""

    id: int
    report: Sha256
    config: str
    generation: int | None
    candidate: Sha256
    previous: Sha256 | None
    gate_version: str
    verdict: Verdict
    reason: str
    opponents: list[dict[str, Any]]
    created_at: datetime


@dataclass(frozen=True)
class Promotion:
    """One move of a canonical pointer, with the counts and the gate version it rests on."""

    id: int
    config: str
    kind: PromotionKind
    sha: Sha256
    previous: Sha256 | None
    generation: int | None
    token: int
    evaluation: int | None
    gate_version: str | None
    counts: list[dict[str, Any]]
    reason: str
    actor: str
    created_at: datetime


@dataclass(frozen=True)
class Canonical:
    """The net in force for a config."""

    config: str
    sha: Sha256
    previous: Sha256 | None
    promotion: int
    token: int
    moved_at: datetime


@dataclass(frozen=True)
class DeliveryRow:
    """One net at one destination, as last tried. ``state``: see ``stages.specs.Delivery``."""

    sha: Sha256
    destination: str
    path: str
    verified: bool
    error: str | None
    state: str
    generation: int | None
    recorded_at: datetime


@dataclass(frozen=True)
class Event:
    """Something that happened, for people and audit; no work depends on hearing one."""

    id: int
    type: str
    config: str | None
    generation: int | None
    payload: dict[str, Any]
    at: datetime


class Condition(StrEnum):
    """What a run can wait for: its config's lease, games enough to train on, the end of its training."""

    LEASE = "lease"
    GAMES = "games"
    TRAINING = "training"


@dataclass(frozen=True)
class Wait:
    """A run that waits. ``seen_at``: when it last asked; one that stopped asking has died."""

    generation: int
    condition: Condition
    config: str
    since: datetime
    seen_at: datetime
    run_id: str


@dataclass(frozen=True)
class Breaker:
    """One action of one config. ``failures`` in a row, ``reason`` of the last, ``opened_at`` of the last opening."""

    config: str
    action: str
    state: Literal["closed", "open", "half-open"]
    failures: int
    successes: int
    opened_at: datetime | None
    reason: str
    changed_at: datetime


@dataclass(frozen=True)
class AuditRow:
    """Something a person (or a program for one) was about to change: who, what, why, through which door."""

    id: int
    at: datetime
    actor: str
    door: str
    action: str
    config: str | None
    reason: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Poison:
    """An artifact that was backed out, because ``root`` (itself, or what it was made from) was found bad."""

    sha: Sha256
    root: Sha256
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True)
class Waiver:
    """A recorded exception: who, why, until when."""

    id: int
    kind: str
    config: str | None
    reason: str
    actor: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Incident:
    """An alert that fired, and what became of it. ``key``: its rule, config and subject.

    ``criteria``: why it began above level 1; ``seen_at``: when its alert last fired; ``ended_at``: since when it has
    not; ``overdue_at``: nobody answered on the highest level in time.
    """

    id: int
    key: str
    rule: str
    config: str | None
    subject: str
    summary: str
    evidence: str
    criteria: list[str]
    level: int
    opened_at: datetime
    level_since: datetime
    seen_at: datetime
    overdue_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    ended_at: datetime | None
    closed_at: datetime | None
    closed_by: str | None
    cause: str | None
    resolution: str | None

    @property
    def state(self) -> str:
        """Return ``open``, ``acknowledged``, ``ended`` (its alert fires no more) or ``closed``."""
        if self.closed_at is not None:
            return "closed"
        if self.ended_at is not None:
            return "ended"
        return "open" if self.acknowledged_at is None else "acknowledged"


@dataclass(frozen=True)
class IncidentNote:
    """What somebody did or found about an incident."""

    id: int
    incident: int
    at: datetime
    actor: str
    text: str


@dataclass(frozen=True)
class Notification:
    """One message to one target. ``sent_at`` None: not told yet; ``error``: of the last try."""

    id: int
    incident: int
    kind: str
    level: int
    target: str
    text: str
    created_at: datetime
    tries: int
    tried_at: datetime | None
    sent_at: datetime | None
    error: str | None
