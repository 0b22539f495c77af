"""The training samples of one recorded game: positions with a choice, their targets and policies."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.network.encoder import compact, row_bytes
from ringrift_ops.network.policy import policy_index
from ringrift_ops.network.targets import relative_to, targets_of
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import MOVE_BUFFER, S_COMPLETED, S_PLAYER
from ringrift_ops.rules.turn import apply_move, legal_moves

Array = npt.NDArray[Any]

WRONG_MOVE = -1
NO_ROOM = -2


class UnreplayableGameError(UsageError):
    """A recorded game whose moves are not legal here, or whose policy names no legal move."""


@jit
def _extract(
    G,
    s,
    codes,
    opening,
    number_of,
    starts,
    indices,
    shares,
    rows,
    movers,
    plies,
    indptr,
    legal,
    targets,
    moves,
    scratch,
    zero,
):
    """Replay ``codes`` from ``s``, writing one sample per position with a choice after the opening.

    number_of/starts/indices/shares: the recorded policies. Returns (samples, entries, plies with a
    choice); (WRONG_MOVE, ply, 0) for an illegal move, (NO_ROOM, ply, 0) when ``legal`` is too small.
    """
    k, e, row = 0, 0, 0
    indptr[0] = 0
    for i in range(codes.size):
        n = legal_moves(G, s, moves, zero)
        found = False
        for j in range(n):
            if moves[j] == codes[i]:
                found = True
                break
        if not found:
            return WRONG_MOVE, i, 0
        if n > 1 and i >= opening:
            compact(G, s, rows[k])
            movers[k] = s[S_PLAYER]
            plies[k] = i
            if row < number_of.size and number_of[row] == i:
                if e + n > legal.size:
                    return NO_ROOM, i, 0
                matched = 0
                for j in range(n):
                    index = policy_index(G, moves[j], s[S_PLAYER])
                    legal[e + j] = index
                    targets[e + j] = 0.0
                    for q in range(starts[row], starts[row + 1]):
                        if indices[q] == index:
                            targets[e + j] = shares[q]
                            matched += 1
                            break
                if matched != starts[row + 1] - starts[row]:
                    return WRONG_MOVE, i, 1
                e += n
            k += 1
            indptr[k] = e
        if row < number_of.size and number_of[row] == i:
            row += 1
        apply_move(G, s, codes[i], scratch, zero)
    return k, e, row


@dataclass(frozen=True)
class Samples:
    """k samples: rows uint8 [k, row bytes], values float32 [k, players] relative to each mover, plies
    int32 [k], and the CSR of policies over all legal moves (empty rows where nothing was searched).
    """

    rows: Array
    values: Array
    plies: Array
    policy_indptr: Array
    policy_indices: Array
    policy_values: Array

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, kept: Array) -> Samples:
        """The samples at ``kept`` (ascending places)."""
        lengths = np.diff(self.policy_indptr)[kept]
        entries = np.concatenate(
            [np.arange(self.policy_indptr[i], self.policy_indptr[i + 1]) for i in kept] or [np.zeros(0, np.int64)]
        ).astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Samples(
            self.rows[kept],
            self.values[kept],
            self.plies[kept],
            indptr,
            self.policy_indices[entries],
            self.policy_values[entries],
        )


class Sampler:
    """Extracts samples from games of one config; keeps its buffers."""

    def __init__(self, rules: Game) -> None:
        self.rules = rules
        self._moves = np.empty(MOVE_BUFFER, dtype=np.int64)
        self._scratch = np.empty(MOVE_BUFFER, dtype=np.int64)
        self._legal = np.empty(1 << 17, dtype=np.int32)
        self._targets = np.empty(1 << 17, dtype=np.float32)

    def samples(
        self,
        game_id: str,
        codes: npt.NDArray[np.int64],
        *,
        swap_rule: bool,
        opening: int,
        policies: tuple[Array, Array, Array, Array] | None,
    ) -> Samples:
        """Samples of one finished game.

        ``policies``: move numbers [r], row starts [r + 1], policy indices and probabilities [e].
        Raises UnreplayableGameError, NoWinnerError (a game without a winner has no targets).
        """
        rules, most = self.rules, len(codes)
        rows = np.empty((most, int(row_bytes(rules.geometry))), dtype=np.uint8)
        movers = np.empty(most, dtype=np.int64)
        plies = np.empty(most, dtype=np.int32)
        indptr = np.empty(most + 1, dtype=np.int64)
        if policies is None:
            none = np.zeros(0, dtype=np.int32)
            policies = (none, np.zeros(1, dtype=np.int32), none, np.zeros(0, dtype=np.float32))
        numbers, starts, indices, shares = (np.ascontiguousarray(array) for array in policies)
        while True:
            s = rules.initial_state(swap_rule)
            k, e, row = _extract(
                rules.geometry, s, np.ascontiguousarray(codes), opening, numbers, starts, indices, shares, rows,
                movers, plies, indptr, self._legal, self._targets, self._moves, self._scratch, rules.zero,
            )  # fmt: skip
            if k != NO_ROOM:
                break
            self._legal = np.empty(2 * self._legal.size, dtype=np.int32)
            self._targets = np.empty(2 * self._targets.size, dtype=np.float32)
        if k == WRONG_MOVE:
            what = "its policy names a move that is not legal there" if row else "that move is not legal there"
            raise UnreplayableGameError(f"game {game_id} of {rules.config}, move {e}: {what}; run parity on its batch")
        if not s[S_COMPLETED]:
            raise UnreplayableGameError(f"game {game_id} of {rules.config} is not over after its {most} moves")
        by_seat = targets_of(s, rules.players)
        table = np.stack([by_seat] + [relative_to(by_seat, seat) for seat in range(1, rules.players + 1)])
        return Samples(
            rows[:k].copy(),
            table[movers[:k]],
            plies[:k].copy(),
            indptr[: k + 1].copy(),
            self._legal[:e].copy(),
            self._targets[:e].copy(),
        )
