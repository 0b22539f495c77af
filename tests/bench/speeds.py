"""Speed of records, parity, export, self-play, search and training: hex8_2p, compiled beforehand, one core.

Processor time of everything that works, the second engine's process included.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch

from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.writer import BatchWriter
from ringrift_ops.home import Home
from ringrift_ops.ledger import derived_seed
from ringrift_ops.network.dataset import open_dataset
from ringrift_ops.network.plan import Plan
from ringrift_ops.network.training import train
from ringrift_ops.network.weights import fresh_network
from ringrift_ops.players.play import new_policies
from ringrift_ops.players.roster import Openings, Player, PlayerKind, Roster
from ringrift_ops.rules.game import game
from ringrift_ops.settings import CONFIGS, PROFILES, Settings
from ringrift_ops.stages import export, parity, selfplay
from ringrift_ops.stages.heartbeat import Heartbeat
from ringrift_ops.stages.order import Order
from ringrift_ops.stages.specs import ExportResult, SearchSettings, SelfplaySpec
from tests.bench.figures import Row, Sheet
from tests.bench.machine import one_core, processor_time, temporary_home
from tests.bench.scale import Scale

CONFIG: Final = "hex8_2p"
PROFILE: Final = "quick"
SIMULATIONS: Final = 64
"""Of the searches that are measured."""

PARITY, WRITING, EXPORT = 60.0, 300.0, 10_000.0
"""Games, games and samples per second to reach."""


def silent(_: Heartbeat) -> None:
    """No progress is shown."""


def order(home: Home, seed: int) -> Order:
    """The rows of the measured profile."""
    return Order.outside(Settings.load(home), CONFIG, PROFILE, seed)


def selfplay_spec(home: Home, games: int, seed: int, simulations: int, output: Path) -> SelfplaySpec:
    """Heuristic games as the first generation plays them, plain or searched."""
    spec = order(home, seed).selfplay(parent=None, shard=0, games=games, output=str(output))
    search = spec.search.model_copy(update={"simulations": simulations})
    return spec.model_copy(update={"player": "heuristic", "search": search})


def speeds(scale: Scale) -> list[Row]:
    """All figures of this part."""
    sheet = Sheet("speeds")
    torch.set_num_threads(1)
    with temporary_home() as home, one_core():
        plain = _selfplay(sheet, home, scale)
        _writing(sheet, home, scale, plain)
        _parity(sheet, home, scale, plain)
        dataset = _export(sheet, home, scale, "values only", plain)
        _training(sheet, home, scale, "values only", dataset)
        searched = home.games / "searched.db"
        selfplay.run(selfplay_spec(home, max(8, scale.games // 4), 7, 16, searched), silent)
        parity.run(order(home, 7).parity(batches=[str(searched)]), silent)
        dataset = _export(sheet, home, scale, "with policies", searched)
        _training(sheet, home, scale, "with policies", dataset)
        _search(sheet, scale)
    return sheet.rows


def _selfplay(sheet: Sheet, home: Home, scale: Scale) -> Path:
    """Whole games by the stage, records written; returns the last batch."""
    selfplay.run(selfplay_spec(home, 2, 1, 0, home.games / "first.db"), silent)  # loads what was compiled
    rates, path = [], home.games / "first.db"
    for run in range(scale.runs):
        path = home.games / f"plain{run}.db"
        spec = selfplay_spec(home, scale.games, 100 + run, 0, path)
        spent, _ = processor_time(selfplay.run, spec, silent)
        rates.append(scale.games / spent)
    sheet.add("heuristic self-play, recorded", rates, "games/s", note=f"{CONFIG}, plain, profile {PROFILE}")
    return path


def _writing(sheet: Sheet, home: Home, scale: Scale, batch: Path) -> None:
    """Records that are there already, into a new batch, to the end of its fsync."""
    with GameDatabase(batch, CONFIG) as database:
        records = list(database.games())
        codes_version = database.header["codes_version"]

    def write(path: Path) -> None:
        with BatchWriter(path, CONFIG, codes_version=codes_version) as writer:
            for record in records:
                writer.add(record)
            writer.finish()

    rates, slowest = [], 0.0
    for run in range(scale.runs):
        began = time.perf_counter()
        spent, _ = processor_time(write, home.games / f"written{run}.db")
        slowest = max(slowest, time.perf_counter() - began)
        rates.append(len(records) / spent)
    note = (
        f"{CONFIG}, {len(records)} games a batch; at least {len(records) / slowest:,.0f}/s with the waits for the disk"
    )
    sheet.add("writing records", rates, "games/s", target=WRITING, note=note)


def _parity(sheet: Sheet, home: Home, scale: Scale, batch: Path) -> None:
    """Every game by both engines, every legal list and hash; Node's start included. The batch itself passes."""
    rates = []
    for run in range(scale.runs):
        copy = shutil.copy(batch, home.games / f"parity{run}.db")
        spec = order(home, 1).parity(batches=[str(copy)])
        spent, _ = processor_time(parity.run, spec, silent)
        rates.append(scale.games / spent)
    note = f"{CONFIG}, both engines and hashes; RingRift's own script: 0.1 (its operators' figure, not this run)"
    sheet.add("parity", rates, "games/s", target=PARITY, note=note)
    parity.run(order(home, 1).parity(batches=[str(batch)]), silent)


