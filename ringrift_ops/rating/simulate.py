"""Error rates of the shipped gate: 10,000 candidates per true strength, through ``gate.judge`` itself.

``python -m ringrift_ops.rating.simulate`` prints a table and one JSON document (``--json`` for the latter alone).

A candidate meets openings drawn at random. In an opening every seat has an advantage ~ Normal(0, ``seat_elo``) that
stays with the seat while the players rotate (it makes the games of a unit disagree), and the opening suits the
candidate by ~ Normal(0, ``suit_elo``) from whatever seat (it makes them agree). A game is drawn with probability
``draws``, else won by Plackett-Luce (``elo``). The candidate's own strength is set so that its expected score over
all openings is exactly the true rate asked for. Units of different openings are independent, so their distribution is
worked out once and the histograms of 10,000 candidates are multinomial draws from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ringrift_ops.rating.elo import expected_score
from ringrift_ops.rating.gate import GateRules, Opponent, State, judge
from ringrift_ops.rating.units import Counts, Floats, classes, game_points, steps, unit_scores
from ringrift_ops.settings import CONFIGS, GATE, packaged_profile

CANDIDATES = 10_000
OPENINGS = 4_000
"""Openings that the distribution of unit scores is averaged over."""


@dataclass(frozen=True)
class Openings:
    """How much openings matter; Elo are standard deviations."""

    name: str
    seat_elo: float
    suit_elo: float
    draws: float


MODELS = (
    Openings("equal", 0.0, 0.0, 0.0),
    Openings("seat advantage", 150.0, 50.0, 0.0),
    Openings("suits one player", 50.0, 200.0, 0.0),
    Openings("draws", 100.0, 100.0, 0.3),
)


@dataclass(frozen=True)
class Rates:
    """What became of the candidates of one true strength; fractions of all, and games per candidate."""

    passed: float
    failed: float
    inconclusive: float
    mean_games: float


def unit_distribution(players: int, score: float, openings: Openings) -> Floats:
    """Probability of each unit score, float64 [K], of a candidate whose expected score per game is ``score``."""
    rng = np.random.default_rng(20_261_123)
    seats = rng.normal(0.0, openings.seat_elo, (OPENINGS, players))
    suits = rng.normal(0.0, openings.suit_elo, (OPENINGS, 1))
    wanted = (score - openings.draws / players) / (1.0 - openings.draws)
    if not 0.0 < wanted < 1.0:
        raise ValueError(f"a score of {score} is out of reach with {openings.draws:.0%} draws")
    low, high = -3000.0, 3000.0
    for _ in range(60):
        elo = (low + high) / 2.0
        low, high = (low, elo) if _wins(seats, suits + elo).mean() > wanted else (elo, high)
    wins = _wins(seats, suits + elo) * (1.0 - openings.draws)
    shared = game_points(players, players, among_first=True)
    units = np.zeros((OPENINGS, classes(players)))
    units[:, 0] = 1.0
    for seat in range(players):
        win = wins[:, seat : seat + 1]
        lost = units * (1.0 - win - openings.draws)
        units = lost + np.roll(units, shared, axis=1) * openings.draws + np.roll(units, steps(players), axis=1) * win
    distribution: Floats = units.mean(axis=0)
    return distribution


def _wins(seats: Floats, candidate: Floats) -> Floats:
    """Chance of the candidate from each seat, float64 [openings, seats]; the others have 0 Elo."""
    strength = 10.0 ** (seats / 400.0)
    own = strength * 10.0 ** (candidate / 400.0)
    chance: Floats = own / (strength.sum(axis=1, keepdims=True) - strength + own)
    return chance


def first_decisions(
    rules: GateRules, opponent: Opponent, distribution: Floats, candidates: int, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """Final ``State`` and games played of each candidate, int64 [candidates] both."""
    state = np.zeros(candidates, dtype=np.int64)
    games = np.zeros(candidates, dtype=np.int64)
    counts = np.zeros((candidates, distribution.size), dtype=np.int64)
    playing = np.arange(candidates)
    played = 0
    for look in rules.plan(opponent).looks:
        counts[playing] += rng.multinomial(look.units - played, distribution, size=playing.size)
        played = look.units
        games[playing] = played * rules.players
        state[playing] = judge(rules, opponent, counts[playing], look).state
        playing = playing[state[playing] == State.CONTINUE]
    return state, games


def rates(
    rules: GateRules, opponent: Opponent, score: float, openings: Openings, candidates: int = CANDIDATES, seed: int = 1
) -> Rates:
    """What the gate makes of ``candidates`` whose true score against ``opponent`` is ``score``."""
    return whole_gate(rules, {opponent: score}, openings, candidates, seed)


def whole_gate(
    rules: GateRules,
    scores: Mapping[Opponent, float],
    openings: Openings,
    candidates: int = CANDIDATES,
    seed: int = 1,
) -> Rates:
    """All opponents of ``scores`` (true rates) in order; a candidate stops at the first one that it does not pass."""
    rng = np.random.default_rng(seed)
    state = np.full(candidates, int(State.PASS))
    games = np.zeros(candidates, dtype=np.int64)
    for opponent, score in scores.items():
        alive = np.flatnonzero(state == State.PASS)
        distribution = unit_distribution(rules.players, score, openings)
        state[alive], played = first_decisions(rules, opponent, distribution, alive.size, rng)
        games[alive] += played
    passed, failed, capped = (float((state == s).mean()) for s in (State.PASS, State.FAIL, State.INCONCLUSIVE))
    return Rates(passed, failed, capped, float(games.mean()))


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    players: int
    openings: str
    design_effect: float
    measured: str
    rates: Rates


ELO = (-50, -20, 0, 20, 35, 50, 100)
CANDIDATE_KINDS: Mapping[str, Mapping[Opponent, float]] = {
    "first net, plays like the heuristic": {Opponent.RANDOM: 0.84, Opponent.HEURISTIC: 0.50},
    "first net, just good enough": {Opponent.RANDOM: 0.93, Opponent.HEURISTIC: 0.60},
    "first net, 65 % of the heuristic": {Opponent.RANDOM: 0.97, Opponent.HEURISTIC: 0.65},
    "first net, 75 % of the heuristic": {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.75},
    "next net, 50 Elo worse": {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.80, Opponent.PREVIOUS: -50},
    "next net, no better": {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.80, Opponent.PREVIOUS: 0},
    "next net, 20 Elo better": {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.85, Opponent.PREVIOUS: 20},
    "next net, 50 Elo better": {Opponent.RANDOM: 0.99, Opponent.HEURISTIC: 0.85, Opponent.PREVIOUS: 50},
    "next net, 100 Elo better": {Opponent.RANDOM: 1.0 - 1e-3, Opponent.HEURISTIC: 0.88, Opponent.PREVIOUS: 100},
}
"""True rates of 2-player candidates; against the previous net Elo. Without it: the first generation."""


def shipped_rules(players: int, profile: str = "standard") -> GateRules:
    """The gate of the settings tables on the board square8 with so many players."""
    row = CONFIGS[f"square8_{players}p"]
    games = packaged_profile(profile, row)
    return GateRules.of(
        players,
        row.gate,
        GATE,
        games_per_look=games.games_per_look,
        cap=games.cap,
        cap_previous=games.cap_previous,
        first_generation_without_previous=True,
    )


def single_gates(rules: GateRules, candidates: int) -> list[Row]:
    """Candidates exactly at each fixed threshold, and at several Elo against the previous net, per opening model."""
    rows = []
    for openings in MODELS:
        level = unit_distribution(rules.players, 1.0 / rules.players, openings)
        effect = _design_effect(level, rules.players)
        for opponent in Opponent:
            previous = opponent is Opponent.PREVIOUS
            truths = [expected_score(e, rules.players) for e in ELO] if previous else [rules.threshold(opponent)]
            for index, score in enumerate(truths):
                if score >= 1.0 - openings.draws * (1.0 - 1.0 / rules.players):
                    continue  # so many draws leave no room for this rate
                label = f"previous {ELO[index]:+d} Elo" if previous else f"{opponent} at {score:.2f}"
                row = rates(rules, opponent, score, openings, candidates)
                rows.append(Row(rules.players, openings.name, effect, label, row))
    return rows


def realistic_candidates(rules: GateRules, candidates: int) -> list[Row]:
    """The whole gate for the kinds of candidates above (2 players), per opening model without draws."""
    rows = []
    for openings in MODELS[:3]:
        effect = _design_effect(unit_distribution(rules.players, 1.0 / rules.players, openings), rules.players)
        for name, truth in CANDIDATE_KINDS.items():
            scores = {o: expected_score(v, rules.players) if o is Opponent.PREVIOUS else v for o, v in truth.items()}
            rows.append(
                Row(rules.players, openings.name, effect, name, whole_gate(rules, scores, openings, candidates))
            )
    return rows


def _design_effect(distribution: Floats, players: int) -> float:
    scores = unit_scores(players)
    mean = float(distribution @ scores)
    return float(distribution @ (scores - mean) ** 2) * players / (mean * (1.0 - mean))


def table(rows: Sequence[Row]) -> str:
    """The rows as text for people."""
    lines = [
        f"{'n':>1}  {'openings':<18} {'D':>4}  {'candidate':<36} {'PASS':>7} {'FAIL':>7} {'capped':>7} {'games':>6}"
    ]
    for row in rows:
        r = row.rates
        lines.append(
            f"{row.players}  {row.openings:<18} {row.design_effect:4.2f}  {row.measured:<36} "
            f"{r.passed:7.2%} {r.failed:7.2%} {r.inconclusive:7.2%} {r.mean_games:6.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the error rates of the shipped gate; returns the exit code."""
    parser = argparse.ArgumentParser(description="Error rates of the shipped promotion gate, by simulation.")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="per true strength (default %(default)s)")
    parser.add_argument("--players", type=int, choices=(2, 3, 4), action="append", help="default: all three")
    parser.add_argument("--json", action="store_true", help="print the JSON document alone")
    options = parser.parse_args(arguments)
    rules = {players: shipped_rules(players) for players in options.players or (2, 3, 4)}
    single = [row for r in rules.values() for row in single_gates(r, options.candidates)]
    whole = realistic_candidates(rules[2], options.candidates) if 2 in rules else []
    document = {
        "candidates": options.candidates,
        "rules": {str(players): r.model_dump() for players, r in rules.items()},
        "single": [asdict(row) for row in single],
        "whole": [asdict(row) for row in whole],
    }
    if not options.json:
        sys.stdout.write(
            f"One opponent at a time; D = design effect of an opening at an even score\n{table(single)}\n\n"
        )
        if whole:
            sys.stdout.write(f"The whole gate, 2 players\n{table(whole)}\n\n")
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
