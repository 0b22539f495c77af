"""From the move codes of a played game to its record: keys, seats, phases, final numbers, policies."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from ringrift_ops.games.records import GameRecord, Seat, termination_reason
from ringrift_ops.games.records import Policies as RecordedPolicies
from ringrift_ops.players.play import Policies
from ringrift_ops.rules.bits import copy_state
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import (
    KINDS,
    MOVE_BUFFER,
    PHASE_CODES,
    S_COMPLETED,
    S_ELIMINATED,
    S_HAND,
    S_KIND,
    S_PHASE,
    S_PLAYER,
    S_TERRITORY,
    S_WINNER,
)
from ringrift_ops.rules.notation import TEXT_BUFFER, hex16, put_key, state_hash
from ringrift_ops.rules.turn import apply_move

_KEY_ROOM = 8_192
"""Bytes no single key exceeds: a region of 469 cells takes less than 4,000."""


@jit
def _write_keys(
    G, start, s, codes, plies, starts, policy_moves, rows, moves_text, policy_text, seats, phases, work, zero
):
    """Replay a game, writing keys joined by spaces; returns both lengths, -1 where a buffer is too small."""
    copy_state(s, start)
    n, m, row = 0, 0, 0
    for i in range(codes.size):
        seats[i] = s[S_PLAYER]
        phases[i] = s[S_PHASE]
        if n + _KEY_ROOM > moves_text.size:
            return -1, m
        n = put_key(G, s, codes[i], moves_text, n, zero)
        moves_text[n] = np.uint8(32)
        n += 1
        if row < rows and plies[row] == i:
            for e in range(starts[row], starts[row + 1]):
                if m + _KEY_ROOM > policy_text.size:
                    return n, -1
                m = put_key(G, s, policy_moves[e], policy_text, m, zero)
                policy_text[m] = np.uint8(32)
                m += 1
            row += 1
        apply_move(G, s, codes[i], work, zero)
    return n, m


class Recorder:
    """Makes game records of one config. ``encoder_version`` names the policy indices of searched games."""

    def __init__(self, game: Game, encoder_version: str) -> None:
        self.game = game
        self.encoder_version = encoder_version
        self._moves_text = np.empty(4 * TEXT_BUFFER, dtype=np.uint8)
        self._policy_text = np.empty(4 * TEXT_BUFFER, dtype=np.uint8)
        self._work = np.empty(MOVE_BUFFER, dtype=np.int64)
        self._state = np.zeros(game.size, dtype=np.int64)

    def record(
        self,
        start: npt.NDArray[np.int64],
        codes: npt.NDArray[np.int64],
        policies: Policies,
        *,
        game_id: str,
        seed: int,
        swap_rule: bool,
        players: Sequence[Seat],
        started: datetime,
        opening_plies: int,
        source: str,
        engine_mode: str,
        metadata: Mapping[str, object],
    ) -> GameRecord:
        """The record of one game that began at ``start`` (int64 [game.size]) with ``codes`` (int64 [moves])."""
        game, rows = self.game, int(policies.used[0])
        seats = np.empty(len(codes), dtype=np.int64)
        phases = np.empty(len(codes), dtype=np.int64)
        moves, policy_keys = self._keys(start, codes, policies, rows, seats, phases)
        s = self._state
        over = bool(s[S_COMPLETED])
        finished = datetime.now(UTC)
        return GameRecord(
            game_id=game_id,
            config=game.config,
            seed=seed,
            swap_rule=swap_rule,
            moves=moves,
            seats=tuple(seats.tolist()),
            phases=tuple(PHASE_CODES[i] for i in phases.tolist()),
            winner=int(s[S_WINNER]) or None if over else None,
            termination_reason=termination_reason(KINDS[s[S_KIND]] if over else "max_moves"),
            eliminated=self._per_seat(S_ELIMINATED),
            territory=self._per_seat(S_TERRITORY),
            in_hand=self._per_seat(S_HAND),
            players=tuple(players),
            created_at=started.isoformat(),
            completed_at=finished.isoformat(),
            source=source,
            engine_mode=engine_mode,
            duration_ms=round((finished - started).total_seconds() * 1000),
            opening_plies=opening_plies,
            final_hash=hex16(state_hash(game.geometry, s, self._moves_text)),
            move_codes=codes.astype("<i8").tobytes(),
            policies=None if rows == 0 else self._policies(policies, rows, policy_keys),
            metadata=dict(metadata),
        )

    def _per_seat(self, offset: int) -> tuple[int, ...]:
        return tuple(self._state[offset : offset + self.game.players].tolist())

    def _keys(
        self,
        start: npt.NDArray[np.int64],
        codes: npt.NDArray[np.int64],
        policies: Policies,
        rows: int,
        seats: npt.NDArray[np.int64],
        phases: npt.NDArray[np.int64],
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        while True:
            n, m = _write_keys(
                self.game.geometry, start, self._state, codes, policies.plies, policies.starts, policies.moves, rows,
                self._moves_text, self._policy_text, seats, phases, self._work, self.game.zero,
            )  # fmt: skip
            if n >= 0 and m >= 0:
                return _split(self._moves_text, n), _split(self._policy_text, m)
            if n < 0:
                self._moves_text = np.empty(2 * self._moves_text.size, dtype=np.uint8)
            else:
                self._policy_text = np.empty(2 * self._policy_text.size, dtype=np.uint8)

    def _policies(self, policies: Policies, rows: int, keys: tuple[str, ...]) -> RecordedPolicies:
        entries = int(policies.starts[rows])
        return RecordedPolicies(
            encoder_version=self.encoder_version,
            move_numbers=policies.plies[:rows].copy(),
            row_starts=policies.starts[: rows + 1].copy(),
            policy_indices=policies.indices[:entries].copy(),
            probabilities=policies.shares[:entries].copy(),
            keys=keys,
        )


def _split(text: npt.NDArray[np.uint8], length: int) -> tuple[str, ...]:
    return tuple(text[: max(0, length - 1)].tobytes().decode().split(" ")) if length else ()
