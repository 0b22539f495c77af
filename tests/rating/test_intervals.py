import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringrift_ops.rating.intervals import design_effect, one_sided_quantile, paired_bounds, wilson
from ringrift_ops.rating.simulate import MODELS, unit_distribution
from ringrift_ops.rating.units import classes, unit_scores

Q95 = one_sided_quantile(0.05)


@st.composite
def samples(draw, least_units=2):
    players = draw(st.sampled_from((2, 3, 4)))
    counts = draw(st.lists(st.integers(0, 40), min_size=classes(players), max_size=classes(players)))
    counts[draw(st.integers(0, classes(players) - 1))] += least_units
    return players, np.array(counts, dtype=np.int64)


def units(players, **counts_by_points):
    counts = np.zeros(classes(players), dtype=np.int64)
    for points, count in counts_by_points.items():
        counts[int(points[1:])] = count
    return counts


def test_wilson_agrees_with_the_textbook():
    # 50 of 100 at 95 % two-sided: 0.4038 .. 0.5962 (Newcombe 1998).
    lower, upper = wilson(np.array(0.5), np.array(100.0), np.array(1.959964))
    assert (float(lower), float(upper)) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_the_quantile_of_five_per_cent_is_1_645():
    assert pytest.approx(1.644854, abs=1e-6) == Q95


@given(samples())
def test_bounds_enclose_the_win_rate_and_stay_rates(sample):
    players, counts = sample
    rate, lower, upper = paired_bounds(counts, players, Q95)
    assert 0.0 <= lower <= rate + 1e-12
    assert rate - 1e-12 <= upper <= 1.0


@given(samples(), st.floats(0.5, 3.0), st.floats(0.01, 1.0))
def test_more_confidence_is_a_wider_interval(sample, quantile, more):
    players, counts = sample
    _, lower, upper = paired_bounds(counts, players, quantile)
    _, wide_lower, wide_upper = paired_bounds(counts, players, quantile + more)
    assert wide_lower <= lower
    assert upper <= wide_upper


@given(samples())
def test_the_same_sample_twice_is_a_narrower_interval(sample):
    players, counts = sample
    _, lower, upper = paired_bounds(counts, players, Q95)
    _, twice_lower, twice_upper = paired_bounds(2 * counts, players, Q95)
    assert twice_upper - twice_lower < upper - lower


@given(samples())
def test_wins_and_losses_exchanged_mirror_the_bounds(sample):
    players, counts = sample
    rate, lower, upper = paired_bounds(counts, players, Q95)
    mirrored = paired_bounds(counts[::-1], players, Q95)
    assert np.allclose(mirrored, (1 - rate, 1 - upper, 1 - lower))


@given(st.lists(samples(), min_size=1, max_size=6))
def test_a_batch_gives_each_sample_exactly_what_it_gets_alone(many):
    players = many[0][0]
    batch = np.array([c for p, c in many if p == players])
    together = paired_bounds(batch, players, Q95)
    for index, counts in enumerate(batch):
        alone = paired_bounds(counts, players, Q95)
        assert [float(figure[index]) for figure in together] == [float(figure) for figure in alone]


def test_where_every_unit_was_won_only_units_count():
    # 50 openings, 100 games, all won: Wilson on 50 observations with Student's t, not on 100.
    counts = units(2, p4=50)
    assert design_effect(counts, 2) == pytest.approx(2.0)
    _, lower, upper = paired_bounds(counts, 2, Q95)
    assert lower == pytest.approx(50 / (50 + 1.6766**2), abs=1e-4)
    assert upper == pytest.approx(1.0)


def test_games_that_go_together_widen_the_interval_and_games_that_oppose_narrow_it():
    together, independent, opposed = units(2, p0=25, p4=25), units(2, p0=13, p2=25, p4=12), units(2, p2=50)
    widths = [float(np.diff(paired_bounds(c, 2, Q95)[1:], axis=0)[0]) for c in (together, independent, opposed)]
    assert widths[0] > widths[1] > widths[2] > 0.0


def test_one_opening_or_none_proves_nothing():
    for counts in (units(2), units(2, p4=1)):
        _, lower, upper = paired_bounds(counts, 2, Q95)
        assert (float(lower), float(upper)) == (0.0, 1.0)


@pytest.mark.parametrize("players", [2, 3, 4])
@pytest.mark.parametrize("openings", MODELS[:3], ids=lambda m: m.name)
def test_the_95_per_cent_bounds_hold_in_95_of_100_samples_however_openings_correlate(players, openings):
    rng = np.random.default_rng(7)
    for rate in (0.25, 0.5, 0.75, 0.9):
        distribution = unit_distribution(players, rate, openings)
        assert distribution @ unit_scores(players) == pytest.approx(rate)
        for played in (50, 200):
            counts = rng.multinomial(played, distribution, size=10_000)
            _, lower, upper = paired_bounds(counts, players, Q95)
            # 95 % less three standard errors of 10,000 draws and what is left to discreteness.
            assert (lower <= rate).mean() >= 0.943
            assert (upper >= rate).mean() >= 0.943


def test_a_histogram_of_another_game_is_refused():
    with pytest.raises(ValueError, match="5 classes given, 3 players have 19"):
        paired_bounds(np.zeros(5, dtype=np.int64), 3, Q95)
