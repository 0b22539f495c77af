"""Calling the compiled replay once, so that nobody waits for the compiler later (see ``rules/warm.py``)."""

from __future__ import annotations

from ringrift_ops.parity.replay import Replayer
from ringrift_ops.rules.game import Game


def warm(rules: Game) -> None:
    """Compile, or load, everything of ``parity/`` that is called from outside."""
    Replayer(rules).replay(["P0,0*1"], swap_rule=False)
