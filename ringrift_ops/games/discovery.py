"""Finding game databases by what they hold, and reading many of them as one set without duplicates (R13)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ringrift_ops.errors import RingRiftError
from ringrift_ops.games.database import ForeignDatabaseError, MissingDatabaseError, is_sqlite
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.records import GameRecord


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    """A database with games of the config looked for."""

    path: Path
    games: int
    passed: int

    def __str__(self) -> str:
        return f"{self.path}: {self.games} games"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a search found: databases of the config, and files that look like databases but cannot be read."""

    found: list[FoundDatabase]
    unreadable: dict[Path, str]


def discover(folder: Path, config: str) -> Discovery:
    """Every SQLite file under ``folder`` that holds complete games of ``config``, whatever its name.

    Files of other programs and of other configs are passed over; RingRift databases that are damaged or of
    another version are listed in ``unreadable`` with their error. Unfinished batches are hidden files and not
    looked at. Raises MissingDatabaseError when there is no such folder.
    """
    if not folder.is_dir():
        raise MissingDatabaseError(f"no folder {folder} to search for game databases; check the name")
    found, unreadable = [], {}
    for path in _files(folder):
        if not is_sqlite(path):
            continue
        try:
            with GameDatabase(path) as database:
                held = database.configs()
            if config not in held:
                continue
            with GameDatabase(path, config) as database:
                counts = database.counts()
        except ForeignDatabaseError:
            continue
        except RingRiftError as error:
            unreadable[path] = str(error)
            continue
        if counts.complete:
            found.append(FoundDatabase(path, counts.complete, counts.passed))
    return Discovery(found, unreadable)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(parent) / name


@dataclass(slots=True)
class GamePool:
    """Games of one config from many databases, each game once.

    Two games are the same when config, pie rule and moves are; the first one read is kept. After iterating,
    ``read`` and ``duplicates`` say how many were seen and dropped. Memory: 32 bytes and a set entry per game.
    """

    paths: Iterable[Path]
    config: str
    passed_only: bool = True
    read: int = 0
    duplicates: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def __iter__(self) -> Iterator[GameRecord]:
        self.read = self.duplicates = 0
        self._seen.clear()
        for path in self.paths:
            with GameDatabase(path, self.config) as database:
                for game_id in database.game_ids(passed_only=self.passed_only):
                    record = database.game(game_id)
                    self.read += 1
                    if self.is_new(record.move_hash()):
                        yield record

    def is_new(self, move_hash: str) -> bool:
        """Whether a game of this hash has not been seen yet; counts it as duplicate otherwise."""
        key = bytes.fromhex(move_hash)
        if key in self._seen:
            self.duplicates += 1
            return False
        self._seen.add(key)
        return True
