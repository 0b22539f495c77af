import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ringrift_ops.rating.elo import expected_score
from ringrift_ops.rating.gate import (
    Decision,
    GateUnfinishedError,
    Opponent,
    Outcome,
    Reason,
    State,
    UnitScores,
    UnplannedResultsError,
    decide,
    judge,
    overall,
    shown_bounds,
)
from ringrift_ops.rating.gsprt import llr_bounds
from ringrift_ops.rating.units import histogram, steps
from ringrift_ops.stages.specs import Verdict


def played(opponent, units, players=2, **changes):
    """Results of these units, every game completed and distinct unless ``changes`` say otherwise."""
    units = tuple(tuple(unit) for unit in units)
    games = sum(points is not None for unit in units for points in unit)
    fields = {"games_requested": len(units) * players, "distinct_games": games, "fallback_moves": 0} | changes
    return UnitScores(opponent=opponent, players=players, units=units, **fields)


def spread(wins, openings, players=2):
    """Units of ``openings`` openings with ``wins`` games won, spread as evenly over time as they can be."""
    games = openings * players
    won = [(i + 1) * wins // games - i * wins // games for i in range(games)]
    return [[point * steps(players) for point in won[i : i + players]] for i in range(0, games, players)]


BOTH, ONE, NONE = (2, 2), (2, 0), (0, 0)


def as_if_independent(extra_wins, openings):
    """Two-player units that vary like independent games: half of them won, ``extra_wins`` more evenly over time."""
    cycle, units, ones = (BOTH, ONE, NONE, ONE), [], openings // 2
    for index in range(openings):
        unit, nth = cycle[index % 4], index // 2
        more = index % 2 and (nth + 1) * extra_wins // ones > nth * extra_wins // ones
        units.append(BOTH if more else unit)
    return units


def test_R47_random_is_beaten_when_the_lower_bound_reaches_the_threshold(rules_for):
    decision = decide(rules_for(), played(Opponent.RANDOM, spread(96, 50)))
    assert (decision.outcome, decision.reason) == (Outcome.PASS, Reason.LOWER_BOUND_REACHED)
    assert decision.lower >= 0.85
    assert (decision.games, decision.wins, decision.losses, decision.draws) == (100, 96, 4, 0)


def test_R47_the_heuristic_is_not_beaten_when_the_upper_bound_is_below_the_threshold(rules_for):
    decision = decide(rules_for(), played(Opponent.HEURISTIC, spread(40, 50)))
    assert (decision.outcome, decision.reason) == (Outcome.FAIL, Reason.UPPER_BOUND_BELOW)
    assert decision.upper < 0.60


def test_play_goes_on_while_the_threshold_lies_between_the_bounds(rules_for):
    decision = decide(rules_for(), played(Opponent.HEURISTIC, spread(65, 50)))
    assert (decision.outcome, decision.reason) == (Outcome.CONTINUE, Reason.UNDECIDED)
    assert decision.lower < 0.60 <= decision.upper
    assert (decision.look, decision.looks, decision.next_openings) == (1, 7, 25)


def test_the_cap_without_a_decision_is_fail_inconclusive(rules_for):
    decision = decide(rules_for(), played(Opponent.HEURISTIC, spread(250, 200)))
    assert (decision.outcome, decision.reason) == (Outcome.FAIL, Reason.INCONCLUSIVE)
    assert decision.next_openings == 0


def test_nothing_is_decided_before_the_hundredth_game_or_between_looks(rules_for):
    rules = rules_for()
    for openings in (1, 49):
        decision = decide(rules, played(Opponent.RANDOM, [BOTH] * openings))
        assert (decision.outcome, decision.next_openings) == (Outcome.CONTINUE, 50 - openings)
    # After 60 openings the figures would pass; the next look is at 75.
    between = [*spread(65, 50), *[BOTH] * 10]
    assert decide(rules, played(Opponent.HEURISTIC, between)).outcome is Outcome.CONTINUE


def test_the_first_look_that_decides_stays_decided_whatever_is_played_after_it(rules_for):
    results = [*spread(96, 50), *[NONE] * 100]
    decision = decide(rules_for(), played(Opponent.RANDOM, results))
    assert (decision.outcome, decision.look) == (Outcome.PASS, 1)


def test_the_profile_tiny_can_only_be_inconclusive_however_good_or_bad_the_candidate(rules_for):
    for players in (2, 3, 4):
        rules = rules_for(players, profile="tiny")
        for opponent in Opponent:
            openings = rules.plan(opponent).units[-1]
            for points in (0, steps(players)):
                decision = decide(rules, played(opponent, [[points] * players] * openings, players))
                assert (decision.outcome, decision.reason) == (Outcome.FAIL, Reason.INCONCLUSIVE)


def test_a_net_that_wins_57_per_cent_against_the_previous_one_passes(rules_for):
    decision = decide(rules_for(), played(Opponent.PREVIOUS, as_if_independent(63, 450)))
    assert (decision.outcome, decision.reason) == (Outcome.PASS, Reason.LLR_ABOVE)
    assert decision.llr is not None
    assert decision.llr >= llr_bounds(0.05, 0.05)[1]


def test_a_net_that_wins_half_against_the_previous_one_fails(rules_for):
    decision = decide(rules_for(), played(Opponent.PREVIOUS, as_if_independent(0, 300)))
    assert (decision.outcome, decision.reason) == (Outcome.FAIL, Reason.LLR_BELOW)


def test_a_net_between_the_hypotheses_is_inconclusive_after_a_thousand_games(rules_for):
    decision = decide(rules_for(), played(Opponent.PREVIOUS, as_if_independent(36, 500)))
    assert (decision.outcome, decision.reason) == (Outcome.FAIL, Reason.INCONCLUSIVE)
    assert decision.games == 1000


def test_at_the_cap_half_the_upper_bound_passes_and_says_so(rules_for):
    results = played(Opponent.PREVIOUS, as_if_independent(47, 500))
    decision = decide(rules_for(), results)
    low, high = llr_bounds(0.05, 0.05)
    assert decision.llr is not None
    assert low < high / 2 <= decision.llr < high
    assert (decision.outcome, decision.reason) == (Outcome.PASS, Reason.LLR_ABOVE_AT_CAP)
    assert decide(rules_for(last_look_share=1.0), results).reason is Reason.INCONCLUSIVE


def test_the_threshold_against_the_previous_net_sets_the_first_hypothesis(rules_for):
    assert rules_for().hypotheses() == pytest.approx((0.5, expected_score(50, 2)))
    assert rules_for(4).hypotheses() == pytest.approx((0.25, expected_score(50, 4)))
    raised = rules_for(previous=0.55).hypotheses()
    assert raised[0] == pytest.approx(0.55)
    assert raised[1] == pytest.approx(1 / (1 + (0.45 / 0.55) * 10 ** (-50 / 400)))


@pytest.mark.parametrize(
    ("units", "changes", "reason"),
    [
        ([BOTH] * 49 + [(2, None)], {}, Reason.GAME_ERRORS),
        ([BOTH] * 50, {"fallback_moves": 1}, Reason.FALLBACK_MOVES),
        ([BOTH] * 49, {"games_requested": 100}, Reason.GAMES_MISSING),
        ([BOTH] * 50, {"distinct_games": 94}, Reason.GAMES_REPEATED),
        ([], {}, Reason.NO_GAMES),
    ],
)
def test_missing_or_void_measurement_is_no_evidence_however_good_it_looks(rules_for, units, changes, reason):
    decision = decide(rules_for(), played(Opponent.RANDOM, units, **changes))
    assert (decision.outcome, decision.reason, decision.next_openings) == (Outcome.NO_EVIDENCE, reason, 0)


def test_ninety_five_distinct_games_of_a_hundred_are_enough(rules_for):
    assert decide(rules_for(), played(Opponent.RANDOM, [BOTH] * 50, distinct_games=95)).outcome is Outcome.PASS


def test_a_game_that_errors_is_neither_win_nor_loss(rules_for):
    decision = decide(rules_for(), played(Opponent.RANDOM, [*[BOTH] * 49, (2, None)]))
    assert (decision.games, decision.wins, decision.losses, decision.errors) == (99, 99, 0, 1)


def test_no_games_have_no_win_rate(rules_for):
    decision = decide(rules_for(), played(Opponent.RANDOM, []))
    assert (decision.win_rate, decision.lower, decision.upper) == (None, 0.0, 1.0)


def test_an_opening_without_all_its_seats_is_refused():
    with pytest.raises(ValidationError, match="opening 1 holds"):
        played(Opponent.RANDOM, [BOTH, (2,)])
    with pytest.raises(ValidationError, match="opening 0 holds"):
        played(Opponent.RANDOM, [(2, 3)])


def test_more_openings_than_planned_are_refused(rules_for):
    with pytest.raises(UnplannedResultsError, match="201 openings were played, the plan ends at 200"):
        decide(rules_for(), played(Opponent.RANDOM, [BOTH] * 201))
    with pytest.raises(UnplannedResultsError, match="3-player results"):
        decide(rules_for(), played(Opponent.RANDOM, [(6, 6, 6)], players=3))


def test_a_decision_survives_json_and_reads_as_a_line(rules_for):
    decision = decide(rules_for(), played(Opponent.RANDOM, spread(96, 50)))
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    assert decision.line().startswith("random: 0.960 [0.879, 0.988] of 100 games")
    assert decision.line().endswith("threshold 0.85: PASS lower_bound_reached")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), players=st.sampled_from((2, 3, 4)), opponent=st.sampled_from(list(Opponent)))
