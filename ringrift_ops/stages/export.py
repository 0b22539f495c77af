"""Stage three: the generation's dataset, from games that passed parity and from no others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import GateError, NoDataError
from ringrift_ops.games.discovery import GamePool
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.records import Policies
from ringrift_ops.home import Home
from ringrift_ops.ledger import PoisonedArtifactError, Waiver, derived_seed
from ringrift_ops.network.dataset import TRAINING, VALIDATION, DatasetWriter, EmptyDatasetError
from ringrift_ops.network.encoder import ENCODER_VERSION
from ringrift_ops.network.samples import Sampler
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import CODES_VERSION, RULES_VERSION
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages.dense import DenseWriter, GameFacts, engine_mode_of
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.recording import open_ledger, record_dataset
from ringrift_ops.stages.specs import ExportResult, ExportSpec, Stage
from ringrift_ops.store import Store, replace_symlink

BEAT_SECONDS = 0.5


class NoPassedGamesError(NoDataError):
    """There are games, but none that parity has passed."""


class WaiverNotInForceError(GateError):
    """Games without parity are asked for, and no waiver in force allows it (R14)."""


class LostTargetsError(GateError):
    """Too few searched decisions carry their policy: targets would be thrown away (F1)."""


class ForeignPolicyError(GateError):
    """Recorded policies use another encoder's policy index."""


@dataclass(frozen=True)
class _Game:
    game_id: str
    swap_rule: bool
    opening: int
    winner: int | None
    move_hash: str
    codes: npt.NDArray[np.int64]
    policies: Policies | None
    searched: bool
    facts: GameFacts


@dataclass
class _Tally:
    read: int = 0
    used: int = 0
    unchecked: int = 0
    waived: int = 0
    without_winner: int = 0
    decisions: int = 0
    searched_decisions: int = 0
    with_policy: int = 0
    batches: list[str] = field(default_factory=list)


def run(spec: ExportSpec, report: Report) -> ExportResult:
    """Write the dataset of the spec's databases (newest first) and return what went into it.

    Memory does not grow with the number of games, but for one hash of each. Raises
    NoPassedGamesError, EmptyDatasetError, LostTargetsError, ForeignPolicyError, UnreplayableGameError
    and the errors of ``games.database``.
    """
    started = time.monotonic()
    home = Home.find()
    tally = _Tally()
    waiver = _waiver(home, spec)
    pool = GamePool((), spec.config)
    paths = [home.resolve(path) for path in spec.databases]
    total = _count(paths, spec, tally)
    _refuse_poisoned(home, spec, tally.batches)
    quotas = _quotas(spec, total)
    temporary = home.training / f".export-{spec.config}-{spec.generation}-{spec.seed & 0xFFFFFFFF:08x}.npz"
    facts = spec.model_copy(update={"token": 0}).model_dump(mode="json", exclude={"dense", "object_policies"})
    lineage = {"spec": facts, "rules_version": RULES_VERSION}
    train = 0
    with DatasetWriter(temporary, spec.config, lineage) as writer, _dense(home, spec) as dense:
        rules = game(spec.config)
        sampler = Sampler(rules)
        last = 0.0
        for one in _games(paths, spec, rules, tally):
            if not pool.is_new(one.move_hash):
                continue
            train += _add(one, spec, sampler, writer, dense, next(quotas), tally)
            if time.monotonic() - last >= BEAT_SECONDS or tally.read == total:
                last = time.monotonic()
                rate = writer.samples / max(1e-9, last - started)
                report(
                    Heartbeat(
                        stage=Stage.EXPORT,
                        phase="encoding",
                        done=tally.read,
                        total=total,
                        unit="games",
                        metrics={"samples": writer.samples, "samples_per_second": rate},
                    )
                )
        samples, policy_samples = writer.samples, writer.policy_samples
        if not samples:
            raise EmptyDatasetError(
                f"{spec.config}: no samples in {tally.read} games that passed parity: {tally.without_winner} of them "
                "have no winner (games stopped at their move cap count for nothing); play with a larger --max-moves"
            )
        soft = tally.with_policy / tally.searched_decisions if tally.searched_decisions else 1.0
        if soft < CHECKS.soft_target_minimum:
            raise LostTargetsError(
                f"{spec.config}: only {soft:.3f} of {tally.searched_decisions} searched decisions carry a policy, "
                f"at least {CHECKS.soft_target_minimum} must; look for a lost policy table in {spec.databases[0]}"
            )
    sha, path = Store(home).put(temporary, ".npz", move=True)
    if spec.output is not None:
        replace_symlink(home.resolve(spec.output), path)
    result = ExportResult(
        dataset=sha,
        path=str(home.relative(path)),
        games=tally.used,
        duplicates_removed=pool.duplicates,
        unchecked_games=tally.unchecked,
        samples=samples,
        train_samples=train,
        policy_samples=policy_samples,
        soft_target_fraction=soft,
        seconds=time.monotonic() - started,
        dense=None if spec.dense is None else str(home.relative(home.resolve(spec.dense))),
        waived_games=tally.waived,
    )
    record_dataset(home, spec, result, tally.batches, waiver)
    return result


def _quotas(spec: ExportSpec, games: int) -> Iterator[int | None]:
    """How many samples each of ``games`` games may give: together ``max_samples``, as even as whole numbers are.

    Where there are fewer samples to give than games, every so many-th game gives one; the seed says where that begins.
    """
    most, offset = spec.max_samples, spec.seed % games
    for i in itertools.count():
        yield None if most is None else ((i + 1) * most + offset) // games - (i * most + offset) // games


