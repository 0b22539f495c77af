"""Stage five: paired games against the baselines and the canonical net, and the gate's verdict.

Games are played in planned looks (``rating.gate``); everything that was played, decided and
measured goes into the report, so that the verdict can be judged again from raw counts.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import GamePair, derived_seed
from ringrift_ops.network.weights import Network, load_network
from ringrift_ops.players.match import OpeningResult, play_openings
from ringrift_ops.players.roster import Player, PlayerKind
from ringrift_ops.rating.elo import elo_difference
from ringrift_ops.rating.gate import Decision, GateRules, Opponent, Outcome, UnitScores, decide, overall, shown_bounds
from ringrift_ops.rating.units import game_points, steps
from ringrift_ops.rules.layout import RULES_VERSION
from ringrift_ops.settings import GATE, Settings
from ringrift_ops.settings.names import config_named
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.recording import ledger_is_elsewhere, record_gauntlet, record_net
from ringrift_ops.stages.specs import (
    GauntletResult,
    GauntletSpec,
    OpponentResult,
    SearchSettings,
    Sha256,
    Stage,
    Verdict,
)
from ringrift_ops.store import Store, sha256_bytes

MIRROR = "heuristic_search"
"""The honest mirror: heuristic search at the candidate's simulations. Shown, never gated."""

BEAT_SECONDS = 0.5

_PLAIN = SearchSettings(simulations=0, temperature=0.0)
_VERDICTS = {Outcome.PASS: Verdict.PASS, Outcome.FAIL: Verdict.FAIL}


class WrongNetError(UsageError):
    """A file holds another net than the one to be judged."""


@dataclass
class _Series:
    """All games against one opponent so far."""

    name: str
    player: Player
    openings: list[OpeningResult] = field(default_factory=list)

    def points(self, players: int) -> tuple[tuple[int | None, ...], ...]:
        """Per opening the candidate's points from seat 1..n; a game without a winner is shared by all."""
        return tuple(
            tuple(
                game_points(players, 1, winner == seat) if winner else game_points(players, players, True)
                for seat, winner in enumerate(one.winners, 1)
            )
            for one in self.openings
        )

    def scores(self, opponent: Opponent, players: int) -> UnitScores:
        digests = {digest for one in self.openings for digest in one.digests}
        return UnitScores(
            opponent=opponent,
            players=players,
            units=self.points(players),
            games_requested=len(self.openings) * players,
            distinct_games=len(digests),
            fallback_moves=0,  # a player that cannot move raises; nobody else ever moves for it
        )