def test_one_gauntlet_is_decided_exactly_as_in_a_batch(data, players, opponent, rules_for):
    rules = rules_for(players)
    looks = rules.plan(opponent).looks
    rate = data.draw(st.floats(0.1, 0.95))
    seed = data.draw(st.integers(0, 2**32 - 1))
    won = np.random.default_rng(seed).random((4, looks[-1].units, players)) < rate
    points = won * steps(players)
    state = np.zeros(4, dtype=int)
    for look in looks:
        counts = np.array([histogram(p[: look.units].sum(axis=1).tolist(), players) for p in points])
        judged = judge(rules, opponent, counts, look)
        state = np.where(state == State.CONTINUE, judged.state, state)
    expected = {
        State.PASS: Outcome.PASS,
        State.FAIL: Outcome.FAIL,
        State.INCONCLUSIVE: Outcome.FAIL,
    }
    for gauntlet, batched in zip(points, state, strict=True):
        alone = decide(rules, played(opponent, gauntlet.tolist(), players))
        assert alone.outcome is expected[State(batched)]
        assert (alone.reason is Reason.INCONCLUSIVE) == (batched == State.INCONCLUSIVE)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((0, 1, 2)), st.sampled_from((0, 1, 2))), min_size=50, max_size=50),
    st.floats(0.1, 0.9),
    st.floats(0.0, 0.09),
)
def test_what_passes_a_threshold_passes_every_lower_one(rules_for, units, threshold, less):
    results = played(Opponent.HEURISTIC, units)
    strict = decide(rules_for(2, heuristic=threshold), results).outcome
    lenient = decide(rules_for(2, heuristic=threshold - less), results).outcome
    order = [Outcome.FAIL, Outcome.CONTINUE, Outcome.PASS]
    assert order.index(lenient) >= order.index(strict)


