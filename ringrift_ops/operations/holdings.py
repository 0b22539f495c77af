"""What there is of a config to train on: game databases found by what they hold, and datasets (R27)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ringrift_ops.errors import NoDataError
from ringrift_ops.games.discovery import FoundDatabase, discover
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import config_named


class NoGamesFolderError(NoDataError):
    """There is no folder to look for games in."""


@dataclass(frozen=True)
class HeldGames:
    """A database with games of the config: ``game_count`` complete ones, ``passed`` parity."""

    path: Path
    game_count: int
    passed: int


@dataclass(frozen=True)
class HeldDataset:
    """A dataset of the config that was not backed out."""

    sha: str
    path: Path
    samples: int | None
    games: int | None
    made: datetime


@dataclass(frozen=True)
class Holdings:
    """All of it; ``unreadable``: databases that are damaged or of another version, and why."""

    config: str
    databases: list[HeldGames]
    unreadable: dict[Path, str]
    rows: int
    new_rows: int
    datasets: list[HeldDataset]

    @property
    def games(self) -> int:
        return sum(one.game_count for one in self.databases)


def databases_of(home: Home, config: str, folder: Path | None = None) -> tuple[list[HeldGames], dict[Path, str]]:
    """Return the game databases of a config below a folder (the home's games), and those that cannot be read.

    Raises ``UnknownConfigError``, :class:`NoGamesFolderError`.
    """
    key = config_named(config).key
    place = home.games if folder is None else folder
    if not place.is_dir():
        raise NoGamesFolderError(f"there is no folder {place}; `ringrift selfplay --config {key}` makes games")
    found = discover(place, key)
    return [HeldGames(one.path, one.games, one.passed) for one in found.found], found.unreadable


def usable(home: Home, ledger: Ledger, config: str) -> tuple[list[FoundDatabase], dict[Path, str]]:
    """Return the databases of a config in the home's games, and those left out, with why: unreadable or backed out.

    Raises ``UnknownConfigError``, ``MissingDatabaseError`` without a folder to look in.
    """
    key = config_named(config).key
    discovery = discover(home.games, key)
    made = {one.sha: one.path for one in ledger.artifacts(config=key, kind="games")}
    bad = {home.resolve(made[sha]): poison.reason for sha, poison in ledger.poisoned(list(made)).items()}
    left_out = {one.path: f"backed out: {bad[one.path]}" for one in discovery.found if one.path in bad}
    return [one for one in discovery.found if one.path not in bad], discovery.unreadable | left_out


def holdings(home: Home, ledger: Ledger, config: str, folder: Path | None = None) -> Holdings:
    """Return what there is of a config; the databases are opened, the datasets are not.

    Raises ``UnknownConfigError``, :class:`NoGamesFolderError`.
    """
    key = config_named(config).key
    databases, unreadable = databases_of(home, key, folder)
    return Holdings(
        config=key,
        databases=databases,
        unreadable=unreadable,
        rows=ledger.usable_rows(key),
        new_rows=ledger.new_rows(key),
        datasets=[
            HeldDataset(one.sha, home.resolve(one.path), one.meta.get("samples"), one.meta.get("games"), one.created_at)
            for one in ledger.artifacts(config=key, kind="dataset", clean=True)
        ],
    )
