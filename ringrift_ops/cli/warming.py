"""What ``ringrift rules compile`` runs in each of its processes."""

from __future__ import annotations

from typing import Final

WIDTHS: Final = ("hexagonal_2p", "hex8_2p")
"""One config of each bitboard width; compiled code depends on the width alone."""


def warm_everything(config: str) -> None:
    """Call every compiled entry point of every room once."""
    from ringrift_ops.parity import warm as parity
    from ringrift_ops.players import warm as players
    from ringrift_ops.rules import warm as rules
    from ringrift_ops.rules.game import game

    for room in (rules, players, parity):
        room.warm(game(config))
