"""The names under which other programs find the nets in force: a mirror of the ledger, repaired from it (R55)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import CONFIGS
from ringrift_ops.stages.specs import Sha256
from ringrift_ops.store import MissingObjectError, Store, replace_symlink

WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Net:
    """A net to deliver, whole in the store."""

    config: str
    sha: Sha256


class LinkState(StrEnum):
    """How a link stands against the ledger."""

    RIGHT = "right"
    MISSING = "missing"
    WRONG = "wrong"
    """It leads elsewhere, to nothing, or is no link."""
    STRAY = "stray"
    """It is there although the config has no canonical net."""


@dataclass(frozen=True)
class Link:
    """One name in ``models/``. ``target`` is what it should lead to, None when the config has no canonical."""

    config: str
    path: Path
    sha: Sha256 | None
    target: Path | None
    state: LinkState


def links_of(home: Home, ledger: Ledger, configs: Iterable[str] = tuple(CONFIGS)) -> list[Link]:
    """Return both links of every config that has a canonical net, and stray links of those that have none."""
    found = []
    for config in configs:
        canonical = ledger.canonical(config)
        sha = None if canonical is None else canonical.sha
        target = None if sha is None else Store(home).path(sha, WEIGHTS_SUFFIX)
        for path in (home.canonical_link(config), home.best_link(config)):
            state = _state(path, target)
            if state is not None:
                found.append(Link(config, path, sha, target, state))
    return found


def _state(path: Path, target: Path | None) -> LinkState | None:
    there = path.is_symlink() or path.exists()
    if target is None:
        return LinkState.STRAY if there else None
    if not there:
        return LinkState.MISSING
    right = path.is_symlink() and target.exists() and path.resolve() == target.resolve()
    return LinkState.RIGHT if right else LinkState.WRONG


def repair_links(home: Home, ledger: Ledger, configs: Iterable[str] = tuple(CONFIGS)) -> list[Link]:
    """Make the links of ``configs`` agree with the ledger and return those that did not. A stray link is removed; a
    file never is.

    Raises :class:`~ringrift_ops.store.WriteError`, and :class:`~ringrift_ops.store.MissingObjectError` once all others
    are right.
    """
    wrong = [link for link in links_of(home, ledger, configs) if link.state is not LinkState.RIGHT]
    missing: MissingObjectError | None = None
    for link in wrong:
        if link.target is not None:
            try:
                replace_symlink(link.path, link.target)
            except MissingObjectError as error:
                missing = missing or error
        elif link.path.is_symlink():
            link.path.unlink(missing_ok=True)
    if missing is not None:
        raise missing
    return wrong
