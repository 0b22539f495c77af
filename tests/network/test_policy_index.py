"""A move's policy index: one per effect, the same from every seat, and all that a policy head needs."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.network.policy import (
    FROM_ROLE,
    ROLE_COUNT,
    ROLES,
    SLOTS,
    THIRD_ROLE,
    TO_ROLE,
    find_move,
    index_parts,
    move_parts,
    policy_index,
    policy_indices,
)
from ringrift_ops.rules.boards import H_LENGTH, H_ON_BOARD
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import S_PLAYER
from tests.network.positions import CONFIGS, random_positions


def collisions(rules: Game, states: np.ndarray) -> int:
    """Legal moves that share their index, or the parts a head looks up, with another of the same position."""
    found = 0
    length = rules.geometry[H_LENGTH]
    for state in states:
        moves = rules.legal_moves(state)
        mover = state[S_PLAYER]
        out = np.empty(len(moves), dtype=np.int32)
        policy_indices(rules.geometry, moves, len(moves), mover, out)
        found += len(moves) - len(set(out.tolist()))
        parts = [index_parts(rules.geometry, np.int64(i), length) for i in out]
        found += len(moves) - len(set(parts))
        assert parts == [move_parts(rules.geometry, m, mover, length) for m in moves]
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_legal_moves_of_played_positions_have_different_indices_and_parts(config: str) -> None:
    rules = game(config)
    assert collisions(rules, random_positions(config, 120)) == 0


@pytest.mark.parametrize("config", CONFIGS)
def test_legal_moves_of_every_conformance_position_have_different_indices_and_parts(config: str, shared: Path) -> None:
    file = shared / "conformance" / "positions" / f"{config}.positions.jsonl.gz"
    if not file.exists():
        pytest.skip("no constructed positions of this config")
    rules = game(config)
    with gzip.open(file, "rt") as lines:
        states = [rules.parse_state(json.loads(line)["s"]) for line in lines]
    assert len(states) > 20
    assert collisions(rules, np.array(states)) == 0


@pytest.mark.parametrize("config", ["hex8_2p", "square19_3p"])
def test_an_index_leads_back_to_its_move(config: str) -> None:
    rules = game(config)
    for state in random_positions(config, 60):
        moves = rules.legal_moves(state)
        for place, move in enumerate(moves):
            index = policy_index(rules.geometry, move, state[S_PLAYER])
            assert 0 <= index < 2**28
            assert find_move(rules.geometry, state, moves, len(moves), index) == place
        assert find_move(rules.geometry, state, moves, len(moves), np.int64(2**28)) == -1


@pytest.mark.parametrize("config", CONFIGS)
def test_parts_stay_within_the_tables_of_a_head(config: str) -> None:
    rules = game(config)
    cells = rules.geometry[H_ON_BOARD]
    for state in random_positions(config, 40):
        for move in rules.legal_moves(state):
            kind, slot, *where = move_parts(rules.geometry, move, state[S_PLAYER], rules.geometry[H_LENGTH])
            assert 0 <= slot < SLOTS
            for roles, rank in zip((TO_ROLE, FROM_ROLE, THIRD_ROLE), where, strict=True):
                assert (rank == -1) == (roles[kind] == 0)
                assert rank < cells
    assert len(ROLES) == ROLE_COUNT + 1
