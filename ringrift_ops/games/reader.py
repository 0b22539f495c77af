"""Reading game databases as a stream: ours, and any other of RingRift's schema version 18.

Nothing holds more than one page of headers and one game in memory, and no cursor stays open between games, so
verdicts can be written into a file while it is read.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.games.contract import phase_of
from ringrift_ops.games.database import (
    DamagedDatabaseError,
    EmptyDatabaseError,
    ForeignDatabaseError,
    WrongConfigError,
    connect,
    named_errors,
)
from ringrift_ops.games.records import GameRecord, Policies, Seat, batch_digest
from ringrift_ops.games.schema import MINIMUM_MOVES
from ringrift_ops.games.start_state import swap_rule_of
from ringrift_ops.games.writer import FinishedBatch
from ringrift_ops.rules.move_json import PHASE_CODES, MoveJsonError, translator
from ringrift_ops.settings.names import config_named

PARITY_STATUSES: Final = ("passed", "failed", "error", "pending", "skipped")

_PAGE: Final = 256
"""Game headers fetched at a time."""

_OVER: Final = ("completed", "finished")
_COMPLETE: Final = f"""game_status IN ('completed', 'finished') AND total_moves >= {MINIMUM_MOVES}
AND (winner IS NOT NULL OR termination_reason IS 'max_moves')"""

_GAME_ROW: Final = """SELECT board_type, num_players, rng_seed, created_at, completed_at, game_status, winner,
termination_reason, total_moves, duration_ms, source, metadata_json, engine_mode, opponent_type, opponent_model_id
FROM games WHERE game_id = ?"""
_PLAYER_ROWS: Final = """SELECT player_type, ai_type, ai_difficulty, ai_profile_id,
coalesce(final_eliminated_rings, 0), coalesce(final_territory_spaces, 0), coalesce(final_rings_in_hand, 0)
FROM game_players WHERE game_id = ? ORDER BY player_number"""


class UnknownGameError(UsageError):
    """A game id that the database does not hold."""


class IncompleteGameError(NoDataError):
    """A game without end: never completed, without winner, or without all of its moves."""


class GameRowError(UsageError):
    """A game whose rows contradict each other."""


class MoveCodesError(NoDataError):
    """The file has no move codes of the rule engine asked for; read its moves instead."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Games of a database (of its config, where one was named). ``passed`` .. count complete games by verdict."""

    games: int
    complete: int
    incomplete: int
    excluded: int
    moves: int
    parity: dict[str, int]

    @property
    def passed(self) -> int:
        """Complete games that parity has passed."""
        return self.parity.get("passed", 0)


@dataclass(frozen=True, slots=True)
class IncompleteGame:
    """A game that is not used, and why."""

    game_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParityVerdict:
    """What parity found of one game; ``divergence_move`` is the 0-based move, None unless it failed."""

    game_id: str
    status: str
    divergence_move: int | None
    checked_at: str


@dataclass(frozen=True, slots=True, eq=False)
class CompactGame:
    """What export needs of a game of ours, without parsing JSON. ``move_codes`` int64 [moves]."""

    game_id: str
    config: str
    swap_rule: bool
    opening_plies: int
    winner: int | None
    termination_reason: str
    move_hash: str
    final_hash: str | None
    move_codes: npt.NDArray[np.int64]
    policies: Policies | None
    engine_mode: str | None = None


