"""The encoder: two views of one compact position, relative to the mover, pinned by a digest."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from collections.abc import Callable

import numpy as np
import pytest

from ringrift_ops.network import encoder
from ringrift_ops.network.golden import golden_digest, golden_positions
from ringrift_ops.rules import layout as l
from ringrift_ops.rules.boards import H_CELL, H_ON_BOARD, H_ORDER, H_PLAYERS
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.setup import add_stack
from ringrift_ops.rules.stacks import NO_RING, owner_of, ring_below, ring_owner, top_ring
from tests.network.positions import CONFIGS, random_positions

GOLDEN = {
    "square8_2p": "71b346dc0ef4c8a6db2e2c9392b138aeaea82b143c0dbc90a71d46a380296961",
    "square8_3p": "37b545ffe7f5bb647673cdb89b506f4500c8e400b47f81e8f9bda5dcc76f07fd",
    "square8_4p": "52aa8280f54f9e55482a2a35d5118111e635d1a30be469a91a31a5e971cdb8e1",
    "hex8_2p": "9f08961c524352cebdcb7fa654dd4da7e3b6879a9cc8ab4e04bbf17fed3444e9",
    "hex8_3p": "524d5a3577f6931395bfccc9935fa1e26f760a81b581fdd9bac010d3144c7bb6",
    "hex8_4p": "30d3eeb323b3a330c1500f6f35a82119876368a56808ed98a283e8637edc8b57",
    "square19_2p": "eeaacb144485dfb8f1f4e5420d190c0d9aed2732511c70e3dcdbf3128025f095",
    "square19_3p": "b42d7b09548b1fc4ba3e9c52cb0e249d47aa86a07d7c5ddf988c27b15b51fce6",
    "square19_4p": "fd0a25be2426b5bd11d2fed7a1dbde6e2ebcc86c4381a4e6a46bdea57dde7afe",
    "hexagonal_2p": "e3602ff4f49fa73ab4d8a6d8046a28dea10f0634de2c9fe4f6ccb24f63cd7b79",
    "hexagonal_3p": "1ed2323bf4365d0f15941402d25e0c07472750b4a001df293ce01519e8084bad",
    "hexagonal_4p": "2048c4a96e31909174f02a546bd8ed233defaa5333b35627c24963ff66fa4b02",
}
"""A digest that changes without a new ENCODER_VERSION silently devalues every net in use."""


def rows_of(rules: Game, states: np.ndarray) -> np.ndarray:
    rows = np.empty((len(states), encoder.row_bytes(rules.geometry)), dtype=np.uint8)
    encoder.compact_states(rules.geometry, states, rows)
    return rows


def features_of(rules: Game, state: np.ndarray) -> list[int]:
    out = np.empty(encoder.feature_capacity(rules.geometry), dtype=np.int32)
    return sorted(out[: encoder.features(rules.geometry, state, out)].tolist())


def reseated(rules: Game, state: np.ndarray, following: Callable[[int], int]) -> np.ndarray:
    """The same position with every seat's things (and the turn) given to the seat ``following`` names."""
    g, n = rules.geometry, rules.players
    after = rules.initial_state()
    for rank in range(int(g[H_ON_BOARD])):
        cell = int(g[g[H_ORDER] + rank])
        word = state[g[H_CELL] + cell]
        if word & 3 == l.STACK:
            owners, ring = [], top_ring(word)
            while ring != NO_RING:
                owners.append(following(int(ring_owner(g, state, ring))))
                ring = ring_below(g, state, ring)
            add_stack(g, after, cell, l.STACK, np.array(owners[::-1], dtype=np.int64))
        elif word & 3:
            add_stack(g, after, cell, int(word & 3), np.array([following(int(owner_of(word)))], dtype=np.int64))
    for field in (l.S_PHASE, l.S_MUST, l.S_CHAIN, l.S_LINE_DEBT, l.S_TERRITORY_DEBT, l.S_ACTED, l.S_RECOVERED):
        after[field] = state[field]
    after[l.S_PLAYER] = following(int(state[l.S_PLAYER]))
    after[l.S_LPS_ROUNDS], after[l.S_REGIONS], after[l.S_SWAP] = (
        state[l.S_LPS_ROUNDS],
        state[l.S_REGIONS],
        state[l.S_SWAP],
    )
    for field in (l.S_LPS_FIRST, l.S_LPS_EXCLUSIVE):
        after[field] = following(int(state[field])) if state[field] else 0
    for i in range(n):
        to = following(i + 1) - 1
        after[l.S_LPS_MASK] |= ((state[l.S_LPS_MASK] >> (2 * i)) & 3) << (2 * to)
        for field in (l.S_HAND, l.S_ELIMINATED, l.S_TERRITORY):
            after[field + to] = state[field + i]
    return after


@pytest.mark.parametrize("config", CONFIGS)
def test_F5_the_golden_digest_is_the_recorded_one(config: str) -> None:
    assert golden_digest(config) == GOLDEN[config]


