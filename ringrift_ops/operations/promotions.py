"""What operators do with nets: promote in all the runbooks' ways, announce, roll back (R49, R50, R56, R75)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Evaluation, EventType, Ledger, Promotion, generation_lease
from ringrift_ops.ledger.records import BACK
from ringrift_ops.network.weights import load_network
from ringrift_ops.operations.by import By
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.waivers import waiver, waiver_asked_for
from ringrift_ops.settings import Settings, config_named
from ringrift_ops.stages import distribute, gauntlet, promote
from ringrift_ops.stages.heartbeat import Report, silent
from ringrift_ops.stages.links import WEIGHTS_SUFFIX, repair_links
from ringrift_ops.stages.order import Order
from ringrift_ops.stages.plan import host_destinations
from ringrift_ops.stages.promote import NoEvaluationError
from ringrift_ops.stages.specs import Delivery, DistributeSpec, GauntletResult, GauntletSpec, Sha256, Verdict
from ringrift_ops.store import Store, sha256_file


class NotCanonicalError(UsageError):
    """A promotion is announced of a net that is not the canonical one."""


@dataclass(frozen=True)
class Followed:
    """What follows a promotion, done again: links that were repaired, and deliveries."""

    sha: Sha256
    links: list[str]
    deliveries: list[Delivery]


@dataclass(frozen=True)
class Net:
    """Weights by content and the file that holds them."""

    sha: Sha256
    path: Path


@dataclass(frozen=True)
class Asked:
    """How a promotion is to go. ``games`` per look; ``report`` None: the newest of the candidate."""

    gauntlet: bool = False
    games: int | None = None
    report: Sha256 | None = None
    force: bool = False
    dry_run: bool = False
    sync: bool = False
    profile: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of a promotion, under the names that the runbooks read."""

    promoted: bool
    canonical_path: str | None
    failure_reason: str | None
    sha: Sha256
    evaluation: GauntletResult | None
    deliveries: list[Delivery]
    dry_run: bool


@dataclass(frozen=True)
class Desk:
    """The home whose nets are promoted."""

    home: Home
    settings: Settings
    ledger: Ledger


def promote_net(desk: Desk, by: By, config: str, net: Net, asked: Asked, report: Report) -> Answer:
    """Promote a net: on a gauntlet played now, on its newest evaluation, or by force with a reason.

    A dry run writes nothing: a gauntlet is played and forgotten. A gate's no is an answer with its reason. Raises
    ``MissingReasonError``, ``NoEvaluationError``, ``LeaseHeldError``, and the errors of strict loading.
    """
    key, ledger = config_named(config).key, desk.ledger
    forced = asked.force or (desk.settings.skip_gauntlet and not asked.gauntlet)
    if asked.force:
        by.needs_reason(f"forcing the promotion of {net.sha[:12]}")
    if asked.dry_run:
        return _dry_run(desk, by, key, net, asked, report, forced=forced)
    allowed = None
    if asked.force:
        allowed = waiver(ledger, "gauntlet", key, by)
    elif forced:
        allowed = waiver_asked_for(ledger, desk.settings, "gauntlet", key, by.door)
    by.audited(ledger, "promote", key, sha=net.sha, forced=forced, gauntlet=asked.gauntlet)
    adopt(desk, key, net)
    evaluation, sha = None, asked.report
    if asked.gauntlet:
        evaluation = gauntlet.run(_gauntlet_of(desk, key, net, asked), report)
        sha = evaluation.report
    if allowed is None and sha is None:
        sha = _newest(ledger, key, net).report
    order = Order.outside(desk.settings, key, asked.profile, asked.seed)
    planned = order.promote(
        candidate=net.sha, candidate_path=str(net.path), report=sha, report_path=None, auto_promote=True
    )
    with held_lease(ledger, by, key, f"promote, {by.actor}") as token:
        changes = {"token": token, "waiver": None if allowed is None else allowed.id}
        done = promote.run(planned.model_copy(update=changes), report)
    followed = follow(desk.home, desk.settings, ledger, key, net.sha) if done.promoted and asked.sync else None
    write_logs(desk.home, ledger)
    return Answer(
        promoted=done.promoted,
        canonical_path=str(desk.home.canonical_link(key)) if done.promoted else None,
        failure_reason=None if done.promoted else done.reason,
        sha=net.sha,
        evaluation=evaluation,
        deliveries=[] if followed is None else followed.deliveries,
        dry_run=False,
    )