class GameDatabase:
    """One game database, opened for reading. Use as a context manager.

    With ``config``, only games of that config are seen. Raises the errors of ``database.py`` for a file that is
    missing, empty, truncated, foreign or of another schema version, and WrongConfigError when it holds games, but
    none of ``config``.
    """

    def __init__(self, path: Path, config: str | None = None) -> None:
        self.path = path
        self.config = config
        self.parity_waived = False  # True: `passed_only` leaves out only what somebody excluded (R14)
        self._where = "1"
        self._parameters: tuple[str | int, ...] = ()
        if config is not None:
            row = config_named(config)
            self._where, self._parameters = "board_type = ? AND num_players = ?", (row.board, row.players)
        self._connection: sqlite3.Connection | None = connect(path)
        try:
            self._inspect()
        except BaseException:
            self.close()
            raise

    def _inspect(self) -> None:
        tables = {name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {row[1] for row in self._all("PRAGMA table_info(games)")}
        ours = {"ringrift_ops_games", "ringrift_ops_policies", "ringrift_ops_batch"}
        self._own = ours <= tables
        if ours & tables and not self._own:
            gone = ", ".join(sorted(ours - tables))
            raise DamagedDatabaseError(f"{self.path} has lost its table {gone}, policies with it; copy it again")
        self._excluded = "excluded_from_training" if "excluded_from_training" in columns else "0"
        self.header: dict[str, str] = dict(self._all("SELECT key, value FROM ringrift_ops_batch")) if self._own else {}
        configs = self.configs()
        if self.config is not None and configs and self.config not in configs:
            held = ", ".join(f"{count} games of {config}" for config, count in configs.items())
            raise WrongConfigError(f"{self.path} holds {held}, none of {self.config}; name the right config or file")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _all(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            raise UsageError(f"{self.path} has been closed; open it again")
        with named_errors(self.path, "reading games"):
            return self._connection.execute(sql, parameters).fetchall()

    # ---- what the file holds ----------------------------------------------------------------------------------

    def configs(self) -> dict[str, int]:
        """Games per config key, whatever config this reader was opened for."""
        rows = self._all("SELECT board_type, num_players, count(*) FROM games GROUP BY 1, 2 ORDER BY 1, 2")
        return {f"{board}_{players}p": count for board, players, count in rows}

    def counts(self) -> Counts:
        """Numbers of games by state and verdict."""
        rows = self._all(
            f"SELECT {_COMPLETE}, coalesce(parity_status, 'pending'), coalesce({self._excluded}, 0) <> 0, "  # noqa: S608
            f"count(*), coalesce(sum(total_moves), 0) FROM games WHERE {self._where} GROUP BY 1, 2, 3",
            self._parameters,
        )
        parity: Counter[str] = Counter()
        games = complete = excluded = moves = 0
        for is_complete, status, is_excluded, count, total in rows:
            games += count
            moves += total
            if is_complete:
                complete += count
                parity[status] += count
                excluded += count if is_excluded else 0
        return Counts(games, complete, games - complete, excluded, moves, dict(parity))

    def incomplete(self) -> Iterator[IncompleteGame]:
        """Every game that is never read, with the reason."""
        for row in self._pages("game_id, game_status, winner, termination_reason, total_moves", f"NOT ({_COMPLETE})"):
            game_id, status, winner, reason, moves = row
            if status not in _OVER:
                why = f"game without end: its status is {status!r}"
            elif (moves or 0) < MINIMUM_MOVES:
                why = f"only {moves} moves"
            else:
                why = f"game without end: winner {winner}, reason {reason!r}"
            yield IncompleteGame(game_id, why)

    def game_ids(self, *, passed_only: bool = False) -> Iterator[str]:
        """Ids of complete games in order; ``passed_only``: those that parity passed and nobody excluded."""
        for (game_id,) in self._pages("game_id", self._selection(passed_only)):
            yield game_id

    def _selection(self, passed_only: bool) -> str:
        if not passed_only:
            return _COMPLETE
        passed = "1" if self.parity_waived else "parity_status = 'passed'"
        return f"{_COMPLETE} AND {passed} AND coalesce({self._excluded}, 0) = 0"

    def _pages(self, columns: str, condition: str) -> Iterator[tuple[Any, ...]]:
        last = ""
        sql = (
            f"SELECT {columns} FROM games WHERE {self._where} AND ({condition}) AND game_id > ? "  # noqa: S608
            f"ORDER BY game_id LIMIT {_PAGE}"
        )
        while rows := self._all(sql, (*self._parameters, last)):
            yield from rows
            last = rows[-1][0]

    # ---- games ------------------------------------------------------------------------------------------------

    def games(self, *, passed_only: bool = False) -> Iterator[GameRecord]:
        """Complete games one by one in order of id, read from RingRift's own tables.

        Raises, naming game and move: NonCanonicalError, MoveJsonError and its kin, StartStateError,
        GameRowError, IncompleteGameError. EmptyDatabaseError when the file holds no game at all.
        """
        if not self._all(f"SELECT 1 FROM games WHERE {self._where} LIMIT 1", self._parameters):  # noqa: S608
            raise EmptyDatabaseError(f"{self.path} holds no games{f' of {self.config}' if self.config else ''}")
        for game_id in self.game_ids(passed_only=passed_only):
            yield self.game(game_id)

    def game(self, game_id: str) -> GameRecord:
        """One complete game; see :meth:`games`. Raises UnknownGameError too."""
        rows = self._all(f"{_GAME_ROW} AND {self._where}", (game_id, *self._parameters))
        if not rows:
            raise UnknownGameError(f"{self.path} holds no game {game_id!r}; see its game_ids()")
        (
            board, players, seed, created, completed, status, winner, reason, total, duration, source, metadata,
            mode, opponent, opponent_model,
        ) = rows[0]  # fmt: skip
        where = f"{self.path.name}, game {game_id}"
        config = config_named(f"{board}_{players}p").key
        if status not in _OVER or (winner is None and reason != "max_moves"):
            raise IncompleteGameError(f"{where}: a game without end (status {status!r}, winner {winner}); leave it out")
        start = self._all("SELECT initial_state_json, compressed FROM game_initial_state WHERE game_id = ?", (game_id,))
        seats, phases, moves = self._moves(game_id, board, players, total, where)
        finals = self._all(_PLAYER_ROWS, (game_id,))
        if len(finals) != players:
            raise GameRowError(f"{where}: {len(finals)} rows in game_players for {players} players; record it anew")
        own = self._own_row(game_id)
        return GameRecord(
            game_id=game_id,
            config=config,
            seed=seed,
            swap_rule=swap_rule_of(_text(start[0], where), config, where) if start else False,
            moves=moves,
            seats=seats,
            phases=phases,
            winner=winner,
            termination_reason=reason or "",
            eliminated=tuple(row[4] for row in finals),
            territory=tuple(row[5] for row in finals),
            in_hand=tuple(row[6] for row in finals),
            players=tuple(Seat(*row[:4]) for row in finals),
            created_at=created,
            completed_at=completed or created,
            source=source or "",
            engine_mode=mode,
            opponent_type=opponent,
            opponent_model_id=opponent_model,
            duration_ms=duration,
            opening_plies=own[0],
            final_hash=own[1],
            move_codes=own[2],
            policies=self._policies(game_id),
            metadata=_metadata(metadata, where),
        )

    def _moves(
        self, game_id: str, board: str, players: int, total: int, where: str
    ) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
        rows = self._all(
            "SELECT move_number, player, phase, move_type, move_json FROM game_moves WHERE game_id = ? "
            "ORDER BY move_number",
            (game_id,),
        )
        if len(rows) != total or not rows or rows[-1][0] != total - 1:
            raise IncompleteGameError(f"{where}: {len(rows)} of {total} moves are there; record the game anew")
        to_key = translator(board).to_key
        codes: dict[tuple[str, str], str] = {}
        seats, phases, moves = [], [], []
        for number, seat, phase, move_type, text in rows:
            code = codes.get((phase, move_type))
            if code is None:
                canonical = phase_of(phase or "", str(move_type), f"{where}, move {number}")
                code = codes[(phase, move_type)] = PHASE_CODES[canonical]
            try:
                parsed = to_key(text)
            except MoveJsonError as error:
                error.at(f"{where}, move {number}")
                raise
            if parsed.player != seat or parsed.move_type != move_type or not 1 <= seat <= players:
                raise GameRowError(
                    f"{where}, move {number}: the row says {move_type} by seat {seat}, its JSON {parsed.move_type} "
                    f"by seat {parsed.player} of {players}; record the game anew"
                )
            seats.append(seat)
            phases.append(code)
            moves.append(parsed.key)
        return tuple(seats), tuple(phases), tuple(moves)

    def _own_row(self, game_id: str) -> tuple[Any, ...]:
        """Opening plies, final hash, move codes; of a foreign game none."""
        if not self._own:
            return 0, None, None
        rows = self._all(
            "SELECT opening_plies, final_hash, move_codes FROM ringrift_ops_games WHERE game_id = ?", (game_id,)
        )
        return rows[0] if rows else (0, None, None)

    def _policies(self, game_id: str) -> Policies | None:
        if not self._own:
            return None
        rows = self._all(
            "SELECT encoder_version, move_numbers, row_starts, policy_indices, probabilities "
            "FROM ringrift_ops_policies WHERE game_id = ?",
            (game_id,),
        )
        try:
            return Policies.from_blobs(*rows[0]) if rows else None
        except (TypeError, ValueError) as error:
            raise DamagedDatabaseError(f"{self.path}: the policies of game {game_id} are damaged ({error})") from error

    def compact_games(self, *, codes_version: str, passed_only: bool = False) -> Iterator[CompactGame]:
        """Complete games of a batch of ours, with the move codes of exactly this rule engine.

        Raises MoveCodesError when the file is not ours, its codes are another version's, or a game has none.
        """
        held = self.header.get("codes_version")
        if held != codes_version:
            raise MoveCodesError(
                f"{self.path}: move codes of version {held or 'none'}, not {codes_version}; use games()"
            )
        columns = "game_id, board_type, num_players, winner, termination_reason, engine_mode"
        for game_id, board, players, winner, reason, engine in self._pages(columns, self._selection(passed_only)):
            rows = self._all(
                "SELECT swap_rule, opening_plies, move_hash, final_hash, move_codes FROM ringrift_ops_games "
                "WHERE game_id = ?",
                (game_id,),
            )
            if not rows or rows[0][4] is None:
                raise MoveCodesError(f"{self.path}: game {game_id} has no move codes; use games()")
            swap, opening, move_hash, final_hash, codes = rows[0]
            if not isinstance(codes, bytes) or len(codes) % 8:
                raise DamagedDatabaseError(f"{self.path}: the move codes of game {game_id} are damaged")
            yield CompactGame(
                game_id=game_id,
                config=f"{board}_{players}p",
                swap_rule=bool(swap),
                opening_plies=opening,
                winner=winner,
                termination_reason=reason,
                move_hash=move_hash,
                final_hash=final_hash,
                move_codes=np.frombuffer(codes, "<i8"),
                policies=self._policies(game_id),
                engine_mode=engine,
            )

    # ---- identity ---------------------------------------------------------------------------------------------

    @property
    def stored_digest(self) -> str | None:
        """The content digest written when the batch was finished; None for a foreign file."""
        return self.header.get("content_digest")

    def content_digest(self) -> str:
        """The batch's identity computed anew from RingRift's tables and ours; reads every game."""
        digests = {record.game_id: record.digest() for record in self.games()}
        return batch_digest(self.config or self.header.get("config") or "+".join(self.configs()), digests)

    def finished(self) -> FinishedBatch:
        """What the writer returned when it finished this batch. Raises ForeignDatabaseError for a file of others."""
        if self.stored_digest is None:
            raise ForeignDatabaseError(f"{self.path}: not a batch of this platform; it carries no content digest")
        ((games, moves),) = self._all("SELECT count(*), coalesce(sum(total_moves), 0) FROM games")
        ((distinct,),) = self._all("SELECT count(DISTINCT move_hash) FROM ringrift_ops_games")
        ((policies,),) = self._all("SELECT count(*) FROM ringrift_ops_policies")
        return FinishedBatch(self.path, self.stored_digest, games, moves, distinct, policies)

    def verify(self) -> str:
        """The content digest, after comparing it with the stored one. Raises DamagedDatabaseError if they differ."""
        digest = self.content_digest()
        if digest != self.stored_digest:
            raise DamagedDatabaseError(
                f"{self.path}: its games hash to {digest[:12]}, it was finished as {str(self.stored_digest)[:12]}; "
                "copy it again or record it anew"
            )
        return digest

    # ---- parity verdicts --------------------------------------------------------------------------------------

    def parity_of(self, game_id: str) -> ParityVerdict:
        """The verdict recorded for a game; raises UnknownGameError."""
        rows = self._all(
            "SELECT game_id, coalesce(parity_status, 'pending'), parity_divergence_move, "
            "coalesce(parity_checked_at, '') FROM games WHERE game_id = ?",
            (game_id,),
        )
        if not rows:
            raise UnknownGameError(f"{self.path} holds no game {game_id!r}")
        return ParityVerdict(*rows[0])

    def set_parities(self, verdicts: Iterable[ParityVerdict]) -> None:
        """Write verdicts into the file, all in one transaction; its identity does not change.

        Raises UnknownGameError, UsageError (a status that is none), DatabaseWriteError, DatabaseBusyError.
        """
        writing = connect(self.path, writable=True)
        try:
            with named_errors(self.path, "writing parity verdicts"):
                writing.execute("BEGIN IMMEDIATE")
                for verdict in verdicts:
                    if verdict.status not in PARITY_STATUSES:
                        raise UsageError(f"parity status {verdict.status!r} is none of {', '.join(PARITY_STATUSES)}")
                    cursor = writing.execute(
                        "UPDATE games SET parity_status = ?, parity_divergence_move = ?, parity_checked_at = ? "
                        "WHERE game_id = ?",
                        (verdict.status, verdict.divergence_move, verdict.checked_at, verdict.game_id),
                    )
                    if cursor.rowcount != 1:
                        raise UnknownGameError(f"{self.path} holds no game {verdict.game_id!r}; nothing was written")
                writing.execute("COMMIT")
        finally:
            writing.close()

    def set_parity_gate(self, *, passed: int, failed: int, checked_at: str) -> None:
        """RingRift's ``parity_gate_*`` keys of ``schema_metadata``: passed when something was and nothing failed."""
        values = {
            "parity_gate_status": "passed" if passed and not failed else "failed",
            "parity_gate_timestamp": checked_at,
            "parity_gate_passed_count": str(passed),
            "parity_gate_failed_count": str(failed),
        }
        writing = connect(self.path, writable=True)
        try:
            with named_errors(self.path, "writing the parity gate"):
                writing.execute("BEGIN IMMEDIATE")
                writing.executemany("INSERT OR REPLACE INTO schema_metadata VALUES (?, ?)", values.items())
                writing.execute("COMMIT")
        finally:
            writing.close()


def _text(row: tuple[Any, ...], where: str) -> str:
    """An initial state as text; RingRift stores raw gzip bytes when ``compressed`` is 1."""
    stored, compressed = row
    if not compressed:
        return stored if isinstance(stored, str) else stored.decode(errors="replace")
    try:
        return gzip.decompress(bytes(stored, "latin-1") if isinstance(stored, str) else stored).decode()
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise DamagedDatabaseError(f"{where}: the compressed initial state cannot be read ({error})") from error


def _metadata(text: str | None, where: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise DamagedDatabaseError(f"{where}: metadata_json is not JSON ({error})") from error
    return metadata if isinstance(metadata, dict) else {}
