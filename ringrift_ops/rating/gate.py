"""The promotion gate: what a candidate's games prove against each opponent, and what that makes of the candidate.

Against random and heuristic the win rate must be proved to reach a fixed threshold (``sequential``, ``intervals``);
against the previous net a GSPRT decides between "no better than the threshold" and "``elo_step`` Elo better"
(``gsprt``). Both are looked at only at planned moments, and a cap reached without decision is FAIL ``inconclusive``.
Missing or void measurement is NO_EVIDENCE, never a bad result.

``judge`` is the whole decision over arrays; ``decide`` calls it for one gauntlet and ``simulate`` for 10,000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ringrift_ops.errors import UsageError
from ringrift_ops.rating.elo import elo_difference, expected_score
from ringrift_ops.rating.gsprt import llr_bounds, log_likelihood_ratio
from ringrift_ops.rating.intervals import one_sided_quantile, paired_bounds
from ringrift_ops.rating.sequential import Look, LookPlan, plan_looks
from ringrift_ops.rating.units import Counts, Floats, histogram, steps
from ringrift_ops.settings import GateRules as GatePolicy
from ringrift_ops.settings import GateThresholds
from ringrift_ops.stages.specs import Verdict


class UnplannedResultsError(UsageError):
    """Results that do not belong to the plan: too many openings, an opening without all its seats."""


class GateUnfinishedError(UsageError):
    """A verdict was asked for while an opponent still has games to play and none has failed."""


class Opponent(StrEnum):
    """Who the candidate is measured against; every other seat is this player."""

    RANDOM = "random"
    HEURISTIC = "heuristic"
    PREVIOUS = "previous"


class Outcome(StrEnum):
    """What is known about one opponent so far."""

    CONTINUE = "CONTINUE"
    PASS = "PASS"
    FAIL = "FAIL"
    NO_EVIDENCE = "NO_EVIDENCE"


class Reason(StrEnum):
    """Why an outcome is what it is; stored with it."""

    UNDECIDED = "undecided"
    LOWER_BOUND_REACHED = "lower_bound_reached"
    UPPER_BOUND_BELOW = "upper_bound_below"
    LLR_ABOVE = "llr_above"
    LLR_ABOVE_AT_CAP = "llr_above_at_cap"
    LLR_BELOW = "llr_below"
    INCONCLUSIVE = "inconclusive"
    NO_GAMES = "no_games"
    GAME_ERRORS = "game_errors"
    FALLBACK_MOVES = "fallback_moves"
    GAMES_MISSING = "games_missing"
    GAMES_REPEATED = "games_repeated"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GateRules(_Frozen):
    """The gate of one config and profile. Every number comes from the settings tables; there are no defaults."""

    gate_version: str
    players: int = Field(ge=2, le=4)
    random: float = Field(gt=0.0, lt=1.0, description="win rate to prove against random")
    heuristic: float = Field(gt=0.0, lt=1.0, description="win rate to prove against the heuristic")
    previous: float = Field(gt=0.0, lt=1.0, description="H0 against the previous net: 1/n is 0 Elo")
    elo_step: float = Field(gt=0.0, description="H1 lies this many Elo above H0")
    games_per_look: int = Field(gt=0, description="rounded up to whole openings")
    min_games: int = Field(ge=0, description="nothing is decided on fewer games")
    cap: int = Field(gt=0, description="most games against random or heuristic")
    cap_previous: int = Field(gt=0, description="most games against the previous net")
    confidence: float = Field(gt=0.5, lt=1.0, description="of each bound of a win rate, over all looks together")
    alpha: float = Field(gt=0.0, lt=0.5, description="false PASS of the GSPRT")
    beta: float = Field(gt=0.0, lt=0.5, description="missed PASS of the GSPRT at H1")
    last_look_share: float = Field(gt=0.0, le=1.0, description="share of the upper LLR bound that passes at the cap")
    distinct_fraction: float = Field(ge=0.0, le=1.0, description="fewer distinct games are no evidence")
    first_generation_without_previous: bool = Field(description="a config without canonical net needs no previous")

    def threshold(self, opponent: Opponent) -> float:
        """Score to prove (fixed baselines) or H0 (previous)."""
        return {
            Opponent.RANDOM: self.random,
            Opponent.HEURISTIC: self.heuristic,
            Opponent.PREVIOUS: self.previous,
        }[opponent]

    def hypotheses(self) -> tuple[float, float]:
        """Expected scores (H0, H1) against the previous net; H1 is ``elo_step`` logistic Elo above H0."""
        elo0 = elo_difference(self.previous, self.players)
        return self.previous, expected_score(elo0 + self.elo_step, self.players)

    def plan(self, opponent: Opponent) -> LookPlan:
        """The planned looks, fixed before the first game."""
        cap = self.cap_previous if opponent is Opponent.PREVIOUS else self.cap
        return plan_looks(self.players, self.games_per_look, self.min_games, cap, 1.0 - self.confidence)

    @classmethod
    def of(
        cls,
        players: int,
        thresholds: GateThresholds,
        policy: GatePolicy,
        *,
        games_per_look: int,
        cap: int,
        cap_previous: int,
        first_generation_without_previous: bool,
    ) -> Self:
        """The gate of one config, from its row of thresholds, the gate table and a profile's numbers of games."""
        return cls(
            gate_version=thresholds.version,
            players=players,
            random=thresholds.random,
            heuristic=thresholds.heuristic,
            previous=thresholds.previous,
            elo_step=policy.elo_h1 - policy.elo_h0,
            games_per_look=games_per_look,
            min_games=policy.minimum_games,
            cap=cap,
            cap_previous=cap_previous,
            confidence=policy.confidence,
            alpha=policy.alpha,
            beta=policy.beta,
            last_look_share=policy.last_look_share,
            distinct_fraction=policy.minimum_distinct,
            first_generation_without_previous=first_generation_without_previous,
        )


