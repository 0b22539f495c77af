"""Stage two: every recorded game is replayed by two independent rule engines, step by step.

Before each move the number and an order-free hash of the legal moves, after it phase, seat and state hash, at the end
the result, and all of it against the record. TypeScript is given the record's own move JSON, Python the keys read
from it. Nothing is exported that has not passed here (F17, F20).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from ringrift_ops.errors import NoDataError
from ringrift_ops.games.reader import ParityVerdict
from ringrift_ops.home import Home
from ringrift_ops.parity.bundles import Side, bundle_of, bundle_path, python_side, typescript_side, write_bundle
from ringrift_ops.parity.compare import Divergence, compare, typescript_replay
from ringrift_ops.parity.node import SERVER, EngineError, EngineProcess, replay_request
from ringrift_ops.parity.replay import Replay, Replayer
from ringrift_ops.parity.verdicts import BadRecord, CheckedDatabase, Recorded, now
from ringrift_ops.rules.compile import PACKAGE
from ringrift_ops.rules.game import game as rules_of
from ringrift_ops.settings.names import config_named
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.recording import record_parity
from ringrift_ops.stages.specs import ParityFailure, ParityResult, ParitySpec, Stage
from ringrift_ops.store import Store

_AHEAD: Final = 6
"""Games submitted before the oldest answer is fetched: both engines work at the same time, memory stays flat."""

_FLUSH_GAMES: Final = 256
_FLUSH_SECONDS: Final = 2.0
_BEAT_SECONDS: Final = 0.5
_WHOLE_GAME: Final = -1
"""``ParityFailure.move`` of a record that cannot be read at all."""


class NothingToCheckError(NoDataError):
    """No database, or none with a complete game of the config."""


@dataclass
class _Tally:
    """What one database came to."""

    path: str
    digest: str | None
    games: int
    passed: int = 0
    failed: int = 0
    without_end: list[str] = field(default_factory=list)


@dataclass
class _Check:
    """One run over all databases of a spec."""

    spec: ParitySpec
    report: Report
    engine: EngineProcess
    examiner: EngineProcess
    folder: Path
    replayer: Replayer
    total: int = 0
    done: int = 0
    failures: list[tuple[ParityFailure, str]] = field(default_factory=list)
    databases: list[_Tally] = field(default_factory=list)
    _beaten: float = 0.0

    def verdicts(self) -> dict[str, tuple[bool, int, int]]:
        """By batch digest: whether it passed, games checked, games failed. Files of others have no digest."""
        return {
            one.digest: (
                one.failed <= self.spec.fail_threshold * (one.passed + one.failed),
                one.passed + one.failed,
                one.failed,
            )
            for one in self.databases
            if one.digest is not None
        }

    # ---- one database -----------------------------------------------------------------------------------------

    def check(self, database: CheckedDatabase) -> None:
        """Check one database and write its verdicts."""
        tally = _Tally(str(database.path), database.digest, database.games)
        self.databases.append(tally)
        database.begin()
        self._skip_games_without_end(database, tally)
        verdicts: list[ParityVerdict] = []
        written = time.monotonic()
        for verdict in self._verdicts(database, tally):
            verdicts.append(verdict)
            if len(verdicts) >= _FLUSH_GAMES or time.monotonic() - written >= _FLUSH_SECONDS:
                database.write(verdicts)
                verdicts, written = [], time.monotonic()
            self.beat(database.path.name)
        database.write(verdicts)
        database.finish(passed=tally.passed, failed=tally.failed)

    def _skip_games_without_end(self, database: CheckedDatabase, tally: _Tally) -> None:
        tally.without_end = [f"{game_id}: {why}" for game_id, why in database.without_end()]
        skipped = (one.partition(": ")[0] for one in tally.without_end)
        database.write([ParityVerdict(game_id, "skipped", None, now()) for game_id in skipped])

    def _verdicts(self, database: CheckedDatabase, tally: _Tally) -> Iterator[ParityVerdict]:
        """Verdicts in order of game id; both engines are kept busy."""
        ahead: deque[tuple[Recorded, Replay]] = deque()
        for game_id in database.selected(self.spec.sample, self.spec.seed):
            if database.has_passed(game_id):
                self.done += 1
                tally.passed += 1
                continue
            recorded = database.recorded(game_id)
            if isinstance(recorded, BadRecord):
                yield self._bad_record(database, tally, recorded)
                continue
            record = recorded.record
            self.engine.submit(self._request(recorded))
            ahead.append((recorded, self.replayer.replay(record.moves, swap_rule=record.swap_rule)))
            if len(ahead) > _AHEAD:
                yield self._verdict(database, tally, *ahead.popleft())
        while ahead:
            yield self._verdict(database, tally, *ahead.popleft())

    def _request(self, recorded: Recorded) -> Any:
        record = recorded.record
        row = config_named(record.config)
        return replay_request(record.game_id, row.board, row.players, recorded.moves, swap_rule=record.swap_rule)

    # ---- one game ---------------------------------------------------------------------------------------------

    def _verdict(self, database: CheckedDatabase, tally: _Tally, recorded: Recorded, python: Replay) -> ParityVerdict:
        self.done += 1
        record = recorded.record
        try:
            divergence = compare(record, python, typescript_replay(self.engine.answer()))
            status = "failed"
        except EngineError as error:
            divergence = Divergence(error.move or 0, (error.kind,), str(error))
            status = "error"
        if divergence is None:
            tally.passed += 1
            return ParityVerdict(record.game_id, "passed", None, now())
        bundle = self._bundle(database.path, recorded, divergence)
        self._fail(database, tally, record.game_id, divergence.move, divergence.kinds, divergence.message, bundle)
        return ParityVerdict(record.game_id, status, divergence.move, now())

    def _bad_record(self, database: CheckedDatabase, tally: _Tally, bad: BadRecord) -> ParityVerdict:
        self.done += 1
        move = _WHOLE_GAME if bad.move is None else bad.move
        self._fail(database, tally, bad.game_id, move, (bad.kind,), bad.message, "")
        return ParityVerdict(bad.game_id, "failed", bad.move, now())

    def _fail(
        self,
        database: CheckedDatabase,
        tally: _Tally,
        game_id: str,
        move: int,
        kinds: tuple[str, ...],
        message: str,
        bundle: str,
    ) -> None:
        tally.failed += 1
        failure = ParityFailure(
            database=str(database.path), game_id=game_id, move=move, kinds=list(kinds), bundle=bundle
        )
        self.failures.append((failure, message))
        self.beat(f"{database.path.name}, game {game_id}, move {move}: {', '.join(kinds)}: {message}", always=True)

    def _bundle(self, path: Path, recorded: Recorded, divergence: Divergence) -> str:
        record, rules = recorded.record, self.replayer.rules
        start = rules.state_string(rules.initial_state(record.swap_rule))
        mine = python_side(rules, record, divergence.move)
        if divergence.kinds[0].startswith("engine_"):
            theirs = Side(None, None, None, None, divergence.message)
        else:
            theirs = typescript_side(self.examiner, record, recorded.moves, divergence.move, start)
        file = bundle_path(self.folder, path, record.game_id, divergence.move)
        return str(write_bundle(file, bundle_of(path, record, divergence, mine, theirs)))

    def beat(self, message: str, *, always: bool = False) -> None:
        """Say where the check stands, at most every half second."""
        moment = time.monotonic()
        if always or moment - self._beaten >= _BEAT_SECONDS or self.done == self.total:
            self._beaten = moment
            self.report(
                Heartbeat(
                    stage=Stage.PARITY,
                    phase="comparing",
                    done=self.done,
                    total=self.total,
                    unit="games",
                    message=message,
                    metrics={"failed": len(self.failures)},
                )
            )


def run(spec: ParitySpec, report: Report, *, script: Path = SERVER) -> ParityResult:
    """Replay the spec's games with both engines and write a verdict per game into the databases.

    ``passed`` is whether at most ``fail_threshold`` of the games checked failed; an engine's crash fails its game.
    Killed and started again with the same spec, it goes on with the games it has not passed. ``script`` is the
    server of the second engine.

    Raises NothingToCheckError, NodeMissingError, NodeDyingError, WriteError and the errors of
    ``games/database.py``; none of them leaves a verdict that is not true.
    """
    started = time.monotonic()
    home = Home.find()
    paths = list(dict.fromkeys(home.resolve(batch) for batch in spec.batches))
    if not paths:
        raise NothingToCheckError(f"no database of {spec.config} was named; run selfplay first, or give --db FILE")
    with ExitStack() as stack:
        check = _Check(
            spec,
            report,
            stack.enter_context(EngineProcess(script)),
            EngineProcess(script),
            home.resolve(spec.bundles) if spec.bundles else home.parity,
            Replayer(rules_of(spec.config)),
        )
        stack.callback(check.examiner.close)
        name = _check_name(spec, script)
        opened = [stack.enter_context(CheckedDatabase(path, spec.config, name)) for path in paths]
        games = [database.games for database in opened]
        check.total = sum(min(count, spec.sample or count) for count in games)
        if not check.total:
            raise NothingToCheckError(_why_nothing(spec, opened))
        check.beat("")
        for database, count in zip(opened, games, strict=True):
            if count:
                check.check(database)
        result = _result(check, Store(home), script, time.monotonic() - started)
    record_parity(home, spec, result, check.verdicts())
    return result


def _why_nothing(spec: ParitySpec, databases: list[CheckedDatabase]) -> str:
    for database in databases:
        for game_id, why in database.without_end():
            return f"{database.path} holds no complete game of {spec.config}; game {game_id}: {why}"
    return f"{', '.join(str(one.path) for one in databases)}: no games of {spec.config}; run selfplay first"


def _result(check: _Check, store: Store, script: Path, seconds: float) -> ParityResult:
    spec, failed = check.spec, len(check.failures)
    passed = failed <= spec.fail_threshold * check.done
    kinds = Counter(kind for failure, _ in check.failures for kind in failure.kinds)
    bad_records = sum(not failure.bundle for failure, _ in check.failures)
    content = {
        "format": "ringrift parity report 1",
        "config": spec.config,
        "generation": spec.generation,
        "engines": {"python": _python_digest(), "typescript": _digest(script.parent, "*.ts")},
        "sample": spec.sample,
        "seed": spec.seed,
        "fail_threshold": spec.fail_threshold,
        "mode": "canonical",
        "view_mode": "post_move",
        "passed_canonical_parity_gate": failed == 0,
        "passed": passed,
        "total_databases": len(check.databases),
        "total_games_checked": check.done,
        "games_with_semantic_divergence": failed - bad_records,
        "games_with_structural_issues": bad_records,
        "games_with_non_canonical_history": kinds["non_canonical_history"],
        "mismatch_counts_by_dimension": dict(sorted(kinds.items())),
        "databases": [vars(tally) for tally in check.databases],
        "failures": [{**failure.model_dump(), "message": message} for failure, message in check.failures],
    }
    sha, _ = store.put(json.dumps(content, indent=1).encode() + b"\n", ".parity.json")
    return ParityResult(
        report=sha,
        checked=check.done,
        failed=failed,
        failures=[failure for failure, _ in check.failures],
        passed=passed,
        seconds=round(seconds, 3),
    )


def _check_name(spec: ParitySpec, script: Path) -> str:
    """Names a check by what decides its verdicts: the games drawn and both engines."""
    drawn = f"{spec.sample} {spec.seed}" if spec.sample else "all"
    text = f"{spec.config} {spec.generation} {drawn} {_python_digest()} {_digest(script.parent, '*.ts')}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _python_digest() -> str:
    return _digest(PACKAGE / "rules", "*.py") + _digest(PACKAGE / "parity", "*.py")


@cache
def _digest(folder: Path, pattern: str) -> str:
    """First 16 hex digits of the sha256 over a folder's sources."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
