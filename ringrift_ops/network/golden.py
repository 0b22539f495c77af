"""The encoder's golden digest: what it makes of a fixed set of positions, as one sha256.

The positions are drawn cell by cell from a counter-based generator, not played, so that nothing but
the encoder (and the layout of a state) can change the digest. Datasets and weights carry it; whoever
loads them compares it with the digest of the running code (F5).
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import hashlib
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.network import encoder
from ringrift_ops.rules import layout as l
from ringrift_ops.rules.boards import H_ON_BOARD, H_ORDER
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.setup import add_stack

POSITIONS: Final = 24


class _Draws:
    """SplitMix64 in plain integers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return int((z ^ (z >> 31)) % n)


def _position(rules: Game, draws: _Draws) -> npt.NDArray[np.int64]:
    """A position that need not arise by play: every phase, flag, owner, height and cap occurs."""
    g, n = rules.geometry, rules.players
    s = rules.initial_state()
    rings = 40
    for rank in range(int(g[H_ON_BOARD])):
        what, cell = draws.below(6), int(g[g[H_ORDER] + rank])
        owner = draws.below(n) + 1
        if what == 0 and rings > 0:
            height = min(rings, 1 + draws.below(4) + (draws.below(14) if draws.below(8) == 0 else 0))
            rings -= height
            owners = [draws.below(n) + 1 if draws.below(2) else owner for _ in range(height)]
            add_stack(g, s, cell, l.STACK, np.array(owners, dtype=np.int64))
        elif what == 1:
            add_stack(g, s, cell, l.MARKER, np.array([owner], dtype=np.int64))
        elif what == 2:
            add_stack(g, s, cell, l.COLLAPSED, np.array([owner], dtype=np.int64))
    cells = int(g[H_ON_BOARD])
    s[l.S_PHASE] = draws.below(encoder.PHASES)
    s[l.S_PLAYER] = draws.below(n) + 1
    for field, options in (
        (l.S_ACTED, 2),
        (l.S_RECOVERED, 2),
        (l.S_LINE_DEBT, 2),
        (l.S_TERRITORY_DEBT, 2),
        (l.S_REGIONS, 2),
        (l.S_SWAP, 16),
        (l.S_LPS_FIRST, n + 1),
        (l.S_LPS_EXCLUSIVE, n + 1),
        (l.S_LPS_ROUNDS, 4),
    ):
        s[field] = draws.below(options)
    s[l.S_LPS_MASK] = sum(draws.below(3) << (2 * i) for i in range(n))
    for i in range(n):
        s[l.S_HAND + i] = draws.below(19)
        s[l.S_ELIMINATED + i] = draws.below(24)
        s[l.S_TERRITORY + i] = draws.below(cells)
    s[l.S_MUST] = int(g[g[H_ORDER] + draws.below(cells)]) if draws.below(2) else -1
    s[l.S_CHAIN] = int(g[g[H_ORDER] + draws.below(cells)]) if draws.below(2) else -1
    return s


def golden_positions(config: str) -> npt.NDArray[np.int64]:
    """The fixed positions of a config, int64 [POSITIONS, state words]."""
    rules = game(config)
    draws = _Draws(int.from_bytes(hashlib.sha256(config.encode()).digest()[:8], "big"))
    return np.array([_position(rules, draws) for _ in range(POSITIONS)])


@cache
def golden_digest(config: str) -> str:
    """sha256 (64 hex digits) over compact positions, features, globals and planes of the fixed positions."""
    rules = game(config)
    g = rules.geometry
    states = golden_positions(config)
    rows = np.empty((len(states), encoder.row_bytes(g)), dtype=np.uint8)
    encoder.compact_states(g, states, rows)
    active = np.empty(len(states) * encoder.feature_capacity(g), dtype=np.int32)
    starts = np.empty(len(states) + 1, dtype=np.int64)
    numbers = np.empty((len(states), encoder.global_count(g)), dtype=np.float32)
    count = encoder.features_of_rows(g, rows, active, starts, numbers)
    planes = np.empty((len(states), encoder.plane_count(g), rules.board.size, rules.board.size), dtype=np.float32)
    encoder.planes_of_rows(g, rows, planes, numbers)
    digest = hashlib.sha256(f"{encoder.ENCODER_VERSION}:{config}".encode())
    for array in (rows, active[:count], starts, numbers, planes):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