def decisions(rules, **outcomes):
    """Decisions with these outcomes, from results that really have them."""
    units = {
        Opponent.RANDOM: {Outcome.PASS: [BOTH] * 50, Outcome.FAIL: [NONE] * 50, Outcome.CONTINUE: spread(85, 50)},
        Opponent.HEURISTIC: {Outcome.PASS: [BOTH] * 50, Outcome.FAIL: [NONE] * 50, Outcome.CONTINUE: spread(60, 50)},
        Opponent.PREVIOUS: {Outcome.PASS: [BOTH] * 50, Outcome.FAIL: [NONE] * 50, Outcome.CONTINUE: spread(54, 50)},
    }
    found = {}
    for name, outcome in outcomes.items():
        opponent = Opponent(name)
        void = {"fallback_moves": 1} if outcome is Outcome.NO_EVIDENCE else {}
        rows = units[opponent][Outcome.PASS if outcome is Outcome.NO_EVIDENCE else outcome]
        found[opponent] = decide(rules, played(opponent, rows, **void))
        assert found[opponent].outcome is outcome
    return found


P, F, C, N = Outcome.PASS, Outcome.FAIL, Outcome.CONTINUE, Outcome.NO_EVIDENCE


def test_a_candidate_that_passes_every_opponent_passes(rules_for):
    rules = rules_for()
    assert overall(rules, decisions(rules, random=P, heuristic=P, previous=P), has_previous=True) == (
        Verdict.PASS,
        "all opponents passed",
    )