def _refuse_poisoned(home: Home, spec: ExportSpec, batches: list[str]) -> None:
    for poison in open_ledger(home).poisoned(batches).values():
        raise PoisonedArtifactError(
            f"{spec.config}: batch {poison.sha[:12]} was backed out by {poison.actor}: {poison.reason}; "
            "leave its database out"
        )


def _waiver(home: Home, spec: ExportSpec) -> Waiver | None:
    if spec.waiver is None:
        return None
    in_force = open_ledger(home).waivers("parity", config=spec.config)
    found = next((one for one in in_force if one.id == spec.waiver), None)
    if found is None:
        raise WaiverNotInForceError(
            f"{spec.config}: parity waiver {spec.waiver} is not in force (it has expired, or is another config's); "
            "let the games pass parity, or ask again with RINGRIFT_SKIP_PARITY=1 and RINGRIFT_WAIVER_REASON"
        )
    return found


def _dense(home: Home, spec: ExportSpec) -> AbstractContextManager[DenseWriter | None]:
    """RingRift's key set besides, if it was asked for."""
    if spec.dense is None:
        return nullcontext()
    return DenseWriter(home.resolve(spec.dense), spec.config, object_policies=spec.object_policies)


def _count(paths: list[Path], spec: ExportSpec, tally: _Tally) -> int:
    """Games that passed, over all databases. Raises NoPassedGamesError."""
    passed = 0
    for path in paths:
        with GameDatabase(path, spec.config) as database:
            counts = database.counts()
            passed += counts.passed
            if spec.waiver is None:
                tally.unchecked += counts.complete - counts.passed
            else:
                strict = sum(1 for _ in database.game_ids(passed_only=True))
                database.parity_waived = True
                tally.waived += sum(1 for _ in database.game_ids(passed_only=True)) - strict
            if database.stored_digest is not None:
                tally.batches.append(database.stored_digest)
    passed += tally.waived
    if passed == 0:
        raise NoPassedGamesError(
            f"{spec.config}: none of {tally.unchecked} games in {len(paths)} databases has passed parity; "
            f"run `ringrift parity --config {spec.config}` first"
        )
    return passed


def _games(paths: list[Path], spec: ExportSpec, rules: Game, tally: _Tally) -> Iterator[_Game]:
    """Passed games, newest database first, until the window is full."""
    moves = 0
    for path in paths:
        if spec.window is not None and moves >= spec.window:
            return
        with GameDatabase(path, spec.config) as database:
            database.parity_waived = spec.waiver is not None
            ours = database.header.get("codes_version") == CODES_VERSION
            for one in _of_ours(database) if ours else _of_others(database, rules):
                tally.read += 1
                moves += len(one.codes)
                yield one


def _of_ours(database: GameDatabase) -> Iterator[_Game]:
    for one in database.compact_games(codes_version=CODES_VERSION, passed_only=True):
        yield _Game(
            one.game_id,
            one.swap_rule,
            one.opening_plies,
            one.winner,
            one.move_hash,
            one.move_codes.astype(np.int64),
            one.policies,
            searched=engine_mode_of(one.engine_mode) == "mcts",
            facts=GameFacts(one.termination_reason, one.engine_mode),
        )


def _of_others(database: GameDatabase, rules: Game) -> Iterator[_Game]:
    """Games without our move codes: their moves are found by key, position by position."""
    for record in database.games(passed_only=True):
        state = rules.initial_state(record.swap_rule)
        codes = np.empty(len(record.moves), dtype=np.int64)
        for i, key in enumerate(record.moves):
            codes[i] = rules.parse_key(state, key)
            state = rules.apply_unchecked(state, int(codes[i]))
        yield _Game(
            record.game_id,
            record.swap_rule,
            record.opening_plies,
            record.winner,
            record.move_hash(),
            codes,
            record.policies,
            searched=record.policies is not None,
            facts=GameFacts(record.termination_reason, record.engine_mode),
        )


def _add(
    one: _Game,
    spec: ExportSpec,
    sampler: Sampler,
    writer: DatasetWriter,
    dense: DenseWriter | None,
    quota: int | None,
    tally: _Tally,
) -> int:
    """Add one game's samples; returns how many of them are for training."""
    if one.winner is None:
        tally.without_winner += 1
        return 0
    if quota == 0:
        return 0
    policies = None
    if one.policies is not None:
        if one.policies.encoder_version != ENCODER_VERSION:
            raise ForeignPolicyError(
                f"game {one.game_id}: its policies are of encoder {one.policies.encoder_version}, this is "
                f"{ENCODER_VERSION}; leave its database out or play anew"
            )
        p = one.policies
        policies = (p.move_numbers, p.row_starts, p.policy_indices, p.probabilities)
    samples = sampler.samples(one.game_id, one.codes, swap_rule=one.swap_rule, opening=one.opening, policies=policies)
    tally.used += 1
    tally.decisions += len(samples)
    if one.searched:
        tally.searched_decisions += len(samples)
        tally.with_policy += int(np.count_nonzero(np.diff(samples.policy_indptr)))
    if quota is not None and len(samples) > quota:
        draw = np.random.default_rng(derived_seed(spec.seed, one.game_id))
        samples = samples.chosen(np.sort(draw.choice(len(samples), quota, replace=False)))
    split = TRAINING if derived_seed(spec.seed, one.move_hash) % 10_000 < spec.split_ratio * 10_000 else VALIDATION
    writer.add_game(
        samples.rows,
        samples.values,
        samples.plies,
        split,
        samples.policy_indptr,
        samples.policy_indices,
        samples.policy_values,
    )
    if dense is not None:
        dense.add_game(one.facts, samples, one.codes)
    return len(samples) if split == TRAINING else 0
