"""A database while parity checks it: the moves as they are recorded, and the verdicts of one check.

A check leaves its mark in ``schema_metadata`` while it runs. The same check, started again after it was killed, goes
on with the games it has not passed; any other one, and any check of a file whose last one has ended, begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ringrift_ops.games.contract import NonCanonicalError
from ringrift_ops.games.database import DatabaseBusyError, connect, named_errors
from ringrift_ops.games.reader import (
    GameDatabase,
    GameRowError,
    IncompleteGameError,
    ParityVerdict,
)
from ringrift_ops.games.records import GameRecord
from ringrift_ops.games.start_state import StartStateError
from ringrift_ops.rules.layout import CODES_VERSION
from ringrift_ops.rules.move_json import MoveJsonError
from ringrift_ops.store import WriteError

MARK: Final = "ringrift_ops_parity_check"
"""Key in ``schema_metadata`` while a check runs."""

_RESET: Final = """UPDATE games SET parity_status = 'pending', parity_divergence_move = NULL, parity_checked_at = NULL
WHERE board_type = ? AND num_players = ?"""
_MOVE: Final = re.compile(r", move (\d+)")
_BAD_RECORDS: Final = (NonCanonicalError, MoveJsonError, GameRowError, IncompleteGameError, StartStateError)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is not a game of the config at all, so that there is nothing to replay."""

    game_id: str
    move: int | None
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record and its moves' JSON texts, as they stand in the file."""

    record: GameRecord
    moves: tuple[str, ...]


@dataclass
class CheckedDatabase:
    """One database under one check. Use as a context manager, one process at a time.

    ``check`` names the check (whatever decides its outcome). Raises the errors of ``games/database.py``,
    DatabaseBusyError when another process checks the file, WriteError.
    """

    path: Path
    config: str
    check: str
    _games: GameDatabase = field(init=False)
    _lock: int = field(init=False)

    def __enter__(self) -> Self:
        self._games = GameDatabase(self.path, self.config)
        try:
            self._lock = self._take_lock()
            self._connection = connect(self.path)
        except BaseException:
            self._games.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._games.close()
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.parity.lock")

    def _take_lock(self) -> int:
        """A lock that the kernel drops when this process dies."""
        while True:
            try:
                descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise WriteError(self._lock_path, error) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._lock_path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise DatabaseBusyError(f"another process checks {self.path} just now; wait for it") from None
            except FileNotFoundError:  # its last holder has just removed it
                pass
            os.close(descriptor)

    def begin(self) -> bool:
        """Set every game to pending and leave the mark; True when this check had begun already and goes on."""
        found = self._connection.execute("SELECT value FROM schema_metadata WHERE key = ?", (MARK,)).fetchone()
        if found is not None and found[0] == self.check:
            return True
        board, players = self.config.rsplit("_", 1)
        self._write(
            "setting games to pending",
            (_RESET, (board, int(players[:-1]))),
            ("INSERT OR REPLACE INTO schema_metadata VALUES (?, ?)", (MARK, self.check)),
        )
        return False

    def finish(self, *, passed: int, failed: int) -> None:
        """Write RingRift's ``parity_gate_*`` keys and remove the mark."""
        self._games.set_parity_gate(passed=passed, failed=failed, checked_at=now())
        self._write("ending the check", ("DELETE FROM schema_metadata WHERE key = ?", (MARK,)))

    def _write(self, doing: str, *statements: tuple[str, tuple[str | int, ...]]) -> None:
        writing = connect(self.path, writable=True)
        try:
            with named_errors(self.path, doing):
                writing.execute("BEGIN IMMEDIATE")
                for sql, parameters in statements:
                    writing.execute(sql, parameters)
                writing.execute("COMMIT")
        finally:
            writing.close()

    @property
    def games(self) -> int:
        """Complete games of the config."""
        return self._games.counts().complete

    @property
    def digest(self) -> str | None:
        """The content digest that the file was finished with; None for a foreign one."""
        return self._games.stored_digest

    def without_end(self) -> Iterator[tuple[str, str]]:
        """Games that are never read, and why."""
        return ((game.game_id, game.reason) for game in self._games.incomplete())

    def selected(self, sample: int, seed: int) -> Iterator[str]:
        """Ids of the games to check: all (``sample`` 0), or as many drawn with the seed, whatever their order."""
        if sample == 0:
            return self._games.game_ids()
        drawn = heapq.nsmallest(sample, ((_draw(seed, game_id), game_id) for game_id in self._games.game_ids()))
        return iter(sorted(game_id for _, game_id in drawn))

    def has_passed(self, game_id: str) -> bool:
        """Whether a game's verdict is ``passed``."""
        with named_errors(self.path, "reading verdicts"):
            row = self._connection.execute("SELECT parity_status FROM games WHERE game_id = ?", (game_id,)).fetchone()
        return row is not None and row[0] == "passed"

    def recorded(self, game_id: str) -> Recorded | BadRecord:
        """A game as it is recorded, or what is wrong with its record."""
        try:
            record = self._games.game(game_id)
        except _BAD_RECORDS as error:
            found = _MOVE.search(str(error))
            kind = "game_without_end" if isinstance(error, IncompleteGameError) else "non_canonical_history"
            return BadRecord(game_id, int(found[1]) if found else None, kind, str(error))
        with named_errors(self.path, "reading moves"):
            rows = self._connection.execute(
                "SELECT move_json FROM game_moves WHERE game_id = ? ORDER BY move_number", (game_id,)
            ).fetchall()
        if self._games.header.get("codes_version") != CODES_VERSION:
            record = replace(record, move_codes=None)  # nothing reads the codes of another version
        return Recorded(record, tuple(row[0] for row in rows))

    def write(self, verdicts: list[ParityVerdict]) -> None:
        """Write verdicts in one transaction."""
        if verdicts:
            self._games.set_parities(verdicts)


def _draw(seed: int, game_id: str) -> bytes:
    return hashlib.sha256(f"{seed} {game_id}".encode()).digest()


def now() -> str:
    """The time as it stands in ``parity_checked_at``: ISO-8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
