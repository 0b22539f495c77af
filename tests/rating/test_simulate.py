"""The proof of gates.md: error rates of the shipped decision code, 10,000 candidates per true strength."""

import json

import numpy as np
import pytest

from ringrift_ops.rating.elo import expected_score
from ringrift_ops.rating.gate import Opponent, Outcome, State, UnitScores, decide
from ringrift_ops.rating.simulate import MODELS, first_decisions, main, rates, unit_distribution, whole_gate
from ringrift_ops.rating.units import steps, unit_scores

PLAYERS = (2, 3, 4)
SUITS = next(model for model in MODELS if model.suit_elo > 100)
by_name = {"argvalues": MODELS, "ids": lambda model: model.name}


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("openings", **by_name)
def test_at_most_5_per_cent_of_nets_no_better_than_the_previous_one_are_promoted(rules_for, players, openings):
    none = rates(rules_for(players), Opponent.PREVIOUS, 1.0 / players, openings)
    assert none.passed <= 0.05


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("openings", **by_name)
def test_at_least_95_per_cent_of_nets_50_elo_better_are_promoted(rules_for, players, openings):
    better = rates(rules_for(players), Opponent.PREVIOUS, expected_score(50.0, players), openings)
    assert better.passed >= 0.95


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("openings", MODELS[:3], ids=lambda model: model.name)
@pytest.mark.parametrize("opponent", [Opponent.RANDOM, Opponent.HEURISTIC])
def test_a_fixed_threshold_is_passed_or_failed_in_error_by_at_most_5_per_cent(rules_for, players, openings, opponent):
    rules = rules_for(players)
    at = rates(rules, opponent, rules.threshold(opponent), openings)
    below = rates(rules, opponent, rules.threshold(opponent) - 0.01, openings)
    assert below.passed <= at.passed <= 0.05
    # 5 % and two standard errors of 10,000 candidates.
    assert at.failed <= 0.0544


@pytest.mark.parametrize("cap", [100, 150, 200, 400])
def test_whatever_the_cap_the_easier_bound_of_the_last_look_promotes_at_most_5_per_cent_in_error(rules_for, cap):
    for openings in (MODELS[0], SUITS):
        assert rates(rules_for(cap_previous=cap), Opponent.PREVIOUS, 0.5, openings).passed <= 0.05


def test_a_net_50_elo_worse_than_the_previous_one_is_never_promoted(rules_for):
    # A fixed 50-game gate at 50 % promotes one in five of them.
    assert rates(rules_for(), Opponent.PREVIOUS, expected_score(-50.0, 2), MODELS[0]).passed <= 0.001


def test_the_test_against_the_previous_net_is_short_where_the_answer_is_clear(rules_for):
    rules = rules_for()
    for elo, most in ((-50.0, 150), (0.0, 360), (50.0, 360), (100.0, 150)):
        assert rates(rules, Opponent.PREVIOUS, expected_score(elo, 2), MODELS[0]).mean_games <= most


def test_the_whole_gate_promotes_a_clear_first_net_and_not_one_that_equals_the_heuristic(rules_for):
    rules = rules_for()
    good = whole_gate(rules, {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.75}, MODELS[1])
    equal = whole_gate(rules, {Opponent.RANDOM: 0.84, Opponent.HEURISTIC: 0.50}, MODELS[1])
    assert good.passed >= 0.99
    assert equal.passed <= 0.001


def test_the_whole_gate_promotes_at_most_5_per_cent_without_and_95_with_a_gain_of_50_elo(rules_for):
    strong = {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.85}
    for openings in MODELS[:3]:
        none, better = (
            whole_gate(rules_for(), strong | {Opponent.PREVIOUS: expected_score(elo, 2)}, openings) for elo in (0, 50)
        )
        assert none.passed <= 0.05
        assert better.passed >= 0.95


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("openings", **by_name)
def test_simulated_candidates_have_the_true_rate_they_are_said_to_have(players, openings):
    for score in (1.0 / players, 0.5, 0.6):
        distribution = unit_distribution(players, score, openings)
        assert distribution.sum() == pytest.approx(1.0)
        assert distribution @ unit_scores(players) == pytest.approx(score, abs=1e-9)


def test_openings_that_suit_a_player_make_the_games_of_a_unit_agree_and_seat_advantages_the_opposite():
    def spread(openings):
        distribution = unit_distribution(2, 0.5, openings)
        return distribution @ (unit_scores(2) - 0.5) ** 2

    equal, seats, suits = (spread(model) for model in MODELS[:3])
    assert seats < equal < suits
    assert equal == pytest.approx(0.125)


def test_a_simulated_candidate_gets_the_decision_that_its_games_would_get(rules_for):
    # The same candidates as histograms through the batch and as game lists through ``decide``: same frequencies.
    rules, candidates = rules_for(), 400
    won = np.random.default_rng(3).random((candidates, 200, 2)) < 0.66
    outcomes = []
    for games in won:
        units = tuple(tuple(int(p) * steps(2) for p in unit) for unit in games)
        results = UnitScores(
            opponent=Opponent.HEURISTIC,
            players=2,
            units=units,
            games_requested=400,
            distinct_games=400,
            fallback_moves=0,
        )
        outcomes.append(decide(rules, results).outcome)
    distribution = unit_distribution(2, 0.66, MODELS[0])
    state, _ = first_decisions(rules, Opponent.HEURISTIC, distribution, 10_000, np.random.default_rng(4))
    alone = sum(outcome is Outcome.PASS for outcome in outcomes) / candidates
    assert alone == pytest.approx((state == State.PASS).mean(), abs=4 * (0.25 / candidates) ** 0.5)


def test_the_report_is_a_table_and_one_json_document(capsys):
    assert main(["--candidates", "50", "--players", "2"]) == 0
    *lines, document = capsys.readouterr().out.strip().split("\n")
    report = json.loads(document)
    assert report["candidates"] == 50
    assert report["rules"]["2"]["gate_version"]
    assert {row["measured"] for row in report["whole"]} >= {"next net, no better", "next net, 50 Elo better"}
    assert any("previous +50 Elo" in line for line in lines)
    assert main(["--candidates", "50", "--players", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["single"]
