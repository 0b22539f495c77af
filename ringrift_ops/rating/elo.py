"""Logistic Elo and the expected score of one seat against n-1 equal opponents.

Bradley-Terry and its n-player form, Plackett-Luce (Luce 1959; Plackett 1975): a player of rating r has strength
10^(r/400) and comes first with probability strength / sum of strengths. One seat that is ``elo`` points stronger
than n-1 equal opponents therefore expects g / (g + n - 1) with g = 10^(elo/400): the usual logistic curve for
two players, 1/n at 0 Elo for any number. Elo here sets hypotheses and is shown; no gate reads a rating.
"""

from __future__ import annotations

import math


def expected_score(elo: float, players: int) -> float:
    """Expected share of first place, in (0, 1), of a seat ``elo`` points above each of its n-1 opponents."""
    return 1.0 / (1.0 + (players - 1) * math.pow(10.0, -elo / 400.0))


def elo_difference(score: float, players: int) -> float:
    """Elo advantage at which ``expected_score`` is ``score``; minus or plus infinity at 0 and 1."""
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"a score lies in 0..1, not {score}")
    if score in (0.0, 1.0):
        return math.inf if score else -math.inf
    return 400.0 * math.log10(score * (players - 1) / (1.0 - score))
