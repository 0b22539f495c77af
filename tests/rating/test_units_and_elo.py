import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringrift_ops.rating.elo import elo_difference, expected_score
from ringrift_ops.rating.units import PlayersError, classes, game_points, histogram, steps, unit_scores

PLAYERS = (2, 3, 4)


def test_two_players_have_the_five_classes_of_the_pentanomial_model():
    assert classes(2) == 5
    assert unit_scores(2).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("players", PLAYERS)
def test_the_shares_of_all_seats_add_up_to_one_game(players):
    for tied in range(1, players + 1):
        shares = [game_points(players, tied, among_first=seat < tied) for seat in range(players)]
        assert sum(shares) == steps(players)


def test_a_histogram_counts_units_by_their_points():
    assert histogram([0, 4, 4, 2], players=2).tolist() == [1, 0, 1, 0, 2]
    assert histogram([], players=3).sum() == 0


def test_points_that_no_unit_can_have_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.4 for 2 players"):
        histogram([5], players=2)
    with pytest.raises(ValueError, match="cannot share"):
        game_points(2, 3, among_first=True)
    with pytest.raises(PlayersError, match="5 players"):
        classes(5)


@pytest.mark.parametrize("players", PLAYERS)
def test_equal_players_expect_their_share_of_the_seats(players):
    assert expected_score(0.0, players) == pytest.approx(1.0 / players)


def test_fifty_elo_are_fifty_seven_per_cent_of_two_player_games():
    assert expected_score(50.0, 2) == pytest.approx(0.5715, abs=1e-4)


@given(st.floats(-2000, 2000), st.sampled_from(PLAYERS))
def test_score_and_elo_are_inverse(elo, players):
    assert elo_difference(expected_score(elo, players), players) == pytest.approx(elo, abs=1e-6)


@given(st.floats(-2000, 2000), st.floats(1e-3, 500), st.sampled_from(PLAYERS))
def test_more_elo_expects_more(elo, more, players):
    assert expected_score(elo + more, players) > expected_score(elo, players)


def test_certain_results_are_infinitely_far_away():
    assert elo_difference(0.0, 2) == -math.inf
    assert elo_difference(1.0, 4) == math.inf
    with pytest.raises(ValueError, match=r"0\.\.1"):
        elo_difference(1.1, 2)


def test_unit_scores_are_evenly_spaced_for_every_number_of_players():
    for players in PLAYERS:
        assert np.allclose(np.diff(unit_scores(players)), 1.0 / (players * steps(players)))
