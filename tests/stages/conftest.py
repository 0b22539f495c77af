"""Real stages on small real data, made once: games, parity, a dataset, a net, a gauntlet of hex8_2p."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from ringrift_ops.home import Home
from ringrift_ops.stages import export, gauntlet, parity, selfplay, train
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.specs import (
    ExportResult,
    ExportSpec,
    GauntletResult,
    GauntletSpec,
    ParityResult,
    ParitySpec,
    SearchSettings,
    SelfplayResult,
    SelfplaySpec,
    TrainResult,
    TrainSpec,
)

CONFIG = "hex8_2p"
SPARSE = {"hidden": 16, "dense": 16}
GAMES = 40
COMMON: dict[str, Any] = {"config": CONFIG, "generation": None, "token": 0, "seed": 11}

Model = TypeVar("Model", bound=BaseModel)


def changed(spec: Model, **fields: Any) -> Model:
    """The spec with other fields, validated."""
    return type(spec).model_validate(spec.model_dump() | fields)


@dataclass(frozen=True)
class Made:
    """Specs and results of each stage on a home of its own; tests work on copies of it."""

    root: Path
    selfplay: SelfplaySpec
    played: SelfplayResult
    parity: ParitySpec
    checked: ParityResult
    export: ExportSpec
    exported: ExportResult
    train: TrainSpec
    trained: TrainResult
    gauntlet: GauntletSpec
    judged: GauntletResult


def selfplay_spec(**fields: Any) -> SelfplaySpec:
    """Searched heuristic games."""
    asked: dict[str, Any] = {
        **COMMON,
        "shard": 0,
        "games": GAMES,
        "max_moves": 425,
        "player": "heuristic",
        "weights": None,
        "search": SearchSettings(simulations=4, temperature=0.8, noise_fraction=0.25, random_move_fraction=0.05),
        "opening_plies": 6,
        "output": None,
    }
    return SelfplaySpec(**(asked | fields))


def parity_spec(*paths: str) -> ParitySpec:
    return ParitySpec(**COMMON, batches=list(paths), sample=0, fail_threshold=0.0, bundles=None)


def export_spec(*paths: str, **fields: Any) -> ExportSpec:
    asked: dict[str, Any] = {
        **COMMON, "databases": list(paths), "output": None, "max_samples": None, "split_ratio": 0.8, "window": None,
    }  # fmt: skip
    return ExportSpec(**(asked | fields))


def train_spec(exported: ExportResult, **fields: Any) -> TrainSpec:
    asked: dict[str, Any] = {
        **COMMON,
        "dataset": exported.dataset,
        "dataset_path": exported.path,
        "parent": None,
        "resume_from": None,
        "family": "sparse",
        "sizes": SPARSE,
        "epochs": 1,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "clip_norm": 1.0,
        "device": "cpu",
        "checkpoint_every_steps": 5,
        "output": None,
    }
    return TrainSpec(**(asked | fields))


def gauntlet_spec(trained: TrainResult, **fields: Any) -> GauntletSpec:
    asked: dict[str, Any] = {
        **COMMON,
        "candidate": trained.weights,
        "candidate_path": trained.path,
        "previous": None,
        "previous_path": None,
        "opponents": ["random", "heuristic"],
        "search": SearchSettings(simulations=2, temperature=0.0),
        "games_per_look": 8,
        "cap": 8,
        "cap_previous": 8,
        "mirror_games": 4,
        "max_moves": 425,
    }
    return GauntletSpec(**(asked | fields))


@contextmanager
def home_at(root: Path) -> Iterator[Home]:
    """``RINGRIFT_HOME`` for as long as the block lasts."""
    before = os.environ.get("RINGRIFT_HOME")
    os.environ["RINGRIFT_HOME"] = str(root)
    try:
        yield Home.find().ensure()
    finally:
        if before is None:
            del os.environ["RINGRIFT_HOME"]
        else:
            os.environ["RINGRIFT_HOME"] = before


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("stages") / "made"
    with home_at(root):
        asked = selfplay_spec()
        played = selfplay.run(asked, silent)
        check = parity_spec(played.path)
        checked = parity.run(check, silent)
        cut = export_spec(played.path)
        exported = export.run(cut, silent)
        teach = train_spec(exported)
        trained = train.run(teach, silent)
        judge = gauntlet_spec(trained)
        judged = gauntlet.run(judge, silent)
    return Made(root, asked, played, check, checked, cut, exported, teach, trained, judge, judged)


@pytest.fixture
def house(made: Made, home: Path) -> Home:
    """A copy of that home, this test's own."""
    shutil.copytree(made.root, home, symlinks=True)
    return Home(home)


def spec_file(folder: Path, spec: BaseModel) -> Path:
    """The spec as a stage process reads it."""
    path = folder / "spec.json"
    path.write_text(json.dumps(spec.model_dump(mode="json")))
    return path