class UnitScores(_Frozen):
    """Everything played against one opponent so far, in the order it was planned."""

    opponent: Opponent
    players: int = Field(ge=2, le=4)
    units: tuple[tuple[int | None, ...], ...] = Field(
        description="per opening, the candidate's points (units.game_points) from seat 1..n; None = game without end"
    )
    games_requested: int = Field(ge=0)
    distinct_games: int = Field(ge=0, description="different move lists among the completed games")
    fallback_moves: int = Field(ge=0, description="moves that another player than the named one made")

    @model_validator(mode="after")
    def _whole_openings(self) -> Self:
        most = steps(self.players)
        for index, unit in enumerate(self.units):
            if len(unit) != self.players or not all(p is None or 0 <= p <= most for p in unit):
                raise ValueError(f"opening {index} holds {unit}: give {self.players} results of 0..{most} or None")
        return self

    @property
    def errors(self) -> int:
        """Games that were started and have no result."""
        return sum(points is None for unit in self.units for points in unit)

    @property
    def games(self) -> int:
        """Games completed."""
        return len(self.units) * self.players - self.errors

    def games_with(self, points: int) -> int:
        """Completed games with exactly these points."""
        return sum(p == points for unit in self.units for p in unit)

    @property
    def wins(self) -> int:
        """Games the candidate won alone."""
        return self.games_with(steps(self.players))

    @property
    def losses(self) -> int:
        """Games in which another seat came first."""
        return self.games_with(0)

    @property
    def draws(self) -> int:
        """Games in which first place was shared."""
        return self.games - self.wins - self.losses

    def counts(self, units: int | None = None) -> Counts:
        """Histogram int64 [K] of the complete openings among the first ``units`` (all by default)."""
        complete = (unit for unit in self.units[:units] if None not in unit)
        return histogram((sum(p for p in unit if p is not None) for unit in complete), self.players)


