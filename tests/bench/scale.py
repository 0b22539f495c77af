"""How much of everything one bench measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """``seconds`` of each run of a speed, ``runs`` of them; ``games`` of a batch; games of the memory measurements,
    ``chains`` of tasks, ``profile`` of the run to the first promotion."""

    runs: int = 5
    seconds: float = 0.6
    games: int = 300
    few_games: int = 100
    many_games: int = 10_000
    chains: int = 3
    profile: str = "quick"


SMALL = Scale(runs=2, seconds=0.1, games=20, few_games=40, many_games=80, chains=1, profile="tiny")
"""To see that everything works; its figures mean nothing."""
