"""How a command's self-play is shared out over hosts."""

from __future__ import annotations

from pydantic import Field

from ringrift_ops.settings.checks import Row


class PlayRules(Row):
    """How `ringrift pipeline run canonical_selfplay` shares its games out. The parts never depend on the hosts."""

    parts: int = Field(default=24, description="of a command's games: enough for hosts of unlike speed to share")
    # A job takes about 2 s to begin; a core plays 100 games of hex8_2p by heuristic search in 2 s as well (2026-11-25).
    least_games: int = Field(default=100, description="of a part, on the boards of 8 cells")
    least_large_games: int = Field(default=10, description="of a part, on square19 and hexagonal")
    most_games: int = Field(default=1_000, description="of a part: what a lost host costs at most")
    tries: int = Field(default=3, description="attempts in a row at a part that add no game")
    avoid_seconds: float = Field(default=30.0, description="after which a host that did not answer is asked again")
    look_seconds: float = Field(default=1.0, description="between two pictures, and two looks at a job")


PARTS_FOLDER = "play"
"""Below any home: where the parts of commands lie until they are one."""

PLAY = PlayRules()
