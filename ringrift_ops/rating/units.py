"""An opening played from every seat rotation is one *unit*; its score is what all statistics here count.

Score of one game for a seat: its share of first place. The winner has 1, everybody else 0, and k seats that
share first place have 1/k each (a game without a winner: 1/n). The shares of all seats add up to 1, so n equal
players expect 1/n whatever advantage a seat has. This is the "expected rank share" of gates.md: RingRift's rules
name one winner and no second place that a player would play for.

Shares are kept as whole numbers: ``steps(n) = lcm(1..n)`` points are one won game (2, 6, 12 for 2, 3, 4
players). A unit of n games has 0 .. n * steps(n) points, so K = n * steps(n) + 1 classes: five for two players,
which is the pentanomial model. A sample of units is its histogram, int64 [..., K]; leading axes are a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError

Counts = npt.NDArray[np.int64]
"""Histogram of unit points, int64 [..., K]."""
Floats = npt.NDArray[np.float64]


class PlayersError(UsageError):
    """RingRift is played by two, three or four."""


def steps(players: int) -> int:
    """Points of one won game: the least common multiple of 1..players. Raises PlayersError outside 2..4."""
    if players not in (2, 3, 4):
        raise PlayersError(f"{players} players: RingRift has 2, 3 or 4; name a config such as hex8_2p")
    return math.lcm(*range(1, players + 1))


def classes(players: int) -> int:
    """K, the number of possible unit scores: 5, 19, 49 for 2, 3, 4 players."""
    return players * steps(players) + 1


def game_points(players: int, tied: int, among_first: bool) -> int:
    """Points of one game for one seat: its share of first place in units of 1/steps(players).

    ``tied`` is the number of seats that share first place (1 when there is a winner, ``players`` when nobody won).
    """
    if not 1 <= tied <= players:
        raise ValueError(f"{tied} seats cannot share first place among {players} players")
    return steps(players) // tied if among_first else 0


def unit_scores(players: int) -> Floats:
    """Score of each class: the mean share over the seat rotations, float64 [K], from 0 to 1."""
    return np.linspace(0.0, 1.0, classes(players))


def histogram(points: Iterable[int], players: int) -> Counts:
    """Counts int64 [K] of unit points (sum over the rotations of one opening). Raises ValueError out of range."""
    values = np.fromiter(points, dtype=np.int64)
    width = classes(players)
    if values.size and not (values.min() >= 0 and values.max() < width):
        raise ValueError(f"unit points lie in 0..{width - 1} for {players} players, not {values.min()}..{values.max()}")
    return np.bincount(values, minlength=width).astype(np.int64)