class Decision(_Frozen):
    """What is known about one opponent; CONTINUE says how many openings to play next."""

    opponent: Opponent
    outcome: Outcome
    reason: Reason
    gate_version: str
    players: int
    games: int
    wins: int
    losses: int
    draws: int
    errors: int
    distinct_fraction: float
    win_rate: float | None = Field(description="mean share of first place; None without a complete opening")
    lower: float = Field(description="one-sided bound at `confidence`, over all planned looks together")
    upper: float
    threshold: float
    llr: float | None = Field(description="against the previous net only")
    look: int = Field(description="planned looks reached so far")
    looks: int
    next_openings: int = Field(description="openings to play until the next look; 0 unless CONTINUE")

    def line(self) -> str:
        """One line for people."""
        rate = "no games" if self.win_rate is None else f"{self.win_rate:.3f} [{self.lower:.3f}, {self.upper:.3f}]"
        llr = "" if self.llr is None else f", LLR {self.llr:+.2f}"
        return (
            f"{self.opponent}: {rate} of {self.games} games, threshold {self.threshold:.2f}{llr}: "
            f"{self.outcome} {self.reason}"
        )


class State(IntEnum):
    """Outcome of a look inside arrays."""

    CONTINUE = 0
    PASS = 1
    FAIL = 2
    INCONCLUSIVE = 3


@dataclass(frozen=True)
class Judgement:
    """One look at a batch of gauntlets; every array has the shape of the batch."""

    state: npt.NDArray[np.int8]
    rate: Floats
    lower: Floats
    upper: Floats
    llr: Floats | None


def judge(rules: GateRules, opponent: Opponent, counts: Counts, look: Look) -> Judgement:
    """Decide every gauntlet of a batch at one planned look; ``counts`` is int64 [..., K]."""
    rate, lower, upper = paired_bounds(counts, rules.players, look.quantile)
    llr = None
    if opponent is Opponent.PREVIOUS:
        llr = log_likelihood_ratio(counts, rules.players, *rules.hypotheses())
        accept0, accept1 = llr_bounds(rules.alpha, rules.beta)
        passed = llr >= accept1 * (rules.last_look_share if look.last else 1.0)
        failed = llr <= accept0
    else:
        passed, failed = lower >= rules.threshold(opponent), upper < rules.threshold(opponent)
    undecided = State.INCONCLUSIVE if look.last else State.CONTINUE
    decided = np.where(passed, State.PASS, np.where(failed, State.FAIL, undecided))
    state = (decided if look.decides else np.full(rate.shape, undecided)).astype(np.int8)
    return Judgement(state, rate, lower, upper, llr)


def decide(rules: GateRules, results: UnitScores) -> Decision:
    """What the results so far prove. The first planned look that decides is final, whatever was played after it.

    The figures are those of that look, the numbers of games those of everything played. Between looks the outcome is
    CONTINUE. Raises UnplannedResultsError for more openings than the cap or another number of players than the rules.
    """
    plan, opponent = rules.plan(results.opponent), results.opponent
    if results.players != rules.players:
        raise UnplannedResultsError(f"{results.players}-player results in a {rules.players}-player gate")
    played = len(results.units)
    if played > plan.units[-1]:
        raise UnplannedResultsError(
            f"{opponent}: {played} openings were played, the plan ends at {plan.units[-1]}; use the plan's profile"
        )
    void = _void(rules, results)
    look, judged = _last_look(rules, results, plan)
    state = State(int(judged.state))
    if void is not None:
        outcome, reason = Outcome.NO_EVIDENCE, void
    else:
        outcome, reason = _outcome(rules, state, judged.llr)
    return Decision(
        opponent=opponent,
        outcome=outcome,
        reason=reason,
        gate_version=rules.gate_version,
        players=rules.players,
        games=results.games,
        wins=results.wins,
        losses=results.losses,
        draws=results.draws,
        errors=results.errors,
        distinct_fraction=results.distinct_games / max(results.games, 1),
        win_rate=float(judged.rate) if results.counts().any() else None,
        lower=float(judged.lower),
        upper=float(judged.upper),
        threshold=rules.threshold(opponent),
        llr=None if judged.llr is None else float(judged.llr),
        look=look,
        looks=len(plan.looks),
        next_openings=plan.openings_to_next_look(played) if outcome is Outcome.CONTINUE else 0,
    )


