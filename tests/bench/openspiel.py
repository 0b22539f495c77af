"""Random play-outs of OpenSpiel's games by its own C++ loop. Run by the interpreter of the bench's own environment.

Prints one JSON object per game: its name, steps per second of each run, mean length of a game, and the speed of the
same play-outs driven from Python.
"""

import json
import random
import sys
import time
from typing import Any

import pyspiel

SAMPLE_SECONDS = 1.0


def driven_from_python(game: Any, seconds: float) -> tuple[float, float]:
    """Return (mean length of a random game, steps per second)."""
    rng = random.Random(1)
    games, steps = 0, 0
    began = time.process_time()
    while games < 20 or time.process_time() - began < seconds:
        state = game.new_initial_state()
        while not state.is_terminal():
            state.apply_action(rng.choice(state.legal_actions()))
            steps += 1
        games += 1
    return steps / games, steps / (time.process_time() - began)


def by_its_own_loop(game: Any, playouts: int, seed: int) -> float:
    """Return the seconds of so many play-outs from the start: one simulation of its search, which evaluates by them."""
    evaluator = pyspiel.RandomRolloutEvaluator(playouts, seed)
    bot = pyspiel.MCTSBot(game, evaluator, 2.0, 1, 100, False, seed, False)
    state = game.new_initial_state()
    began = time.process_time()
    bot.step(state)
    return time.process_time() - began


def main(names: list[str], runs: int, seconds: float) -> None:
    """Measure every game for ``runs`` runs of about ``seconds``."""
    for name in names:
        game = pyspiel.load_game(name)
        length, driven = driven_from_python(game, max(seconds, SAMPLE_SECONDS))
        trial = by_its_own_loop(game, 20, 1) / 20
        playouts = max(20, round(seconds / trial))
        speeds = [playouts * length / by_its_own_loop(game, playouts, 2 + run) for run in range(runs)]
        print(json.dumps({"game": name, "speeds": speeds, "length": length, "driven": driven}), flush=True)


if __name__ == "__main__":
    main(sys.argv[3:], int(sys.argv[1]), float(sys.argv[2]))
