"""One recorded game, and what makes two games or two batches the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.games.schema import MINIMUM_MOVES
from ringrift_ops.rules.move_json import short_key
from ringrift_ops.settings.names import config_named

TERMINATIONS: Final[dict[str, str]] = {
    "ring_threshold": "ring_elimination",
    "territory_threshold": "territory",
    "lps_sole_material": "last_player_standing",
    "lps_rounds": "last_player_standing",
    "stalemate_territory": "structural",
    "stalemate_elim": "structural",
    "stalemate_markers_or_lastactor": "structural",
    "ring_elimination": "ring_elimination",
    "territory_control": "territory",
    "territory": "territory",
    "last_player_standing": "last_player_standing",
    "structural": "structural",
    "max_moves": "max_moves",
}
"""Kind of end (or reason) in the engines' words -> ``games.termination_reason`` in RingRift's."""

_GAME_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_PROBABILITY_SLACK: Final = 1e-3

Int32s = npt.NDArray[np.int32]
Float32s = npt.NDArray[np.float32]


class RecordError(UsageError):
    """A game record that contradicts itself; nothing of it is written."""


def termination_reason(kind: str) -> str:
    """RingRift's termination reason of an engine's result kind; raises :class:`RecordError` for an unknown one."""
    try:
        return TERMINATIONS[kind]
    except KeyError:
        raise RecordError(f"no termination reason for {kind!r}; known: {', '.join(TERMINATIONS)}") from None


@dataclass(frozen=True, slots=True)
class Seat:
    """Who sat in a seat, in the columns of ``game_players``. ``ai_profile_id`` names weights or a net's sha256."""

    player_type: str = "ai"
    ai_type: str | None = None
    ai_difficulty: int | None = None
    ai_profile_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Policies:
    """Search policies of a game as CSR arrays; row r belongs to move ``move_numbers[r]``.

    ``move_numbers`` int32 [m], ``row_starts`` int32 [m + 1], ``policy_indices`` int32 [e], ``probabilities``
    float32 [e]; each row sums to 1. ``keys`` (expanded move key of each entry, [e]) is needed to write RingRift's
    ``move_probs`` and is None after reading.
    """

    encoder_version: str
    move_numbers: Int32s
    row_starts: Int32s
    policy_indices: Int32s
    probabilities: Float32s
    keys: tuple[str, ...] | None = None

    def blobs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four arrays as little-endian bytes, as they are stored."""
        return (
            self.move_numbers.astype("<i4").tobytes(),
            self.row_starts.astype("<i4").tobytes(),
            self.policy_indices.astype("<i4").tobytes(),
            self.probabilities.astype("<f4").tobytes(),
        )

    @classmethod
    def from_blobs(cls, encoder_version: str, *blobs: bytes) -> Policies:
        """The inverse of :meth:`blobs`, without keys."""
        numbers, starts, indices, probabilities = blobs
        return cls(
            encoder_version,
            np.frombuffer(numbers, "<i4"),
            np.frombuffer(starts, "<i4"),
            np.frombuffer(indices, "<i4"),
            np.frombuffer(probabilities, "<f4"),
        )

    def check(self, game_id: str, moves: int) -> None:
        """Raise :class:`RecordError` unless rows belong to moves in order and each is a distribution."""
        rows, entries = len(self.move_numbers), len(self.policy_indices)
        numbers, starts = self.move_numbers, self.row_starts
        if (
            len(starts) != rows + 1
            or len(self.probabilities) != entries
            or (self.keys is not None and len(self.keys) != entries)
            or (rows and (numbers[0] < 0 or numbers[-1] >= moves or (np.diff(numbers) <= 0).any()))
            or starts[0] != 0
            or starts[-1] != entries
            or (np.diff(starts) <= 0).any()
        ):
            raise RecordError(f"game {game_id}: the policy rows do not fit its {moves} moves")
        if rows == 0:
            return
        sums = np.add.reduceat(self.probabilities, starts[:-1])
        if not np.isfinite(self.probabilities).all() or (self.probabilities < 0).any():
            raise RecordError(f"game {game_id}: a policy probability is negative or not a number")
        worst = int(np.abs(sums - 1.0).argmax())
        if abs(float(sums[worst]) - 1.0) > _PROBABILITY_SLACK:
            raise RecordError(f"game {game_id}: the policy of move {numbers[worst]} sums to {sums[worst]:.4f}, not 1")

    def move_probs(self) -> dict[int, str]:
        """RingRift's ``move_probs`` JSON by move number; entries that share a short key are added up."""
        if self.keys is None:
            return {}
        texts = {}
        shares = self.probabilities.tolist()
        starts = self.row_starts.tolist()
        for row, number in enumerate(self.move_numbers.tolist()):
            short: defaultdict[str, float] = defaultdict(float)
            for entry in range(starts[row], starts[row + 1]):
                short[short_key(self.keys[entry])] += shares[entry]
            texts[number] = "{" + ",".join([f'"{key}":{share:.6g}' for key, share in short.items()]) + "}"
        return texts


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game from the empty board. ``moves[i]`` is the expanded key played by ``seats[i]`` in ``phases[i]``.

    ``phases`` are two-letter codes of the phase *before* the move. ``eliminated``, ``territory`` and ``in_hand``
    are the final numbers per seat. ``termination_reason`` is RingRift's word (:func:`termination_reason`); a game
    stopped at its move cap has ``max_moves`` and no winner. ``created_at`` and ``completed_at`` are ISO-8601 and
    not part of a game's identity. ``move_codes`` are the rule engine's own int64 codes as little-endian bytes.
    """

    game_id: str
    config: str
    seed: int | None
    swap_rule: bool
    moves: tuple[str, ...]
    seats: tuple[int, ...]
    phases: tuple[str, ...]
    winner: int | None
    termination_reason: str
    eliminated: tuple[int, ...]
    territory: tuple[int, ...]
    in_hand: tuple[int, ...]
    players: tuple[Seat, ...]
    created_at: str
    completed_at: str
    source: str = "selfplay"
    engine_mode: str | None = None
    opponent_type: str | None = None
    opponent_model_id: str | None = None
    duration_ms: int | None = None
    opening_plies: int = 0
    final_hash: str | None = None
    move_codes: bytes | None = None
    policies: Policies | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise :class:`RecordError` (or UnknownConfigError) unless this is a whole game that fits its config.

        The legality of moves is the engines' and parity's business; phases and move types the writer's.
        """
        players = config_named(self.config).players
        seats = range(1, players + 1)
        count = len(self.moves)

        def must(condition: bool, what: str) -> None:
            if not condition:
                raise RecordError(f"game {self.game_id!r} of {self.config}: {what}")

        must(_GAME_ID.fullmatch(self.game_id) is not None, "its id must be letters, digits and . _ : - (128 at most)")
        must(count >= MINIMUM_MOVES, f"{count} moves; RingRift completes no game with fewer than {MINIMUM_MOVES}")
        must(len(self.seats) == count == len(self.phases), "moves, seats and phases differ in number")
        must(set(self.seats) <= set(seats), f"a move by a seat outside 1..{players}")
        must(
            len(self.eliminated) == len(self.territory) == len(self.in_hand) == len(self.players) == players,
            f"final numbers or players are not {players}",
        )
        must(self.seed is None or -(1 << 63) <= self.seed < 1 << 63, "its seed does not fit in 63 bits")
        must(self.swap_rule is False or players == 2, "the pie rule is for two players")
        must(self.termination_reason in TERMINATIONS.values(), f"unknown termination {self.termination_reason!r}")
        if self.termination_reason == "max_moves":
            must(self.winner is None, "a game stopped at the move cap has no winner")
        else:
            must(self.winner in seats, f"game without end: winner {self.winner} by {self.termination_reason}")
        must(0 <= self.opening_plies <= count, f"{self.opening_plies} opening plies in {count} moves")
        must(self.move_codes is None or len(self.move_codes) == 8 * count, "move_codes is not one int64 per move")
        if self.policies is not None:
            self.policies.check(self.game_id, count)

    @property
    def total_turns(self) -> int:
        """Turns by RingRift's count: one more whenever the player changes, plus one at the end."""
        return 1 + sum(a != b for a, b in zip(self.seats, self.seats[1:], strict=False))

    def move_hash(self) -> str:
        """What is played: sha256 of config, pie rule and moves. Equal for duplicates across databases."""
        text = f"{self.config} {int(self.swap_rule)} {' '.join(self.moves)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def digest(self) -> str:
        """Everything recorded of the game but its clocks and its parity verdict, as a sha256."""
        header = [
            self.game_id, self.config, self.seed, self.swap_rule, self.winner, self.termination_reason,
            self.eliminated, self.territory, self.in_hand,
            [[seat.player_type, seat.ai_type, seat.ai_difficulty, seat.ai_profile_id] for seat in self.players],
            self.source, self.engine_mode, self.opponent_type, self.opponent_model_id,
            self.opening_plies, self.final_hash, len(self.moves), dict(self.metadata),
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
        digest.update(bytes(self.seats) + "".join(self.phases).encode() + " ".join(self.moves).encode())
        digest.update(b"|" + (self.move_codes or b""))
        if self.policies is not None:
            digest.update(self.policies.encoder_version.encode())
            for blob in self.policies.blobs():
                digest.update(len(blob).to_bytes(8, "little") + blob)
        return digest.hexdigest()


def batch_digest(config: str, game_digests: Mapping[str, str] | list[tuple[str, str]]) -> str:
    """The identity of a batch: sha256 over its config and its games' digests in order of game id."""
    pairs = sorted(game_digests.items() if isinstance(game_digests, Mapping) else game_digests)
    digest = hashlib.sha256(f"ringrift batch 1 {config}\n".encode())
    for game_id, game in pairs:
        digest.update(f"{game_id} {game}\n".encode())
    return digest.hexdigest()
