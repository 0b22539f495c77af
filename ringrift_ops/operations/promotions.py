"""What operators do with nets in force."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, Ledger
from ringrift_ops.operations.by import By
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.settings import Settings, config_named
from ringrift_ops.stages import distribute
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.links import repair_links
from ringrift_ops.stages.specs import Delivery, DistributeSpec, Sha256
from ringrift_ops.store import sha256_file


class NotCanonicalError(UsageError):
    """A promotion is announced of a net that is not the canonical one."""


@dataclass(frozen=True)
class Followed:
    """What follows a promotion, done again: links that were repaired, and deliveries."""

    sha: Sha256
    links: list[str]
    deliveries: list[Delivery]


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
    links = [link.path.name for link in repair_links(home, ledger)]
    spec = DistributeSpec(
        config=config, generation=None, token=0, seed=0, weights=sha, destinations=settings.destinations
    )
    done = distribute.run(spec, silent)
    write_logs(home, ledger)
    return Followed(sha, links, done.deliveries)