class _Gauntlet:
    """One candidate's gauntlet under way."""

    def __init__(self, home: Home, spec: GauntletSpec, report: Report) -> None:
        self.spec, self.report = spec, report
        self.players = config_named(spec.config).players
        settings = Settings.load(home)
        self.rules = GateRules.of(
            self.players,
            settings.gate(spec.config),
            GATE,
            games_per_look=spec.games_per_look,
            cap=spec.cap,
            cap_previous=spec.cap_previous,
            first_generation_without_previous=True,
        )
        self.candidate = Player(
            PlayerKind.NET, spec.search, _net(home, spec.config, spec.candidate, spec.candidate_path)
        )
        self.previous = None
        if spec.previous is not None and spec.previous_path is not None:
            self.previous = _net(home, spec.config, spec.previous, spec.previous_path)
        self.threads = max(1, os.cpu_count() or 1)
        self.beaten = 0.0
        self.rates: dict[str, dict[str, float | int]] = {}

    def baseline(self, opponent: str) -> Player:
        """The player behind an opponent's name."""
        if opponent == MIRROR:
            return Player(PlayerKind.HEURISTIC, self.spec.search)
        if opponent == Opponent.PREVIOUS:
            return Player(PlayerKind.NET, self.spec.search, self.previous)
        return Player(PlayerKind(opponent), _PLAIN)

    def against(self, opponent: Opponent) -> tuple[_Series, Decision]:
        """Play looks until the gate has decided."""
        series = _Series(opponent.value, self.baseline(opponent))
        plan = self.rules.plan(opponent)
        cap = plan.units[-1] * self.players
        decision: Decision | None = None
        ahead = plan.openings_to_next_look(0)
        while ahead > 0:
            self._play(series, ahead, cap)
            decision = decide(self.rules, series.scores(opponent, self.players))
            ahead = decision.next_openings
        if decision is None:
            decision = decide(self.rules, series.scores(opponent, self.players))
        return series, decision

    def mirror(self) -> _Series:
        """The games nobody gates."""
        series = _Series(MIRROR, self.baseline(MIRROR))
        openings = -(-self.spec.mirror_games // self.players)
        self._play(series, openings, openings * self.players)
        return series

    def _play(self, series: _Series, openings: int, cap: int) -> None:
        first = len(series.openings)
        seeds = [(i, derived_seed(self.spec.seed, series.name, i)) for i in range(first, first + openings)]

        def beat() -> None:
            games = len(series.openings) * self.players
            now = time.monotonic()
            if now - self.beaten < BEAT_SECONDS and len(series.openings) < first + openings:
                return
            self.beaten = now
            self.report(
                Heartbeat(
                    stage=Stage.GAUNTLET,
                    phase=f"against {series.name}",
                    done=games,
                    total=cap,
                    unit="games",
                    metrics={**self.rates, series.name: self._rate(series)} if games else dict(self.rates),
                )
            )

        def done(result: OpeningResult) -> None:
            series.openings.append(result)
            beat()

        play_openings(
            self.spec.config,
            self.candidate,
            series.player,
            seeds,
            decisions=GATE.opening_decisions,
            max_moves=self.spec.max_moves,
            threads=self.threads,
            done=done,
            meanwhile=beat,
        )
        self.rates[series.name] = self._rate(series)

    def _rate(self, series: _Series) -> dict[str, float | int]:
        scores = series.scores(Opponent.PREVIOUS, self.players)
        rate, lower, upper = shown_bounds(scores, 1.0 - GATE.confidence)
        return {"win_rate": rate or 0.0, "lower": lower, "upper": upper, "games": scores.games}

    def result_of(self, series: _Series, decision: Decision | None) -> OpponentResult:
        """Counts and bounds; without a decision those that are shown only."""
        scores = series.scores(Opponent.PREVIOUS if decision is None else decision.opponent, self.players)
        shown = self._rate(series)
        return OpponentResult(
            opponent=series.name,
            games=scores.games,
            wins=scores.wins,
            losses=scores.losses,
            draws=scores.draws,
            distinct_fraction=scores.distinct_games / max(1, scores.games),
            win_rate=float(shown["win_rate"]),
            lower=decision.lower if decision else float(shown["lower"]),
            upper=decision.upper if decision else float(shown["upper"]),
            threshold=decision.threshold if decision else 1.0 / self.players,
            verdict=_VERDICTS.get(decision.outcome, Verdict.NO_EVIDENCE) if decision else Verdict.NO_EVIDENCE,
            reason=str(decision.reason) if decision else "shown, not gated",
            errors=scores.errors,
        )


@dataclass(frozen=True)
class Judged:
    """A gauntlet that was played: its result (``path`` empty: it lies nowhere yet), its report, its game pairs."""

    result: GauntletResult
    report: bytes
    pairs: list[GamePair]


def run(spec: GauntletSpec, report: Report) -> GauntletResult:
    """Judge the candidate: PASS, FAIL with its reason, or NO_EVIDENCE; and record it.

    A net that was trained elsewhere is put into the store and on record first. Raises WrongNetError and the
    errors of strict loading for nets that do not fit; those are failures of the run, not of the net.
    """
    home = Home.find()
    if not ledger_is_elsewhere():  # a host has its nets from the controller, which knows them
        _record_nets(home, spec)
    judged = judge(home, spec, report)
    _, path = Store(home).put(judged.report, ".json")
    result = judged.result.model_copy(update={"path": str(home.relative(path))})
    record_gauntlet(home, spec, result, judged.pairs)
    return result


def _net(home: Home, config: str, sha: Sha256, path: str) -> Network:
    network = load_network(home.resolve(path), config)
    if network.sha256 != sha:
        raise WrongNetError(
            f"{home.resolve(path)} holds the net {network.sha256[:12]}, not {sha[:12]}; name the file that does"
        )
    return network


def _record_nets(home: Home, spec: GauntletSpec) -> None:
    record_net(home, _net(home, spec.config, spec.candidate, spec.candidate_path), home.resolve(spec.candidate_path))
    if spec.previous is not None and spec.previous_path is not None:
        record_net(home, _net(home, spec.config, spec.previous, spec.previous_path), home.resolve(spec.previous_path))


def judge(home: Home, spec: GauntletSpec, report: Report) -> Judged:
    """Play the gauntlet and decide, without writing anything; see :func:`run`."""
    started = time.monotonic()
    gauntlet = _Gauntlet(home, spec, report)
    played = [gauntlet.against(Opponent(name)) for name in spec.opponents]
    decisions = {decision.opponent: decision for _, decision in played}
    verdict, reason = overall(gauntlet.rules, decisions, has_previous=spec.previous is not None)
    mirror = gauntlet.mirror() if spec.mirror_games > 0 else None
    opponents = [gauntlet.result_of(series, decision) for series, decision in played]
    shown = None if mirror is None else gauntlet.result_of(mirror, None)
    series = [one for one, _ in played] + ([] if mirror is None else [mirror])
    document = {
        "config": spec.config,
        "candidate": spec.candidate,
        "previous": spec.previous,
        "rules_version": RULES_VERSION,
        "gate": gauntlet.rules.model_dump(mode="json"),
        "search": spec.search.model_dump(mode="json"),
        "verdict": verdict.value,
        "reason": reason,
        "opponents": [one.model_dump(mode="json") for one in opponents],
        "mirror": None if shown is None else shown.model_dump(mode="json"),
        "elo_shown": {one.opponent: _elo(one.win_rate, gauntlet.players) for one in opponents},
        "games": {
            one.name: [
                {"opening": o.number, "seed": o.seed, "winners": o.winners, "digests": o.digests} for o in one.openings
            ]
            for one in series
        },
    }
    content = json.dumps(document, indent=1, sort_keys=True).encode()
    result = GauntletResult(
        report=sha256_bytes(content),
        path="",
        candidate=spec.candidate,
        gate_version=gauntlet.rules.gate_version,
        verdict=verdict,
        reason=reason,
        opponents=opponents,
        mirror=shown,
        seconds=time.monotonic() - started,
    )
    return Judged(result, content, [pair for one in series for pair in _pairs(one, gauntlet.players)])


def _elo(score: float, players: int) -> float | None:
    """Display only; None where the score has no finite Elo."""
    return round(elo_difference(score, players), 1) if 0.0 < score < 1.0 else None


def _pairs(series: _Series, players: int) -> list[GamePair]:
    whole = steps(players)
    return [
        GamePair(
            opponent=series.name,
            opening=one.number,
            seed=one.seed,
            scores=[(p or 0) / whole for p in points],
            digests=list(one.digests),
        )
        for one, points in zip(series.openings, series.points(players), strict=True)
    ]
