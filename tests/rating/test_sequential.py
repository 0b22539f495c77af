import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringrift_ops.rating.sequential import critical_values, plan_looks, spent, whole_openings


def test_critical_values_agree_with_the_published_pocock_type_spending():
    # Lan & DeMets (1983), one-sided 2.5 %, five equal looks.
    assert critical_values((0.2, 0.4, 0.6, 0.8, 1.0), 0.025) == pytest.approx(
        (2.438, 2.427, 2.410, 2.397, 2.386), abs=1e-3
    )


def test_one_look_needs_no_correction():
    assert critical_values((1.0,), 0.05) == pytest.approx((1.644854,), abs=1e-6)


def test_all_the_error_is_spent_at_the_end_and_none_before_the_start():
    assert spent(0.0, 0.05) == 0.0
    assert spent(1.0, 0.05) == pytest.approx(0.05)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.sampled_from((0.01, 0.025, 0.05)), st.integers(0, 2**32 - 1))
def test_a_true_rate_crosses_any_of_the_bounds_with_the_stated_error(looks, alpha, seed):
    fractions = tuple((k + 1) / looks for k in range(looks))
    bounds = np.array(critical_values(fractions, alpha))
    steps = np.random.default_rng(seed).normal(0.0, math.sqrt(1.0 / looks), (100_000, looks))
    z = steps.cumsum(axis=1) / np.sqrt(fractions)
    error = (z > bounds).any(axis=1).mean()
    assert error == pytest.approx(alpha, abs=5 * math.sqrt(alpha / 100_000))


def test_looks_fall_every_fifty_games_from_the_hundredth_to_the_cap():
    plan = plan_looks(players=2, games_per_look=50, min_games=100, cap=400, alpha=0.05)
    assert [2 * units for units in plan.units] == [100, 150, 200, 250, 300, 350, 400]
    assert [look.last for look in plan.looks] == [False] * 6 + [True]
    assert all(look.decides for look in plan.looks)


def test_games_are_rounded_up_to_whole_openings():
    assert whole_openings(50, 3) == 17
    plan = plan_looks(players=3, games_per_look=50, min_games=100, cap=400, alpha=0.05)
    assert [3 * units for units in plan.units] == [102, 153, 204, 255, 306, 357, 402]


def test_a_cap_below_the_minimum_leaves_one_look_that_decides_nothing():
    plan = plan_looks(players=2, games_per_look=50, min_games=100, cap=24, alpha=0.05)
    assert plan.units == (12,)
    assert not plan.looks[0].decides


def test_the_plan_says_how_much_to_play_until_the_next_look():
    plan = plan_looks(players=2, games_per_look=50, min_games=100, cap=400, alpha=0.05)
    assert [plan.openings_to_next_look(played) for played in (0, 49, 50, 199, 200, 300)] == [50, 1, 25, 1, 0, 0]


@given(st.sampled_from((2, 3, 4)), st.integers(1, 200), st.integers(0, 300), st.integers(1, 2000), st.floats(0.01, 0.2))
@settings(max_examples=50, deadline=None)
def test_every_plan_grows_to_its_cap_and_decides_only_from_the_minimum_on(players, per_look, least, cap, alpha):
    plan = plan_looks(players, max(per_look, cap // 20), least, cap, alpha)
    assert list(plan.units) == sorted(set(plan.units))
    assert cap <= plan.units[-1] * players < cap + players
    assert all(look.units * players >= least for look in plan.looks if look.decides)
    assert plan.looks[-1].last


def test_nonsense_has_no_plan():
    with pytest.raises(ValueError, match="no plan"):
        plan_looks(2, 0, 100, 400, 0.05)
    with pytest.raises(ValueError, match="must grow"):
        critical_values((0.5, 0.5, 1.0), 0.05)
