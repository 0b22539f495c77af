"""Random games as records, and batches of them: what parity is tried on."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ringrift_ops.games.records import GameRecord, Seat, termination_reason
from ringrift_ops.games.writer import BatchWriter
from ringrift_ops.parity.replay import PHASE, PLAYER, STATE_HASH, Replayer
from ringrift_ops.rules import layout
from ringrift_ops.rules.game import game
from ringrift_ops.rules.playout import random_game
from ringrift_ops.stages.specs import ParitySpec

LONGEST = 6_000


@lru_cache(maxsize=1024)
def random_record(config: str, seed: int, *, swap_rule: bool = False, max_moves: int = LONGEST) -> GameRecord:
    """One game of uniform random moves, recorded as self-play records it."""
    rules = game(config)
    buffer = np.empty(layout.MOVE_BUFFER, dtype=np.int64)
    codes = np.empty(max_moves, dtype=np.int64)
    start = rules.initial_state(swap_rule)
    made = random_game(rules.geometry, start, np.uint64(seed), codes, buffer, rules.zero)
    keys, state = [], start
    for code in codes[:made].tolist():
        keys.append(rules.key(state, code))
        state = rules.apply_unchecked(state, code)
    replay = Replayer(rules).replay(keys, swap_rule=swap_rule)
    numbers = [
        tuple(state[offset : offset + rules.players].tolist())
        for offset in (layout.S_ELIMINATED, layout.S_TERRITORY, layout.S_HAND)
    ]
    return GameRecord(
        game_id=f"random-{config}-{seed:04}",
        config=config,
        seed=seed,
        swap_rule=swap_rule,
        moves=tuple(keys),
        seats=tuple(replay.facts[:, PLAYER].tolist()),
        phases=tuple(layout.PHASE_CODES[phase] for phase in replay.facts[:, PHASE].tolist()),
        winner=replay.winner or None,
        termination_reason=termination_reason(replay.kind or "max_moves"),
        eliminated=numbers[0],
        territory=numbers[1],
        in_hand=numbers[2],
        players=(Seat(ai_type="random"),) * rules.players,
        created_at="2026-01-01T00:00:00+00:00",
        completed_at="2026-01-01T00:00:05+00:00",
        final_hash=f"{int(replay.facts[-1, STATE_HASH]) & (2**64 - 1):016x}",
        move_codes=codes[:made].astype("<i8").tobytes(),
    )


def random_records(config: str, count: int, *, swap_rule: bool = False) -> list[GameRecord]:
    """Games with the seeds 0, 1, ..."""
    return [random_record(config, seed, swap_rule=swap_rule) for seed in range(count)]


def written(path: Path, records: Iterable[GameRecord]) -> Path:
    """A finished batch."""
    records = list(records)
    with BatchWriter(path, records[0].config, codes_version="1") as writer:
        for record in records:
            writer.add(record)
        writer.finish()
    return path


def parity_spec(config: str, *batches: Path, sample: int = 0, seed: int = 1, fail_threshold: float = 0.0) -> ParitySpec:
    """What a person asks for with ``ringrift parity``."""
    return ParitySpec(
        config=config,
        generation=None,
        token=0,
        seed=seed,
        batches=[str(batch) for batch in batches],
        sample=sample,
        fail_threshold=fail_threshold,
        bundles=None,
    )