def _export(sheet: Sheet, home: Home, scale: Scale, what: str, batch: Path) -> ExportResult:
    """The dataset of one batch that has passed."""
    rates = []
    export.run(order(home, scale.runs).export(databases=[str(batch)], window=None, output=None), silent)  # warms up
    for run in range(scale.runs):
        spec = order(home, run).export(databases=[str(batch)], window=None, output=None)
        spent, result = processor_time(export.run, spec, silent)
        rates.append(result.samples / spent)
    note = f"{CONFIG}, {result.samples:,} samples of {result.games} games; RingRift: 94 (not this run)"
    sheet.add(f"export, {what}", rates, "samples/s", target=EXPORT, note=note)
    size = home.resolve(result.path).stat().st_size
    sheet.add(f"dataset, {what}", size / result.samples, "bytes/sample", better="lower", note=CONFIG)
    return result


def _training(sheet: Sheet, home: Home, scale: Scale, what: str, dataset: ExportResult) -> None:
    """Whole trainings with their validation and checks, one thread."""
    row, config = PROFILES[PROFILE], CONFIGS[CONFIG]
    opened = open_dataset(home.resolve(dataset.path), CONFIG)
    rates = []
    for run in range(scale.runs):
        plan = Plan(
            config=CONFIG,
            family="sparse",
            sizes=config.sizes("sparse"),
            epochs=2,
            batch_size=row.batch_size,
            learning_rate=row.learning_rate,
            weight_decay=row.weight_decay,
            clip_norm=row.clip_norm,
            seed=run,
            device="cpu",
            threads=1,
            checkpoint_every_steps=row.checkpoint_every_steps,
        )
        folder = home.training / f"bench-{what.replace(' ', '-')}-{run}"
        folder.mkdir()
        spent, _ = processor_time(
            train, plan, opened, None, dataset_sha=dataset.dataset, parent_sha=None, train_spec="", folder=folder
        )
        rates.append(plan.epochs * dataset.train_samples / spent)
    note = f"{CONFIG}, batch {row.batch_size}, 2 epochs of {dataset.train_samples:,} samples, validation and checks"
    sheet.add(f"training the sparse net, {what}", rates, "samples/s", note=note)


def _search(sheet: Sheet, scale: Scale) -> None:
    """Simulations per second of PUCT inside whole games, one game at a time."""
    config = CONFIGS[CONFIG]
    search = SearchSettings(simulations=SIMULATIONS, temperature=0.8, noise_fraction=0.25)
    net = fresh_network(CONFIG, "sparse", config.sizes("sparse"), 1)
    for what, player in (
        ("heuristic", Player(PlayerKind.HEURISTIC, search)),
        (f"sparse net, hidden {config.sparse['hidden']}", Player(PlayerKind.NET, search, net)),
    ):
        one = _one_game(player, config.max_moves)
        one(0)  # loads what was compiled
        rates = []
        for run in range(scale.runs):
            done, spent, seed = 0, 0.0, 1000 * (run + 1)
            while spent < scale.seconds:
                took, made = processor_time(one, seed)
                done, spent, seed = done + made, spent + took, seed + 1
            rates.append(done / spent)
        note = f"{CONFIG}, {SIMULATIONS} simulations per move, forced moves not counted"
        sheet.add(f"PUCT, {what}", rates, "simulations/s", note=note)


def _one_game(player: Player, max_moves: int) -> Callable[[int], int]:
    """A function of a seed that plays one game and returns the simulations made."""
    rules = game(CONFIG)
    roster, openings = Roster(rules, [player]), Openings(rules)
    policies = new_policies(max_moves, max_moves * SIMULATIONS)
    seats, record = np.zeros(rules.players, dtype=np.int64), np.empty(max_moves, dtype=np.int64)
    start = rules.initial_state()

    def play(seed: int) -> int:
        opening = openings.draw(start, PROFILES[PROFILE].opening_plies, derived_seed(seed, "opening"))
        roster.play(start, opening, seats, derived_seed(seed, "game"), record, policies)
        return int(policies.used[0]) * SIMULATIONS

    return play
