"""Generalised sequential probability ratio test on unit scores: the candidate against the previous net.

The outcome of a unit (one opening from every seat) is one of K classes with unknown probabilities: five for two
players, the pentanomial model that Fishtest popularised for engine testing. The hypotheses only fix the mean, H0:
mean = s0 and H1: mean = s1, so each likelihood is maximised over all distributions with that mean. With frequencies f
and class scores a the maximum is at ``p_i = f_i / (1 + theta (a_i - s))``, theta solving
``sum f_i (a_i - s) / (1 + theta (a_i - s)) = 0`` (empirical likelihood, Owen 1988; Van den Bergh, "A practical
introduction to the GSPRT"). The log likelihood ratio is ``N sum f_i log(p1_i / p0_i)``; it wanders between Wald's
(1945) bounds ``log(beta / (1 - alpha))`` and ``log((1 - beta) / alpha)``.

A sample need not span the hypotheses (every unit won): ``PRIOR_UNITS`` unit is added, split between all lost and all
won so that its mean lies midway between s0 and s1 and it argues for neither.
"""

from __future__ import annotations

import math

import numpy as np

from ringrift_ops.rating.units import Counts, Floats, classes, unit_scores

PRIOR_UNITS = 1.0

ITERATIONS = 16
"""Fixed, so that a place in a batch cannot change a result; 8 gave the LLR to 1e-11 in 17,000 varied samples."""


def llr_bounds(alpha: float, beta: float) -> tuple[float, float]:
    """Wald's bounds of the log likelihood ratio: (accept H0 at or below, accept H1 at or above)."""
    return math.log(beta / (1.0 - alpha)), math.log((1.0 - beta) / alpha)


def log_likelihood_ratio(counts: Counts, players: int, score0: float, score1: float) -> Floats:
    """Log L(mean = score1) - log L(mean = score0) of units int64 [..., K]; float64 [...], natural logarithm."""
    if not 0.0 < score0 < score1 < 1.0:
        raise ValueError(f"hypotheses must satisfy 0 < score0 < score1 < 1, not {score0} and {score1}")
    if counts.shape[-1] != classes(players):
        raise ValueError(f"{counts.shape[-1]} classes given, {players} players have {classes(players)}")
    middle = (score0 + score1) / 2.0
    weights = counts.astype(np.float64)
    weights[..., 0] += PRIOR_UNITS * (1.0 - middle)
    weights[..., -1] += PRIOR_UNITS * middle
    scores = unit_scores(players)
    tilt0, tilt1 = (_tilt(weights, scores - score) for score in (score0, score1))
    ratio = np.log1p(tilt0[..., np.newaxis] * (scores - score0)) - np.log1p(tilt1[..., np.newaxis] * (scores - score1))
    llr: Floats = (weights * ratio).sum(axis=-1)
    return llr


def _tilt(weights: Floats, offsets: Floats) -> Floats:
    """theta, float64 [...], with sum weights * offsets / (1 + theta * offsets) = 0: Newton kept inside a bracket.

    The sum falls from +inf to -inf between the poles -1/max(offsets) and -1/min(offsets), whose classes always have
    weight. Multiplied by its distance to both poles it is nearly a straight line (exactly one for two classes).
    """
    first, last = offsets[0], offsets[-1]
    low = np.full(weights.shape[:-1], -1.0 / last)
    high = np.full(weights.shape[:-1], -1.0 / first)
    theta = np.zeros(weights.shape[:-1])
    for _ in range(ITERATIONS):
        terms = offsets / (1.0 + theta[..., np.newaxis] * offsets)
        value = (weights * terms).sum(axis=-1)
        slope = -(weights * terms**2).sum(axis=-1)
        low, high = np.where(value > 0.0, theta, low), np.where(value > 0.0, high, theta)
        poles = (1.0 + theta * first) * (1.0 + theta * last)
        steepness = slope * poles + value * (first + last + 2.0 * theta * first * last)
        newton = theta - np.divide(value * poles, steepness, out=np.full_like(theta, np.inf), where=steepness != 0.0)
        inside = (newton >= low) & (newton <= high) & (newton > -1.0 / last) & (newton < -1.0 / first)
        theta = np.where(inside, newton, (low + high) / 2.0)
    return theta