def _dry_run(desk: Desk, by: By, config: str, net: Net, asked: Asked, report: Report, *, forced: bool) -> Answer:
    load_network(net.path, config)
    evaluation = None
    if forced:
        reason = "dry run: it would be promoted by force"
    elif asked.gauntlet:
        evaluation = gauntlet.judge(desk.home, _gauntlet_of(desk, config, net, asked), report).result
        would = "would" if evaluation.verdict is Verdict.PASS else "would not"
        reason = f"dry run: it {would} be promoted: {evaluation.verdict}: {evaluation.reason}"
    else:
        known = _newest(desk.ledger, config, net)
        would = "would" if known.verdict is Verdict.PASS else "would not"
        reason = f"dry run: it {would} be promoted: {known.verdict}: {known.reason}"
    return Answer(False, None, reason, net.sha, evaluation, [], dry_run=True)


def _newest(ledger: Ledger, config: str, net: Net) -> Evaluation:
    found = ledger.evaluations(config, candidate=net.sha, limit=1)
    if not found:
        raise NoEvaluationError(
            f"{config}: {net.sha[:12]} has no gauntlet on record; promote it with --gauntlet, which plays one"
        )
    return found[0]


def _gauntlet_of(desk: Desk, config: str, net: Net, asked: Asked) -> GauntletSpec:
    canonical = desk.ledger.canonical(config)
    previous = None if canonical is None or canonical.sha == net.sha else canonical.sha
    path = None if previous is None else str(Store(desk.home).get(previous, WEIGHTS_SUFFIX))
    order = Order.outside(desk.settings, config, asked.profile, asked.seed)
    planned = order.gauntlet(candidate=net.sha, candidate_path=str(net.path), previous=previous, previous_path=path)
    return planned if asked.games is None else planned.model_copy(update={"games_per_look": asked.games})


def adopt(desk: Desk, config: str, net: Net) -> None:
    """Make a net that came from outside known to the ledger; it is loaded strictly first. A known one stays."""
    if any(one.sha == net.sha for one in desk.ledger.artifacts(config=config, kind="weights")):
        return
    load_network(net.path, config)
    sha, path = Store(desk.home).put(net.path, WEIGHTS_SUFFIX)
    desk.ledger.record_artifact(
        sha, "weights", str(desk.home.relative(path)), path.stat().st_size, config, None,
        parents=[], meta={"from": str(net.path)}, token=0,
    )  # fmt: skip


def net_of(home: Home, ledger: Ledger, model: str) -> Net:
    """Return the net that a file, or the start of a sha256 in the ledger, names; raises ``UnknownArtifactError``."""
    path = Path(model)
    if path.is_file():
        return Net(sha256_file(path), path.absolute())
    sha = ledger.artifact_named(model).sha
    return Net(sha, Store(home).get(sha, WEIGHTS_SUFFIX))


@contextmanager
def held_lease(ledger: Ledger, by: By, config: str, holder: str) -> Iterator[int]:
    """Hold the config's generation lease for the block and yield its token; raises ``LeaseHeldError``."""
    name = generation_lease(config)
    lease = ledger.acquire_lease(name, f"{holder} {os.getpid()}")
    try:
        yield lease.token
    finally:
        ledger.release_lease(name, lease.token)


# --- back ------------------------------------------------------------------------------------------


class NothingToRollBackError(NoDataError):
    """A config has no earlier net to go back to."""


@dataclass(frozen=True)
class RolledBack:
    """A pointer that was taken back. ``seconds``: until pointer and links stood; the deliveries come after."""

    config: str
    sha: Sha256
    previous: Sha256
    seconds: float
    links_and_deliveries: Followed
    broken_lease: str | None


