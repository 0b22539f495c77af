"""Comparison of an engine with recorded games, positions and evaluations: every list, state, hash, result.

An ``Engine`` answers for whole games, so that one in another process costs one exchange per game.
``compare_file`` needs nothing else of it. ``PythonEngine`` is the compiled engine of this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ringrift_ops.rules.game import Game, State, StateStringError, game
from ringrift_ops.rules.layout import PHASE_CODES, S_MARKER_COUNT, S_PHASE, S_PLAYER
from ringrift_ops.rules.notation import short_key
from ringrift_ops.rules.recordings import Line, RecordingBrokenError, read_recordings

TOLERANCE: Final = 1e-9
"""Relative difference of evaluation terms that is only rounding."""

STATE_FIELDS: Final = (
    "player", "phase", "status", "must_move", "attacker", "owed", "memory", "hands", "eliminated", "territory",
    "last_standing", "pie_rule", "stacks", "markers", "collapsed",
)  # fmt: skip
_RESULT_FIELDS: Final = ("winner", "reason", "by", "kind", "standings", "markers", "handCountsAsEliminated", "early")


@dataclass(frozen=True, slots=True)
class Step:
    """One step as an engine sees it: seat and phase before, legal list before, state, hash and early
    victory after (the trace's ``p ph l s eh ev``).
    """

    player: int
    phase: str
    legal: str
    state: str
    state_hash: str
    early: str | None


@dataclass(frozen=True)
class Trace:
    """A replayed game: its steps, then the result if it ended there. ``illegal`` is the legal list at
    the first move that is not legal, where the replay stops.
    """

    steps: Sequence[Step]
    result: Mapping[str, Any] | None
    illegal: str | None = None


@dataclass(frozen=True)
class PositionAnswer:
    """The legal list of a position, and the state string after each asked move (None: not legal)."""

    legal: str
    after: Sequence[str | None]


class Engine(Protocol):
    """What can be compared. ``name`` is shown; games are named for error messages."""

    @property
    def name(self) -> str: ...

    def trace(self, name: str, board: str, players: int, swap_rule: bool, init: str, moves: Sequence[str]) -> Trace:
        """Replay a game from its initial state string."""
        ...

    def position(self, name: str, board: str, players: int, text: str, moves: Sequence[str]) -> PositionAnswer:
        """The legal list of a state string and what each move leads to."""
        ...

    def evaluation(
        self, board: str, players: int, text: str, seat: int, marker_order: Sequence[str]
    ) -> Mapping[str, float] | None:
        """Weighted terms and ``total`` of the evaluator; None when the engine has none."""
        ...


Evaluator = Callable[[Game, State, int, Sequence[str]], Mapping[str, float]]


@dataclass(frozen=True)
class PythonEngine:
    """The engine of this package. ``evaluator``: terms for (rules, state, seat, marker keys as placed)."""

    evaluator: Evaluator | None = None
    name: str = "python"

    def trace(self, name: str, board: str, players: int, swap_rule: bool, init: str, moves: Sequence[str]) -> Trace:
        rules = game(f"{board}_{players}p")
        state = rules.parse_state(init)
        steps: list[Step] = []
        early: list[Any] | None = None
        for move in moves:
            codes = rules.legal_moves(state)
            keys = [short_key(key) for key in rules.keys(state, codes)]
            legal = " ".join(sorted(keys))
            if move not in keys:
                return Trace(steps, self._result(rules, state, early), legal)
            player, phase = int(state[S_PLAYER]), PHASE_CODES[state[S_PHASE]]
            state = rules.apply_unchecked(state, int(codes[keys.index(move)]))
            found = None if rules.is_over(state) else rules.victory_if_tested(state)
            if found is not None and early is None:
                early = [len(steps), found]
            steps.append(Step(player, phase, legal, rules.state_string(state), rules.state_hash(state), found))
        return Trace(steps, self._result(rules, state, early))

    @staticmethod
    def _result(rules: Game, state: State, early: list[Any] | None) -> Mapping[str, Any] | None:
        result = rules.result(state)
        if result is None:
            return None
        return {
            "winner": result.winner,
            "reason": result.reason,
            "by": result.by,
            "kind": result.kind,
            "standings": rules.standings(state),
            "markers": state[S_MARKER_COUNT : S_MARKER_COUNT + rules.players].tolist(),
            "handCountsAsEliminated": result.hand_counts_as_eliminated,
            "early": early,
        }

    def position(self, name: str, board: str, players: int, text: str, moves: Sequence[str]) -> PositionAnswer:
        rules = game(f"{board}_{players}p")
        state = rules.parse_state(text)
        codes = rules.legal_moves(state)
        by_key = {short_key(key): int(code) for code, key in zip(codes, rules.keys(state, codes), strict=True)}
        after = [
            rules.state_string(rules.apply_unchecked(state, by_key[move])) if move in by_key else None for move in moves
        ]
        return PositionAnswer(" ".join(sorted(map(short_key, rules.keys(state, codes)))), after)

    def evaluation(
        self, board: str, players: int, text: str, seat: int, marker_order: Sequence[str]
    ) -> Mapping[str, float] | None:
        if self.evaluator is None:
            return None
        rules = game(f"{board}_{players}p")
        return self.evaluator(rules, rules.parse_state(text), seat, marker_order)


@dataclass(frozen=True)
class FieldDifference:
    """One field that differs. For lists ``missing`` is recorded only and ``extra`` the engine's only."""

    field: str
    recorded: Any
    found: Any
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A step, position, result or evaluation in which an engine differs from the record."""

    where: str
    name: str
    step: int | None
    move: str | None
    before: str
    fields: tuple[FieldDifference, ...]

    def in_words(self) -> str:
        """All of it, over several lines."""
        at = "" if self.step is None else f", step {self.step}"
        lines = [f"{self.where}: {self.name}{at}{'' if self.move is None else f', move {self.move}'}"]
        if self.before:
            lines.append(f"  position before: {self.before}")
        for one in self.fields:
            lines.append(f"  {one.field}:")
            if one.missing or one.extra:
                lines += [f"    missing: {' '.join(one.missing) or '-'}", f"    extra:   {' '.join(one.extra) or '-'}"]
            else:
                lines += [f"    recorded: {one.recorded}", f"    found:    {one.found}"]
        return "\n".join(lines)


@dataclass
class FileReport:
    """What one engine made of one file. ``lists``, ``states`` ... count single comparisons."""

    path: Path
    engine: str
    games: int = 0
    positions: int = 0
    evaluations: int = 0
    steps: int = 0
    lists: int = 0
    states: int = 0
    hashes: int = 0
    terms: int = 0
    not_evaluated: int = 0
    differences: int = 0
    first: Difference | None = None

    @property
    def compared(self) -> int:
        return self.lists + self.states + self.terms

    @property
    def records(self) -> int:
        """Records in the file, compared or not."""
        return self.games + self.positions + self.evaluations + self.not_evaluated

    @property
    def ok(self) -> bool:
        """Something was compared and nothing differed."""
        return self.compared > 0 and self.differences == 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": str(self.path), "ok": self.ok}


class _Comparison:
    """One record against one engine; what differs is collected and closed as one difference."""

    def __init__(self, report: FileReport, line: Line, engine: Engine) -> None:
        self.report, self.line, self.record, self.engine = report, line, line.record, engine
        self._open: list[FieldDifference] = []

    def expect(self, name: str, recorded: object, found: object) -> None:
        if recorded != found:
            self._open.append(FieldDifference(name, recorded, found))

    def expect_list(self, recorded: str, found: str) -> None:
        self.report.lists += 1
        if recorded != found:
            ours, theirs = found.split(), recorded.split()
            missing, extra = _surplus(theirs, ours), _surplus(ours, theirs)
            self._open.append(FieldDifference("legal moves", recorded, found, missing, extra))

    def expect_state(self, recorded: str, found: str) -> None:
        self.report.states += 1
        if recorded == found:
            return
        theirs, ours = recorded.split(";"), found.split(";")
        if not len(theirs) == len(ours) == len(STATE_FIELDS):
            self._open.append(FieldDifference("state", recorded, found))
            return
        for name, a, b in zip(STATE_FIELDS, theirs, ours, strict=True):
            if a != b:
                lists = name in STATE_FIELDS[-3:]
                cells = (_surplus(a[1:].split(), b[1:].split()), _surplus(b[1:].split(), a[1:].split()))
                self._open.append(FieldDifference(f"state after: {name}", a, b, *(cells if lists else ())))

    def close(self, step: int | None, move: str | None, before: str) -> None:
        """Count what was found different as one difference."""
        if self._open:
            self.report.differences += 1
            if self.report.first is None:
                self.report.first = Difference(self.line.where, self.line.name, step, move, before, tuple(self._open))
            self._open = []

    def game(self) -> None:
        """Every step, then the result."""
        record, report = self.record, self.report
        report.games += 1
        before = str(record["init"])
        swap_rule = bool(record.get("swapRule", False))
        moves = [step["m"] for step in record["trace"]]
        trace = self.engine.trace(self.line.name, self.line.board, self.line.players, swap_rule, before, moves)
        for i, recorded in enumerate(record["trace"]):
            report.steps += 1
            if i >= len(trace.steps):
                self._expect_legal(recorded, trace.illegal or "")
                self.expect("move", recorded["m"], "not legal")
                self.close(i, recorded["m"], before)
                return
            self._step(recorded, trace.steps[i])
            self.close(i, recorded["m"], before)
            before = trace.steps[i].state
        found = trace.result or {}
        for name in _RESULT_FIELDS:
            if name in record["result"]:
                self.expect(f"result: {name}", record["result"][name], found.get(name))
        self.close(None, None, before)

    def _step(self, recorded: Mapping[str, Any], step: Step) -> None:
        self._expect_legal(recorded, step.legal)
        self.expect("player before", recorded["p"], step.player)
        self.expect("phase before", recorded["ph"], step.phase)
        if "s" in recorded:
            self.expect_state(recorded["s"], step.state)
        else:
            self.report.states += 1
            self.expect("state hash (sh)", recorded["sh"], _digest(step.state))
        if "eh" in recorded:
            self.report.hashes += 1
            self.expect("fingerprint hash (eh)", recorded["eh"], step.state_hash)
        self.expect("early victory (ev)", recorded.get("ev"), step.early)

    def _expect_legal(self, recorded: Mapping[str, Any], legal: str) -> None:
        if "l" in recorded:
            self.expect_list(recorded["l"], legal)
            return
        self.report.lists += 1
        self.expect("number of legal moves (n)", recorded["n"], len(legal.split()))
        self.expect("legal list hash (lh)", recorded["lh"], _digest(legal))

    def position(self) -> None:
        """The legal list, then the state after each recorded move."""
        record, report, line = self.record, self.report, self.line
        report.positions += 1
        moves = [move for move, _ in record["after"]]
        answer = self.engine.position(line.name, line.board, line.players, record["s"], moves)
        self.expect_list(record["l"], answer.legal)
        self.close(None, None, record["s"])
        for (move, recorded), found in zip(record["after"], answer.after, strict=True):
            report.steps += 1
            if found is None:
                report.states += 1
                self.expect("move", move, "not legal")
            else:
                self.expect_state(recorded, found)
            self.close(None, move, record["s"])

    def evaluation(self) -> None:
        """Every term and the total."""
        record, report, line = self.record, self.report, self.line
        found = self.engine.evaluation(line.board, line.players, record["init"], record["p"], record["mk"])
        if found is None:
            report.not_evaluated += 1
            return
        report.evaluations += 1
        for name, value in record["ev"].items():
            report.terms += 1
            term = found.get(name)
            if term is None or abs(term - value) > TOLERANCE * max(1.0, abs(value)):
                self._open.append(FieldDifference(f"term {name}", value, term))
        self.close(None, None, record["init"])


def _surplus(of: Sequence[str], over: Sequence[str]) -> tuple[str, ...]:
    """Entries of one list that the other lacks, repeated ones counted."""
    rest = list(over)
    out = []
    for one in of:
        if one in rest:
            rest.remove(one)
        else:
            out.append(one)
    return tuple(out)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare_file(path: Path, engine: Engine) -> FileReport:
    """Compare every record of a file. Raises the errors of ``recordings.py`` and what the engine raises."""
    report = FileReport(path, engine.name)
    for line in read_recordings(path):
        compare_line(report, line, engine)
    return report


def compare_line(report: FileReport, line: Line, engine: Engine) -> None:
    """Compare one record and add what was found to ``report``. Raises RecordingBrokenError."""
    comparison = _Comparison(report, line, engine)
    try:
        {"game": comparison.game, "position": comparison.position, "evaluation": comparison.evaluation}[line.shape]()
    except StateStringError as error:
        raise RecordingBrokenError(f"{line.where}: {error}") from error
