"""``ringrift rules``."""

from __future__ import annotations

import sys
import time

import typer

_BOARDS = ("square8", "hex8", "square19", "hexagonal")


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="The rule engines.", no_args_is_help=True)
    group.callback()(_group)
    group.command("compile")(compile_rules)
    app.add_typer(group, name="rules")


def _group() -> None:
    """The rule engines."""


def compile_rules() -> None:
    """Compile rules, players and search for every board, so that nobody waits for it later; at once when done."""
    import numpy as np

    from ringrift_ops.players.heuristic import heuristic_games, style
    from ringrift_ops.rules.game import game
    from ringrift_ops.rules.layout import MOVE_BUFFER
    from ringrift_ops.rules.playout import random_games

    for board in _BOARDS:
        began = time.monotonic()
        for players in (2, 3, 4):
            rules = game(f"{board}_{players}p")
            start = rules.initial_state()
            moves = np.empty(MOVE_BUFFER, dtype=np.int64)
            random_games(rules.geometry, start, 1, np.uint64(1), 10_000, moves, rules.zero)
            rules.legal_moves(start)
            seats = np.zeros((1, players), dtype=np.int64)
            heuristic_games(rules, style()[None], seats, np.ones(1, dtype=np.uint64), max_moves=40)
        print(f"{board}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