def roll_back(desk: Desk, by: By, config: str, to: str | None = None) -> RolledBack:
    """Take the canonical net of a config back to ``to`` (the start of a sha256), else to the one before it (R56).

    A generation that runs is fenced: it asks for its lease again and goes on. What is taken back is not promoted again
    by evidence from before. The same call twice does it once. Raises, before anything is changed,
    :class:`NothingToRollBackError`, ``MissingReasonError``, ``NeverInForceError`` for a net that never was,
    ``PoisonedArtifactError``, ``ArtifactConflictError`` for another config's net, ``UnknownArtifactError``,
    ``MissingObjectError``, ``DamagedObjectError``.
    """
    key, ledger = config_named(config).key, desk.ledger
    by.needs_reason(f"a rollback of {key}")
    begun = time.monotonic()
    current = ledger.canonical(key)
    if current is None:
        raise NothingToRollBackError(f"{key}: no net was promoted yet, there is nothing to take back")
    moves = ledger.promotions(key)
    last = moves[0]
    target = _target(ledger, key, moves, to)
    again = last.kind == "rollback" and (last.actor, last.reason) == (by.actor, by.reason)
    broken = None
    if target == current.sha or (to is None and again):
        target = current.sha
    else:
        Store(desk.home).get(target, WEIGHTS_SUFFIX, verify=True)  # before a generation is fenced for it
        by.audited(ledger, "rollback", key, to=target, previous=current.sha)
        freed = ledger.force_release_lease(generation_lease(key), reason=f"rollback: {by.reason}", actor=by.actor)
        broken = None if freed is None else freed.holder
        with held_lease(ledger, by, key, f"rollback, {by.actor}") as token:
            promote.roll_back(
                desk.home, ledger, key, current.sha, target, token, reason=by.reason, actor=by.actor
            )  # fmt: skip
    seconds = time.monotonic() - begun
    return RolledBack(
        config=key,
        sha=target,
        previous=current.sha if target != current.sha else (last.previous or current.sha),
        seconds=seconds,
        links_and_deliveries=follow(desk.home, desk.settings, ledger, key, target),
        broken_lease=broken,
    )


def _target(ledger: Ledger, config: str, moves: list[Promotion], to: str | None) -> Sha256:
    """Return the net to go back to: the one named, else the newest that was in force before and was not taken back."""
    if to is not None:
        sha = ledger.artifact_named(to).sha
        ledger.check_way_back(config, sha)
        return sha
    taken_back = {move.previous for move in moves if move.kind in BACK} | {moves[0].sha}
    taken_back |= set(ledger.poisoned([move.sha for move in moves]))
    for move in moves[1:]:
        if move.sha not in taken_back:
            return move.sha
    if moves[0].kind == "rollback":
        return moves[0].sha
    raise NothingToRollBackError(
        f"{config}: {moves[0].sha[:12]} is the only net that was ever in force; there is none to go back to"
    )


def announce(home: Home, settings: Settings, ledger: Ledger, by: By, config: str, model: str) -> Followed:
    """Record that ``model`` (a file or a sha256) is in force, and do what follows a promotion again (R75).

    An event never makes a canonical: raises :class:`NotCanonicalError` when another net, or none, is in force. Raises
    ``MissingObjectError``, ``UnknownConfigError`` and the errors of the distribution.
    """
    key = config_named(config).key
    sha = sha256_file(Path(model)) if Path(model).is_file() else model
    canonical = ledger.canonical(key)
    if canonical is None or canonical.sha != sha:
        in_force = "no net" if canonical is None else canonical.sha[:12]
        raise NotCanonicalError(
            f"{key}: {in_force} is in force, not {model}; an event makes no net canonical: "
            f"`ringrift promote --config {key} --model {model}` does, on evidence"
        )
    by.audited(ledger, "announce promotion", key, sha=sha)
    move = next(one for one in ledger.promotions(key) if one.id == canonical.promotion)
    told = {"promotion": move.id, "kind": move.kind, "sha": sha, "previous": move.previous}
    ledger.record_event(EventType.MODEL_PROMOTED, key, None, told | {"reason": by.reason, "actor": by.actor})
    return follow(home, settings, ledger, key, sha)


def follow(home: Home, settings: Settings, ledger: Ledger, config: str, sha: Sha256) -> Followed:
    """Do what follows a promotion: links, then every destination; one that fails holds up no other."""
    links = [link.path.name for link in repair_links(home, ledger, [config])]
    spec = DistributeSpec(
        config=config, generation=None, token=0, seed=0, weights=sha,
        destinations=[*settings.destinations, *host_destinations(home)],
    )  # fmt: skip
    done = distribute.run(spec, silent)
    write_logs(home, ledger)
    return Followed(sha, links, done.deliveries)
