"""Back-out: games or a dataset were found bad; they and everything made from them go out of use, nets in force too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ringrift_ops.errors import GateError, UsageError
from ringrift_ops.ledger import Artifact, Ledger, generation_lease
from ringrift_ops.operations.by import By
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.promotions import Desk, Followed, follow, held_lease
from ringrift_ops.stages import promote
from ringrift_ops.stages.specs import Sha256
from ringrift_ops.store import Store

BackOutKind = Literal["games", "dataset"]


class NotOfThatKindError(UsageError):
    """The sha256 names something else than was said."""


class NoCleanNetError(GateError):
    """The back-out would leave a config without a canonical net."""


@dataclass(frozen=True)
class BackOut:
    """What goes out of use (``root`` first), and which net comes back into force; None when the one there is clean."""

    root: Artifact
    made_from_it: list[Artifact]
    canonical: Sha256 | None
    back_to: Sha256 | None
    done: bool
    followed: Followed | None


def back_out(desk: Desk, by: By, kind: BackOutKind, sha: str, *, dry_run: bool = False) -> BackOut:
    """Mark an artifact and all that was made from it, and take the canonical back to the newest clean net.

    Artifacts stay on the disk; later windows leave marked games out, and marked nets are not promoted. A generation
    that runs is fenced when the canonical moves. Repeating it changes nothing. A dry run returns the plan. Raises
    :class:`NoCleanNetError`, :class:`NotOfThatKindError`, ``UnknownArtifactError``, ``MissingReasonError``.
    """
    ledger = desk.ledger
    lineage = ledger.lineage(ledger.artifact_named(sha).sha)
    root = lineage.artifact
    if root.kind != kind:
        raise NotOfThatKindError(f"{root.sha[:12]} is {root.kind} of {root.config}, not {kind}; see `ringrift lineage`")
    made = [relative.artifact for relative in lineage.descendants]
    bad = {root.sha, *(one.sha for one in made)}
    canonical = ledger.canonical(root.config)
    current = None if canonical is None else canonical.sha
    to = _clean_net(desk, ledger, root.config, bad) if current in bad else None
    if dry_run:
        return BackOut(root, made, current, to, done=False, followed=None)
    by.needs_reason(f"backing out {root.sha[:12]}")
    marked = ledger.poisoned([root.sha, *bad])
    followed = None
    if to is not None or len(marked) < len(bad):
        by.audited(ledger, "back out", root.config, root=root.sha, artifacts=len(bad), back_to=to)
    ledger.poison([root.sha, *(one.sha for one in made)], root.sha, reason=by.reason, actor=by.actor)
    if to is not None and current is not None:
        ledger.force_release_lease(generation_lease(root.config), reason=f"back-out: {by.reason}", actor=by.actor)
        with held_lease(ledger, by, root.config, f"back-out, {by.actor}") as token:
            promote.roll_back(
                desk.home, ledger, root.config, current, to, token, reason=by.reason, actor=by.actor, kind="back_out"
            )
        followed = follow(desk.home, desk.settings, ledger, root.config, to)
    write_logs(desk.home, ledger)
    return BackOut(root, made, current, to, done=True, followed=followed)


def _clean_net(desk: Desk, ledger: Ledger, config: str, bad: set[Sha256]) -> Sha256:
    """Return the newest net that was in force and is neither in ``bad`` nor marked before; its bytes are here."""
    moves = ledger.promotions(config)
    marked = ledger.poisoned([move.sha for move in moves])
    for move in moves:
        if move.sha not in bad and move.sha not in marked and Store(desk.home).holds(move.sha):
            return move.sha
    raise NoCleanNetError(
        f"{config}: every net that was ever in force was made from it; backing it out would leave none: promote a "
        f"clean net first (`ringrift promote --config {config} --model FILE --gauntlet`)"
    )
