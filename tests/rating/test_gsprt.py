import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from ringrift_ops.rating.elo import expected_score
from ringrift_ops.rating.gsprt import PRIOR_UNITS, llr_bounds, log_likelihood_ratio
from ringrift_ops.rating.units import classes, unit_scores


@st.composite
def samples(draw):
    players = draw(st.sampled_from((2, 3, 4)))
    counts = draw(st.lists(st.integers(0, 60), min_size=classes(players), max_size=classes(players)))
    return players, np.array(counts, dtype=np.int64)


def hypotheses(players):
    return 1.0 / players, expected_score(50.0, players)


def test_bounds_at_five_per_cent_are_2_944():
    assert llr_bounds(0.05, 0.05) == pytest.approx((-2.944439, 2.944439))


def test_the_ratio_is_that_of_the_two_constrained_maxima():
    # The same likelihoods maximised by a general optimiser over the five probabilities.
    counts = np.array([5.0, 40.0, 110.0, 70.0, 25.0])
    score0, score1 = hypotheses(2)
    middle = (score0 + score1) / 2
    weights = counts + PRIOR_UNITS * np.array([1 - middle, 0, 0, 0, middle])

    def best(score):
        conditions = [
            {"type": "eq", "fun": lambda p: p.sum() - 1.0},
            {"type": "eq", "fun": lambda p: p @ unit_scores(2) - score},
        ]
        result = minimize(
            lambda p: -(weights * np.log(p)).sum() / weights.sum(),
            weights / weights.sum(),
            bounds=[(1e-9, 1.0)] * 5,
            constraints=conditions,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return -result.fun * weights.sum()

    llr = log_likelihood_ratio(counts.astype(np.int64), 2, score0, score1)
    assert float(llr) == pytest.approx(best(score1) - best(score0), abs=1e-4)


def test_the_ratio_agrees_with_its_normal_approximation_near_the_hypotheses():
    counts = np.array([40, 220, 500, 240, 50])
    frequencies, (score0, score1) = counts / counts.sum(), hypotheses(2)
    spread = [(frequencies * (unit_scores(2) - s) ** 2).sum() for s in (score0, score1)]
    expected = counts.sum() / 2 * np.log(spread[0] / spread[1])
    assert float(log_likelihood_ratio(counts, 2, score0, score1)) == pytest.approx(expected, abs=0.3)


@given(samples())
def test_the_mean_decides_the_sign(sample):
    players, counts = sample
    score0, score1 = hypotheses(players)
    llr = float(log_likelihood_ratio(counts, players, score0, score1))
    middle = (score0 + score1) / 2
    mean = (counts @ unit_scores(players) + PRIOR_UNITS * middle) / (counts.sum() + PRIOR_UNITS)
    if mean >= score1:
        assert llr > 0
    if mean <= score0:
        assert llr < 0


@given(samples())
def test_exchanging_wins_with_losses_and_the_hypotheses_turns_the_sign(sample):
    players, counts = sample
    score0, score1 = hypotheses(players)
    llr = log_likelihood_ratio(counts, players, score0, score1)
    turned = log_likelihood_ratio(counts[::-1], players, 1 - score1, 1 - score0)
    assert float(turned) == pytest.approx(-float(llr), abs=1e-9 * max(1.0, abs(float(llr))))


@given(st.lists(samples(), min_size=1, max_size=6))
def test_a_batch_gives_each_sample_exactly_what_it_gets_alone(many):
    players = many[0][0]
    batch = np.array([c for p, c in many if p == players])
    together = log_likelihood_ratio(batch, players, *hypotheses(players))
    alone = [float(log_likelihood_ratio(c, players, *hypotheses(players))) for c in batch]
    assert together.tolist() == alone


@given(st.integers(1, 5000), st.sampled_from((2, 3, 4)))
def test_samples_without_variance_are_finite_evidence(units, players):
    for place, sign in ((0, -1), (-1, 1)):
        counts = np.zeros(classes(players), dtype=np.int64)
        counts[place] = units
        llr = float(log_likelihood_ratio(counts, players, *hypotheses(players)))
        assert np.isfinite(llr)
        assert llr * sign > 0


def test_no_games_argue_for_neither():
    for players in (2, 3, 4):
        nothing = np.zeros(classes(players), dtype=np.int64)
        assert abs(float(log_likelihood_ratio(nothing, players, *hypotheses(players)))) < 0.01


def test_pairs_that_oppose_prove_more_than_the_same_games_unpaired():
    # 200 units at 57 %: nearly all "one won, one lost" against independent games.
    opposed, independent = np.array([0, 0, 172, 0, 28]), np.array([37, 0, 98, 0, 65])
    assert opposed @ unit_scores(2) == independent @ unit_scores(2)
    llr = log_likelihood_ratio(np.array([opposed, independent]), 2, *hypotheses(2))
    assert llr[0] > llr[1] > 0


def test_hypotheses_must_be_two_scores_in_order():
    with pytest.raises(ValueError, match="hypotheses"):
        log_likelihood_ratio(np.zeros(5, dtype=np.int64), 2, 0.6, 0.5)
    with pytest.raises(ValueError, match="classes"):
        log_likelihood_ratio(np.zeros(7, dtype=np.int64), 2, 0.5, 0.6)
