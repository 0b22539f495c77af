"""Games of the conformance traces as records: real games, played by RingRift's own engine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringrift_ops.games.records import GameRecord, Seat, termination_reason
from ringrift_ops.rules.game import game as rules_of

FOLDER = Path(__file__).parents[2].parent / "shared" / "conformance"
CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]
needs_traces = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recorded games in {FOLDER}")


def raw_games(config: str) -> Iterator[dict[str, Any]]:
    with gzip.open(FOLDER / f"{config}.jsonl.gz", "rt") as file:
        for line in file:
            yield json.loads(line)


def record_of(game: dict[str, Any]) -> GameRecord:
    """The record of a trace game, its regions expanded by replaying it."""
    rules = rules_of(f"{game['board']}_{game['players']}p")
    state = rules.initial_state(game["swapRule"])
    keys, codes = [], []
    for step in game["trace"]:
        code = rules.parse_key(state, step["m"])
        keys.append(rules.key(state, code))
        codes.append(code)
        state = rules.apply_unchecked(state, code)
    hands, eliminated, territory = (
        tuple(int(n) for n in game["trace"][-1]["s"].split(";")[field][1:].split("/")) for field in (7, 8, 9)
    )
    return GameRecord(
        game_id=game["id"],
        config=rules.config,
        seed=game["seed"],
        swap_rule=game["swapRule"],
        moves=tuple(keys),
        seats=tuple(step["p"] for step in game["trace"]),
        phases=tuple(step["ph"] for step in game["trace"]),
        winner=game["result"]["winner"],
        termination_reason=termination_reason(game["result"]["kind"]),
        eliminated=eliminated,
        territory=territory,
        in_hand=hands,
        players=tuple(Seat(ai_type=policy) for policy in game["policies"]),
        created_at="2026-01-01T00:00:00+00:00",
        completed_at="2026-01-01T00:00:05+00:00",
        final_hash=rules.state_hash(state),
        move_codes=np.array(codes, dtype="<i8").tobytes(),
        metadata={"kind": game["result"]["kind"]},
    )


@lru_cache(maxsize=16)
def _first(config: str) -> tuple[GameRecord, ...]:
    games = enumerate(raw_games(config), start=1000)
    return tuple(replace(record_of(game), game_id=f"{config}_{number}") for number, game in islice(games, 3))


def records(config: str, count: int = 3) -> tuple[GameRecord, ...]:
    """The first recorded games of a config (3 at most), named ``<config>_1000``, ``_1001``, ``_1002``."""
    return _first(config)[:count]
