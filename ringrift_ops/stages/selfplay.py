"""Stage one: a shard of games, every seat played by the same player, into one batch.

Each game depends on the spec's seed and its own number alone, so a shard that was killed goes on
with the games that are missing, and the same spec makes the same moves wherever it runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from ringrift_ops.errors import GateError
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.records import GameRecord, Seat
from ringrift_ops.games.writer import BatchMismatchError, BatchWriter, FinishedBatch
from ringrift_ops.home import Home
from ringrift_ops.hosts.facts import features
from ringrift_ops.ledger import derived_seed
from ringrift_ops.network.encoder import ENCODER_VERSION
from ringrift_ops.network.weights import load_network
from ringrift_ops.players.batched import GameOrder, PlayedGame, games_of
from ringrift_ops.players.play import Policies, new_policies, no_policies
from ringrift_ops.players.recording import Recorder
from ringrift_ops.players.roster import Openings, Player, PlayerKind
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import CODES_VERSION
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.placement import batch_path
from ringrift_ops.stages.recording import record_games
from ringrift_ops.stages.specs import SelfplayResult, SelfplaySpec, Stage
from ringrift_ops.store import Store

BEAT_SECONDS = 0.5


class RepeatedGamesError(GateError):
    """Too many games of a generation's batch are the same game over again (F11)."""


def player_of(home: Home, spec: SelfplaySpec) -> Player:
    """The player of every seat. Raises MissingObjectError and the errors of strict loading."""
    network = None
    if spec.weights is not None:
        network = load_network(Store(home).get(spec.weights, ".safetensors", verify=True), spec.config)
    return Player(PlayerKind(spec.player), spec.search, network)


def policy_room(spec: SelfplaySpec, player: Player) -> Policies:
    """Buffers for the policies of one game: none for plain play."""
    if player.search.simulations == 0 or player.kind is PlayerKind.RANDOM:
        return no_policies()
    return new_policies(spec.max_moves, spec.max_moves * player.search.simulations)


def run(spec: SelfplaySpec, report: Report) -> SelfplayResult:
    """Play the games of one shard and return the finished batch.

    A batch that is already complete is returned as it is; a generation's shard is named by its numbers,
    any other must have been asked for by the same spec. Raises RepeatedGamesError for a generation's batch,
    the errors of ``games.writer`` (busy, other spec, disk) and of loading the net.
    """
    started = time.monotonic()
    home = Home.find()
    path = batch_path(home, spec)
    header = {"stage": Stage.SELFPLAY.value, "spec": spec.model_copy(update={"token": 0}).model_dump_json()}
    if path.exists():
        with GameDatabase(path, spec.config) as database:
            if spec.generation is None and database.header.get("spec") != header["spec"]:
                raise BatchMismatchError(
                    f"{path} holds games that were asked for otherwise; name another --output or --seed for these"
                )
            batch = database.finished()
    else:
        with BatchWriter(path, spec.config, codes_version=CODES_VERSION, header=header) as writer:
            _play_missing(home, spec, writer, report)
            batch = writer.finish()
    result = result_of(home, batch, time.monotonic() - started).model_copy(update={"features": features()})
    if spec.generation is not None and result.distinct_fraction < CHECKS.distinct_games:
        raise RepeatedGamesError(
            f"{path}: only {result.distinct_fraction:.1%} of {result.games} games are distinct, at least "
            f"{CHECKS.distinct_games:.0%} must be; raise temperature, noise or opening_plies of the profile"
        )
    record_games(home, spec, result)
    return result


def _play_missing(home: Home, spec: SelfplaySpec, writer: BatchWriter, report: Report) -> None:
    rules = game(spec.config)
    player = player_of(home, spec)
    recorder = Recorder(rules, ENCODER_VERSION)
    begun, last, before, moves = time.monotonic(), 0.0, len(writer), 0
    starts: dict[int, datetime] = {}

    def beat() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < BEAT_SECONDS and len(writer) < spec.games:
            return
        last = now
        rate = (len(writer) - before) / max(1e-9, now - begun)
        report(
            Heartbeat(
                stage=Stage.SELFPLAY,
                phase="playing",
                done=len(writer),
                total=spec.games,
                unit="games",
                metrics={"games_per_second": rate, "moves_per_second": moves / max(1e-9, now - begun)},
            )
        )

    for played in games_of(
        rules,
        [player],
        _missing(spec, rules, writer, starts),
        max_moves=spec.max_moves,
        new_room=lambda: policy_room(spec, player),
        meanwhile=beat,
    ):
        moves += len(played.codes)
        writer.add(_record(spec, player, recorder, played, starts.pop(played.order.number)))
        beat()


def _game_id(spec: SelfplaySpec, number: int) -> str:
    run = f"g{spec.generation}" if spec.generation is not None else f"x{spec.seed & 0xFFFFFFFF:08x}"
    return f"{spec.config}-{run}-s{spec.shard}-{number:06d}"


def _missing(spec: SelfplaySpec, rules: Game, writer: BatchWriter, starts: dict[int, datetime]) -> Iterator[GameOrder]:
    """The games not recorded yet; when each is asked for goes into ``starts``."""
    openings = Openings(rules)
    seats = np.zeros(rules.players, dtype=np.int64)
    for number in range(spec.games):
        if _game_id(spec, number) in writer.recorded:
            continue
        seed = derived_seed(spec.seed, number)
        starts[number] = datetime.now(UTC)
        start = rules.initial_state()
        opening = openings.draw(start, spec.opening_plies, derived_seed(seed, "opening"))[: spec.max_moves]
        yield GameOrder(number, start, opening, seats, seed)


def _record(
    spec: SelfplaySpec, player: Player, recorder: Recorder, played: PlayedGame, started: datetime
) -> GameRecord:
    order = played.order
    return recorder.record(
        order.start,
        played.codes,
        played.policies,
        game_id=_game_id(spec, order.number),
        seed=order.seed,
        swap_rule=False,
        players=[Seat(ai_type=player.label, ai_profile_id=spec.weights)] * len(order.seats),
        started=started,
        opening_plies=len(order.opening),
        source="selfplay",
        engine_mode=player.label,
        metadata={"generation": spec.generation, "shard": spec.shard, "simulations": spec.search.simulations},
    )


def result_of(home: Home, batch: FinishedBatch, seconds: float) -> SelfplayResult:
    """Return what a finished batch is, as the stage's answer."""
    return SelfplayResult(
        batch=batch.digest,
        path=str(home.relative(batch.path)),
        games=batch.games,
        moves=batch.moves,
        distinct_fraction=batch.distinct / batch.games,
        policy_games=batch.policy_games,
        seconds=seconds,
    )