@pytest.mark.parametrize("config", CONFIGS)
def test_features_from_a_state_are_those_from_its_compact_position(config: str) -> None:
    rules = game(config)
    g = rules.geometry
    states = np.concatenate([random_positions(config, 60), golden_positions(config)])
    rows = rows_of(rules, states)
    out = np.empty(len(states) * encoder.feature_capacity(g), dtype=np.int32)
    starts = np.empty(len(states) + 1, dtype=np.int64)
    numbers = np.empty((len(states), encoder.global_count(g)), dtype=np.float32)
    encoder.features_of_rows(g, rows, out, starts, numbers)
    for i, state in enumerate(states):
        active = features_of(rules, state)
        assert active == sorted(out[starts[i] : starts[i + 1]].tolist())
        assert len(set(active)) == len(active)
        assert all(0 <= f < encoder.feature_count(g) for f in active)
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("config", ["hex8_2p", "square8_3p", "hexagonal_4p"])
def test_a_position_looks_the_same_from_every_seat_but_for_the_seat_itself(config: str) -> None:
    rules = game(config)
    seat = slice(encoder.PHASES + encoder.FLAGS, encoder.PHASES + encoder.FLAGS + rules.players)
    for state in random_positions(config, 30):
        turned = reseated(rules, state, lambda p: p % rules.players + 1)
        before, after = rows_of(rules, np.array([state, turned]))
        assert before[1] != after[1], "whose turn it is must be visible"
        before[1] = after[1] = 0
        assert (before == after).all()
        assert features_of(rules, state) == features_of(rules, turned)
        numbers = np.zeros((2, encoder.global_count(rules.geometry)), dtype=np.float32)
        for row, s in zip(numbers, (state, turned), strict=True):
            head = rows_of(rules, s[None])[0]
            encoder.read_globals(rules.geometry, head, row, 0)
        assert (numbers[0, seat] != numbers[1, seat]).any()
        numbers[:, seat] = 0
        assert (numbers[0] == numbers[1]).all()


@pytest.mark.parametrize("config", ["hex8_3p", "square8_4p"])
def test_opponents_are_kept_apart(config: str) -> None:
    """Exchanging what two opponents own changes the encoding (one merged "others" plane would not)."""
    rules = game(config)
    n = rules.players
    changed = 0
    for state in random_positions(config, 40):
        mover = int(state[l.S_PLAYER])
        second, third = mover % n + 1, (mover + 1) % n + 1
        exchanged = reseated(rules, state, lambda p, a=second, b=third: {a: b, b: a}.get(p, p))
        rows = rows_of(rules, np.array([state, exchanged]))
        assert rows[0, 1] == rows[1, 1] == mover - 1
        changed += (rows[0] != rows[1]).any() and features_of(rules, state) != features_of(rules, exchanged)
    assert changed > 30


@pytest.mark.parametrize("config", ["hex8_2p", "square8_3p", "hexagonal_2p"])
def test_planes_show_what_stands_on_each_cell_at_its_place(config: str) -> None:
    rules = game(config)
    g, n, size = rules.geometry, rules.players, rules.board.size
    offset = size // 2 if rules.board.is_hex else 0
    for state in random_positions(config, 10):
        row = rows_of(rules, state[None])[0]
        planes = np.empty((encoder.plane_count(g), size, size), dtype=np.float32)
        encoder.planes_of_row(g, row, planes)
        assert planes[6 * n + 2].sum() == g[H_ON_BOARD]
        for x, y in rules.board.cells:
            word = int(state[g[H_CELL] + rules.board.index((x, y))])
            at = planes[:, x + offset, y + offset]
            relative = ((word >> 2 & 7) - int(state[l.S_PLAYER])) % n
            expected = np.zeros(6 * n)
            if word & 3 == l.STACK:
                expected[6 * relative] = 1
                assert at[6 * relative + 1] == min(word >> 8 & 0xFFF, 15) / 8
            elif word & 3 == l.MARKER:
                expected[6 * relative + 4] = 1
            elif word & 3 == l.COLLAPSED:
                expected[6 * relative + 5] = 1
            presence = [i for i in range(6 * n) if i % 6 in (0, 4, 5)]
            assert (at[presence] == expected[presence]).all()
        off_board = planes[6 * n + 2] == 0
        assert (planes[:, off_board] == 0).all()


def test_F20_corners_and_the_first_cell_are_seen() -> None:
    rules = game("square8_2p")
    corners = [(0, 0), (0, 7), (7, 0), (7, 7)]
    text = rules.state_string(rules.initial_state()).split(";")
    seen = set()
    for x, y in corners:
        state = rules.parse_state(";".join([*text[:12], f"s{x},{y}:1", *text[13:]]))
        seen.update(features_of(rules, state))
    assert len(seen) == 2 * len(corners)
    assert rules.geometry[H_PLAYERS] == 2
