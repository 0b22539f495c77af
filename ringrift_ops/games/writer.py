"""Writing a batch: one SQLite file of games that appears under its name only when it is whole.

While games are added the batch lives in a hidden file beside its place, in WAL mode, one transaction per game in
RingRift's order (pipeline-facts 1.2). A killed writer loses nothing it had added: the next one for the same
batch goes on from there. :meth:`BatchWriter.finish` records the content digest, folds the log in, fsyncs and
renames.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.games import schema
from ringrift_ops.games.contract import check_key
from ringrift_ops.games.database import (
    DamagedDatabaseError,
    EmptyDatabaseError,
    check_schema,
    named_errors,
    translated,
)
from ringrift_ops.games.records import GameRecord, RecordError, batch_digest
from ringrift_ops.games.start_state import INITIAL_SECONDS, start_state_json
from ringrift_ops.rules.move_json import translator
from ringrift_ops.settings.names import config_named
from ringrift_ops.store import WriteError, fsync_dir

FORMAT: Final = "1"
"""Of the ``ringrift_ops_*`` tables."""

_CHECKPOINT_PAGES: Final = 10_000
"""WAL pages (40 MB) between checkpoints: an fsync about once a second instead of every ten games."""

_ROW_CACHE: Final = 200_000

_INSERT_GAME: Final = """INSERT INTO games (game_id, board_type, num_players, rng_seed, created_at, game_status,
total_moves, total_turns, source, schema_version, time_control_type, initial_time_ms, time_increment_ms,
metadata_json, engine_mode, opponent_type, opponent_model_id)
VALUES (?, ?, ?, ?, ?, 'in_progress', 0, 0, ?, ?, 'blitz', ?, 0, ?, ?, ?, ?)"""
_INSERT_MOVE: Final = """INSERT INTO game_moves (game_id, move_number, turn_number, player, phase, move_type, move_json,
timestamp, move_probs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_COMPLETE_GAME: Final = """UPDATE games SET game_status = 'completed', completed_at = ?, winner = ?,
termination_reason = ?, total_moves = ?, total_turns = ?, duration_ms = ? WHERE game_id = ?"""
_INSERT_PLAYER: Final = "INSERT INTO game_players VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class BatchExistsError(UsageError):
    """The batch is already complete; a finished batch is never written again."""


class BatchBusyError(InfrastructureError):
    """Another process is writing this batch."""


class BatchMismatchError(UsageError):
    """An unfinished batch of another config or producer lies where this one is to be written."""


@dataclass(frozen=True, slots=True)
class FinishedBatch:
    """A batch on disk. ``digest`` is its identity: content without clocks and parity verdicts.

    ``distinct``: games that differ in config, pie rule or moves (F11). ``policy_games``: those with search policies.
    """

    path: Path
    digest: str
    games: int
    moves: int
    distinct: int
    policy_games: int


def files_of(path: Path) -> list[Path]:
    """Return every file that a batch may have at ``path``: the finished one, and what a writer works on."""
    writing = path.with_name(f".{path.name}.writing")
    more = (writing.with_name(f"{writing.name}{end}") for end in ("-wal", "-shm", "-journal"))
    return [path, writing, *more, path.with_name(f".{path.name}.lock")]


class BatchWriter:
    """Adds games to one batch of one config. Use as a context manager; leaving it keeps an unfinished batch.

    ``codes_version`` names the numbering of move codes (``rules/layout.py``); ``header`` is the producer's
    identity (seed, shard, spec digest, ...): a resumed batch must have the same. ``recorded`` holds the ids of
    the games already added, so a resuming producer knows what is left to play.

    Raises :class:`BatchExistsError`, :class:`BatchBusyError`, :class:`BatchMismatchError`, UnknownConfigError, and
    the errors of ``database.py`` for disks that are full or read-only.
    """

    def __init__(self, path: Path, config: str, *, codes_version: str, header: Mapping[str, str] | None = None) -> None:
        row = config_named(config)
        self.path = path
        self.config = config
        self.header: Final = {"format": FORMAT, "config": config, "codes_version": codes_version, **(header or {})}
        self.recorded: set[str] = set()
        self.moves = 0
        self._board, self._players = row.board, row.players
        self._translator = translator(row.board)
        self._rows: dict[tuple[str, int, str], tuple[str, str, str]] = {}
        self._connection: sqlite3.Connection | None = None
        self._temporary = path.with_name(f".{path.name}.writing")
        self._lock_path = path.with_name(f".{path.name}.lock")
        if path.exists():
            raise BatchExistsError(f"{path} is already complete; read it, or write to another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        except OSError as error:
            raise WriteError(path, error) from error
        try:
            if path.exists():
                raise BatchExistsError(f"{path} has just been completed by another writer; read it")
            self._connection = self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.recorded)

    def _take_lock(self) -> int:
        """An exclusive lock that the kernel drops when this process dies."""
        while True:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(descriptor)
                raise BatchBusyError(
                    f"{self.path} is being written by process {holder}; wait for it or stop it"
                ) from None
            try:
                current = self._lock_path.stat().st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                current = False
            if current:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def _open(self) -> sqlite3.Connection:
        with named_errors(self.path, "opening the unfinished batch"):
            connection = sqlite3.connect(self._temporary, isolation_level=None)
            try:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    connection.execute("BEGIN IMMEDIATE")
                    schema.create(connection)
                    connection.executemany("INSERT INTO ringrift_ops_batch VALUES (?, ?)", self.header.items())
                    connection.execute("COMMIT")
                else:
                    self._resume(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _resume(self, connection: sqlite3.Connection) -> None:
        check_schema(connection, self._temporary)
        found = dict(connection.execute("SELECT key, value FROM ringrift_ops_batch"))
        for key, value in self.header.items():
            if found.get(key) != value:
                raise BatchMismatchError(
                    f"{self._temporary} is an unfinished batch with {key} = {found.get(key)!r}, not {value!r}; "
                    "finish it, delete it, or write to another name"
                )
        for game_id, moves in connection.execute("SELECT game_id, total_moves FROM games"):
            self.recorded.add(game_id)
            self.moves += moves

    def add(self, record: GameRecord) -> None:
        """Record one game: header, start, moves, result and players in one transaction, or nothing.

        On return the game survives ``kill -9``. Raises RecordError (the record contradicts itself, or its id is
        taken), NonCanonicalError and MoveKeyError (a move breaks the contract of pipeline-facts 1.4),
        DatabaseWriteError (disk).
        """
        if record.config != self.config:
            raise RecordError(f"game {record.game_id!r} is of {record.config}, this batch of {self.config}")
        if record.game_id in self.recorded:
            raise RecordError(f"game {record.game_id!r} is already in {self.path.name}")
        record.check()
        moves = self._move_rows(record)
        connection = self._writable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._insert(connection, record, moves)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            raise translated(error, self.path, f"recording game {record.game_id}") from error
        except BaseException:
            self._roll_back(connection)
            raise
        self.recorded.add(record.game_id)
        self.moves += len(record.moves)

    def copy(self, path: Path, games: Mapping[str, int]) -> None:
        """Take over all rows of the batch at ``path``, whose ``games`` are {id: moves}, in one transaction."""
        connection = self._writable()
        with named_errors(self.path, f"taking over {path.name}"):
            connection.execute("ATTACH DATABASE ? AS other", (str(path),))
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("PRAGMA defer_foreign_keys = ON")
                for table in schema.RECORDED_TABLES:
                    connection.execute(f"INSERT INTO main.{table} SELECT * FROM other.{table}")  # noqa: S608
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
            finally:
                connection.execute("DETACH DATABASE other")
        self.recorded.update(games)
        self.moves += sum(games.values())

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _move_rows(self, record: GameRecord) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        cache = self._rows
        game_id, created = record.game_id, record.created_at
        probs = record.policies.move_probs() if record.policies is not None else {}
        turn, previous = 0, record.seats[0]
        for number, move in enumerate(zip(record.phases, record.seats, record.moves, strict=True)):
            known = cache.get(move) or self._row(move, f"move {number} of game {game_id}")
            seat = move[1]
            if seat != previous:
                turn += 1
                previous = seat
            text = f'{{"id":"{game_id}-m{number}",{known[2]},"moveNumber":{number + 1}}}'
            rows.append((game_id, number, turn, seat, known[0], known[1], text, created, probs.get(number)))
        return rows

    def _row(self, move: tuple[str, int, str], where: str) -> tuple[str, str, str]:
        """(phase, move type, JSON fragment) of a move after checking it against the contract."""
        phase_code, seat, key = move
        phase, move_type = check_key(phase_code, key, where)
        if len(self._rows) >= _ROW_CACHE:
            self._rows.clear()
        row = self._rows[move] = (phase, move_type, self._translator.fragment(seat, key)[1])
        return row

    def _insert(self, connection: sqlite3.Connection, record: GameRecord, moves: list[tuple[Any, ...]]) -> None:
        """RingRift's order: in progress, start, moves, completed, players; then our own rows."""
        game_id = record.game_id
        connection.execute(
            _INSERT_GAME,
            (
                game_id, self._board, self._players, record.seed, record.created_at, record.source,
                schema.SCHEMA_VERSION, INITIAL_SECONDS * 1000, json.dumps(dict(record.metadata), sort_keys=True),
                record.engine_mode, record.opponent_type, record.opponent_model_id,
            ),
        )  # fmt: skip
        start = start_state_json(
            self.config, seed=record.seed, swap_rule=record.swap_rule, created_at=record.created_at
        )
        connection.execute("INSERT INTO game_initial_state VALUES (?, ?, 0)", (game_id, start))
        connection.executemany(_INSERT_MOVE, moves)
        connection.execute(
            _COMPLETE_GAME,
            (
                record.completed_at, record.winner, record.termination_reason, len(moves), record.total_turns,
                record.duration_ms, game_id,
            ),
        )  # fmt: skip
        finals = zip(record.players, record.eliminated, record.territory, record.in_hand, strict=True)
        connection.executemany(
            _INSERT_PLAYER,
            [
                (game_id, seat, who.player_type, who.ai_type, who.ai_difficulty, who.ai_profile_id, *final)
                for seat, (who, *final) in enumerate(finals, start=1)
            ],
        )
        connection.execute(
            "INSERT INTO ringrift_ops_games VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                game_id, int(record.swap_rule), record.opening_plies, record.move_hash(), record.digest(),
                record.final_hash, record.move_codes,
            ),
        )  # fmt: skip
        if record.policies is not None:
            connection.execute(
                "INSERT INTO ringrift_ops_policies VALUES (?, ?, ?, ?, ?, ?)",
                (game_id, record.policies.encoder_version, *record.policies.blobs()),
            )

    def finish(self) -> FinishedBatch:
        """Give the batch its name: digest recorded, log folded in, fsynced, renamed. The writer is closed.

        Raises EmptyDatabaseError without games, DatabaseWriteError or WriteError when the disk refuses; the
        unfinished batch then stays and can be resumed.
        """
        if not self.recorded:
            raise EmptyDatabaseError(f"{self.path}: a batch without games is not written")
        connection = self._writable()
        with named_errors(self.path, "finishing the batch"):
            pairs = connection.execute("SELECT game_id, game_digest FROM ringrift_ops_games").fetchall()
            if len(pairs) != len(self.recorded):
                raise DamagedDatabaseError(f"{self._temporary} holds {len(pairs)} of {len(self.recorded)} games")
            digest = batch_digest(self.config, pairs)
            (distinct,) = connection.execute("SELECT count(DISTINCT move_hash) FROM ringrift_ops_games").fetchone()
            (policies,) = connection.execute("SELECT count(*) FROM ringrift_ops_policies").fetchone()
            summary = {"games": str(len(pairs)), "moves": str(self.moves), "content_digest": digest}
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO ringrift_ops_batch VALUES (?, ?)", summary.items())
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()
            self._connection = None
        try:
            with self._temporary.open("rb") as written:
                os.fsync(written.fileno())
            self._temporary.rename(self.path)
            fsync_dir(self.path.parent)
            self._lock_path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(self.path, error) from error
        finally:
            self.close()
        return FinishedBatch(self.path, digest, len(pairs), self.moves, distinct, policies)

    def close(self) -> None:
        """Release the batch; what was added stays for a later writer."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _writable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RecordError(f"the writer of {self.path} is closed; open a new one")
        return self._connection