def _last_look(rules: GateRules, results: UnitScores, plan: LookPlan) -> tuple[int, Judgement]:
    """The look that decided, else the last one reached (1-based; 0 = none yet), with its judgement.

    Before the first look the bounds are those of the next one, for display.
    """
    played = len(results.units)
    number, judged = 0, None
    for look in plan.looks:
        if look.units > played:
            break
        number += 1
        judged = judge(rules, results.opponent, results.counts(look.units), look)
        if judged.state != State.CONTINUE:
            return number, judged
    if judged is None or played > plan.looks[number - 1].units:
        shown = judge(rules, results.opponent, results.counts(), plan.looks[number])
        judged = replace(shown, state=np.full_like(shown.state, State.CONTINUE))
    return number, judged


def _outcome(rules: GateRules, state: State, llr: Floats | None) -> tuple[Outcome, Reason]:
    """The state of a look in words; ``llr`` is None against a fixed baseline."""
    if state == State.CONTINUE:
        return Outcome.CONTINUE, Reason.UNDECIDED
    if state == State.INCONCLUSIVE:
        return Outcome.FAIL, Reason.INCONCLUSIVE
    if state == State.FAIL:
        return Outcome.FAIL, Reason.UPPER_BOUND_BELOW if llr is None else Reason.LLR_BELOW
    if llr is None:
        return Outcome.PASS, Reason.LOWER_BOUND_REACHED
    reached = float(llr) >= llr_bounds(rules.alpha, rules.beta)[1]
    return Outcome.PASS, Reason.LLR_ABOVE if reached else Reason.LLR_ABOVE_AT_CAP


def _void(rules: GateRules, results: UnitScores) -> Reason | None:
    """Why these results are no evidence, or None."""
    if results.errors:
        return Reason.GAME_ERRORS
    if results.fallback_moves:
        return Reason.FALLBACK_MOVES
    if results.games_requested != results.games:
        return Reason.GAMES_MISSING
    if results.games == 0:
        return Reason.NO_GAMES
    if results.distinct_games < math.ceil(rules.distinct_fraction * results.games - 1e-9):
        return Reason.GAMES_REPEATED
    return None


def overall(rules: GateRules, decisions: Mapping[Opponent, Decision], has_previous: bool) -> tuple[Verdict, str]:
    """The verdict on a candidate and its reason in one line.

    NO_EVIDENCE where any measurement is void or a required opponent was not played; FAIL where any opponent failed
    (the others need not be finished); PASS where all required opponents passed. ``has_previous`` says whether the
    config has a canonical net: without one the opponent ``previous`` is waived if, and only if, the rules say so.
    Raises GateUnfinishedError while games are still to be played and nothing has failed.
    """
    waived = not has_previous and rules.first_generation_without_previous
    required = [o for o in Opponent if not (o is Opponent.PREVIOUS and waived)]
    if foreign := {d.gate_version for d in decisions.values()} - {rules.gate_version}:
        raise UnplannedResultsError(f"decisions of gate {sorted(foreign)} in gate {rules.gate_version}; play again")
    void = [f"{o}: {d.reason}" for o, d in decisions.items() if d.outcome is Outcome.NO_EVIDENCE]
    if void:
        return Verdict.NO_EVIDENCE, "; ".join(void)
    failed = [f"{o}: {d.reason}" for o, d in decisions.items() if d.outcome is Outcome.FAIL]
    if failed:
        return Verdict.FAIL, "; ".join(failed)
    missing = [str(o) for o in required if o not in decisions]
    if missing:
        return Verdict.NO_EVIDENCE, f"not played: {', '.join(missing)}"
    unfinished = [str(o) for o in required if decisions[o].outcome is Outcome.CONTINUE]
    if unfinished:
        raise GateUnfinishedError(f"no verdict yet: {', '.join(unfinished)} still to be played; continue the gauntlet")
    return Verdict.PASS, "first generation: no previous net" if waived else "all opponents passed"


def shown_bounds(results: UnitScores, alpha: float) -> tuple[float | None, float, float]:
    """Win rate and its two paired 1 - alpha bounds for results that no gate reads (the mirror), looked at once."""
    counts = results.counts()
    rate, lower, upper = paired_bounds(counts, results.players, one_sided_quantile(alpha))
    return (float(rate) if counts.any() else None), float(lower), float(upper)
