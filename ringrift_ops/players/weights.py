"""Weights of the heuristic evaluator: RULES.md 9.1, personas and difficulties."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import UsageError
from ringrift_ops.players.evaluator import FEATURES

Weights = npt.NDArray[np.float64]

BALANCED: Final[Mapping[str, float]] = MappingProxyType(
    {
        "stackControl": 10.0,
        "stackHeight": 5.0,
        "stackDiversity": 1.0,
        "territory": 8.0,
        "ringsInHand": 3.0,
        "centerControl": 4.0,
        "opponentThreats": 6.0,
        "mobility": 4.0,
        "eliminatedRings": 12.0,
        "linePotential": 7.0,
        "victoryProximity": 20.0,
        "opponentVictoryThreat": 6.0,
        "markerCount": 1.5,
        "vulnerability": 8.0,
        "overtakePotential": 8.0,
        "territoryClosure": 10.0,
        "lineConnectivity": 6.0,
        "territorySafety": 5.0,
        "stackMobility": 4.0,
        "forcedEliminationRisk": 4.0,
        "lpsActionAdvantage": 2.0,
        "multiLeaderThreat": 2.0,
    }
)

PERSONAS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "balanced": {},
        "aggressive": {
            "eliminatedRings": 1.25,
            "overtakePotential": 1.25,
            "victoryProximity": 1.15,
            "linePotential": 1.1,
            "vulnerability": 0.85,
            "territorySafety": 0.85,
            "opponentVictoryThreat": 1.1,
            "forcedEliminationRisk": 0.85,
            "multiLeaderThreat": 0.8,
        },
        "territorial": {
            "territory": 1.25,
            "territoryClosure": 1.25,
            "territorySafety": 1.2,
            "linePotential": 1.15,
            "lineConnectivity": 1.15,
            "markerCount": 1.1,
            "eliminatedRings": 0.9,
            "opponentVictoryThreat": 1.15,
            "lpsActionAdvantage": 1.1,
            "multiLeaderThreat": 1.25,
        },
        "defensive": {
            "stackControl": 1.15,
            "stackMobility": 1.2,
            "mobility": 1.1,
            "vulnerability": 1.25,
            "territorySafety": 1.15,
            "overtakePotential": 0.9,
            "eliminatedRings": 0.9,
            "opponentVictoryThreat": 1.05,
            "forcedEliminationRisk": 1.3,
            "lpsActionAdvantage": 1.2,
            "multiLeaderThreat": 1.1,
        },
    }
)
"""Factors on the balanced weights."""

DIFFICULTY_SCALE: Final[Mapping[int, float]] = MappingProxyType({2: 0.5, 3: 0.75})
DIFFICULTIES: Final = range(2, 11)
CONSTANTS: Final = frozenset({"stackDiversity"})
"""Features whose size is a constant of the evaluator: no difficulty scales them."""


class UnknownPersonaError(UsageError):
    """No such persona or difficulty."""


def persona_weights(persona: str, scale: float = 1.0) -> Weights:
    """Weights of a persona, float64 [N_FEATURES]. Raises UnknownPersonaError."""
    try:
        factors = PERSONAS[persona]
    except KeyError:
        raise UnknownPersonaError(f"no persona is called {persona!r}; there are: {', '.join(PERSONAS)}") from None
    return np.array(
        [BALANCED[name] * factors.get(name, 1.0) * (1.0 if name in CONSTANTS else scale) for name in FEATURES]
    )


def difficulty_weights(difficulty: int) -> Weights:
    """Weights of the heuristic player at a difficulty: 2 and 3 scaled down, 4 balanced, 5-10 aggressive.

    Raises UnknownPersonaError.
    """
    if difficulty not in DIFFICULTIES:
        raise UnknownPersonaError(f"the heuristic player has difficulties 2 to 10, not {difficulty}")
    return persona_weights("aggressive" if difficulty >= 5 else "balanced", DIFFICULTY_SCALE.get(difficulty, 1.0))