def test_one_failure_fails_and_names_the_opponent_even_before_the_others_are_finished(rules_for):
    rules = rules_for()
    verdict, reason = overall(rules, decisions(rules, random=C, heuristic=F), has_previous=True)
    assert (verdict, reason) == (Verdict.FAIL, "heuristic: upper_bound_below")


def test_void_measurement_outweighs_everything_else(rules_for):
    rules = rules_for()
    verdict, reason = overall(rules, decisions(rules, random=F, heuristic=N, previous=P), has_previous=True)
    assert (verdict, reason) == (Verdict.NO_EVIDENCE, "heuristic: fallback_moves")


def test_an_opponent_that_was_not_played_is_no_evidence(rules_for):
    rules = rules_for()
    verdict, reason = overall(rules, decisions(rules, random=P, previous=P), has_previous=True)
    assert (verdict, reason) == (Verdict.NO_EVIDENCE, "not played: heuristic")


def test_the_first_generation_needs_no_previous_net_if_its_row_says_so_and_nothing_else_is_waived(rules_for):
    rules = rules_for()
    both = decisions(rules, random=P, heuristic=P)
    assert overall(rules, both, has_previous=False) == (Verdict.PASS, "first generation: no previous net")
    assert overall(rules, both, has_previous=True)[0] is Verdict.NO_EVIDENCE
    assert overall(rules, decisions(rules, random=P), has_previous=False)[0] is Verdict.NO_EVIDENCE
    strict = rules_for(first_generation_without_previous=False)
    assert overall(strict, both, has_previous=False) == (Verdict.NO_EVIDENCE, "not played: previous")


def test_no_verdict_is_given_while_games_are_still_to_be_played(rules_for):
    rules = rules_for()
    with pytest.raises(GateUnfinishedError, match="heuristic still to be played"):
        overall(rules, decisions(rules, random=P, heuristic=C, previous=P), has_previous=True)


def test_F12_decisions_of_another_gate_version_are_refused(rules_for):
    old = decisions(rules_for(gate_version="0"), random=P, heuristic=P, previous=P)
    with pytest.raises(UnplannedResultsError, match="decisions of gate"):
        overall(rules_for(), old, has_previous=True)


def test_the_mirror_is_shown_with_its_bounds_but_judged_by_nobody():
    rate, lower, upper = shown_bounds(played(Opponent.HEURISTIC, spread(60, 50)), alpha=0.05)
    assert rate == pytest.approx(0.60)
    assert lower < 0.60 < upper


def test_rules_with_unknown_or_missing_fields_are_refused(rules_for):
    with pytest.raises(ValidationError, match="Extra inputs"):
        rules_for(fallback=True)


def test_importing_the_gate_brings_in_neither_pandas_nor_torch_nor_numba_nor_airflow():
    code = (
        "import sys, ringrift_ops.rating.gate, ringrift_ops.rating.simulate;"
        "print([m for m in ('pandas', 'torch', 'numba', 'airflow', 'sqlalchemy', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
