"""Speed of the rules: random play-outs of every config, its peers in OpenSpiel, and compiling cold."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from ringrift_ops.home import project_folder
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import MOVE_BUFFER
from ringrift_ops.rules.playout import random_games
from ringrift_ops.settings import CONFIGS
from tests.bench.figures import Row, Sheet
from tests.bench.machine import CACHE_VARIABLE, BenchError, one_core, scratch
from tests.bench.scale import Scale

FLOOR: Final = 1_000_000
"""Steps per second on a small board with two players below which ``make bench-rules`` fails."""

LONGEST: Final = 20_000
COMPILE_SECONDS: Final = 60.0

OPENSPIEL: Final = "open-spiel==2.0.2"

PEERS: Final = {
    "square8_2p": "checkers",
    "hex8_2p": "havannah(board_size=5)",
    "square8_3p": "chinese_checkers(players=3)",
    "hex8_3p": "chinese_checkers(players=3)",
    "square8_4p": "chinese_checkers(players=4)",
    "hex8_4p": "chinese_checkers(players=4)",
    "square19_2p": "go(board_size=19)",
    "hexagonal_2p": "havannah(board_size=13)",
}
"""The game of OpenSpiel nearest in board and players; havannah's 5 and 13 have the cells of hex8 and hexagonal."""

ALSO: Final = ("hex(board_size=8)", "chinese_checkers(players=2)")


def target(config: str) -> float:
    """Steps per second to reach."""
    row = CONFIGS[config]
    if row.large:
        return 250_000
    return 3_000_000 if row.players == 2 else 1_500_000


def playouts(scale: Scale) -> list[Row]:
    """Steps per second of random games, all twelve configs."""
    sheet = Sheet("rules")
    with one_core():
        for config in CONFIGS:
            speeds, length = _speeds(config, scale.runs, scale.seconds)
            peer = PEERS.get(config)
            sheet.add(
                playout_name(config),
                speeds,
                "steps/s",
                target=target(config),
                peer=None if peer is None else peer_name(peer),
                note=f"{length:.0f} steps per game",
            )
    return sheet.rows


def playout_name(config: str) -> str:
    return f"play-outs {config}"


def peer_name(game_name: str) -> str:
    return f"OpenSpiel {game_name}"


def _speeds(config: str, runs: int, seconds: float) -> tuple[list[float], float]:
    """Steps per second of each run, and the mean length of a game."""
    rules = game(config)
    start, moves = rules.initial_state(), np.empty(MOVE_BUFFER, dtype=np.int64)

    def play(games: int, seed: int) -> tuple[int, float]:
        began = time.process_time()
        steps, _ = random_games(rules.geometry, start, games, seed, LONGEST, moves, rules.zero)
        return steps, time.process_time() - began

    play(1, 1)  # loads what was compiled
    games, spent = 4, 0.0
    while spent < seconds / 8:
        games *= 2
        _, spent = play(games, 2)
    games = max(1, round(games * seconds / spent))
    measured = [play(games, 3 + run) for run in range(runs)]
    return [steps / took for steps, took in measured], sum(steps for steps, _ in measured) / (games * runs)


def too_slow(rows: list[Row]) -> list[str]:
    """The small two-player boards below the floor, in words. The best run counts: others only ever slow one down."""
    return [
        f"{config}: {row.best or row.figure or 0:,.0f} steps/s, the floor is {FLOOR:,}"
        for config in ("square8_2p", "hex8_2p")
        for row in rows
        if row.name == playout_name(config) and (row.best or row.figure or 0) < FLOOR
    ]


# ---- peers ----------------------------------------------------------------------------------------------------


class NotInstallableError(BenchError):
    """The peers cannot be had here; what pip said is the message."""


def peers(scale: Scale) -> list[Row]:
    """Steps per second of OpenSpiel's random play-outs; rows without figures where it cannot be installed."""
    sheet = Sheet("peers")
    names = list(dict.fromkeys([*PEERS.values(), *ALSO]))
    try:
        python = _environment()
    except NotInstallableError as error:
        print(f"!! NO PEERS: {OPENSPIEL} cannot be installed here: {error}")
        for name in names:
            sheet.add(peer_name(name), None, "steps/s", note=f"{OPENSPIEL} could not be installed")
        return sheet.rows
    script = Path(__file__).with_name("openspiel.py")
    command = [str(python), str(script), str(scale.runs), str(scale.seconds), *names]
    with one_core(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            one = json.loads(line)
            note = f"{one['length']:.0f} steps per game; {one['driven']:,.0f} steps/s when driven from Python"
            sheet.add(peer_name(one["game"]), one["speeds"], "steps/s", note=note)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return sheet.rows


def _environment() -> Path:
    """The interpreter of an environment of its own that holds OpenSpiel, made when it is missing."""
    folder = project_folder() / ".ringrift" / "bench-venv"
    python = folder / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", "import pyspiel"], capture_output=True).returncode == 0:
        return python
    print(f"   installing {OPENSPIEL} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", OPENSPIEL],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise NotInstallableError(said[-1] if said else f"{command[0]} ended with {done.returncode}")
    return python


# ---- compiling ------------------------------------------------------------------------------------------------


def compiling(scale: Scale) -> list[Row]:
    """Seconds from an empty cache until everything is compiled, and from a full one."""
    sheet = Sheet("compile")
    folder = Path(tempfile.mkdtemp(prefix="numba-", dir=scratch()))
    command = [sys.executable, "-m", "ringrift_ops.cli", "rules", "compile"]
    try:
        for name, aim in (("cold: everything, empty cache", COMPILE_SECONDS), ("warm: everything, full cache", None)):
            began, before = time.perf_counter(), os.times()
            subprocess.run(command, env=os.environ | {CACHE_VARIABLE: str(folder)}, check=True, capture_output=True)
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            sheet.add(
                f"compiling {name}",
                time.perf_counter() - began,
                "s",
                target=aim,
                better="lower",
                note=f"`ringrift rules compile`, {spent:.0f} s of processor time",
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sheet.rows
