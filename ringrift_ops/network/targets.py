"""Value targets: the winner first, then the rules' tie-break (RULES.md 5.3), per seat, mean zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.rules import layout as l

Floats = npt.NDArray[np.float32]


class NoWinnerError(UsageError):
    """A game without a winner has no value targets; leave it out."""


def value_targets(winner: int, standings: Sequence[tuple[int, ...]]) -> Floats:
    """Targets by absolute seat, float32 [players]: 1 - 2 (place - 1) / (players - 1).

    ``standings[i]`` is what seat i + 1 has for the tie-break, larger is better, most important
    first: (territory, eliminated rings, markers). The winner has place 1 alone, whatever the
    standings say; the others follow by standings, and equal ones share the mean of their places.
    So two players get +1 and -1; the mean is zero and the winner strictly the maximum.
    Raises NoWinnerError.
    """
    players = len(standings)
    if not 1 <= winner <= players:
        raise NoWinnerError(f"winner {winner} is no seat of {players}: such a game has no value targets")
    places = np.zeros(players, dtype=np.float64)
    for i, own in enumerate(standings):
        if i == winner - 1:
            places[i] = 1.0
            continue
        others = [standings[j] for j in range(players) if j not in (i, winner - 1)]
        better = sum(other > own for other in others)
        equal = sum(other == own for other in others)
        places[i] = 2.0 + better + equal / 2.0
    return (1.0 - 2.0 * (places - 1.0) / (players - 1)).astype(np.float32)


def targets_of(state: npt.NDArray[np.int64], players: int) -> Floats:
    """Value targets of a finished position, by absolute seat. Raises NoWinnerError."""
    standings = [
        (int(state[l.S_TERRITORY + i]), int(state[l.S_ELIMINATED + i]), int(state[l.S_MARKER_COUNT + i]))
        for i in range(players)
    ]
    return value_targets(int(state[l.S_WINNER]), standings)


def relative_to(values: Floats, mover: int) -> Floats:
    """Values by absolute seat as seen by seat ``mover`` (1..n): entry i is seat (mover + i) mod n."""
    return np.roll(values, 1 - mover)


def by_seat(values: Floats, mover: int) -> Floats:
    """The inverse of ``relative_to``."""
    return np.roll(values, mover - 1)
