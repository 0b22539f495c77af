"""Group-sequential looks: when they fall, and how wide the bounds at each of them must be.

Looking K times at a 95 % bound errs more often than 5 %. The error ``alpha`` of each bound is therefore *spent* over
the looks (Lan & DeMets 1983) with the Pocock-type spending function ``alpha * log(1 + (e - 1) t)``, t being the share
of the planned units seen: early looks can decide, which is what a gate with candidates far above or far below the
threshold needs (O'Brien-Fleming spending would leave 0.009 % for the look at 100 of 400 games). Critical values come
from the recursive integration of Armitage, McPherson & Rowe (1969) over a Brownian motion with independent increments;
the bounds at the looks are then *repeated confidence intervals* (Jennison & Turnbull 1984): with probability
1 - alpha the lower bounds of **all** looks lie below the true rate, and likewise the upper bounds. PASS and FAIL
follow from them whatever made play stop, so the rule to stop for futility needs no correction.
The nominal levels are used with Student's t in place of the normal (Jennison & Turnbull 2000, section 4.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.special import ndtr, ndtri

from ringrift_ops.rating.units import Floats

GRID = 256
"""Gauss-Legendre nodes of the recursion: critical values agree with 1,024 nodes to 1e-9."""


@dataclass(frozen=True)
class Look:
    """One planned look: ``units`` openings played in all, and what may be concluded from them."""

    units: int
    quantile: float
    decides: bool
    """False where fewer games than the minimum were played: nothing can be concluded."""
    last: bool


@dataclass(frozen=True)
class LookPlan:
    """The looks of one opponent in order; made before the first game and never changed by a result."""

    players: int
    looks: tuple[Look, ...]

    @property
    def units(self) -> tuple[int, ...]:
        """Openings played in all at each look."""
        return tuple(look.units for look in self.looks)

    def openings_to_next_look(self, played: int) -> int:
        """Openings still to play until the next look; 0 when the last one is reached."""
        return next((units - played for units in self.units if units > played), 0)


def whole_openings(games: int, players: int) -> int:
    """The smallest number of openings that holds ``games`` games when each is played from every seat."""
    return -(-games // players)


@lru_cache(maxsize=256)
def plan_looks(players: int, games_per_look: int, min_games: int, cap: int, alpha: float) -> LookPlan:
    """Looks at every multiple of ``games_per_look`` from ``min_games`` on, and at ``cap``.

    All three are rounded up to whole openings. A cap below the minimum leaves one look that decides nothing.
    """
    if min(players, games_per_look, cap) < 1 or min_games < 0:
        raise ValueError(f"no plan for {players} players, {games_per_look} games per look, cap {cap}")
    step, last = whole_openings(games_per_look, players), whole_openings(cap, players)
    least = max(whole_openings(min_games, players), 2)
    units = [*(u for u in range(step, last, step) if u >= least), last]
    if last < least:
        return LookPlan(players, (Look(last, float(-ndtri(alpha)), decides=False, last=True),))
    quantiles = critical_values(tuple(u / last for u in units), alpha)
    looks = tuple(Look(u, quantile, decides=True, last=u == last) for u, quantile in zip(units, quantiles, strict=True))
    return LookPlan(players, looks)


def spent(fraction: float, alpha: float) -> float:
    """Error allowed up to the information fraction: Pocock-type spending; 0 at 0 and ``alpha`` at 1."""
    return alpha * math.log1p((math.e - 1.0) * fraction)


@lru_cache(maxsize=256)
def critical_values(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Standard normal quantile of each look such that one bound errs at any of them with probability ``alpha``.

    ``fractions`` are the information fractions of the looks, increasing, the last one 1.
    """
    if not fractions or fractions[0] <= 0.0 or any(b <= a for a, b in pairwise(fractions)):
        raise ValueError(f"information fractions must grow from above 0, not {fractions}")
    nodes, node_weights = np.polynomial.legendre.leggauss(GRID)
    quantiles: list[float] = []
    places: Floats = np.zeros(1)
    mass: Floats = np.ones(1)
    before = used = 0.0
    for fraction in fractions:
        allowed = spent(fraction, alpha)
        deviation = math.sqrt(fraction - before)
        bound = _crossing_bound(places, mass, deviation, allowed - used)
        quantiles.append(bound / math.sqrt(fraction))
        floor = -8.0 * math.sqrt(fraction)
        half = (bound - floor) / 2.0
        new_places = floor + half * (nodes + 1.0)
        density = np.exp(-0.5 * ((new_places[:, np.newaxis] - places) / deviation) ** 2) @ mass
        mass = half * node_weights * density / (deviation * math.sqrt(2.0 * math.pi))
        places, before, used = new_places, fraction, allowed
    return tuple(quantiles)


def _crossing_bound(places: Floats, mass: Floats, deviation: float, error: float) -> float:
    """The bound that the next increment carries the surviving mass across with probability ``error`` (bisection)."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2.0
        crossed = float(mass @ ndtr((places - middle) / deviation))
        low, high = (middle, high) if crossed > error else (low, middle)
    return (low + high) / 2.0
