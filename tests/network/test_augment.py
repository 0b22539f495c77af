"""Images of samples are the samples of image positions."""

from __future__ import annotations

import numpy as np
import pytest

from ringrift_ops.network.augment import Images
from ringrift_ops.network.encoder import compact, row_bytes
from ringrift_ops.network.policy import policy_index
from ringrift_ops.rules import layout
from ringrift_ops.rules.game import game
from ringrift_ops.rules.symmetry import board_symmetries, image_of_moves, image_of_state

AWKWARD = {
    layout.PROCESS_LINE,
    layout.LINE_OPTION,
    layout.TERRITORY,
    layout.RECOVER_FALLBACK,
    layout.RECOVER_STRIKE,
    layout.RECOVER_LINE,
    layout.RECOVER_WINDOW,
}


@pytest.mark.parametrize("config", ["hex8_2p", "square8_3p"])
def test_turning_a_sample_equals_encoding_the_turned_position(config: str) -> None:
    rules = game(config)
    g = rules.geometry
    images = Images(rules)
    symmetries = board_symmetries(rules.board.name)
    assert len(images) == len(symmetries)
    draw = np.random.default_rng(3)
    state = rules.initial_state()
    seen = 0
    width = int(row_bytes(g))
    while not rules.is_over(state) and seen < 60:
        moves = rules.legal_moves(state)
        mover = int(state[layout.S_PLAYER])
        row = np.zeros((1, width), dtype=np.uint8)
        compact(g, state, row[0])
        indices = np.array([policy_index(g, move, mover) for move in moves], dtype=np.int32)
        indptr = np.array([0, len(indices)], dtype=np.int64)
        number = int(draw.integers(len(symmetries)))
        turned, turned_indices = images.turned(row, indptr, indices, np.array([number], dtype=np.int64))
        if {int(move) & 31 for move in moves} & AWKWARD:
            assert (turned == row).all()
            assert (turned_indices == indices).all()
        else:
            expected = np.zeros((1, width), dtype=np.uint8)
            compact(g, image_of_state(rules, state, number), expected[0])
            assert (turned == expected).all()
            wanted = [policy_index(g, move, mover) for move in image_of_moves(rules, state, moves, number)]
            assert turned_indices.tolist() == wanted
            seen += 1
        state = rules.apply_unchecked(state, int(draw.choice(moves)))
    assert seen >= 30
